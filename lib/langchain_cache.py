"""The cache for LangChain's chat models: as its `BaseCache`, or in front of one model, where nothing can be missed."""

import asyncio
import contextvars
import inspect
import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache as once
from typing import Any, TypeVar

from langchain_core.caches import BaseCache
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation

from lib.cache import ContentCache
from lib.content_hash import content_hash
from lib.errors import InvalidInput
from lib.generated import Generated
from lib.scopes import Scope

CONTENT_TYPE = "chat"
SUMMARY_LENGTH = 200  # characters
MOST_MISSED = 1000  # calls that are on their way to the model
_revive = inspect.unwrap(load)  # without the wrapper that warns everybody that it is still called beta
# Nothing but these is made from what is stored: whoever could write to the table could else have any class made.
_CLASSES = [AIMessage, AIMessageChunk, ChatGeneration, ChatGenerationChunk, Generation]


class LangChainCache(BaseCache):
    """A `ContentCache` as `set_llm_cache(LangChainCache(cache, scope=SHARED))` or `ChatOpenAI(cache=…)` wants it.

    The key holds what LangChain says of the call: the messages without their ids, and the model's settings, tools,
    stop words and response format. LangChain looks and stores in two steps, so two who ask at once both pay.

    It describes a model once, when that is first called: one whose settings are changed afterwards, also by
    `model_copy(update=…)`, is answered from what the old settings wrote. Make a new model for new settings; or use
    `cached_chat_model`, which looks at the request itself. `model.stream(…)` asks no cache.

    scope: SHARED, or for_user("zoe") for a cache of one user's requests; LangChain's global cache is everybody's.
    ttl_seconds: how long an answer is served; None: until it is evicted.
    Async calls run the same in a thread.
    """

    def __init__(
        self,
        cache: ContentCache,
        *,
        scope: Scope,
        content_type: str = CONTENT_TYPE,
        ttl_seconds: float | None = None,
    ):
        self._cache, self._scope, self._type, self._ttl = cache, scope, content_type, ttl_seconds
        self._missed: OrderedDict[str, float] = OrderedDict()  # key -> when it was looked for in vain
        _check(cache, scope, content_type)

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """The answer to this prompt by this model; None if there is none."""
        if (key := self._key(prompt, llm_string)) is None:
            return None
        began, found = time.perf_counter(), self._cache.get(key, content_type=self._type, scope=self._scope)
        if found is not None:
            return _generations(found.content)
        self._missed[key] = began
        if len(self._missed) > MOST_MISSED:  # of calls that failed: nobody tells us of those
            self._missed.popitem(last=False)
        return None

    def update(self, prompt: str, llm_string: str, return_val: Any) -> None:
        """Store an answer. One that can't be stored isn't: its caller has it, and is the one to be served."""
        if (key := self._key(prompt, llm_string)) is None:
            return
        summary = None if self._scope.user_id is not None else _summary(prompt)
        began, generated = self._missed.pop(key, None), _generated(return_val)
        elapsed = None if began is None else (time.perf_counter() - began) * 1000
        if elapsed is not None:
            self._cache.metrics.record(
                "miss", self._type, self._cache.time(), latency_ms=elapsed, model=generated.model
            )
        try:
            self._cache.put(
                key, generated, content_type=self._type, scope=self._scope, ttl_seconds=self._ttl,
                input_summary=summary, generation_ms=elapsed,
            )  # fmt: skip
        except InvalidInput:
            return

    def clear(self, **kwargs: Any) -> None:
        """Delete all answers of this cache's scope and content_type."""
        self._cache.invalidate_type(self._type, scope=self._scope)

    def _key(self, prompt: str, llm_string: str) -> str | None:
        """None for what has no fixed form: it isn't cached."""
        try:
            return content_hash(messages=_without_ids(prompt), model=llm_string)
        except InvalidInput:
            return None


Model = TypeVar("Model")


def cached_chat_model(
    model: Model,
    cache: ContentCache,
    *,
    scope: Scope,
    content_type: str = CONTENT_TYPE,
    ttl_seconds: float | None = None,
) -> Model:
    """The same `ChatOpenAI`, which asks the cache first; `model` itself stays as it is.

    The key is the request as it would be sent, with its address: model, messages, temperature, tools, and whatever a
    later version adds. Of those who ask the same at once, one asks the model. `invoke`, `batch` and `ainvoke` do so,
    also below `bind_tools`, `with_structured_output` and agents; `stream` does not. A request that has no fixed form
    goes to the model.
    Errors: InvalidInput for another kind of model, and for what isn't a scope.

    >>> from lib import SHARED, connect, create_tables
    >>> from lib.chat_model import chat_model
    >>> engine = connect("sqlite://")
    >>> create_tables(engine)
    >>> model = cached_chat_model(chat_model(), ContentCache(engine), scope=SHARED)  # doctest: +SKIP
    """
    if not hasattr(model, "_get_request_payload"):
        raise InvalidInput(
            f"cached_chat_model needs a ChatOpenAI, not {type(model).__name__}. Others take LangChainCache."
        )
    _check(cache, scope, content_type)
    copy = model.model_copy(update={"cache": False})
    object.__setattr__(copy, "__class__", _cached_class(type(model)))
    object.__setattr__(copy, "_ask", _Ask(cache, scope, content_type, ttl_seconds))
    return copy


