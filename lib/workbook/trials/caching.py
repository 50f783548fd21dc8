"""A cache tried out in a lesson: traffic of several shapes, what a smaller cache loses, and when caching pays."""

import csv
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lib.errors import InvalidInput, shown
from lib.llm import DEFAULT_MODEL, PRICES, cost_usd
from lib.workbook.lesson import DATA, day

if TYPE_CHECKING:
    import numpy as np

POLICIES = ("lru", "lfu", "optimal")
# What a database takes, in USD, as of 2026-06: https://neon.com/pricing. Look into your own bill.
USD_PER_GB_MONTH = 0.35
LOOKUP_USD = 3e-8  # a millisecond of one core, at 0.106 USD an hour
NEVER = 1 << 60


def load_requests() -> list[dict[str, Any]]:
    """data/requests.csv: dicts of time (aware), user, topic, level, and tokens of the answer; in order of time."""
    with (DATA / "requests.csv").open(encoding="utf-8", newline="") as file:
        return [{**row, "time": day(row["time"]), "tokens": int(row["tokens"])} for row in csv.DictReader(file)]


def load_question_pairs() -> list[dict[str, Any]]:
    """data/question_pairs.csv: dicts of first, second and same_answer, whether one answer is right for both."""
    with (DATA / "question_pairs.csv").open(encoding="utf-8", newline="") as file:
        return [{**row, "same_answer": row["same_answer"] == "yes"} for row in csv.DictReader(file)]


def similarities(pairs: Sequence[dict[str, Any]]) -> "np.ndarray":
    """The cosine between first and second of each pair, by the local embedder."""
    from lib.llm.embeddings import LocalEmbedder

    embedder = LocalEmbedder()
    first, second = (embedder.embed([pair[name] for pair in pairs]) for name in ("first", "second"))
    return (first * second).sum(axis=1)


@dataclass(frozen=True)
class TrialConversation:
    """A short conversation of one user, over."""

    user_id: str
    transcript: list[dict[str, Any]]  # as `extract_memories` takes it


def conversations(count: int, *, alike: int) -> list[TrialConversation]:
    """So many conversations of as many users; so many of them are, word for word, what somebody said before.

    Ten openings come again and again, all others are said once. Zoë's is among the latter, and is the last of all.
    """
    openings = [f"I'm new here. I prefer short answers. I want to pass {number} exams." for number in range(2, 12)]
    texts = [openings[number % len(openings)] for number in range(alike + len(openings))]
    texts += [f"My house number is {number}. I prefer short answers." for number in range(count - len(texts))]
    users = [*(f"user {number}" for number in range(count - 1)), "zoe"]
    return [
        TrialConversation(user, [{"turn": 1, "speaker": "user", "text": text}])
        for user, text in zip(users, texts, strict=True)
    ]


def bill_usd(
    requests: Sequence[dict[str, Any]], *, prefix_tokens: int, prefix_minutes: float = 0, contents_cached: bool = False
) -> float:
    """What the default model costs for these requests, each with a prefix of instructions that is the same for all.

    requests: as of `load_requests`, in order of time.
    prefix_minutes: how long the provider keeps a prefix that isn't used; one that it has costs less: data/prices.csv.
    contents_cached: whether a topic and level that was asked for before costs nothing.
    """
    saved, kept = prefix_tokens * _saved_per_token(DEFAULT_MODEL), timedelta(minutes=prefix_minutes)
    seen, last, total = set(), None, 0.0
    for request in requests:
        content = request["topic"], request["level"]
        if contents_cached and content in seen:
            continue
        total += cost_usd(DEFAULT_MODEL, prefix_tokens, request["tokens"])
        if last is not None and request["time"] - last < kept:
            total -= saved
        last = request["time"]
        seen.add(content)
    return total


def _saved_per_token(model: str) -> float:
    with PRICES.open(encoding="utf-8", newline="") as file:
        [row] = [row for row in csv.DictReader(file) if row["model"] == model]
    return (float(row["input_usd_per_million"]) - float(row["cached_input_usd_per_million"])) / 1_000_000


def zipf_traffic(exponent: float, contents: int = 349, requests: int = 5000, seed: int = 8) -> list[int]:
    """Requests for numbered contents; the n-th is asked for 1 / n ** exponent times as often as the first.

    exponent: 0 asks for all alike, 1 is Zipf's law, more is steeper.
    """
    chance = random.Random(seed)
    weights = [1 / rank**exponent for rank in range(1, contents + 1)]
    return chance.choices(range(contents), weights, k=requests)


def hit_rate(asked: Sequence[Hashable], size: int, policy: str = "lru", *, every: int = 1) -> float:
    """The share of requests that a cache of so many contents answers, by simulation.

    asked: what is asked for, in order. size: contents that are kept.
    policy: who goes first, "lru" and "lfu" as in `ContentCache.evict`; "optimal" is what is asked for again last, which
        only somebody who knows the future can do: no policy is better (Belady 1966).
    every: requests between two evictions; in between there may be more contents than `size`.

    >>> hit_rate(["a", "b", "a", "c", "a"], size=1), hit_rate(["a", "b", "a", "c", "a"], size=2)
    (0.0, 0.4)
    """
    if policy not in POLICIES:
        raise InvalidInput(f"policy must be one of {', '.join(POLICIES)}, not {shown(policy)}.")
    again = _next_requests(asked)
    kept: dict[Hashable, tuple[int, ...]] = {}  # content -> the smaller, the sooner it goes
    hits = 0
    for number, content in enumerate(asked):
        hits += content in kept
        if policy == "optimal":
            kept[content] = (-again[number],)
        elif policy == "lfu":
            kept[content] = (kept[content][0] + 1 if content in kept else 0, number)
        else:
            kept[content] = (number,)
        if (number + 1) % every == 0:
            while len(kept) > size:
                del kept[min(kept, key=kept.__getitem__)]
    return hits / len(asked)


def _next_requests(asked: Sequence[Hashable]) -> list[int]:
    """For each request, when the same content is asked for the next time."""
    following, seen = [NEVER] * len(asked), dict.fromkeys(asked, NEVER)
    for number in range(len(asked) - 1, -1, -1):
        following[number] = seen[asked[number]]
        seen[asked[number]] = number
    return following


def entry_usd(kilobytes: float = 4, months: float = 1) -> float:
    """What it costs to keep one content of so many kilobytes for so long."""
    return kilobytes / 1_000_000 * months * USD_PER_GB_MONTH


def least_generation_usd(hit_rate: float, storage_usd: float) -> float:
    """Return what a content has to cost at least for a cache to pay. Infinite for a hit rate of 0.

    Every request is looked up, hits aren't generated, and each miss stores one content.
    hit_rate: 0 to 1. storage_usd: of one content, for as long as it is kept.

    >>> round(least_generation_usd(0.5, 0.02), 3)
    0.02
    """
    return (LOOKUP_USD + (1 - hit_rate) * storage_usd) / hit_rate if hit_rate else float("inf")
