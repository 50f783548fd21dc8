"""An embedder for tests: a text's vector is the sum of its words', each drawn from the word's hash; no model."""

from hashlib import blake2b

import numpy as np

from lib.llm._cached_embedder import CachedEmbedder
from lib.text_terms import stems


class WordEmbedder(CachedEmbedder):
    """Texts with words in common are near, others aren't. It counts what it is asked for."""

    def __init__(self, name: str = "words", dimensions: int = 64) -> None:
        super().__init__()
        self.name, self.dimensions = name, dimensions
        self.batches: list[list[str]] = []

    @property
    def embedded(self) -> list[str]:
        """All texts so far that weren't kept from before."""
        return [text for batch in self.batches for text in batch]

    def _embed_batch(self, texts: list[str]) -> np.ndarray:
        self.batches.append(list(texts))
        vectors = np.stack([sum(map(self._of_word, stems(text[:1000]) or [text])) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def _of_word(self, word: str) -> np.ndarray:
        seed = int.from_bytes(blake2b(word.encode(), digest_size=8).digest())
        return np.random.default_rng(seed).standard_normal(self.dimensions)
