"""Ways of retrieving side by side, on the questions of data/questions.jsonl. Chapter 05 compares them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from lib.evaluation import Evaluation, Evaluations, Retriever, evaluate
from lib.ranking import hyperbolic_recency
from lib.retrieval import Weights, retrieve
from lib.store import MemoryStore
from lib.terms import STOP_WORDS, words

Ids = Mapping[tuple[str, str, str], str]  # (user_id, namespace, key) -> id, as from store_all_versions

ASKED_FOR = 20  # memories that each way may bring
PLAIN = Weights(subject=0, time=0, recency=0)
# What each way counts, from nothing but words to everything that `retrieve` ships with.
WEIGHTS = {
    "BM25": replace(PLAIN, lexical=1, semantic=0),
    "embeddings": replace(PLAIN, lexical=0, semantic=1),
    "hybrid": PLAIN,
    "hybrid, time named": replace(PLAIN, time=Weights.time, subject=Weights.subject),
    "+ recency (shipped)": Weights(),
}
# The shipped weights without one part each.
WITHOUT = {
    "without words": replace(Weights(), lexical=0, semantic=1),
    "without meaning": replace(Weights(), lexical=1, semantic=0),
    "without the time named": replace(Weights(), time=0),
    "without recency": replace(Weights(), recency=0),
}


def ways(store: MemoryStore, ids: Ids) -> dict[str, Retriever]:
    """Name -> a way of retrieving, the simplest first."""
    found: dict[str, Retriever] = {
        "substring": by_substring(store, ids),
        "keywords": by_keywords(store, ids),
        "BM25 × printed recency": by_printed_recency(store, ids),
    }
    found |= {name: by_weights(store, ids, weights) for name, weights in WEIGHTS.items()}
    return found


def by_weights(store: MemoryStore, ids: Ids, weights: Weights, **options: Any) -> Retriever:
    """`retrieve` with these weights."""

    def retriever(user_id: str, question: str) -> list[str]:
        found = retrieve(store, user_id, question, k=ASKED_FOR, weights=weights, **options)
        return [ids[user_id, scored.item.namespace, scored.item.key] for scored in found]

    return retriever


def by_substring(store: MemoryStore, ids: Ids) -> Retriever:
    """The whole question as a search term, newest first."""

    def retriever(user_id: str, question: str) -> list[str]:
        found = store.search_by_content(user_id, question, limit=ASKED_FOR)
        return [ids[user_id, item.namespace, item.key] for item in found]

    return retriever


def by_keywords(store: MemoryStore, ids: Ids) -> Retriever:
    """Each word of the question as a search term: the most words first, then the newest."""

    def retriever(user_id: str, question: str) -> list[str]:
        hits: dict[str, int] = {}
        for word in dict.fromkeys(word for word in words(question) if word not in STOP_WORDS):
            for item in store.search_by_content(user_id, word, limit=None):
                found = ids[user_id, item.namespace, item.key]
                hits[found] = hits.get(found, 0) + 1
        return sorted(hits, key=lambda found: -hits[found])[:ASKED_FOR]

    return retriever


def by_printed_recency(store: MemoryStore, ids: Ids) -> Retriever:
    """BM25 multiplied by 1 / (1 + age in days)."""

    def retriever(user_id: str, question: str) -> list[str]:
        now = store.now()
        found = retrieve(store, user_id, question, k=1000, weights=WEIGHTS["BM25"])
        scores = {}
        for scored in found:
            age_hours = (now - scored.item.updated_at).total_seconds() / 3600
            key = ids[user_id, scored.item.namespace, scored.item.key]
            scores[key] = scored.relevance * hyperbolic_recency(age_hours)
        return sorted(scores, key=lambda key: -scores[key])[:ASKED_FOR]

    return retriever


def compare(
    retrievers: Mapping[str, Retriever], questions: Iterable[Mapping[str, Any]], memories: Iterable[Mapping[str, Any]],
    *, each: Callable[[Iterable], Iterable] = iter,
) -> Evaluations:  # fmt: skip
    """Evaluate several ways on the same questions. each: may show a progress bar, such as tqdm."""
    questions, memories = list(questions), list(memories)
    found: list[Evaluation] = [
        evaluate(name, retriever, questions, memories) for name, retriever in each(list(retrievers.items()))
    ]
    return Evaluations(found)
