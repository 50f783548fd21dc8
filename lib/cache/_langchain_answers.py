"""LangChain's answers: as they are stored, and as they come back; and what of a prompt is kept beside them."""

import inspect
import json
from collections.abc import Sequence
from typing import Any

from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation

from lib.cache._columns import SUMMARY_LENGTH
from lib.cache.content import Generated

_revive = inspect.unwrap(load)  # without the wrapper that warns everybody that it is still called beta
# Nothing but these is made from what is stored: whoever could write to the table could else have any class made.
_CLASSES = [AIMessage, AIMessageChunk, ChatGeneration, ChatGenerationChunk, Generation]


def summary_of(prompt: str) -> str | None:
    """Return how the last message begins."""
    try:
        text = json.loads(prompt)[-1]["kwargs"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        text = prompt
    return text[:SUMMARY_LENGTH].replace("\x00", "") if isinstance(text, str) else None


def generated_from(generations: Sequence[Generation]) -> Generated:
    """Return an answer as `ContentCache` stores it, with its tokens and its model."""
    parts = [dumpd(generation) for generation in generations]
    for part in parts:
        # A conversation would take a second message with this id for the same one, and replace the first.
        part["kwargs"].get("message", {}).get("kwargs", {}).pop("id", None)
    message = getattr(generations[0], "message", None)
    usage = getattr(message, "usage_metadata", None) or {}
    return Generated(
        {"generations": parts},
        tokens_in=usage.get("input_tokens"),
        tokens_out=usage.get("output_tokens"),
        model=message.response_metadata.get("model_name") if message else None,
    )


def generations_in(content: dict[str, Any]) -> list[Any] | None:
    """Return the answer that `generated_from` stored; None for what this version of LangChain can't read."""
    try:
        generations = [_revive(part, allowed_objects=_CLASSES) for part in content["generations"]]
    except Exception:  # each class has errors of its own
        return None
    return generations if all(isinstance(generation, Generation) for generation in generations) else None
