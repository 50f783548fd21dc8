"""The counts of `CacheMetrics`, by hour, content_type and model; and as tables."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

from lib.errors import ModelUnavailable

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = (
    "requests", "hits", "misses", "coalesced", "hit_rate", "hit_ms", "miss_ms", "saved_seconds", "tokens_in_saved",
    "tokens_out_saved", "cost_saved_usd",
)  # fmt: skip

# hit, miss, coalesced: how many; hit_ms, miss_ms, saved_ms: in all; tokens_in, tokens_out: saved
Tally = defaultdict[str, float]
Address = tuple[int, str, str | None]  # hours since 1970, content_type, model


def cost_saved(model: str | None, tally: Tally) -> float | None:
    """Return what the tokens would have cost in USD; None if nobody knows their price."""
    from lib.llm import cost_usd

    if not tally["tokens_in"] and not tally["tokens_out"]:
        return 0.0
    try:
        return None if model is None else cost_usd(model, int(tally["tokens_in"]), int(tally["tokens_out"]))
    except ModelUnavailable:
        return None


def table(by: str, rows: Iterable[tuple[Hashable, str | None, Tally]]) -> "DataFrame":
    """Return a row for each group, in order. rows: (group, model, tally), any number of each group."""
    from pandas import DataFrame

    totals: dict[Hashable, Tally] = {}
    for group, model, tally in rows:
        total = totals.setdefault(group, defaultdict(int))
        for name, value in tally.items():
            total[name] += value
        cost = cost_saved(model, tally)
        total["cost"] += float("nan") if cost is None else cost
    summaries = [_summary(total) for total in totals.values()]
    return DataFrame(summaries, list(totals), COLUMNS).rename_axis(by).sort_index()


def _summary(total: Tally) -> tuple[float, ...]:
    """The values of COLUMNS."""
    requests = total["hit"] + total["miss"] + total["coalesced"]
    return (
        requests, total["hit"], total["miss"], total["coalesced"], total["hit"] / requests,
        total["hit_ms"] / total["hit"] if total["hit"] else float("nan"),
        total["miss_ms"] / total["miss"] if total["miss"] else float("nan"),
        total["saved_ms"] / 1000, total["tokens_in"], total["tokens_out"], total["cost"],
    )  # fmt: skip
