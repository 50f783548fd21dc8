"""The cache: one generation for all who ask, whatever dies; exact counts; nothing of one user for another."""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from typing import Any

import psutil
import pytest
from cache_worker import Worker
from conftest import START, Clock, empty
from sqlalchemy import Engine, event, select, text, update

from lib.cache._rows import CacheRows
from lib.cache.cache_key import content_hash
from lib.cache.content import Cached, Generated
from lib.cache.content_cache import ContentCache
from lib.cache.scope import SHARED, Scope, for_user
from lib.database._side_tables import CachedContent, CacheLease
from lib.database.engine import connect, create_tables
from lib.database.tables import User, new_id
from lib.database.transactions import write_transaction
from lib.errors import DatabaseUnavailable, InvalidInput
from lib.store.memory_store import MemoryStore

KEY, OTHER_KEY = content_hash("a"), content_hash("b")
LEASE = 60  # seconds
ROW = CachedContent.__table__


@pytest.fixture
def cache(engine: Engine, clock: Clock) -> Iterator[ContentCache]:
    with ContentCache(engine, now=clock, lease_seconds=LEASE) as cache:
        yield cache


class Writer:
    """A model that counts its calls and never writes the same twice."""

    def __init__(self, seconds: float = 0):
        self.calls, self._seconds = 0, seconds
        self._lock = threading.Lock()

    def __call__(self) -> dict[str, Any]:
        with self._lock:
            self.calls += 1
            number = self.calls
        time.sleep(self._seconds)
        return {"text": f"lesson {number}"}


def ask(cache: ContentCache, generate: Callable[[], Any], key: str = KEY, **options: Any) -> Cached:
    return cache.get_or_generate(key, generate, **{"content_type": "lesson", "scope": SHARED, **options})


def together(count: int, call: Callable[[int], Any]) -> list[Any]:
    """The results of calls that begin at one moment, each in a thread of its own."""
    barrier = threading.Barrier(count)

    def one(number: int) -> Any:
        barrier.wait()
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def rows(engine: Engine, *columns: str) -> list[Any]:
    with engine.connect() as connection:
        found = connection.execute(select(*[ROW.c[name] for name in columns]).order_by(*[ROW.c[n] for n in columns]))
        return [row[0] if len(columns) == 1 else tuple(row) for row in found]


def leases(engine: Engine) -> int:
    with engine.connect() as connection:
        return len(connection.execute(select(CacheLease.content_hash)).all())


# --- hit and miss ---------------------------------------------------------------------------------


def test_the_first_call_generates_and_the_second_is_served(cache: ContentCache, clock: Clock) -> None:
    content = {"text": "S3 é 🪣", "n": [1, 2.5, None, True], "deep": {"b": 1, "a": {}}}

    first = ask(cache, lambda: Generated(content, 120, 30, "gpt-5.4-mini"), ttl_seconds=60)
    second = ask(cache, Writer())

    assert (first.outcome, second.outcome) == ("miss", "hit")
    assert first.content == second.content == content
    assert json.dumps(first.content) == json.dumps(second.content), "the order of keys, too"
    assert (second.tokens_in, second.tokens_out, second.model) == (120, 30, "gpt-5.4-mini")
    assert (second.created_at, second.expires_at) == (START, START + timedelta(seconds=60))
    assert second.created_at.tzinfo is UTC
    assert second.generation_ms == first.generation_ms >= 0 and second.latency_ms > 0


def test_what_is_stored_beside_the_content_is_for_operators(cache: ContentCache, engine: Engine) -> None:
    ask(cache, lambda: Generated({"text": "é"}, 120, 30, "m"), input_summary="Explain S3. " * 50)

    [(size, tokens, summary, user_id)] = rows(engine, "size_bytes", "tokens_in", "input_summary", "user_id")
    assert (size, tokens, user_id) == (len('{"text":"é"}'.encode()), 120, None)
    assert summary.startswith("Explain S3.") and len(summary) == 200


