"""When to stay silent: thresholds of relevance, tried on labelled moments and questions.

Both thresholds are chosen on the part of the data for development, by a rule that is stated here, and then measured
once on the part for the test. The parts are small: look at the interval beside each precision before you believe it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lib.agent.system_prompt import proactive_memories
from lib.retrieval.scored_memory import ScoredList
from lib.retrieval.search import retrieve
from lib.store.memory_store import MemoryStore
from lib.workbook.lesson import load_memories

MIN_PRECISION = 0.8  # of what is brought up unasked
MIN_QUIET = 1.0  # share of the questions that no memory answers
# Above the lowest threshold that was quiet on all of them: what holds for 21 cases need not hold for the next 21.
MARGIN = 0.03
THRESHOLDS = tuple(round(0.1 + 0.005 * step, 3) for step in range(101))  # 0.1 to 0.6
ALL = 1000

Row = dict[str, Any]


def speak_curve(
    store: MemoryStore, moments: Iterable[dict[str, Any]], *, thresholds: Sequence[float] = THRESHOLDS, limit: int = 2
) -> list[Row]:
    """What bringing memories up unasked would be like with each threshold: a dict for each.

    store: with the people of the data, as from `store_people`. moments: as from `load_moments`.
    brought_up, right: memories. precision: right / brought_up (1 where nothing is), and from precision_low to
    precision_high, where it lies with 90% confidence (see `wilson`). recall: right / all that a thoughtful assistant
    would use. speaks_rightly: share of the turns that call for a memory and get a right one.
    speaks_in_silence: share of the turns that call for none, and get one.
    """
    addresses = _addresses()
    found = []
    for moment in moments:
        ranked = proactive_memories(store, moment["person"], moment["turn"], min_relevance=0, limit=ALL)
        found.append((ranked, {addresses[name] for name in moment["memories"]}))
    return [_speaking(found, threshold, limit) for threshold in thresholds]


def known_curve(
    store: MemoryStore, questions: Iterable[dict[str, Any]], *, thresholds: Sequence[float] = THRESHOLDS, k: int = 5
) -> list[Row]:
    """What a `min_relevance` would do to questions: a dict for each threshold.

    quiet: share of the questions without an answer that surface nothing. kept: share of those whose answer is among
    the k best without a threshold that still have it.
    """
    addresses = _addresses()
    found = []
    for question in questions:
        ranked = retrieve(store, question["person"], question["question"], limit=ALL)
        found.append((ranked, {addresses[name] for name in question["answers"]}))
    known = [(ranked, wanted) for ranked, wanted in found if _hits(ranked[:k], wanted)]
    unknown = [ranked for ranked, wanted in found if not wanted]
    return [
        {
            "threshold": threshold,
            "quiet": _share(unknown, lambda ranked: not _from(ranked, threshold, k)),  # noqa: B023
            "kept": _share(known, lambda one: _hits(_from(one[0], threshold, k), one[1])),  # noqa: B023
        }
        for threshold in thresholds
    ]


def choose_to_speak(rows: Iterable[Row], min_precision: float = MIN_PRECISION) -> float | None:
    """The threshold with the highest recall at this precision or more; of equals the highest. None: there is none.

    >>> often = {"threshold": 0.2, "precision": 0.5, "recall": 0.9}
    >>> choose_to_speak([often, {"threshold": 0.3, "precision": 0.8, "recall": 0.4}])
    0.3
    """
    good = [row for row in rows if row["precision"] >= min_precision and row["recall"]]
    return max(good, key=lambda row: (row["recall"], row["threshold"]))["threshold"] if good else None


def choose_what_is_known(rows: Iterable[Row], min_quiet: float = MIN_QUIET, margin: float = MARGIN) -> float | None:
    """A little above the lowest threshold that is quiet often enough: lower ones keep more. None: there is none.

    >>> choose_what_is_known([{"threshold": 0.5, "quiet": 0.9}, {"threshold": 0.52, "quiet": 1.0}])
    0.55
    """
    lowest = min((row["threshold"] for row in rows if row["quiet"] >= min_quiet), default=None)
    return None if lowest is None else round(lowest + margin, 3)


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


def _speaking(found: Sequence[tuple[ScoredList, set[tuple[str, str]]]], threshold: float, k: int) -> Row:
    said = [(_from(ranked, threshold, k), wanted) for ranked, wanted in found]
    brought_up = sum(len(memories) for memories, _ in said)
    right = sum(_hits(memories, wanted) for memories, wanted in said)
    calling = [(memories, wanted) for memories, wanted in said if wanted]
    silent = [memories for memories, wanted in said if not wanted]
    low, high = wilson(right, brought_up)
    return {
        "threshold": threshold,
        "brought_up": brought_up,
        "right": right,
        "precision": right / brought_up if brought_up else 1.0,
        "precision_low": low,
        "precision_high": high,
        "recall": right / max(sum(len(wanted) for _, wanted in said), 1),
        "speaks_rightly": _share(calling, lambda one: _hits(*one)),
        "speaks_in_silence": _share(silent, len),
    }


def _from(ranked: ScoredList, threshold: float, k: int) -> ScoredList:
    return ScoredList([scored for scored in ranked if scored.relevance >= threshold][:k])


def _hits(memories: Iterable[Any], wanted: set[tuple[str, str]]) -> int:
    return sum((scored.item.namespace, scored.item.key) in wanted for scored in memories)


def _share(of: Sequence[Any], holds: Callable[[Any], Any]) -> float:
    return sum(bool(holds(one)) for one in of) / len(of) if of else 0.0


def _addresses() -> dict[str, tuple[str, str]]:
    return {memory["id"]: (memory["namespace"], memory["key"]) for memory in load_memories()}
