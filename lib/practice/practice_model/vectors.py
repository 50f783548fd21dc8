"""Embeddings of the practice model: a text's spelling, hashed into a vector. No weights, no numpy."""

import base64
import math
import struct
from collections import defaultdict
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from lib.practice.practice_model.api import checked_body, tokens
from lib.text_terms import stems, words

EMBEDDING_MODEL_NAME = "practice-embedding"
DIMENSIONS = 256
TRIGRAM_WEIGHT = 0.3  # of a word's; a word has about as many trigrams as letters


class EmbeddingRequest(BaseModel):
    """What a body for /v1/embeddings asks for; a single text is read as a list of one."""

    input: list[str]
    dimensions: int = Field(DIMENSIONS, ge=1, le=DIMENSIONS, strict=True)
    encoding_format: Literal["float", "base64"] = "float"
    model: str = EMBEDDING_MODEL_NAME

    @field_validator("input", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> list[str]:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(
                "must be a text or a list of texts, none of them empty. Numbers of tokens can't be read: with "
                "LangChain, use OpenAIEmbeddings(check_embedding_ctx_length=False)"
            )
        return texts


def spelling_vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return a vector of length 1 that knows spelling, not meaning: "car" is near "cars", and far from "automobile".

    text: any; case and accents make no difference. The stems of its words and the trigrams of their letters are
        each hashed to a dimension and a sign, so that chance meetings cancel out in a sum of many.
    dimensions: how many floats, each exact in 32 bits; the same on every computer.
    Source: feature hashing, Weinberger et al. 2009.

    >>> near, far = [sum(map(float.__mul__, spelling_vector("a red car"), spelling_vector(other)))
    ...              for other in ("Red cars!", "an automobile")]
    >>> near > 0.7, far < 0.3
    (True, True)
    """
    weights: defaultdict[str, float] = defaultdict(float)
    for stem in stems(text) or words(text) or [text]:
        weights[f"word {stem}"] += 1
        edged = f" {stem} "
        for start in range(len(edged) - 2):
            weights[f"letters {edged[start : start + 3]}"] += TRIGRAM_WEIGHT
    vector = [0.0] * dimensions
    for feature, weight in weights.items():
        index, sign = _hashed(feature)
        # The root, because a word that comes four times isn't four times as telling.
        vector[index % dimensions] += sign * math.sqrt(weight)
    length = math.sqrt(math.fsum(x * x for x in vector))
    if length == 0:  # the features cancelled one another out, which needs few dimensions
        vector[0] = length = 1.0
    return list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *(x / length for x in vector))))


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a body for /v1/embeddings, from `spelling_vector`."""
    request = checked_body(EmbeddingRequest, body)
    vectors: list[Any] = [spelling_vector(text, request.dimensions) for text in request.input]
    if request.encoding_format == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
    count = sum(map(tokens, request.input))
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
        "model": request.model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


@lru_cache(maxsize=20_000)
def _hashed(feature: str) -> tuple[int, int]:
    number = int.from_bytes(blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little")
    return number >> 1, 1 if number & 1 else -1