def test_changing_an_answer_changes_nobody_elses(cache: ContentCache) -> None:
    answers = together(8, lambda _: ask(cache, Writer(0.05)))

    answers[0].content["text"] = "vandalised"

    assert all(answer.content == {"text": "lesson 1"} for answer in answers[1:])
    assert ask(cache, Writer()).content == {"text": "lesson 1"}


def test_get_and_put_are_there_for_those_who_generate_elsewhere(cache: ContentCache) -> None:
    assert cache.get(KEY, content_type="lesson", scope=SHARED) is None
    cache.put(KEY, Generated({"text": "mine"}, 1, 2, "m"), content_type="lesson", scope=SHARED)
    cache.put(KEY, {"text": "newer"}, content_type="lesson", scope=SHARED)

    assert cache.get(KEY, content_type="lesson", scope=SHARED).content == {"text": "newer"}


def test_what_has_expired_is_not_served_and_is_made_anew(cache: ContentCache, engine: Engine, clock: Clock) -> None:
    write = Writer()
    ask(cache, write, ttl_seconds=10)
    cache.flush()

    clock.advance(seconds=9.9)
    before = ask(cache, write)
    clock.advance(seconds=0.1)
    gone = cache.get(KEY, content_type="lesson", scope=SHARED)
    after = ask(cache, write)

    assert (before.outcome, gone, after.outcome) == ("hit", None, "miss")
    assert after.content == {"text": "lesson 2"}
    assert after.expires_at is None, "the new one has a term of its own"
    assert rows(engine, "content") == [{"text": "lesson 2"}]


# --- scopes ---------------------------------------------------------------------------------------


def test_one_key_in_two_scopes_or_of_two_types_is_two_contents(cache: ContentCache) -> None:
    write = Writer()
    places = [
        {"scope": SHARED},
        {"scope": for_user("zoe")},
        {"scope": for_user("Zoe")},
        {"scope": for_user("zoe\u0301")},
        {"scope": for_user("zo\u00e9")},
        {"scope": for_user("None")},
        {"scope": SHARED, "content_type": "quiz"},
        {"scope": SHARED, "key": OTHER_KEY},
    ]

    answers = [ask(cache, write, **place) for place in places for _ in range(2)]

    assert write.calls == len(places)
    assert [answer.outcome for answer in answers] == ["miss", "hit"] * len(places)


@pytest.mark.parametrize("scope", ["zoe", None, "", True, 7, {"user": "zoe"}, ("user", "zoe"), Scope, for_user])
def test_a_scope_is_one_of_two_and_neither_is_the_default(cache: ContentCache, scope: Any) -> None:
    write = Writer()

    with pytest.raises(InvalidInput, match=r"scope=for_user\(.*scope=SHARED"):
        ask(cache, write, scope=scope)
    with pytest.raises(TypeError, match="scope"):
        cache.get_or_generate(KEY, write, content_type="lesson")

    assert write.calls == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: for_user(None), lambda: for_user(""), lambda: Scope("user"), lambda: Scope(None),
        lambda: Scope("shared", "zoe"), lambda: Scope("all"),
    ],
)  # fmt: skip
def test_a_user_who_is_missing_makes_nothing_shared(make: Callable[[], Scope]) -> None:
    with pytest.raises(InvalidInput):
        make()


def test_a_row_is_not_served_to_another_user_even_if_the_hash_were_theirs(cache: ContentCache, engine: Engine) -> None:
    ask(cache, lambda: {"text": "zoe's"}, scope=for_user("zoe"))

    with engine.begin() as connection:
        connection.execute(update(ROW).values(user_id=None))

    assert cache.get(KEY, content_type="lesson", scope=for_user("zoe")) is None


