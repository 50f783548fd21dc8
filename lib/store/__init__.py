"""The memory store: (user, namespace, key) -> JSON value.

Read in this order: `memory_store` (put, get, search, delete), `items` (what it hands out), `upsert` (how it writes),
`values` (what may be stored), `filters` (what a search may ask for), `erasure` (deleting, up to a whole user),
`namespaces` (the standard ones).
Depth: `_batches` (how put_many writes), `_history` and `_archive` (reading what was replaced, moving out and back),
`_json_conditions` and `_found_by_id` (conditions in the SQL of each database).
"""

from lib.store._archive import ArchivedItem
from lib.store._found_by_id import of_user
from lib.store._history import MemoryVersion
from lib.store.items import Forgotten, MemoryItem, MemoryList
from lib.store.memory_store import MemoryStore

__all__ = [
    "ArchivedItem",
    "Forgotten",
    "MemoryItem",
    "MemoryList",
    "MemoryStore",
    "MemoryVersion",
    "of_user",
]
