"""What was concluded from other memories: it grows with its evidence, and never replaces what somebody said."""

from collections.abc import Mapping
from typing import Any

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