def test_forgetting_a_user_deletes_their_contents_and_what_is_on_its_way(
    cache: ContentCache, store: MemoryStore, engine: Engine
) -> None:
    zoe = for_user("zoe")
    ask(cache, Writer(), scope=SHARED)
    ask(cache, Writer(), scope=zoe)

    def forgotten_meanwhile() -> dict[str, str]:
        assert store.forget_user("zoe").cached_contents == 1
        return {"text": "about zoe"}

    late = ask(cache, forgotten_meanwhile, key=OTHER_KEY, scope=zoe)

    assert late.content == {"text": "about zoe"}
    assert rows(engine, "user_id") == [None]
    assert leases(engine) == 0
    assert MemoryStore(engine).forget_user("zoe").cached_contents == 0


# --- one generation -------------------------------------------------------------------------------


def test_fifty_threads_that_ask_at_once_cost_one_generation(cache: ContentCache, engine: Engine) -> None:
    write = Writer(0.2)

    answers = together(50, lambda _: ask(cache, write))

    assert write.calls == 1
    assert Counter(answer.outcome for answer in answers)["miss"] == 1
    assert {answer.content["text"] for answer in answers} == {"lesson 1"}
    assert leases(engine) == 0


def test_caches_that_know_nothing_of_each_other_cost_one_generation(engine: Engine) -> None:
    write = Writer(0.1)

    answers = together(8, lambda _: ask(ContentCache(engine), write))

    assert write.calls == 1
    assert {answer.content["text"] for answer in answers} == {"lesson 1"}


def test_while_the_model_thinks_no_connection_is_held(database_url: str) -> None:
    engine = connect(database_url, pool_size=1, max_overflow=0)
    cache = ContentCache(engine)
    inside: list[Any] = []

    def look() -> dict[str, Any]:
        inside.append(engine.pool.checkedout())
        inside.append(ask(cache, Writer(), key=OTHER_KEY).outcome)
        return {}

    ask(cache, look)

    assert inside == [0, "miss"]
    engine.dispose()


def test_an_error_goes_to_its_caller_and_the_next_one_tries(cache: ContentCache, engine: Engine) -> None:
    calls = Counter()
    lock = threading.Lock()

    def fails_twice() -> dict[str, Any]:
        with lock:
            calls["all"] += 1
            number = calls["all"]
        time.sleep(0.05)
        if number <= 2:
            raise ConnectionError(f"no model {number}")
        return {"text": "at last"}

    def outcome(_: int) -> str:
        try:
            return ask(cache, fails_twice).outcome
        except ConnectionError as error:
            return str(error)

    outcomes = Counter(together(10, outcome))

    assert outcomes == {"no model 1": 1, "no model 2": 1, "miss": 1, "coalesced": 7}
    assert (calls["all"], leases(engine)) == (3, 0)


