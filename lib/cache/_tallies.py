"""The counts of `CacheMetrics`, by hour, content_type and model; and as tables."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from lib.errors import ModelUnavailable

if TYPE_CHECKING:
    from pandas import DataFrame

# How many; milliseconds in all; tokens that were saved.
COUNTED = ("hit", "miss", "coalesced", "hit_ms", "miss_ms", "saved_ms", "tokens_in", "tokens_out")
Tally = defaultdict[str, float]  # of COUNTED
Address = tuple[datetime, str, str | None]  # the hour, content_type, model


def cost_saved(model: str | None, tally: Tally) -> float:
    """Return what the tokens would have cost in USD; NaN if nobody knows their price."""
    from lib.llm import cost_usd

    if not tally["tokens_in"] and not tally["tokens_out"]:
        return 0.0
    try:
        return math.nan if model is None else cost_usd(model, int(tally["tokens_in"]), int(tally["tokens_out"]))
    except ModelUnavailable:
        return math.nan


def table(by: str, rows: Iterable[tuple[Hashable, str | None, Tally]]) -> "DataFrame":
    """Return a row for each group, in order. rows: (group, model, tally), any number of each group."""
    from pandas import DataFrame

    counted = [(group, *(tally[name] for name in COUNTED), cost_saved(model, tally)) for group, model, tally in rows]
    sums = DataFrame(counted, columns=[by, *COUNTED, "cost"]).groupby(by).sum(skipna=False)
    requests = sums.hit + sums.miss + sums.coalesced
    return DataFrame(
        {
            "requests": requests,
            "hits": sums.hit,
            "misses": sums.miss,
            "coalesced": sums.coalesced,
            "hit_rate": sums.hit / requests,
            "hit_ms": sums.hit_ms / sums.hit,
            "miss_ms": sums.miss_ms / sums.miss,
            "saved_seconds": sums.saved_ms / 1000,
            "tokens_in_saved": sums.tokens_in,
            "tokens_out_saved": sums.tokens_out,
            "cost_saved_usd": sums.cost,
        }
    )
