"""What was concluded from other memories: it grows with its evidence, and never replaces what somebody said."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lib.store.items import MemoryItem
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODIC, TYPES
from lib.store.values import topics_of


def with_evidence_of(stays: Mapping[str, Any], goes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value that stays, with the higher confidence of two, and the topics and the evidence of both.

    >>> cat = {"content": "Has a cat.", "confidence": 0.7, "topics": ["pets"]}
    >>> with_evidence_of(cat, {"confidence": 0.9, "topics": ["home"]})
    {'content': 'Has a cat.', 'confidence': 0.9, 'topics': ['pets', 'home']}
    """
    value = dict(stays)
    confidences = [v["confidence"] for v in (stays, goes) if isinstance(v.get("confidence"), int | float)]
    if confidences:
        value["confidence"] = max(confidences)
    if topics := [*topics_of(stays), *topics_of(goes)]:
        value["topics"] = list(dict.fromkeys(topics))
    evidence = [v["evidence"] for v in (stays, goes) if isinstance(v.get("evidence"), list)]
    if keys := {key for keys in evidence for key in keys if isinstance(key, str)}:
        value["evidence"] = sorted(keys)
    return value


def conclude_again(
    before: dict[str, Any], value: dict[str, Any], *, same: bool, is_newer: bool
) -> tuple[str, dict[str, Any]]:
    """Return what becomes of a conclusion that meets a memory (see `Remembered`), and the value that stands then.

    same: whether both say the same. is_newer: whether the conclusion is the later one.
    """
    if "evidence" not in before:  # somebody said it
        return ("said_again" if same else "outdated"), before
    if same:
        return "said_again", with_evidence_of(value, before) if is_newer else with_evidence_of(before, value)
    return ("corrected", value) if is_newer else ("outdated", before)


@dataclass(frozen=True, slots=True)
class Merged:
    """Memories that said the same, now one."""

    namespace: str
    stays: str  # the key
    archived: tuple[str, ...]  # keys


def merge_duplicates(store: MemoryStore, user_id: str, same: Callable[[str, str], bool]) -> list[Merged]:
    """See `consolidation.merge_near_duplicates`."""
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
