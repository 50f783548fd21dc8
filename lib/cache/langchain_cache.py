"""The cache for LangChain's chat models, as its `BaseCache`."""

import math
import warnings
from typing import Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache

from lib.cache._access import check_access
from lib.cache._langchain_answers import generated_from, generations_in, summary_of
from lib.cache.cache_key import content_hash
from lib.cache.content import Cached
from lib.cache.content_cache import ContentCache
from lib.cache.scope import Scope
from lib.errors import DatabaseUnavailable, InvalidInput


class LangChainCache(BaseCache):
    """A `ContentCache` as `set_llm_cache(LangChainCache(cache, scope=SHARED))` or `ChatOpenAI(cache=…)` wants it.

    The key holds what LangChain says of the call: the messages without their ids, and the model's settings, tools,
    stop words and response format. LangChain looks and stores in two steps, so two who ask at once both pay.

    It describes a model once, when that is first called: one whose settings are changed afterwards, also by
    `model_copy(update=…)`, is answered from what the old settings wrote. Make a new model for new settings.
    `model.stream(…)` asks no cache.

    scope: SHARED, or for_user("zoe") for a cache of one user's requests; LangChain's global cache is everybody's.
    ttl_seconds: how long an answer is served; None: until it is evicted.
    Async calls run the same in a thread.
    Errors: InvalidInput for what isn't a scope, NotYourRows for one that this cache may not write, both at once.
    """

    def __init__(
        self, cache: ContentCache, *, scope: Scope, content_type: str = "chat", ttl_seconds: float | None = None
    ):
        self._cache, self._scope, self._type, self._ttl = cache, scope, content_type, ttl_seconds
        check_access(cache.engine, scope, writes=True)

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Return the answer to this prompt by this model; None if there is none."""
        key = content_hash(messages=prompt, model=llm_string)
        cached = self._cache.get(key, content_type=self._type, scope=self._scope)
        return None if cached is None else generations_in(cached.content)

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Store an answer. One that can't be stored isn't: its caller has it, and is the one to be served."""
        generated, now = generated_from(return_val), self._cache.time()
        # How long the model took, LangChain doesn't tell.
        self._cache.metrics.record(Cached({}, "miss", math.nan, now, model=generated.model), self._type, now)
        try:
            self._cache.put(
                content_hash(messages=prompt, model=llm_string), generated, content_type=self._type, scope=self._scope,
                ttl_seconds=self._ttl, input_summary=summary_of(prompt) if self._scope.user_id is None else None,
            )  # fmt: skip
        except (InvalidInput, DatabaseUnavailable) as error:
            warnings.warn(f"an answer was generated and couldn't be stored: {error}", stacklevel=2)

    def clear(self, **kwargs: Any) -> None:
        """Delete all answers of this cache's scope and content_type."""
        self._cache.invalidate_type(self._type, scope=self._scope)
