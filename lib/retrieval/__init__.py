"""Retrieval: the memories that answer a question, best first, each with its score explained.

Read in this order: `ranking` (the pure functions: BM25, recency), `search` (`retrieve`: how the parts are put
together), `scored_memory` (what comes back), `superseded` (newer versions).
Depth: `_index` (terms and vectors of each memory), `_candidates` (found by the database), `_vectors` (exact search),
`_named_times` ("in early March"), `_explanation` (scores as bars).
"""

from lib.retrieval.scored_memory import ScoredList, ScoredMemory
from lib.retrieval.search import Weights, reembed, retrieve

__all__ = [
    "ScoredList",
    "ScoredMemory",
    "Weights",
    "reembed",
    "retrieve",
]