class _Ask:
    """How a model of `cached_chat_model` asks its cache."""

    def __init__(self, cache: ContentCache, scope: Scope, content_type: str, ttl_seconds: float | None):
        self._cache = cache
        self._where = {"content_type": content_type, "scope": scope, "ttl_seconds": ttl_seconds}

    def key(self, model: Any, messages: Any, stop: Any, options: dict[str, Any]) -> str | None:
        try:
            payload = model._get_request_payload(messages, stop=stop, **options)
            payload = {name: _schema(value) for name, value in payload.items() if not name.startswith("stream")}
            return content_hash(payload, api=type(model).__mro__[1].__name__, url=str(model.openai_api_base))
        except InvalidInput:
            return None

    def answer(self, key: str, generate: Any) -> ChatResult:
        fresh: list[ChatResult] = []

        def generated() -> Generated:
            fresh.append(generate())
            return _generated(fresh[0].generations, fresh[0].llm_output)

        try:
            cached = self._cache.get_or_generate(key, generated, **self._where)
        except InvalidInput:
            if fresh:  # it can't be stored, but it was paid for
                return fresh[0]
            raise
        if cached.outcome == "miss" and fresh:
            return fresh[0]
        generations = _generations(cached.content)
        if generations is None:  # written by another version of LangChain
            return fresh[0] if fresh else generate()
        for generation in generations:  # as LangChain marks what came from a cache
            generation.message.usage_metadata = {**(generation.message.usage_metadata or {}), "total_cost": 0}
        return ChatResult(generations=generations, llm_output=cached.content["llm_output"])


@once
def _cached_class(kind: type) -> type:
    def _generate(self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> ChatResult:
        def generate() -> ChatResult:
            return kind._generate(self, messages, stop=stop, run_manager=run_manager, **options)

        key = self._ask.key(self, messages, stop, options)
        return generate() if key is None else self._ask.answer(key, generate)

    async def _agenerate(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> ChatResult:
        def generate() -> Any:
            return kind._agenerate(self, messages, stop=stop, run_manager=run_manager, **options)

        key = self._ask.key(self, messages, stop, options)
        if key is None:
            return await generate()
        loop = asyncio.get_running_loop()

        def generate_on_loop() -> ChatResult:
            return asyncio.run_coroutine_threadsafe(generate(), loop).result()

        # The waiting is done in a thread, the asking on this loop, to which the model's client belongs.
        context = contextvars.copy_context()
        return await loop.run_in_executor(_waiting(), context.run, self._ask.answer, key, generate_on_loop)

    return type(f"Cached{kind.__name__}", (kind,), {"_generate": _generate, "_agenerate": _agenerate})


@once
def _waiting() -> ThreadPoolExecutor:
    """Threads that wait. Not the loop's own few: those who wait would fill them, and who generates needs one."""
    return ThreadPoolExecutor(1000, "cached_chat_model")


def _check(cache: ContentCache, scope: Scope, content_type: str) -> None:
    """The errors of a scope that is none come when the model is made, and not when it is first asked."""
    if not isinstance(cache, ContentCache):
        raise InvalidInput(f"this needs a ContentCache(engine), not {type(cache).__name__}.")
    cache.check(content_type=content_type, scope=scope)


def _schema(value: Any) -> Any:
    """A class that describes an answer, as what it describes."""
    return value.model_json_schema() if hasattr(value, "model_json_schema") else value


def _without_ids(prompt: str) -> Any:
    """The messages of a prompt; their ids are drawn by chance, and no model sees them."""
    try:
        messages = json.loads(prompt)
    except ValueError:  # a plain text, as models have it that aren't for chats
        return prompt
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict) and isinstance(message.get("kwargs"), dict):
            message["kwargs"].pop("id", None)
    return messages


def _summary(prompt: str) -> str | None:
    """How the last message begins."""
    try:
        text = json.loads(prompt)[-1]["kwargs"]["content"]
    except (ValueError, LookupError, TypeError):
        text = prompt
    return text[:SUMMARY_LENGTH].replace("\x00", "") if isinstance(text, str) else None


def _generated(generations: Sequence[Generation], llm_output: dict[str, Any] | None = None) -> Generated:
    parts = [json.loads(json.dumps(dumpd(generation))) for generation in generations]
    for part in parts:
        # A conversation would take a second message with this id for the same one, and replace the first.
        part["kwargs"].get("message", {}).get("kwargs", {}).pop("id", None)
    messages = [generation.message for generation in generations if isinstance(generation, ChatGeneration)]
    usages = [getattr(message, "usage_metadata", None) or {} for message in messages]
    names = [described.get("model_name") for described in (llm_output or {}, *(m.response_metadata for m in messages))]
    return Generated(
        {"generations": parts, "llm_output": llm_output},
        tokens_in=sum(usage.get("input_tokens", 0) for usage in usages) or None,
        tokens_out=sum(usage.get("output_tokens", 0) for usage in usages) or None,
        model=next(filter(None, names), None),
    )


def _generations(content: dict[str, Any]) -> list[Any] | None:
    """None for what this version of LangChain can't read."""
    try:
        generations = [_revive(part, allowed_objects=_CLASSES) for part in content["generations"]]
    except Exception:  # each class has errors of its own
        return None
    return generations if all(isinstance(one, Generation) for one in generations) else None
