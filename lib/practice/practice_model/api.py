"""OpenAI's API as data: a request's body is checked and read, an answer put into its shape. No HTTP here.

Tokens are estimated: a text's characters / 4, rounded up; in a prompt, 4 more for each message.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from lib.errors import WorkbookError, shown

MODEL_NAME = "practice-model"
ROLES = ("system", "developer", "user", "assistant", "tool")
TOKEN_LENGTH = 4  # characters
MESSAGE_TOKENS = 4

Respond = Callable[..., dict[str, Any]]


class Refused(WorkbookError):
    """A request that can't be answered: its status, headers, and what OpenAI's error object says."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        *,
        status: int = 400,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.headers = headers
        kind = {429: "rate_limit_error"}.get(status, "server_error" if status >= 500 else "invalid_request_error")
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a body for /v1/chat/completions asks for."""

    messages: list[dict[str, Any]]  # every content is a text
    tools: list[dict[str, Any]]  # those that may be called
    must_call: bool  # one of them has to be
    one_call: bool  # and no more than one may be
    schema: dict[str, Any] | None  # the answer must be JSON of this kind
    max_tokens: int | None  # the text is cut there; tool calls are not
    stream: bool
    include_usage: bool  # at the end of a stream
    model: str

    @property
    def prompt_tokens(self) -> int:
        """The estimate for all messages, the tools' descriptions and the schema."""
        in_messages = sum(message_tokens(message) + MESSAGE_TOKENS for message in self.messages)
        return in_messages + sum(tokens(json.dumps(extra)) for extra in (self.tools, self.schema) if extra)


