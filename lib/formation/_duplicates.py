"""Near duplicates: memories that say the same become one, and the others go to the archive."""

from collections.abc import Callable
from dataclasses import dataclass

from lib.formation._evidence import with_evidence_of
from lib.formation.deduplication import says_the_same
from lib.store.items import MemoryItem
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODIC, TYPES


@dataclass(frozen=True, slots=True)
class Merged:
    """Memories that said the same, now one."""

    namespace: str
    stays: str  # the key
    archived: tuple[str, ...]  # keys


def merge_near_duplicates(
    store: MemoryStore, user_id: str, *, same: Callable[[str, str], bool] = says_the_same
) -> list[Merged]:
    """Make one of the memories in a namespace that say the same: the newest stays, the others are archived.

    same: whether two contents do. It should not matter which of them comes first.
    The one that stays takes the highest confidence, and the topics and evidence of all; the reason in the archive names
    it. Events are left alone: two evenings that went alike are two evenings.
    All in one transaction. A second call finds nothing more to do. What others change while this one compares is left
    for the next call.
    """
    groups = _groups(store.search(user_id, limit=None), same)
    if not groups:
        return []
    merged: list[Merged] = []
    with store.locked_transaction(user_id) as inside:
        if inside is None:  # forgotten meanwhile
            return merged
        current = {(item.namespace, item.key): item for item in inside.search(user_id, limit=None)}
        for stays, *duplicates in groups:
            if all(current.get((item.namespace, item.key)) == item for item in (stays, *duplicates)):
                merged.append(_merge(inside, stays, duplicates))
    return merged


def _groups(newest_first: list[MemoryItem], same: Callable[[str, str], bool]) -> list[list[MemoryItem]]:
    """Memories that say the same as the first of their group, which is the newest of them."""
    groups: list[list[MemoryItem]] = []
    for item in newest_first:
        content = item.value.get("content")
        if TYPES.get(item.namespace) == EPISODIC or not isinstance(content, str):
            continue
        for group in groups:
            if group[0].namespace == item.namespace and same(group[0].value["content"], content):
                group.append(item)
                break
        else:
            groups.append([item])
    return [group for group in groups if len(group) > 1]


def _merge(inside: MemoryStore, stays: MemoryItem, duplicates: list[MemoryItem]) -> Merged:
    user_id, namespace = stays.user_id, stays.namespace
    value = stays.value
    for duplicate in duplicates:
        value = with_evidence_of(value, duplicate.value)
    if value != stays.value:
        inside.put(user_id, namespace, stays.key, value, expires_at=stays.expires_at)
    addresses = [(namespace, duplicate.key) for duplicate in duplicates]
    inside.archive(user_id, addresses, reason=f"says the same as {namespace}/{stays.key}")
    return Merged(namespace, stays.key, tuple(duplicate.key for duplicate in duplicates))
