"""OpenAI's API as data: a request's body is checked and read, an answer put into its shape. No HTTP here.

Tokens are estimated: a text's characters / 4, rounded up; in a prompt, 4 more for each message. What a body asks for
besides the fields of `ChatRequest` (a temperature, a limit of tokens, several answers) makes no difference.
"""

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, Field, ValidationError, model_validator

from lib.errors import WorkbookError, shown

MODEL_NAME = "practice-model"
TOKEN_LENGTH = 4  # characters
MESSAGE_TOKENS = 4


class RequestError(WorkbookError):
    """A request that can't be answered: its status, headers, and the body of OpenAI's errors."""

    def __init__(self, message: str, status: int = 400, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        kind = {429: "rate_limit_error"}.get(status, "server_error" if status >= 500 else "invalid_request_error")
        self.body = {"error": {"message": message, "type": kind, "param": None, "code": None}}


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class ResponseFormat(BaseModel):
    type: Literal["json_schema"]
    json_schema: dict[str, Any]


class ChatRequest(BaseModel):
    """What a body for /v1/chat/completions asks for, checked as OpenAI checks it."""

    model: str = MODEL_NAME
    messages: list[Message] = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] = "auto"
    response_format: ResponseFormat | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        asked = {call["id"] for message in self.messages for call in message.tool_calls or ()}
        answered = {message.tool_call_id for message in self.messages if message.role == "tool"}
        if asked != answered:
            alone = ", ".join(map(repr, asked ^ answered))
            raise ValueError(f"each tool call needs a tool message, each tool message its tool call; alone: {alone}")
        if self.must_call and not self.offered:
            names = ", ".join(tool["function"]["name"] for tool in self.tools or ()) or "there are none"
            raise ValueError(f"tool_choice must be one of the tools ({names})")
        return self

    @cached_property
    def conversation(self) -> list[dict[str, Any]]:
        """The messages as plain dicts; every content is a text."""
        return [message.model_dump() | {"content": message.content or ""} for message in self.messages]

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that may be called."""
        if self.tool_choice == "none":
            return []
        named = self.tool_choice["function"]["name"] if isinstance(self.tool_choice, dict) else None
        return [tool for tool in self.tools or () if named in (None, tool["function"]["name"])]

    @property
    def must_call(self) -> bool:
        """Whether one of the tools has to be called."""
        return self.tool_choice not in ("none", "auto")

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must fit, None for plain text."""
        return self.response_format.json_schema["schema"] if self.response_format else None

    @property
    def prompt_tokens(self) -> int:
        """The estimate for all messages, the tools' descriptions and the schema."""
        in_messages = sum(message_tokens(message) + MESSAGE_TOKENS for message in self.conversation)
        return in_messages + sum(tokens(json.dumps(extra)) for extra in (self.offered, self.answer_schema) if extra)


def chat_request(body: dict[str, Any]) -> ChatRequest:
    """Return the body as a request; RequestError names the first field that is wrong."""
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        fault = first["msg"].removeprefix("Value error, ")
        value = f", not {shown(first['input'])}" if field else ""
        raise RequestError(f"{field or 'the request'}: {fault}{value}.") from None
    except KeyError as missing:
        raise RequestError(f"the request: something in it has no {missing}.") from None


def tokens(text: str) -> int:
    """Return the estimated number of tokens: a quarter of the characters, rounded up.

    >>> tokens("Hello"), tokens("")
    (2, 0)
    """
    return -(-len(text) // TOKEN_LENGTH)


def message_tokens(message: dict[str, Any]) -> int:
    """Return the estimate for a message's text, and the names and arguments of its tool calls."""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return tokens(message["content"] or "") + sum(tokens(call["name"]) + tokens(call["arguments"]) for call in calls)


def answer(request: ChatRequest, respond: Callable[..., dict[str, Any]], *, obedient: bool) -> dict[str, Any]:
    """The rules' answer. Where a call of a tool is demanded and they made none, they fill in its arguments."""
    message = respond(request.conversation, tools=request.offered, schema=request.answer_schema, obedient=obedient)
    if request.must_call and not message.get("tool_calls"):
        function = request.offered[0]["function"]
        filled = respond(request.conversation, schema=function.get("parameters") or {}, obedient=obedient)
        call = {"name": function["name"], "arguments": filled["content"] or "{}"}
        message = {"content": None, "tool_calls": [{"function": call}]}
    return message


def finished(message: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
    """The message in full: every call with an id and its type."""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    complete = {"role": "assistant", "content": message["content"], "refusal": None}
    if calls:
        # By the length of the conversation: unlike any earlier id in it, and the same in each run.
        complete["tool_calls"] = [
            {"id": f"call_{len(request.messages)}_{number}", "type": "function", "function": call}
            for number, call in enumerate(calls)
        ]
    return complete


def completion(request: ChatRequest, message: dict[str, Any]) -> dict[str, Any]:
    """The body of a whole answer."""
    prompt, completion = request.prompt_tokens, message_tokens(message)
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    head = {"id": f"chatcmpl-{uuid4().hex}", "created": 0, "model": request.model}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}


def streamed(request: ChatRequest, answer: dict[str, Any]) -> str:
    """The body of the same answer as a stream of server-sent events: all of it in one, the usage in another."""
    head = answer | {"object": "chat.completion.chunk", "usage": None}
    choice = answer["choices"][0]
    calls = [{"index": index, **call} for index, call in enumerate(choice["message"].get("tool_calls", ()))]
    delta = choice["message"] | {"tool_calls": calls or None}
    events = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": choice["finish_reason"]}]}]
    if (request.stream_options or {}).get("include_usage"):
        events.append(head | {"choices": [], "usage": answer["usage"]})
    return "".join(f"data: {data}\n\n" for data in [*map(json.dumps, events), "[DONE]"])
