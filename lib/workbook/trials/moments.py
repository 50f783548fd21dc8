"""When to stay silent: thresholds of relevance, tried on labelled moments.

The threshold is chosen on the part of the data for development, by a rule that is stated here, and then measured once
on the part for the test. The parts are small: look at the interval beside each precision before you believe it.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from lib.agent.system_prompt import proactive_memories
from lib.retrieval.scored_memory import ScoredList
from lib.store.memory_store import MemoryStore
from lib.workbook.lesson import load_memories

MIN_PRECISION = 0.8  # of what is brought up unasked
THRESHOLDS = tuple(round(0.1 + 0.005 * step, 3) for step in range(101))  # 0.1 to 0.6
MAX_BROUGHT_UP = 2  # in one turn, as in `proactive_memories`
ALL = 1000

Row = dict[str, Any]


def speak_curve(store: MemoryStore, moments: Iterable[dict[str, Any]]) -> list[Row]:
    """What bringing memories up unasked would be like with each of THRESHOLDS: a dict for each.

    store: with the people of the data, as from `store_people`. moments: as from `load_moments`.
    brought_up, right: memories. precision: right / brought_up (1 where nothing is), and from precision_low to
    precision_high, where it lies with 90% confidence (see `wilson`). recall: right / all that a thoughtful assistant
    would use. speaks_in_silence: share of the turns that call for none, and get one.
    """
    where = addresses()
    ranked = []
    for moment in moments:
        memories = proactive_memories(store, moment["person"], moment["turn"], min_relevance=0, limit=ALL)
        ranked.append((memories, {where[name] for name in moment["memories"]}))
    return [_measured(ranked, threshold) for threshold in THRESHOLDS]


def choose_to_speak(rows: Iterable[Row]) -> float | None:
    """The threshold with the highest recall at MIN_PRECISION or more; of equals the highest. None: there is none.

    >>> often = {"threshold": 0.2, "precision": 0.5, "recall": 0.9}
    >>> choose_to_speak([often, {"threshold": 0.3, "precision": 0.8, "recall": 0.4}])
    0.3
    """
    good = [row for row in rows if row["precision"] >= MIN_PRECISION and row["recall"]]
    return max(good, key=lambda row: (row["recall"], row["threshold"]))["threshold"] if good else None


def wilson(right: int, of: int, z: float = 1.645) -> tuple[float, float]:
    """Where the true share lies, given so many of so many cases; z = 1.645 standard deviations are 90% confidence.

    Source: the score interval of Wilson (1927), which holds for few cases, too.

    >>> [round(bound, 2) for bound in wilson(6, 7)], [round(bound, 2) for bound in wilson(60, 70)]
    ([0.55, 0.97], [0.78, 0.91])
    """
    if not of:
        return 0.0, 1.0
    share, weight = right / of, z * z / of
    middle = share + weight / 2
    reach = z * math.sqrt(share * (1 - share) / of + weight / (4 * of))
    return (middle - reach) / (1 + weight), (middle + reach) / (1 + weight)


def _measured(moments: Sequence[tuple[ScoredList, set[tuple[str, str]]]], threshold: float) -> Row:
    """moments: what was ranked in each, and which memories a thoughtful assistant would use."""
    turns = []  # (how many were brought up, how many of them are right, how many would be)
    for ranked, wanted in moments:
        spoken = [scored.item for scored in ranked if scored.relevance >= threshold][:MAX_BROUGHT_UP]
        right = sum((item.namespace, item.key) in wanted for item in spoken)
        turns.append((len(spoken), right, len(wanted)))
    brought_up, right, wanted_in_all = (sum(counts) for counts in zip(*turns, strict=True))
    low, high = wilson(right, brought_up)
    return {
        "threshold": threshold,
        "brought_up": brought_up,
        "right": right,
        "precision": right / brought_up if brought_up else 1.0,
        "precision_low": low,
        "precision_high": high,
        "recall": right / max(wanted_in_all, 1),
        "speaks_in_silence": share(spoken > 0 for spoken, _, wanted in turns if not wanted),
    }


def addresses() -> dict[str, tuple[str, str]]:
    """Namespace and key of each memory of the data, by its id."""
    return {memory["id"]: (memory["namespace"], memory["key"]) for memory in load_memories()}


def share(cases: Iterable[bool]) -> float:
    """How many of these are true, from 0 to 1; 0 where there are none."""
    return statistics.fmean([*cases] or [0.0])
