"""A cache of model output, found by the hash of everything that it was made from.

Read in this order: `cache_key` (the hash), `scope` (whose it is), `content` (what is kept), `content_cache` (get, or
generate once for all who ask), `metrics` (hits, misses, what they saved), `langchain_cache` (the same for LangChain).
Depth: `_canonical_json` (inputs of a key), `_access`, `_columns` and `_rows` (the tables), `_generation` (one for all
who ask), `_hit_counts`, `_eviction`, `_tallies` (of `metrics`), `_langchain_answers`.
"""

from lib.cache._canonical_json import unordered
from lib.cache.cache_key import content_hash
from lib.cache.content import Cached, Generated
from lib.cache.content_cache import ContentCache
from lib.cache.metrics import CacheMetrics
from lib.cache.scope import SHARED, Scope, for_user

__all__ = [
    "SHARED",
    "CacheMetrics",
    "Cached",
    "ContentCache",
    "Generated",
    "Scope",
    "content_hash",
    "for_user",
    "unordered",
]
