"""LangChain's messages and answers: as they are stored, and as they come back; and what of a prompt makes a key."""

import inspect
import json
from collections.abc import Sequence
from typing import Any

from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation

from lib.cache._columns import SUMMARY_LENGTH
from lib.cache.cache_key import content_hash
from lib.cache.content import Generated
from lib.errors import InvalidInput

_revive = inspect.unwrap(load)  # without the wrapper that warns everybody that it is still called beta
# Nothing but these is made from what is stored: whoever could write to the table could else have any class made.
_CLASSES = [AIMessage, AIMessageChunk, ChatGeneration, ChatGenerationChunk, Generation]


def key_of(prompt: str, llm_string: str) -> str | None:
    """Return the key of a call, as LangChain describes it; None for what has no fixed form: it isn't cached."""
    try:
        return content_hash(messages=_without_ids(prompt), model=llm_string)
    except InvalidInput:
        return None


def _without_ids(prompt: str) -> Any:
    """The messages of a prompt; their ids are drawn by chance, and no model sees them."""
    try:
        messages = json.loads(prompt)
    except (ValueError, RecursionError):  # a plain text, as models have it that aren't for chats
        return prompt
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        return prompt  # a plain text that happens to be JSON
    for message in messages:
        message["kwargs"].pop("id", None)
    return messages


def _is_message(part: Any) -> bool:
    """Whether it is a message as LangChain writes it."""
    return isinstance(part, dict) and part.get("lc") == 1 and isinstance(part.get("kwargs"), dict)


def summary_of(prompt: str) -> str | None:
    """Return how the last message begins."""
    try:
        text = json.loads(prompt)[-1]["kwargs"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        text = prompt
    return text[:SUMMARY_LENGTH].replace("\x00", "") if isinstance(text, str) else None


def generated_from(generations: Sequence[Generation]) -> Generated:
    """Return an answer as `ContentCache` stores it, with its tokens and its model."""
    parts = [json.loads(json.dumps(dumpd(generation))) for generation in generations]
    for part in parts:
        # A conversation would take a second message with this id for the same one, and replace the first.
        part["kwargs"].get("message", {}).get("kwargs", {}).pop("id", None)
    messages = [generation.message for generation in generations if isinstance(generation, ChatGeneration)]
    usages = [getattr(message, "usage_metadata", None) or {} for message in messages]
    names = [message.response_metadata.get("model_name") for message in messages]
    return Generated(
        {"generations": parts},
        tokens_in=sum(usage.get("input_tokens", 0) for usage in usages) or None,
        tokens_out=sum(usage.get("output_tokens", 0) for usage in usages) or None,
        model=next(filter(None, names), None),
    )


def generations_in(content: dict[str, Any]) -> list[Any] | None:
    """Return the answer that `generated_from` stored; None for what this version of LangChain can't read."""
    try:
        generations = [_revive(part, allowed_objects=_CLASSES) for part in content["generations"]]
    except Exception:  # each class has errors of its own
        return None
    return generations if all(isinstance(generation, Generation) for generation in generations) else None