def tokens(text: str) -> int:
    """The estimated number of tokens: a quarter of the characters, rounded up.

    >>> tokens("Hello"), tokens("")
    (2, 0)
    """
    return -(-len(text) // TOKEN_LENGTH)


def message_tokens(message: dict[str, Any]) -> int:
    """The estimate for a message's text, and the names and arguments of its tool calls."""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return tokens(message["content"] or "") + sum(tokens(call["name"]) + tokens(call["arguments"]) for call in calls)


def read_chat_request(body: dict[str, Any]) -> ChatRequest:
    """The request in a body; Refused, as OpenAI would, if something is wrong with it."""
    if body.get("n") not in (None, 1):
        raise Refused(f"n must be 1, not {shown(body['n'])}: the practice model gives one answer.", "n")
    messages = _messages(body.get("messages"))
    tools, must_call = _tools(body)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise Refused(f"max_tokens must be a whole number above 0, not {shown(limit)}.", "max_tokens")
    return ChatRequest(
        messages=messages,
        tools=tools,
        must_call=must_call,
        one_call=body.get("parallel_tool_calls") is False,
        schema=_schema(body.get("response_format"), messages),
        max_tokens=limit,
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        model=str(body.get("model") or MODEL_NAME),
    )


def answer(request: ChatRequest, respond: Respond, *, obedient: bool = False) -> dict[str, Any]:
    """The rules' answer. Where a call of a tool is demanded and they made none, they fill in its arguments."""
    message = respond(request.messages, tools=request.tools, schema=request.schema, obedient=obedient)
    if request.must_call and not message.get("tool_calls"):
        function = request.tools[0]["function"]
        filled = respond(request.messages, schema=function.get("parameters") or {}, obedient=obedient)
        call = {"name": function["name"], "arguments": filled["content"] or "{}"}
        message = {"content": None, "tool_calls": [{"function": call}]}
    return message


def finished(message: dict[str, Any], request: ChatRequest) -> tuple[dict[str, Any], str]:
    """(the message in full: every call with id and type, the text cut to max_tokens; the reason why it ends)."""
    calls = [dict(call["function"]) for call in message.get("tool_calls") or ()]
    calls = calls[:1] if request.one_call else calls
    # From the conversation, not a counter: unlike any earlier id in it, also after a restart, and the same in each run.
    seed = sha256(json.dumps(request.messages, sort_keys=True).encode()).hexdigest()[:16]
    for call in calls:
        if not isinstance(call["arguments"], str):
            call["arguments"] = json.dumps(call["arguments"])
    text = message.get("content") or ""
    cut = text if request.max_tokens is None else text[: request.max_tokens * TOKEN_LENGTH]
    complete = {"role": "assistant", "content": cut if cut or not calls else None, "refusal": None}
    if calls:
        complete["tool_calls"] = [
            {"id": f"call_{seed}_{number}", "type": "function", "function": call}
            for number, call in enumerate(calls, start=1)
        ]
    return complete, "length" if cut != text else "tool_calls" if calls else "stop"


def completion(request: ChatRequest, message: dict[str, Any], reason: str, number: int) -> dict[str, Any]:
    """The body of a whole answer."""
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    usage = token_usage(request.prompt_tokens, message_tokens(message))
    return {**_head(request, number), "object": "chat.completion", "choices": [choice], "usage": usage}


def chunks(
    request: ChatRequest, message: dict[str, Any], reason: str, number: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same answer in pieces: (how many tokens come before this piece, the piece)."""
    head = {**_head(request, number), "object": "chat.completion.chunk"}
    if request.include_usage:
        head["usage"] = None

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}

    sent = 0
    yield sent, chunk({"role": "assistant", "content": "" if message["content"] is not None else None})
    for piece in _pieces(message["content"] or ""):
        yield sent, chunk({"content": piece})
        sent += 1
    for index, call in enumerate(message.get("tool_calls") or ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        yield sent, chunk({"tool_calls": [{**call, "index": index, "function": {"name": name, "arguments": ""}}]})
        sent += tokens(name)
        for piece in _pieces(arguments):
            yield sent, chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            sent += 1
    yield sent, chunk({}, reason)
    if request.include_usage:
        yield sent, {**head, "choices": [], "usage": token_usage(request.prompt_tokens, sent)}


def token_usage(prompt: int, completion: int) -> dict[str, int]:
    """OpenAI's usage object."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _head(request: ChatRequest, number: int) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "created": 0, "model": request.model}


def _pieces(text: str) -> list[str]:
    return [text[start : start + TOKEN_LENGTH] for start in range(0, len(text), TOKEN_LENGTH)]


def _messages(messages: Any) -> list[dict[str, Any]]:
    """The messages with each content as a text, in an order that OpenAI accepts too."""
    if not isinstance(messages, list) or not messages:
        raise Refused(f"messages must be a list with at least one message, not {shown(messages)}.", "messages")
    read = []
    unanswered: list[str] = []  # ids of tool calls
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise Refused(f"{where}.role must be one of {', '.join(ROLES)}, not {shown(role)}.", f"{where}.role")
        if role == "tool":
            if message.get("tool_call_id") not in unanswered:
                raise Refused(
                    f"{where} has the role tool, but right before it no assistant message asked for the call "
                    f"{shown(message.get('tool_call_id'))}.",
                    where,
                )
            unanswered.remove(message["tool_call_id"])
        elif unanswered:
            break
        unanswered += _call_ids(message.get("tool_calls") or [], where)
        read.append({**message, "content": _text(message.get("content"), where)})
    if unanswered:
        raise Refused(f"a tool message must follow for each tool call; missing: {', '.join(unanswered)}.", "messages")
    return read


def _call_ids(calls: Any, where: str) -> list[str]:
    try:
        if all(isinstance(call["function"][part], str) for call in calls for part in ("name", "arguments")):
            return [call["id"] for call in calls]
    except (KeyError, TypeError):
        pass
    raise Refused(f"{where}.tool_calls must each have an id, a name and arguments, not {shown(calls)}.", where)


def _text(content: Any, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    try:
        return "".join(part["text"] for part in content)
    except (KeyError, TypeError):
        raise Refused(
            f"{where}.content must be a text or a list of text parts, not {shown(content)}: the practice model "
            "neither sees nor hears.",
            f"{where}.content",
        ) from None


def _tools(body: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """(the tools that may be called, whether one must be)."""
    tools = body.get("tools") or []
    try:
        named = {tool["function"]["name"]: tool for tool in tools}
    except (KeyError, TypeError):
        raise Refused(f"tools must each be a function with a name: {shown(tools)}.", "tools") from None
    choice = body.get("tool_choice") or "auto"
    if choice in ("none", "auto"):
        return ([] if choice == "none" else tools), False
    if choice == "required" and tools:
        return tools, True
    name = (choice.get("function") or {}).get("name") if isinstance(choice, dict) else None
    if name not in named:
        raise Refused(
            f"tool_choice must be none, auto, required or one of the tools ({', '.join(named) or 'there are none'}), "
            f"not {shown(choice)}.",
            "tool_choice",
        )
    return [named[name]], True


def _schema(wanted: Any, messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        if not any("json" in message["content"].lower() for message in messages):
            raise Refused("with response_format json_object, a message must say that you want JSON.", "messages")
        return {"type": "object"}
    schema = (wanted.get("json_schema") or {}).get("schema") if kind == "json_schema" else None
    if not isinstance(schema, dict):
        raise Refused(
            f"response_format must be text, json_object, or json_schema with a name and a schema, not {shown(wanted)}.",
            "response_format",
        )
    return schema
