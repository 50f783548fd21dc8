"""What all embedders share: each text is embedded once, in batches, and its vector kept."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lib.errors import InvalidInput, shown

if TYPE_CHECKING:
    import numpy as np

KEPT_VECTORS = 20_000  # in memory, of the texts that were embedded last; 30 MB


class CachedEmbedder:
    """Embeds each text once: vectors are kept by the hash of their text, the last `KEPT_VECTORS` of them.

    Threads may share one. A subclass has `name`, `dimensions` and `_embed_batch`.
    """

    name: str
    dimensions: int
    batch = 8  # texts at once: on a processor, larger batches only pad more

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        """See `Embedder.embed`. Errors: InvalidInput for what isn't a text."""
        import numpy as np

        given, texts = texts, list(texts) if isinstance(texts, Iterable) else [None]
        if isinstance(given, str) or not all(isinstance(text, str) for text in texts):
            raise InvalidInput(f"embed takes a list of texts, not {shown(given)}.")
        try:
            hashes = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        except UnicodeEncodeError as error:
            cut = f"a lone surrogate, at position {error.start}: {shown(error.object)}"
            raise InvalidInput(f"a text to embed holds half of a character ({cut}). Cut before or after it.") from None
        with self._lock:
            vectors = {key: self._kept[key] for key in hashes if key in self._kept}
        vectors |= self._embed_new({key: text for key, text in zip(hashes, texts, strict=True) if key not in vectors})
        with self._lock:
            for key, vector in vectors.items():
                self._kept[key] = vector
                self._kept.move_to_end(key)
            while len(self._kept) > KEPT_VECTORS:
                self._kept.popitem(last=False)
        return np.stack([vectors[key] for key in hashes]) if texts else np.zeros((0, self.dimensions), np.float32)

    def _embed_new(self, new: dict[bytes, str]) -> "dict[bytes, np.ndarray]":
        vectors: dict[bytes, np.ndarray] = {}
        # Texts of like length together: a batch is as long as its longest.
        keys = sorted(new, key=lambda key: len(new[key]))
        for start in range(0, len(keys), self.batch):
            batch = keys[start : start + self.batch]
            vectors.update(zip(batch, self._embed_batch([new[key] for key in batch]), strict=True))
        return vectors

    def _embed_batch(self, texts: list[str]) -> "np.ndarray":
        raise NotImplementedError
