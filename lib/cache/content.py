"""What a model generated: as its caller hands it in, as it is stored, and as the cache gives it out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lib.errors import InvalidInput, shown
from lib.store.values import check_text, prepare

MAX_SECONDS = 10 * 365 * 24 * 3600
SUMMARY_LENGTH = 200  # characters of an input summary that are kept


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote, with what it cost; `generate` may return the content alone."""

    content: Mapping[str, Any]  # a JSON object
    tokens_in: int | None = None
    tokens_out: int | None = None
    model: str | None = None  # its name, for the price


@dataclass(frozen=True, slots=True)
class Cached:
    """A content, and how it was come by. Changing `content` changes this copy only."""

    content: dict[str, Any]
    outcome: str  # "hit", "miss" (we generated it) or "coalesced" (we waited for who did)
    latency_ms: float  # of this call
    created_at: datetime  # aware, UTC
    expires_at: datetime | None
    model: str | None
    tokens_in: int | None
    tokens_out: int | None
    generation_ms: float | None  # of the call that made it


def checked_seconds(seconds: float, name: str) -> timedelta:
    """A stretch of time that was given in seconds; else InvalidInput naming it."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= MAX_SECONDS:
        raise InvalidInput(f"{name} must be a number above 0 and up to ten years, not {shown(seconds)}.")
    return timedelta(seconds=seconds)


def checked_ms(milliseconds: float | None) -> float | None:
    """How long a generation took; else InvalidInput."""
    is_number = isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool)
    if milliseconds is not None and not (is_number and 0 <= milliseconds < float("inf")):
        raise InvalidInput(f"generation_ms must be a number from 0 on, or None, not {shown(milliseconds)}.")
    return milliseconds


@dataclass(frozen=True, slots=True)
class Extras:
    """What a caller says about a content that is to be stored."""

    ttl: timedelta | None
    input_summary: str | None


def checked_extras(ttl_seconds: float | None, input_summary: str | None) -> Extras:
    """What else is to be stored with a content; InvalidInput if it can't be."""
    if input_summary is not None:
        if not isinstance(input_summary, str):
            raise InvalidInput(f"input_summary must be a text, not {shown(input_summary)}.")
        input_summary = check_text(input_summary, "input_summary")[:SUMMARY_LENGTH]
    return Extras(None if ttl_seconds is None else checked_seconds(ttl_seconds, "ttl_seconds"), input_summary)


def row_of(output: Any, now: datetime, generation_ms: float | None, extras: Extras) -> tuple[dict[str, Any], str]:
    """(the columns of a content, the content as JSON); InvalidInput, if it can't be stored."""
    generated = output if isinstance(output, Generated) else Generated(output)
    if not isinstance(generated.content, Mapping):
        raise InvalidInput(
            f"what was generated must be a dict (a JSON object) or a Generated, not {shown(generated.content)}. Wrap "
            'it: {"text": …}.'
        )
    for name in ("tokens_in", "tokens_out"):
        tokens = getattr(generated, name)
        if tokens is not None and (not isinstance(tokens, int) or isinstance(tokens, bool) or not 0 <= tokens < 2**31):
            raise InvalidInput(f"{name} must be a whole number from 0 on, or None, not {shown(tokens)}.")
    if generated.model is not None and not isinstance(generated.model, str):
        raise InvalidInput(f"model must be the name of a model, or None, not {shown(generated.model)}.")
    if generated.model is not None:
        check_text(generated.model, "model")
    content, as_json, _ = prepare(dict(generated.content))
    return {
        "content": content, "size_bytes": len(as_json.encode()), "created_at": now,
        "expires_at": None if extras.ttl is None else now + extras.ttl,
        "model": generated.model,
        "tokens_in": generated.tokens_in, "tokens_out": generated.tokens_out, "generation_ms": generation_ms,
        "input_summary": extras.input_summary,
    }, as_json  # fmt: skip
