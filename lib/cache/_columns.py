"""A content as a row of its table: checked, with what is stored beside it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from lib.cache.content import Generated
from lib.checks import checked_number
from lib.errors import InvalidInput, shown
from lib.store.values import check_text, prepare

MIN_SECONDS, MAX_SECONDS = 0.001, 10 * 365 * 24 * 3600
MAX_TOKENS = 2**31 - 1
SUMMARY_LENGTH = 200  # characters of an input summary that are kept
Options = tuple[timedelta | None, str | None]  # how long it is served, and the input summary


def checked_seconds(name: str, seconds: float) -> timedelta:
    """Return a stretch of time that was given in seconds. Errors: InvalidInput, with the name and the value."""
    return timedelta(seconds=checked_number(name, seconds, MIN_SECONDS, MAX_SECONDS))


def checked_options(ttl_seconds: float | None, input_summary: str | None) -> Options:
    """Return what a caller says about a content that is to be stored; checked before a model is paid for it."""
    if input_summary is not None:
        check_text(input_summary, "input_summary")
    return None if ttl_seconds is None else checked_seconds("ttl_seconds", ttl_seconds), input_summary


def columns_of(output: Any, now: datetime, options: Options) -> dict[str, Any]:
    """Return the columns of a content that was generated. Errors: InvalidInput, if it can't be stored."""
    generated = output if isinstance(output, Generated) else Generated(output)
    if not isinstance(generated.content, Mapping):
        raise InvalidInput(
            f"what was generated must be a dict (a JSON object) or a Generated, not {shown(generated.content)}. Wrap "
            'it: {"text": …}.'
        )
    for name in ("tokens_in", "tokens_out"):
        if (tokens := getattr(generated, name)) is not None:
            checked_number(name, tokens, 0, MAX_TOKENS, whole=True)
    if generated.model is not None:
        check_text(generated.model, "model")
    content, as_json, _ = prepare(dict(generated.content))
    ttl, summary = options
    return {
        "content": content,
        "size_bytes": len(as_json.encode()),
        "created_at": now,
        "expires_at": None if ttl is None else now + ttl,
        "model": generated.model,
        "tokens_in": generated.tokens_in,
        "tokens_out": generated.tokens_out,
        "generation_ms": None,
        "input_summary": None if summary is None else summary[:SUMMARY_LENGTH],
    }
