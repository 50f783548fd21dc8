"""Embeddings of the practice model: a text's spelling, hashed into a vector. No weights, no numpy."""

import base64
import math
import re
import struct
from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from lib.errors import shown
from lib.practice.practice_model.api import Refused, tokens
from lib.text_terms import fold

EMBEDDING_MODEL_NAME = "practice-embedding"
DIMENSIONS = 256
MAX_INPUTS = 2048  # texts in one request, as at OpenAI
TRIGRAM_WEIGHT = 0.3  # of a word's; a word has about as many trigrams as letters

# Words that every other sentence has say nothing about what it is about.
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been but by did do does for from had has have he her him his how i in is it its me my "
        "of on or our she so that the their them they this to was we were what when where which who why will with "
        "you your",
    )
)
_SUFFIXES = ("ingly", "edly", "ing", "ies", "ed", "es", "ly", "s", "e", "y")


def spelling_vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """A vector of length 1 that knows spelling, not meaning: "car" is near "cars", and far from "automobile".

    text: any; case and accents make no difference. The stems of its words and the trigrams of their letters are
        each hashed to a dimension and a sign, so that chance meetings cancel out in a sum of many.
    dimensions: how many floats, each exact in 32 bits; the same on every computer.
    Source: feature hashing, Weinberger et al. 2009.

    >>> near, far = [sum(map(float.__mul__, spelling_vector("a red car"), spelling_vector(other)))
    ...              for other in ("Red cars!", "an automobile")]
    >>> near > 0.7, far < 0.3
    (True, True)
    """
    words = re.findall(r"\w+", fold(text))
    weights: Counter[str] = Counter()
    for word in [word for word in words if word not in _COMMON] or words or [text]:
        weights[f"word {_stem(word)}"] += 1
        edged = f" {word} "
        for start in range(len(edged) - 2):
            weights[f"letters {edged[start : start + 3]}"] += TRIGRAM_WEIGHT
    vector = [0.0] * dimensions
    for feature, weight in weights.items():
        place, sign = _hashed(feature)
        # The root, because a word that comes four times isn't four times as telling.
        vector[place % dimensions] += sign * math.sqrt(weight)
    length = math.sqrt(math.fsum(x * x for x in vector))
    if length == 0:  # the features cancelled one another out, which needs few dimensions
        vector[0] = length = 1.0
    return list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *(x / length for x in vector))))


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a body for /v1/embeddings, from `spelling_vector`: it knows spelling, not meaning.

    input: a text or a list of up to 2,048, none empty; dimensions: up to 256; encoding_format: float or base64.
    """
    texts = body.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_INPUTS or not all(isinstance(t, str) for t in texts):
        raise Refused(
            f"input must be a text, or a list of 1 to {MAX_INPUTS:,}, not {shown(texts)}. Numbers of tokens can't be "
            "read: with LangChain, use OpenAIEmbeddings(check_embedding_ctx_length=False).",
            "input",
        )
    if "" in texts:
        raise Refused("input holds an empty text. Leave it out.", "input")
    dimensions = body.get("dimensions", DIMENSIONS)
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 1 <= dimensions <= DIMENSIONS:
        raise Refused(f"dimensions must be 1 to {DIMENSIONS}, not {shown(dimensions)}.", "dimensions")
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise Refused(f"encoding_format must be float or base64, not {shown(encoding)}.", "encoding_format")
    vectors: list[Any] = [spelling_vector(text, dimensions) for text in texts]
    if encoding == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() for vector in vectors]
    count = sum(map(tokens, texts))
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
        "model": str(body.get("model") or EMBEDDING_MODEL_NAME),
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def _stem(word: str) -> str:
    """The word without a common ending: walk, walks, walked and walking are one; so are run and running."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


@lru_cache(maxsize=20_000)
def _hashed(feature: str) -> tuple[int, int]:
    number = int.from_bytes(blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little")
    return number >> 1, 1 if number & 1 else -1
