"""Strategies of retrieval side by side, on the questions of data/questions.jsonl. Chapter 05 compares them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from lib.retrieval.ranking import hyperbolic_recency
from lib.retrieval.scored_memory import ScoredMemory
from lib.retrieval.search import Weights, retrieve
from lib.store.items import MemoryItem
from lib.store.memory_store import MemoryStore
from lib.text_terms import STOP_WORDS, words
from lib.workbook.trials.evaluation import Retriever, evaluate

if TYPE_CHECKING:
    import pandas

Ids = Mapping[tuple[str, str, str], str]  # (user_id, namespace, key) -> id, as from store_all_versions

ASKED_FOR = 20  # memories that each strategy may bring
# What each strategy counts, from one part alone to everything that `retrieve` ships with.
_PLAIN = {"subject": 0.0, "time": 0.0, "recency": 0.0}
WORDS, MEANING = Weights(lexical=1, semantic=0, **_PLAIN), Weights(lexical=0, semantic=1, **_PLAIN)
BOTH, NO_BONUS = Weights(**_PLAIN), Weights(recency=0)


def strategies(store: MemoryStore, ids: Ids) -> dict[str, Retriever]:
    """Return strategies of retrieval by name, the simplest first."""
    off = {"newest_versions": False}
    return {
        "substring": _ids_of(partial(store.search_by_content, limit=ASKED_FOR), ids),  # of the whole question
        "keywords": by_keywords(store, ids),
        "BM25": by_weights(store, ids, WORDS, **off),
        "embeddings": by_weights(store, ids, MEANING, **off),
        "hybrid": by_weights(store, ids, BOTH, **off),
        "hybrid × printed recency": by_multiplied(store, ids, hyperbolic_recency),
        "hybrid, time named": by_weights(store, ids, NO_BONUS, **off),
        "+ bonus for the new": by_weights(store, ids, Weights(), **off),
        "+ newest version (shipped)": by_weights(store, ids, Weights()),
    }


def ablations(store: MemoryStore, ids: Ids) -> dict[str, Retriever]:
    """Return the shipped strategy without one of its parts each."""
    return {
        "shipped": by_weights(store, ids, Weights()),
        "without words": by_weights(store, ids, replace(Weights(), lexical=0, semantic=1)),
        "without meaning": by_weights(store, ids, replace(Weights(), lexical=1, semantic=0)),
        "without the time named": by_weights(store, ids, replace(Weights(), time=0)),
        "without a bonus for the new": by_weights(store, ids, NO_BONUS),
        "without newest versions": by_weights(store, ids, Weights(), newest_versions=False),
    }


def by_weights(store: MemoryStore, ids: Ids, weights: Weights, **options: Any) -> Retriever:
    """`retrieve` with these weights."""

    def find(user_id: str, question: str) -> Iterable[MemoryItem]:
        return [s.item for s in retrieve(store, user_id, question, limit=ASKED_FOR, weights=weights, **options)]

    return _ids_of(find, ids)


def by_keywords(store: MemoryStore, ids: Ids) -> Retriever:
    """Each word of the question as a search term: the most words first, then the newest."""

    def retriever(user_id: str, question: str) -> list[str]:
        hits: Counter[str] = Counter()
        for word in dict.fromkeys(word for word in words(question) if word not in STOP_WORDS):
            items = store.search_by_content(user_id, word, limit=None)
            hits.update(ids[user_id, item.namespace, item.key] for item in items)
        return [memory_id for memory_id, _ in hits.most_common(ASKED_FOR)]

    return retriever


def by_multiplied(store: MemoryStore, ids: Ids, recency: Callable[[float], float]) -> Retriever:
    """Words and meaning, multiplied by a weight of the age in hours."""

    def find(user_id: str, question: str) -> Iterable[MemoryItem]:
        def score(scored: ScoredMemory) -> float:
            return scored.relevance * recency((store.now() - scored.item.updated_at).total_seconds() / 3600)

        ranked = retrieve(store, user_id, question, limit=1000, weights=BOTH, newest_versions=False)
        return [scored.item for scored in sorted(ranked, key=score, reverse=True)[:ASKED_FOR]]

    return _ids_of(find, ids)


def by_order(
    store: MemoryStore, ids: Ids, reorder: Callable[[Sequence[ScoredMemory]], Iterable[ScoredMemory]]
) -> Retriever:
    """Words and meaning, put into another order by a function of yours."""

    def find(user_id: str, question: str) -> Iterable[MemoryItem]:
        ranked = retrieve(store, user_id, question, limit=ASKED_FOR, newest_versions=False)
        return [scored.item for scored in reorder(ranked)]

    return _ids_of(find, ids)


def _ids_of(find: Callable[[str, str], Iterable[MemoryItem]], ids: Ids) -> Retriever:
    return lambda user_id, question: [ids[user_id, item.namespace, item.key] for item in find(user_id, question)]


def compare(
    retrievers: Mapping[str, Retriever], questions: Sequence[Mapping[str, Any]], memories: Sequence[Mapping[str, Any]]
) -> "pandas.DataFrame":
    """Evaluate several strategies on the same questions: a row of means for each, in percent but for MRR."""
    import pandas

    rows = {}
    for name, retriever in tqdm(retrievers.items(), unit="strategy"):
        mean = evaluate(retriever, questions, memories).mean(numeric_only=True)
        rows[name] = {
            "recall@5, %": round(100 * mean.recall),
            "MRR": round(mean.reciprocal_rank, 2),
            "newest first, %": round(100 * mean.newest_first),
        }
    return pandas.DataFrame.from_dict(rows, orient="index")
