"""The memory store: (user, namespace, key) -> JSON value.

Read in this order: `memory_store` (put, get, search, delete), `items` (what it hands out), `upsert` (how it writes),
`values` (what may be stored), `filters` (what a search may ask for), `history`, `archive`, `erasure` (what becomes of
memories later), `namespaces` (the standard ones).
Depth: `_json_conditions` (conditions on JSON, in the SQL of each database), `_batches` (how put_many writes).
"""

from lib.store.items import ArchivedItem, FinishedSession, Forgotten, MemoryItem, MemoryList, MemoryVersion
from lib.store.memory_store import MemoryStore

__all__ = [
    "ArchivedItem",
    "FinishedSession",
    "Forgotten",
    "MemoryItem",
    "MemoryList",
    "MemoryStore",
    "MemoryVersion",
]
