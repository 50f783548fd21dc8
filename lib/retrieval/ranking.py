"""How memories are ranked: decay curves and BM25. Pure functions, no database."""

import math
from collections.abc import Mapping, Sequence

from lib.errors import InvalidInput, shown
from lib.text_terms import stems

# k1 is small because a memory is a sentence: a word that stands in it twice says little more than one that stands once.
BM25_K1, BM25_B = 0.4, 0.75


def recency(age_hours: float, half_life_hours: float) -> float:
    """Weight of a memory by its age: 1 when new, 0.5 after one half-life, never 0.

    age_hours: time since the last update, in hours; a time in the future counts as new.
    half_life_hours: > 0; hours after which the weight has halved. Infinity: age doesn't matter.
    Source: exponential forgetting, as in Generative Agents (Park et al. 2023, section 4.1).

    >>> recency(24, half_life_hours=24), recency(-5, half_life_hours=24)
    (0.5, 1.0)
    """
    a_number = isinstance(half_life_hours, int | float) and not isinstance(half_life_hours, bool)
    if not a_number or not half_life_hours > 0:
        raise InvalidInput(f"half_life_hours must be a number of more than 0, not {shown(half_life_hours)}.")
    return float(0.5 ** (max(0.0, age_hours) / half_life_hours))


def hyperbolic_recency(age_hours: float) -> float:
    """1 / (1 + age in days): fast at first, then slow. A fact of a month ago keeps 3 percent.

    age_hours: as for `recency`.

    >>> hyperbolic_recency(24), round(hyperbolic_recency(30 * 24), 2)
    (0.5, 0.03)
    """
    return 1 / (1 + max(0.0, age_hours) / 24)


def idf(documents: int, with_term: int) -> float:
    """How much a term tells: rare terms more. The variant of BM25 that is never negative (as in Lucene).

    documents: how many there are; with_term: in how many of them the term stands.

    >>> round(idf(1000, 1), 2), round(idf(1000, 900), 2)
    (6.5, 0.11)
    """
    return math.log(1 + (documents - with_term + 0.5) / (with_term + 0.5))


def bm25(
    counts: Mapping[str, float], length: float, average_length: float, idfs: Mapping[str, float],
    *, k1: float = BM25_K1, b: float = BM25_B,
) -> float:  # fmt: skip
    """Score of one document for the terms of a query; 0 if it holds none of them.

    counts: how often each term stands in the document; may be a fraction (terms of a neighbour count less).
    length, average_length: of this document and of all, in terms.
    idfs: the query's terms, with what each tells (`idf`).
    Source: Robertson and Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and Beyond.

    >>> bm25({"exam": 1}, 1, 1, {"exam": 2.0}), bm25({}, 0, 1, {"exam": 2.0})
    (2.0, 0)
    """
    norm = k1 * (1 - b + b * length / average_length) if average_length else k1
    return sum(
        told * count * (k1 + 1) / (count + norm) for term, told in idfs.items() if (count := counts.get(term, 0))
    )


def bm25_scores(documents: Sequence[str], query: str) -> list[float]:
    """BM25 of each document for a query, by stems; for a handful of texts, without a database.

    >>> scores = bm25_scores(["The exam is in May", "Likes tea", "Sails in May"], "When are the exams?")
    >>> [score > 0 for score in scores]
    [True, False, False]
    """
    stemmed = [stems(document) for document in documents]
    terms = set(stems(query))
    idfs = {term: idf(len(stemmed), sum(term in document for document in stemmed)) for term in terms}
    average = sum(map(len, stemmed)) / len(stemmed) if stemmed else 0.0
    return [bm25({term: document.count(term) for term in terms}, len(document), average, idfs) for document in stemmed]
