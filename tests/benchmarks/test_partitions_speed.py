"""Partitions against one table, in one run: 100,000 memories of 1,000 users. And how fast copying them was.

Run with: uv run pytest tests/benchmarks/test_partitions_speed.py -n0 -s
"""

import random
import statistics
import time
from collections.abc import Callable

from lib.database.engine import connect, create_tables
from lib.postgres.partitioning import create_partitioned_tables, partition_sizes
from lib.postgres.transfer import copy_memories
from lib.practice.local_postgres import start_postgres
from lib.store.memory_store import MemoryStore

USERS, EACH = 1000, 100


def median_ms(calls: list[Callable[[], object]]) -> list[float]:
    """The median of each call's durations, the calls taking turns, so that a busy moment hits all alike."""
    durations = [[] for _ in calls]
    for _ in range(2000):
        for call, durations_of_call in zip(calls, durations, strict=True):
            start = time.perf_counter()
            call()
            durations_of_call.append(1000 * (time.perf_counter() - start))
    return [statistics.median(found) for found in durations]


def test_partitions_cost_a_call_little() -> None:
    source = connect("sqlite://")
    create_tables(source)
    store = MemoryStore(source)
    for user in range(USERS):
        said = [("facts", f"key-{n}", {"content": f"{user} said {n}", "type": "semantic"}) for n in range(EACH)]
        store.put_many(f"user-{user}", said)
    with start_postgres() as whole_server, start_postgres() as parted_server:
        whole, parted = connect(whole_server.url), connect(parted_server.url)
        create_tables(whole)
        create_partitioned_tables(parted, 8)
        for name, engine in (("one table", whole), ("8 partitions", parted)):
            for turn in ("copied", "copied again, nothing to do"):
                start = time.perf_counter()
                assert copy_memories(source, engine).verified
                seconds = time.perf_counter() - start
                print(f"\n{name}: {turn}: {USERS * EACH / seconds:,.0f} memories/s, all verified", end="")
        print("\n", partition_sizes(parted))
        stores, chance = [MemoryStore(whole), MemoryStore(parted)], random.Random(1)

        def user() -> str:
            return f"user-{chance.randrange(USERS)}"

        actions: dict[str, Callable[[MemoryStore], object]] = {
            "get": lambda store: store.get(user(), "facts", f"key-{chance.randrange(EACH)}"),
            "put": lambda store: store.put(user(), "facts", f"key-{chance.randrange(EACH)}", {"n": chance.random()}),
            "newest ten": lambda store: store.search(user(), "facts"),
        }
        for name, action in actions.items():
            one, eight = median_ms([lambda store=store, do=action: do(store) for store in stores])
            print(f"{name:<10}  one table {one:.3f} ms  8 partitions {eight:.3f} ms  ratio {eight / one:.2f}")
            assert eight / one < 3
