"""What a model generated: as its caller hands it in, and as the cache gives it out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote, with what it cost; `generate` may return the content alone."""

    content: Mapping[str, Any]  # a JSON object
    tokens_in: int | None = None
    tokens_out: int | None = None
    model: str | None = None  # its name, for the price


@dataclass(frozen=True, slots=True)
class Cached:
    """A content, and how it was come by. Changing `content` changes this copy only."""

    content: dict[str, Any]
    outcome: str  # "hit", "miss" (we generated it) or "coalesced" (we waited for who did)
    latency_ms: float  # of this call
    created_at: datetime  # aware, UTC
    expires_at: datetime | None = None
    model: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    generation_ms: float | None = None  # of the call that made it
