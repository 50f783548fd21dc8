"""What the practice model does wrong when it is told to: failures on the way, and bad answers."""

import json
import re
from typing import Any

from lib.errors import InvalidInput, shown
from lib.practice.practice_model.api import ChatRequest

MISTAKES = ("not json", "wrong schema", "empty", "unknown tool", "bad arguments", "wrong arguments")
RETRY_AFTER_SECONDS = 1.0  # what a "429" without a time of its own asks for
_FAILURE = re.compile(r"([45]\d\d|drop|timeout)(?::(\d+(?:\.\d+)?))?", re.ASCII)
_CUT_OFF = '{"memories": [{"content": "and then it was cut o'
_MISFIT = [[["unexpected"]]]  # neither text, number, truth value, object nor a list of any of these


def parse_failure(text: str) -> tuple[str, float | None]:
    """(a status, "drop" or "timeout"; the seconds after which the client may try again, None to leave it open).

    >>> parse_failure("429:0.2"), parse_failure("drop")
    (('429', 0.2), ('drop', None))
    """
    found = _FAILURE.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise InvalidInput(
            f'the practice model has no failure {shown(text)}. Use "429", "429:0.2" (with seconds for Retry-After), '
            '"500" or another status from 400 to 599, "drop" or "timeout".'
        )
    kind, seconds = found.groups()
    if seconds is not None:
        return kind, float(seconds)
    return kind, RETRY_AFTER_SECONDS if kind == "429" else None


def mistake(name: str, request: ChatRequest) -> dict[str, Any]:
    """The bad answer of that name; any text that isn't the name of one is the answer word for word.

    "not json": text that is neither JSON nor ends where it should; "wrong schema": JSON, but each field of the schema
    has a value of the wrong kind; "empty": nothing; "unknown tool": a call of a tool that wasn't offered;
    "bad arguments": a call of the first tool with arguments that aren't JSON; "wrong arguments": with JSON that
    doesn't fit.
    """
    function: dict[str, Any] = request.offered[0]["function"] if request.offered else {"name": "no_such_tool"}
    match name:
        case "not json":
            return {"content": _CUT_OFF}
        case "wrong schema":
            return {"content": _misfit(request.answer_schema)}
        case "empty":
            return {"content": ""}
        case "unknown tool":
            return _call("no_such_tool", "{}")
        case "bad arguments":
            return _call(function["name"], _CUT_OFF)
        case "wrong arguments":
            return _call(function["name"], _misfit(function.get("parameters")))
    return {"content": name}


def _call(name: str, arguments: str) -> dict[str, Any]:
    return {"content": None, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def _misfit(schema: dict[str, Any] | None) -> str:
    fields = (schema or {}).get("properties") or {"unexpected": {}}
    return json.dumps(dict.fromkeys(fields, _MISFIT))
