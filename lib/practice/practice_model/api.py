"""OpenAI's API as data: a request's body is checked and read, an answer put into its shape. No HTTP here.

Tokens are estimated: a text's characters / 4, rounded up; in a prompt, 4 more for each message.
"""

import json
from collections.abc import Callable, Iterator
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from lib.errors import WorkbookError, shown

MODEL_NAME = "practice-model"
TOKEN_LENGTH = 4  # characters
MESSAGE_TOKENS = 4

Respond = Callable[..., dict[str, Any]]
Body = TypeVar("Body", bound=BaseModel)


class RequestError(WorkbookError):
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


class _Kept(BaseModel, extra="allow"):
    """An object whose other fields are kept as they came."""


class CalledFunction(_Kept):
    name: str
    arguments: str


class ToolCall(_Kept):
    id: str
    function: CalledFunction


class Message(_Kept):
    """A message of a chat; parts of text are read as one text."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text(cls, content: Any) -> str:
        try:
            return content if isinstance(content, str) else "".join(part["text"] for part in content or ())
        except (KeyError, TypeError):
            raise ValueError("must be text or parts of text: the practice model neither sees nor hears") from None


class Function(_Kept):
    name: str
    parameters: dict[str, Any] | None = None


class Tool(_Kept):
    function: Function


class ToolChoice(BaseModel):
    function: Function


class StreamOptions(BaseModel):
    include_usage: bool = False


class JsonSchema(BaseModel):
    definition: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(BaseModel):
    """What a body for /v1/chat/completions asks for, checked as OpenAI checks it."""

    model: str = MODEL_NAME
    messages: list[Message] = Field(min_length=1)
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice = "auto"
    parallel_tool_calls: bool = True
    response_format: ResponseFormat = ResponseFormat(type="text")
    max_tokens: int | None = Field(None, ge=1)  # the text is cut there; tool calls are not
    max_completion_tokens: int | None = Field(None, ge=1)  # its newer name
    n: Literal[1] | None = None  # the practice model gives one answer
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        open_calls: list[str | None] = []
        for message in self.messages:
            if message.role == "tool":
                if message.tool_call_id not in open_calls:
                    raise ValueError(f"no assistant message before it asked for the call {message.tool_call_id!r}")
                open_calls.remove(message.tool_call_id)
            elif open_calls:
                break
            open_calls += [call.id for call in message.tool_calls or ()]
        if open_calls:
            raise ValueError(f"a tool message must follow for each tool call; missing: {open_calls[0]}")
        if self.must_call and not self.offered:
            names = ", ".join(tool.function.name for tool in self.tools or ()) or "there are none"
            raise ValueError(f"tool_choice must be one of the tools ({names})")
        if self.response_format.type == "json_object" and not any("json" in m.content.lower() for m in self.messages):
            raise ValueError("with response_format json_object, a message must say that you want JSON")
        if self.response_format.type == "json_schema" and self.response_format.json_schema is None:
            raise ValueError("response_format json_schema needs a json_schema with a schema")
        return self

    @cached_property
    def conversation(self) -> list[dict[str, Any]]:
        """The messages as plain dicts; every content is a text."""
        return [{"content": "", **message.model_dump(exclude_unset=True)} for message in self.messages]

    @cached_property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that may be called, as plain dicts."""
        if self.tool_choice == "none":
            return []
        named = self.tool_choice.function.name if isinstance(self.tool_choice, ToolChoice) else None
        tools = [tool for tool in self.tools or () if named in (None, tool.function.name)]
        return [tool.model_dump(exclude_unset=True) for tool in tools]

    @property
    def must_call(self) -> bool:
        """Whether one of the tools has to be called."""
        return self.tool_choice not in ("none", "auto")

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must fit, None for plain text."""
        wanted = self.response_format
        if wanted.type == "json_schema" and wanted.json_schema:
            return wanted.json_schema.definition
        return {"type": "object"} if wanted.type == "json_object" else None

    @property
    def prompt_tokens(self) -> int:
        """The estimate for all messages, the tools' descriptions and the schema."""
        in_messages = sum(message_tokens(message) + MESSAGE_TOKENS for message in self.conversation)
        return in_messages + sum(tokens(json.dumps(extra)) for extra in (self.offered, self.answer_schema) if extra)


def checked_body(kind: type[Body], body: dict[str, Any]) -> Body:
    """Return the body as a request of that kind; RequestError names the first field that is wrong."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        fault = first["msg"].removeprefix("Value error, ")
        value = f", not {shown(first['input'])}" if field else ""
        raise RequestError(f"{field or 'the request'}: {fault}{value}.", field or None) from None


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


def answer(request: ChatRequest, respond: Respond, *, obedient: bool = False) -> dict[str, Any]:
    """The rules' answer. Where a call of a tool is demanded and they made none, they fill in its arguments."""
    message = respond(request.conversation, tools=request.offered, schema=request.answer_schema, obedient=obedient)
    if request.must_call and not message.get("tool_calls"):
        function = request.offered[0]["function"]
        filled = respond(request.conversation, schema=function.get("parameters") or {}, obedient=obedient)
        call = {"name": function["name"], "arguments": filled["content"] or "{}"}
        message = {"content": None, "tool_calls": [{"function": call}]}
    return message


def finished(message: dict[str, Any], request: ChatRequest) -> tuple[dict[str, Any], str]:
    """(the message in full: every call with id and type, the text cut to max_tokens; the reason why it ends)."""
    calls = [dict(call["function"]) for call in message.get("tool_calls") or ()]
    calls = calls if request.parallel_tool_calls else calls[:1]
    # From the conversation, not a counter: unlike any earlier id in it, also after a restart, and the same in each run.
    seed = sha256(json.dumps(request.conversation, sort_keys=True).encode()).hexdigest()[:16]
    for call in calls:
        if not isinstance(call["arguments"], str):
            call["arguments"] = json.dumps(call["arguments"])
    text = message.get("content") or ""
    limit = request.max_completion_tokens or request.max_tokens
    cut = text[: limit * TOKEN_LENGTH] if limit else text
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
    include_usage = request.stream_options is not None and request.stream_options.include_usage
    if include_usage:
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
    if include_usage:
        yield sent, {**head, "choices": [], "usage": token_usage(request.prompt_tokens, sent)}


def token_usage(prompt: int, completion: int) -> dict[str, int]:
    """OpenAI's usage object."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _head(request: ChatRequest, number: int) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "created": 0, "model": request.model}


def _pieces(text: str) -> list[str]:
    return [text[start : start + TOKEN_LENGTH] for start in range(0, len(text), TOKEN_LENGTH)]
