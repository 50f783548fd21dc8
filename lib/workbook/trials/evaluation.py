"""Whether retrieval works: recall, rank and restraint on questions whose answers are known."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lib.store.memory_store import MemoryStore

if TYPE_CHECKING:
    import pandas

Retriever = Callable[[str, str], Sequence[str]]  # (user_id, question) -> ids, best first


def recall_at(ranked: Sequence[str], wanted: Iterable[str], k: int) -> float:
    """Share of the wanted ids, at least one, that are among the first k found.

    >>> recall_at(["a", "b", "c"], ["c", "d"], 2), recall_at(["a", "b", "c"], ["c", "d"], 3)
    (0.0, 0.5)
    """
    wanted = set(wanted)
    return len(wanted & set(ranked[:k])) / len(wanted)


def reciprocal_rank(ranked: Sequence[str], wanted: Iterable[str]) -> float:
    """1 / rank of the first wanted id; 0 if none was found. Its mean over questions is MRR.

    >>> reciprocal_rank(["a", "b"], ["b"]), reciprocal_rank(["a"], ["b"])
    (0.5, 0.0)
    """
    wanted = set(wanted)
    return next((1 / rank for rank, memory_id in enumerate(ranked, 1) if memory_id in wanted), 0.0)


def newest_first(ranked: Sequence[str], newest: str, older: Iterable[str]) -> bool:
    """Whether the newest version stands above all older ones; not if it wasn't ranked at all.

    >>> newest_first(["new", "old"], "new", ["old"]), newest_first(["old", "new"], "new", ["old"])
    (True, False)
    """
    older = set(older)
    return next((memory_id == newest for memory_id in ranked if memory_id == newest or memory_id in older), False)


def evaluate(
    retriever: Retriever, questions: Iterable[Mapping[str, Any]], memories: Iterable[Mapping[str, Any]]
) -> "pandas.DataFrame":
    """Ask every question and compare what comes back with what answers it: a row for each question.

    retriever: (user_id, question) -> ids of memories, best first; only the first five count for recall.
    questions, memories: as in data/questions.jsonl and data/memories.jsonl.
    Columns: kind; recall and reciprocal_rank, of what a memory answers; newest_first, of changed facts. From 0 to 1,
    NaN where a question has none.
    """
    import pandas

    versions = older_versions(memories)
    rows = []
    for question in questions:
        ranked = retriever(question["person"], question["question"])
        wanted = question["answers"]
        changed = question["kind"] == "changed_fact"
        rows.append(
            {
                "kind": question["kind"],
                "recall": recall_at(ranked, wanted, 5) if wanted else None,
                "reciprocal_rank": reciprocal_rank(ranked, wanted) if wanted else None,
                "newest_first": float(newest_first(ranked, wanted[0], versions[wanted[0]])) if changed else None,
            }
        )
    return pandas.DataFrame(rows)


def older_versions(memories: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """For each memory that still holds, the ids of those that it replaced: the others at its address."""
    versions = defaultdict(list)
    for memory in memories:
        versions[memory["person"], memory["namespace"], memory["key"]].append(memory)
    return {
        newest["id"]: [memory["id"] for memory in same if memory is not newest]
        for same in versions.values()
        for newest in same
        if not newest["superseded_by"]
    }


def store_all_versions(
    store_at: Callable[[datetime], MemoryStore],
    memories: Iterable[Mapping[str, Any]],
    *,
    name: Callable[[int], str] | None = None,
    linked: bool = False,
) -> dict[tuple[str, str, str], str]:
    """Store memories as an agent does that never looks whether it has a key already: nothing is replaced.

    store_at: gives the store at a moment, so that each memory is as old as it was said.
    name: gives the key of a person's memory number 0, 1, 2 …; None: its own, a later version of `exam_date` becoming
        `exam_date_2`. linked: whether each value says which key it supersedes.
    Returns (user_id, namespace, key) -> id.
    """
    ids: dict[tuple[str, str, str], str] = {}
    numbers: Counter[str] = Counter()
    last: dict[tuple[str, str, str], str] = {}  # address in the data -> key of its last version
    for memory in sorted(memories, key=lambda memory: memory["valid_from"]):
        person, namespace, key = original = memory["person"], memory["namespace"], memory["key"]
        number = 2
        while name is None and (person, namespace, key) in ids:
            key, number = f"{memory['key']}_{number}", number + 1
        if name is not None:
            key = name(numbers[person])
        numbers[person] += 1
        ids[person, namespace, key] = memory["id"]
        value = {name: memory[name] for name in ("content", "type", "topics", "confidence")}
        value["source"] = memory["source_session"]
        if linked and original in last:
            value["supersedes"] = last[original]
        last[original] = key
        store_at(datetime.fromisoformat(memory["valid_from"])).put(person, namespace, key, value)
    return ids
