"""The cache for LangChain's chat models: as its `BaseCache`, or in front of one model, where nothing can be missed."""

import asyncio
import contextvars
import threading
import time
import warnings
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache as once
from typing import Any, TypeVar

from langchain_core.caches import BaseCache
from langchain_core.outputs import ChatResult, Generation

from lib.cache._langchain_answers import generated_from, generations_in, summary_of, without_ids
from lib.cache.cache_key import content_hash
from lib.cache.content import Generated
from lib.cache.content_cache import ContentCache
from lib.cache.scope import Scope
from lib.errors import DatabaseUnavailable, InvalidInput

CONTENT_TYPE = "chat"
MAX_MISSED = 1000  # calls that are on their way to the model
LOOP_SECONDS = 1  # between looks whether the loop that asks the model is running still


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
        # Key -> when it was looked for in vain, by each of those who are asking the model for it now.
        self._missed: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()
        _check(cache, scope, content_type, writing=True)

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """The answer to this prompt by this model; None if there is none."""
        if (key := self._key(prompt, llm_string)) is None:
            return None
        began, found = time.perf_counter(), self._cache.get(key, content_type=self._type, scope=self._scope)
        if found is not None:
            return generations_in(found.content)
        with self._lock:
            self._missed.setdefault(key, deque(maxlen=MAX_MISSED)).append(began)
            self._missed.move_to_end(key)
            if len(self._missed) > MAX_MISSED:  # of calls that failed: nobody tells us of those
                self._missed.popitem(last=False)
        return None

    def update(self, prompt: str, llm_string: str, return_val: Any) -> None:
        """Store an answer. One that can't be stored isn't: its caller has it, and is the one to be served."""
        if (key := self._key(prompt, llm_string)) is None:
            return
        summary = None if self._scope.user_id is not None else summary_of(prompt)
        generated, elapsed = generated_from(return_val), self._elapsed(key)
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
        except DatabaseUnavailable as error:
            warnings.warn(f"an answer was generated and couldn't be stored: {error}", stacklevel=2)

    def _elapsed(self, key: str) -> float | None:
        """Milliseconds since the first of those who are asking looked for it in vain; None if nobody did."""
        with self._lock:
            if not (waiting := self._missed.get(key)):
                return None
            began = waiting.popleft()
            if not waiting:
                del self._missed[key]
        return (time.perf_counter() - began) * 1000

    def clear(self, **kwargs: Any) -> None:
        """Delete all answers of this cache's scope and content_type."""
        self._cache.invalidate_type(self._type, scope=self._scope)

    def _key(self, prompt: str, llm_string: str) -> str | None:
        """None for what has no fixed form: it isn't cached."""
        try:
            return content_hash(messages=without_ids(prompt), model=llm_string)
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
    >>> from lib.llm.chat_model import chat_model
    >>> engine = connect("sqlite://")
    >>> create_tables(engine)
    >>> model = cached_chat_model(chat_model(), ContentCache(engine), scope=SHARED)  # doctest: +SKIP
    """
    if not hasattr(model, "_get_request_payload"):
        raise InvalidInput(
            f"cached_chat_model needs a ChatOpenAI, not {type(model).__name__}. Others take LangChainCache."
        )
    if hasattr(model, "_ask"):
        raise InvalidInput("this model has a cache already. Give cached_chat_model the model that it was made from.")
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
            return content_hash(payload, api=type(model).__mro__[1].__name__, address=_address(model))
        except InvalidInput:
            return None

    def answer(self, key: str, generate: Any) -> ChatResult:
        fresh: list[ChatResult] = []

        def generated() -> Generated:
            fresh.append(generate())
            made = generated_from(fresh[0].generations, fresh[0].llm_output)
            if generations_in(made.content) is None:
                raise InvalidInput("this answer holds what can't be read back from JSON.")
            return made

        try:
            cached = self._cache.get_or_generate(key, generated, **self._where)
            if not fresh and generations_in(cached.content) is None:
                # Written by another version of LangChain: once anew, for all who ask.
                self._cache.invalidate(key, content_type=self._where["content_type"], scope=self._where["scope"])
                cached = self._cache.get_or_generate(key, generated, **self._where)
        except InvalidInput:
            if fresh:  # it can't be stored, but it was paid for
                return fresh[0]
            raise
        generations = generations_in(cached.content)
        if fresh or generations is None:
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
            asked = asyncio.run_coroutine_threadsafe(generate(), loop)
            while not asked.done():
                with suppress(TimeoutError):
                    return asked.result(LOOP_SECONDS)
                if not loop.is_running() and not asked.done():
                    asked.cancel()
                    raise RuntimeError("the event loop stopped before the model had answered.")
            return asked.result()

        # The waiting is done in a thread, the asking on this loop, to which the model's client belongs.
        context = contextvars.copy_context()
        return await loop.run_in_executor(_waiting(), context.run, self._ask.answer, key, generate_on_loop)

    return type(f"Cached{kind.__name__}", (kind,), {"_generate": _generate, "_agenerate": _agenerate})


@once
def _waiting() -> ThreadPoolExecutor:
    """Threads that wait. Not the loop's own few: those who wait would fill them, and who generates needs one."""
    return ThreadPoolExecutor(1000, "cached_chat_model")


def _check(cache: ContentCache, scope: Scope, content_type: str, *, writing: bool = False) -> None:
    """The errors of a scope that is none come when the model is made, and not when it is first asked."""
    if not isinstance(cache, ContentCache):
        raise InvalidInput(f"this needs a ContentCache(engine), not {type(cache).__name__}.")
    cache.check(content_type=content_type, scope=scope, writing=writing)


def _schema(value: Any) -> Any:
    """A class that describes an answer, as what it describes."""
    return value.model_json_schema() if hasattr(value, "model_json_schema") else value


def _address(model: Any) -> dict[str, Any]:
    """Where a request would go, and what goes along with it: another host may have another model of that name."""
    client = model.root_client
    return {
        "url": str(client.base_url),
        "query": {**client.default_query, **(model.default_query or {})},
        "headers": dict(model.default_headers or {}),
        "of": [client.organization, client.project],
        "form": model.output_version,
    }