def test_what_was_paid_for_is_given_out_also_if_it_cannot_be_stored(
    cache: ContentCache, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_away(*_: Any) -> bool:
        raise DatabaseUnavailable("the database is away")

    writer = Writer()
    with monkeypatch.context() as patched:
        patched.setattr("lib.cache._rows.CacheRows.complete", is_away)
        with pytest.warns(UserWarning, match="lesson was generated and couldn't be stored: the database is away"):
            lost = ask(cache, writer)

    assert (lost.outcome, lost.content) == ("miss", ask(cache, lambda: lost.content).content)
    assert leases(engine) == 0 and len(rows(engine, "content")) == 1


@pytest.mark.parametrize(
    "made",
    [
        None, "text", ["a"], {"x": float("nan")}, {"x": object()}, {1: 2}, {"x": "\x00"},
        Generated({}, tokens_in=-1), Generated({}, tokens_out=True), Generated({}, model=3),
        Generated({}, model="a\x00b"), Generated({}, model="\ud800"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_refused_and_not_stored(cache: ContentCache, engine: Engine, made: Any) -> None:
    with pytest.raises(InvalidInput):
        ask(cache, lambda: made)

    assert (rows(engine, "content"), leases(engine)) == ([], 0)
    assert ask(cache, Writer()).outcome == "miss"


def test_an_interrupted_generation_gives_its_lease_up(cache: ContentCache, engine: Engine) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(cache, interrupted)

    assert leases(engine) == 0
    assert ask(cache, Writer()).outcome == "miss"


def test_who_lost_the_lease_does_not_overwrite_and_serves_what_is_stored(
    engine: Engine, clock: Clock, cache: ContentCache
) -> None:
    other = ContentCache(engine, now=clock, lease_seconds=LEASE)

    def slow() -> dict[str, str]:
        clock.advance(seconds=LEASE)
        assert ask(other, lambda: {"text": "fast"}).outcome == "miss"
        return {"text": "slow"}

    late = ask(cache, slow)

    assert (late.outcome, late.content) == ("miss", {"text": "fast"})
    assert rows(engine, "content") == [{"text": "fast"}]


def test_a_lease_that_lapsed_and_was_not_taken_is_still_good(cache: ContentCache, clock: Clock, engine: Engine) -> None:
    def slow() -> dict[str, str]:
        clock.advance(hours=1)
        return {"text": "slow"}

    ask(cache, slow)

    assert rows(engine, "content") == [{"text": "slow"}]


def test_a_thread_that_waits_for_a_stuck_one_takes_over_when_its_lease_ends(engine: Engine) -> None:
    cache = ContentCache(engine, lease_seconds=0.3)
    started, stuck = threading.Event(), threading.Event()

    def hangs() -> dict[str, str]:
        started.set()
        stuck.wait(20)
        return {"text": "too late"}

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, cache, hangs)
        started.wait(20)
        answers = together(5, lambda _: ask(cache, lambda: {"text": "taken over"}))
        stuck.set()

    assert {answer.content["text"] for answer in answers} == {first.result().content["text"]} == {"taken over"}
    assert Counter(answer.outcome for answer in answers)["miss"] == 1


# --- between processes ----------------------------------------------------------------------------


def let_go(workers: list[Worker]) -> list[str]:
    """Start them at one moment; what each says in the end: how it came by the content, and who made that."""
    for worker in workers:
        worker.begin()
    return [worker.said() for worker in workers]


def test_eight_processes_ask_at_once_for_one_generation_and_ten_thousand_hits_are_counted(database_url: str) -> None:
    workers = [Worker(database_url, hits=1250) for _ in range(8)]
    assert {worker.said() for worker in workers} == {"ready"}

    said = let_go(workers)

    engine = connect(database_url)
    assert Counter(line.split()[0] for line in said)["miss"] == 1
    assert len({line.split()[1] for line in said}) == 1, "all were served what one of them made"
    assert rows(engine, "access_count") == [10_000 + 7]
    engine.dispose()


def test_if_the_one_that_generates_is_killed_another_takes_over(database_url: str) -> None:
    lease = 1.0  # seconds
    others = [Worker(database_url, lease_seconds=lease) for _ in range(2)]
    dying = Worker(database_url, lease_seconds=lease, hangs=True)
    assert dying.said() == "generating"
    assert {worker.said() for worker in others} == {"ready"}

    psutil.Process(dying.process.pid).kill()
    began = time.monotonic()
    said = let_go(others)

    assert time.monotonic() - began < lease + 3, "within the lease, a pause and a generation"
    assert Counter(line.split()[0] for line in said) == {"miss": 1, "coalesced": 1}
    assert str(dying.process.pid) not in {line.split()[1] for line in said}


# --- counting -------------------------------------------------------------------------------------


def test_a_hit_writes_nothing_until_the_counts_are_flushed(cache: ContentCache, engine: Engine, clock: Clock) -> None:
    ask(cache, Writer())
    before = rows(engine, "access_count", "last_accessed")
    written: list[str] = []
    listener = lambda connection, cursor, statement, *rest: written.append(statement.split()[0])  # noqa: E731
    event.listen(engine, "before_cursor_execute", listener)

    for _ in range(20):
        ask(cache, Writer())
    event.remove(engine, "before_cursor_execute", listener)
    clock.advance(hours=1)
    ask(cache, Writer())
    unflushed = rows(engine, "access_count", "last_accessed")
    cache.flush()

    assert set(written) == {"SELECT"}
    assert before == unflushed == [(0, None)]
    assert rows(engine, "access_count", "last_accessed") == [(21, START + timedelta(hours=1))]


def test_the_next_hit_after_a_while_flushes_the_counts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.cache._hit_counts.FLUSH_SECONDS", 0.05)
    cache = ContentCache(engine)
    for _ in range(2):
        ask(cache, Writer())
    before = rows(engine, "access_count")

    time.sleep(0.06)
    ask(cache, Writer())

    assert (before, rows(engine, "access_count")) in [([0], [2]), ([1], [2])]  # the first may have been late itself


def test_so_does_the_hit_that_makes_them_many(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.cache._hit_counts.FLUSH_HITS", 3)
    monkeypatch.setattr("lib.cache._hit_counts.FLUSH_SECONDS", 3600)
    cache = ContentCache(engine)
    counts = []

    for key in (KEY, OTHER_KEY) * 4:  # two misses, six hits
        ask(cache, Writer(), key=key)
        counts.append(sum(rows(engine, "access_count")))

    assert counts == [0, 0, 0, 0, 3, 3, 3, 6]


def test_closing_the_cache_flushes_the_counts(engine: Engine) -> None:
    with ContentCache(engine) as cache:
        for _ in range(3):
            ask(cache, Writer())

    assert rows(engine, "access_count") == [2]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of other threads, which the child doesn't need
def test_a_process_that_is_forked_off_does_not_count_its_parents_hits_again(
    cache: ContentCache, engine: Engine
) -> None:
    for _ in range(3):
        ask(cache, Writer())

    if (child := os.fork()) == 0:
        cache.flush()
        os._exit(0)
    os.waitpid(child, 0)
    written_by_child = rows(engine, "access_count")
    cache.flush()

    assert (written_by_child, rows(engine, "access_count")) == ([0], [2])


def test_flushing_by_many_at_once_loses_and_doubles_nothing(
    engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.cache._hit_counts.FLUSH_SECONDS", 0.001)
    caches = [ContentCache(engine, now=clock) for _ in range(3)]
    users = [SHARED, for_user("ada"), for_user("zoe")]
    for scope in users:
        for number in range(4):
            ask(caches[0], Writer(), key=content_hash(number), scope=scope)

    def hit(thread: int) -> None:
        cache = caches[thread % 3]
        for number in range(60):
            ask(cache, Writer(), key=content_hash(number % 4), scope=users[(number + thread) % 3])
            if number % 10 == 0:
                cache.flush()
        cache.flush()

    together(6, hit)

    assert sum(rows(engine, "access_count")) == 360


def test_what_another_one_holds_is_counted_after_it_lets_go(postgres_engine: Engine, clock: Clock) -> None:
    empty(postgres_engine)
    cache = ContentCache(postgres_engine, now=clock)
    for key in (KEY, OTHER_KEY, KEY, OTHER_KEY):
        ask(cache, Writer(), key=key)

    with ThreadPoolExecutor(1) as pool, write_transaction(postgres_engine) as holder:
        holder.execute(select(ROW.c.id).limit(1).with_for_update())
        flushed = pool.submit(cache.flush)
        time.sleep(0.2)
        meanwhile = rows(postgres_engine, "access_count")
        holder.commit()
        flushed.result(timeout=20)

    assert meanwhile == [0, 0]
    assert rows(postgres_engine, "access_count") == [1, 1]


def test_counts_outlive_a_database_that_is_away(engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.cache._hit_counts.FLUSH_HITS", 2)
    cache = ContentCache(engine, now=clock)
    ask(cache, Writer())
    ask(cache, Writer())

    def away(*_: Any) -> None:
        raise DatabaseUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr("lib.cache._hit_counts.write_transaction", away)
        with pytest.raises(DatabaseUnavailable):
            cache.flush()
        assert [ask(cache, Writer()).outcome for _ in range(2)] == ["hit", "hit"], "also the one that was to flush"
    cache.flush()

    assert rows(engine, "access_count") == [3]


def test_hits_of_what_was_replaced_since_are_not_counted_for_what_replaced_it(
    cache: ContentCache, engine: Engine, clock: Clock
) -> None:
    writer = Writer()
    for _ in range(8):
        ask(cache, writer, ttl_seconds=60)
    clock.advance(seconds=61)
    for _ in range(3):
        ask(cache, writer, ttl_seconds=60)
    cache.flush()

    assert rows(engine, "access_count", "last_accessed") == [(2, clock.time)]


# --- deleting -------------------------------------------------------------------------------------


def test_invalidated_content_is_made_anew_also_by_who_was_about_to_store_it(
    cache: ContentCache, engine: Engine
) -> None:
    ask(cache, Writer())

    assert cache.invalidate(KEY, content_type="lesson", scope=SHARED)
    assert not cache.invalidate(KEY, content_type="lesson", scope=SHARED)

    def out_of_date() -> dict[str, str]:
        cache.invalidate(KEY, content_type="lesson", scope=SHARED)
        return {"text": "from old inputs"}

    assert ask(cache, out_of_date).content == {"text": "from old inputs"}
    assert rows(engine, "content") == []


@pytest.mark.parametrize("how", ["invalidate", "invalidate_type", "forget_user"])
def test_what_is_generated_when_it_is_invalidated_is_not_waited_for_by_who_asks_after_that(
    engine: Engine, how: str
) -> None:
    ours, another = ContentCache(engine), ContentCache(engine)  # know as little of each other as two processes do
    where = {"content_type": "lesson", "scope": for_user("zoe")}
    started, go_on = threading.Event(), threading.Event()

    def old() -> dict[str, str]:
        started.set()
        go_on.wait(20)
        return {"text": "old"}

    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(ours.get_or_generate, KEY, old, **where)
        started.wait(20)
        if how == "invalidate":
            another.invalidate(KEY, **where)
        elif how == "invalidate_type":
            another.invalidate_type("lesson")
        else:
            MemoryStore(engine).forget_user("zoe")
        after = pool.submit(ours.get_or_generate, KEY, lambda: {"text": "new"}, **where)
        assert after.result(20).content == {"text": "new"}
        go_on.set()

        assert before.result(20).content == {"text": "new"}, "what is stored by then, rather than what nobody else has"
    assert rows(engine, "content") == [{"text": "new"}]


def test_a_lease_is_given_up_if_the_look_after_it_fails(
    cache: ContentCache, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = CacheRows.find

    def fails_once_there_is_a_lease(self: CacheRows, *arguments: Any) -> Any:
        if leases(engine):
            raise DatabaseUnavailable("no connection was free")
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(CacheRows, "find", fails_once_there_is_a_lease)
        with pytest.raises(DatabaseUnavailable):
            ask(cache, Writer())

    assert leases(engine) == 0


def test_a_type_is_invalidated_in_one_scope_or_in_all(cache: ContentCache, engine: Engine) -> None:
    for scope in (SHARED, for_user("ada"), for_user("zoe")):
        for content_type in ("lesson", "quiz"):
            ask(cache, Writer(), scope=scope, content_type=content_type)

    assert cache.invalidate_type("lesson", scope=for_user("zoe")) == 1
    assert cache.invalidate_type("lesson") == 2
    assert cache.invalidate_type("lesson") == 0
    assert rows(engine, "content_type") == ["quiz"] * 3


def test_what_somebody_is_counting_is_invalidated_when_they_are_done(postgres_engine: Engine) -> None:
    empty(postgres_engine)
    cache = ContentCache(postgres_engine)
    for key in (KEY, OTHER_KEY):
        ask(cache, Writer(), key=key)

    with ThreadPoolExecutor(1) as pool, write_transaction(postgres_engine) as holder:
        holder.execute(select(ROW.c.id).limit(1).with_for_update())
        invalidated = pool.submit(cache.invalidate_type, "lesson")
        while len(rows(postgres_engine, "id")) == 2:
            time.sleep(0.01)
        holder.commit()

    assert invalidated.result(timeout=20) == 2
    assert rows(postgres_engine, "id") == []


def test_everything_at_once_ends_well(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadlock, no error, and nobody is served what is another's."""
    monkeypatch.setattr("lib.cache._hit_counts.FLUSH_SECONDS", 0.01)
    cache, store = ContentCache(engine), MemoryStore(engine)
    scopes = [SHARED, for_user("ada"), for_user("zoe")]
    end = time.monotonic() + 1

    def go_on(call: Callable[[random.Random], Any], seed: int) -> int:
        chance, count = random.Random(seed), 0
        while time.monotonic() < end:
            call(chance)
            count += 1
        return count

    def asks(chance: random.Random) -> None:
        scope = chance.choice(scopes)
        answer = ask(cache, lambda: {"of": repr(scope)}, key=content_hash(chance.randrange(20)), scope=scope)
        assert answer.content == {"of": repr(scope)}

    calls = [
        *[asks] * 4,
        lambda chance: cache.flush(),
        lambda chance: cache.evict(max_entries=20, policy=chance.choice(["lru", "lfu"])),
        lambda chance: cache.invalidate_type("lesson", scope=chance.choice([None, *scopes])),
        lambda chance: store.forget_user(chance.choice(["ada", "zoe"])),
    ]

    counts = together(len(calls), lambda number: go_on(calls[number], number))

    assert all(counts)
    assert leases(engine) == 0


def fill(cache: ContentCache, clock: Clock, count: int, **options: Any) -> list[str]:
    """So many contents, one a minute, all of one size; their keys, the oldest first."""
    keys = [content_hash(number) for number in range(count)]
    for number, key in enumerate(keys):
        clock.advance(minutes=1)
        ask(cache, lambda number=number: {"n": 100 + number}, key=key, **options)
    return keys


def left(cache: ContentCache, keys: list[str]) -> list[int]:
    return [n for n, key in enumerate(keys) if cache.get(key, content_type="lesson", scope=SHARED)]


def test_what_was_not_used_for_longest_goes_first(cache: ContentCache, clock: Clock) -> None:
    keys = fill(cache, clock, 5)
    clock.advance(minutes=1)
    ask(cache, Writer(), key=keys[0])

    evicted = cache.evict(max_entries=3)

    assert (evicted, left(cache, keys)) == (2, [0, 3, 4])
    assert cache.evict(max_entries=3) == 0


def test_or_what_was_used_least(cache: ContentCache, clock: Clock) -> None:
    keys = fill(cache, clock, 4)
    for number in (0, 0, 1, 3):
        ask(cache, Writer(), key=keys[number])

    evicted = cache.evict(max_entries=2, policy="lfu")

    assert (evicted, left(cache, keys)) == (2, [0, 3])


def test_what_has_expired_goes_before_all_else(cache: ContentCache, clock: Clock) -> None:
    keys = fill(cache, clock, 3)
    ask(cache, Writer(), key=OTHER_KEY, ttl_seconds=1)
    clock.advance(seconds=1)

    assert cache.evict(max_entries=3) == 1
    assert left(cache, keys) == [0, 1, 2]


def test_what_is_older_than_a_limit_goes_however_much_it_is_used(cache: ContentCache, clock: Clock) -> None:
    keys = fill(cache, clock, 4)
    ask(cache, Writer(), key=keys[0])

    assert cache.evict(older_than=timedelta(minutes=2)) == 1
    assert left(cache, keys) == [1, 2, 3]


def test_nothing_goes_without_a_limit(cache: ContentCache, clock: Clock) -> None:
    keys = fill(cache, clock, 3)

    assert cache.evict() == 0
    assert left(cache, keys) == [0, 1, 2]


def test_evicting_goes_on_beyond_one_batch_and_beside_another_one(
    cache: ContentCache, clock: Clock, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.cache._eviction.BATCH", 7)
    keys = fill(cache, clock, 60)

    evicted = together(3, lambda _: cache.evict(max_entries=10))
    of_type = together(2, lambda _: cache.invalidate_type("lesson"))

    assert sum(evicted) == 50
    assert sum(of_type) == 10 and left(cache, keys) == []


@pytest.mark.parametrize("limits", [{"max_entries": -1}, {"max_entries": True}, {"max_entries": 1.5}, {"policy": "mru"},
                                    {"older_than": 7}, {"older_than": timedelta(-1)},
                                    {"older_than": timedelta(days=10**6)}])  # fmt: skip
def test_a_limit_that_is_none_is_refused(cache: ContentCache, limits: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(limits))):
        cache.evict(**limits)


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "lesson-1"}, r"content_hash\("),
        ({"key": KEY.upper()}, "64 hexadecimal"),
        ({"key": KEY + "\n"}, "64 hexadecimal"),
        ({"key": None}, "64 hexadecimal"),
        ({"content_type": ""}, "content_type"),
        ({"content_type": "x" * 51}, "content_type"),
        ({"ttl_seconds": 0}, "ttl_seconds"),
        ({"ttl_seconds": float("nan")}, "ttl_seconds"),
        ({"ttl_seconds": True}, "ttl_seconds"),
        ({"ttl_seconds": 1e12}, "ttl_seconds"),
        ({"input_summary": 7}, "input_summary"),
        ({"input_summary": "\x00"}, "input_summary"),
    ],
)
def test_a_wrong_argument_is_named_before_a_model_is_paid(cache: ContentCache, options: Any, said: str) -> None:
    write = Writer()

    with pytest.raises(InvalidInput, match=said):
        ask(cache, write, **options)

    assert write.calls == 0


@pytest.mark.parametrize("options", [{"lease_seconds": 0}, {"lease_seconds": "60"}])
def test_a_cache_is_made_with_times_above_zero(engine: Engine, options: Any) -> None:
    with pytest.raises(InvalidInput, match="_seconds must be"):
        ContentCache(engine, **options)


def test_an_unseen_user_is_added(cache: ContentCache, engine: Engine) -> None:
    ask(cache, Writer(), scope=for_user("new"))

    with engine.connect() as connection:
        assert connection.scalars(select(User.id)).all() == ["new"]


def test_a_cache_of_an_older_workbook_gains_the_columns(bare_database_url: str) -> None:
    engine = connect(bare_database_url)
    create_tables(engine)
    with write_transaction(engine) as connection:
        connection.execute(text("DROP INDEX ix_cached_content_expires"))
        connection.execute(text("DROP TABLE cache_leases"))
        for name in ("expires_at", "size_bytes", "model", "tokens_in", "tokens_out", "generation_ms", "input_summary"):
            connection.execute(text(f"ALTER TABLE content_cache DROP COLUMN {name}"))
        connection.execute(text("INSERT INTO content_cache (id, content_hash, content_type, content, created_at, "
            "access_count) VALUES (:id, 'old', 't', '{}', '2026-01-01 00:00:00', 0)"), {"id": new_id()})  # fmt: skip

    create_tables(engine)

    with ContentCache(engine) as cache:
        assert [ask(cache, Writer()).outcome for _ in range(2)] == ["miss", "hit"]
        assert cache.evict(max_entries=0) == 2
    engine.dispose()
