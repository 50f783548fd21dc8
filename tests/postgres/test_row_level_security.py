"""Row-level security: through `as_user` one user's rows are seen and written, whatever a query says."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Clock, empty, fresh_schema
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import DBAPIError
from word_embedder import WordEmbedder

from lib.cache.cache_key import content_hash
from lib.cache.content_cache import ContentCache
from lib.cache.scope import SHARED, for_user
from lib.database._locks import Lock, wait_for
from lib.database._user_binding import TOKENS_VIEW
from lib.database.engine import connect, create_tables
from lib.database.tables import Base
from lib.database.transactions import autocommit_connection, read_transaction, write_transaction
from lib.errors import InvalidInput, IsolationUnavailable, NotYourRows, TablesMissing, WorkbookError
from lib.formation.session_log import SessionLog
from lib.postgres.row_level_security import ROLE, as_user, disable_row_level_security, enable_row_level_security
from lib.retrieval.search import reembed, retrieve
from lib.store.memory_store import MemoryStore

SECRET = "hush"
TRANSCRIPT = [{"turn": 1, "speaker": "user", "text": f"{SECRET}: I moved to Rome."}]
TABLES = (
    "users", "memories", "memory_versions", "memory_index", "archived_memories", "sessions", "content_cache",
    "cache_leases",
)  # fmt: skip
ATTEMPTS = 1000


@pytest.fixture(scope="module")
def isolated(postgres_server_url: str) -> Iterator[Engine]:
    """The owner's engine on a schema with the tables, for which row-level security is enabled."""
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url, pool_size=10)
        create_tables(engine)
        enable_row_level_security(engine)
        yield engine
        disable_row_level_security(engine)
        engine.dispose()


@pytest.fixture
def owner(isolated: Engine) -> Engine:
    return empty(isolated)


@pytest.fixture
def alone(owner: Engine) -> Iterator[Engine]:
    """The same database by a pool of one connection: what stays on it is there for the next one."""
    engine = connect(owner.url.render_as_string(hide_password=False), pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


@pytest.fixture
def two_users(owner: Engine, clock: Clock) -> Engine:
    """Ada and bob, each with rows in every table; all that is bob's says so."""
    store, log = MemoryStore(owner, now=clock), SessionLog(owner, now=clock)
    for user_id, word in (("ada", "tea"), ("bob", SECRET)):
        store.put_many(user_id, [("facts", f"k{n}", {"content": f"{word} a{n}", "n": n}) for n in range(8)])
        store.put(user_id, "facts", "k0", {"content": f"{word} anew", "topics": [word]})
        store.put(user_id, "rules", "k9", {"content": word}, expires_at=clock() - timedelta(days=1))
        store.archive(user_id, [("facts", "k7")], reason=word)
        log.finish(user_id, [{"turn": 1, "speaker": "user", "text": word}])
        reembed(store, user_id, WordEmbedder(), progress=False)
        with write_transaction(owner) as connection:
            connection.execute(
                text(
                    "INSERT INTO content_cache (id, content_hash, content_type, content, user_id, created_at, "
                    "access_count) VALUES (gen_random_uuid(), :user, 'x', jsonb_build_object('w', CAST(:w AS text)), "
                    ":user, now(), 0)"
                ),
                {"user": user_id, "w": word},
            )
            connection.execute(
                text(
                    "INSERT INTO cache_leases (content_hash, content_type, user_id, owner, claimed_until) "
                    "VALUES (:user, :w, :user, gen_random_uuid(), now())"
                ),
                {"user": user_id, "w": word},
            )
    return owner


def rows_of(engine: Engine, user_id: str) -> dict[str, list[str]]:
    """All rows of a user as texts, by table, as the owner sees them."""
    with read_transaction(engine) as connection:
        return {
            table: list(
                connection.scalars(
                    text(f"SELECT CAST(t AS text) FROM {table} t WHERE {owner_column(table)} = :user ORDER BY 1"),
                    {"user": user_id},
                )
            )
            for table in TABLES
        }


def owner_column(table: str) -> str:
    return "id" if table == "users" else "user_id"


# --- cross-user attempts ----------------------------------------------------------------------------------------------


def calls(store: MemoryStore, log: SessionLog, chance: random.Random) -> list[Callable[[], Any]]:
    """Calls of the store about bob, each of which should find nothing, or be refused."""
    key, namespace, limit = f"k{chance.randrange(10)}", chance.choice(["facts", "rules"]), chance.choice([1, 10, None])
    conditions = chance.choice(
        [
            {"filter": {"n": chance.randrange(8)}},
            {"topics": [SECRET]},
            {"key_prefix": "k"},
            {"since": datetime(2020, 1, 1, tzinfo=UTC)},
            {"until": datetime(2040, 1, 1, tzinfo=UTC)},
            {},
        ]
    )
    return [
        lambda: store.get("bob", namespace, key),
        lambda: store.search("bob", namespace, limit=10),
        lambda: store.search("bob", limit=limit, **conditions),
        lambda: store.search_by_content("bob", SECRET, limit=limit, **conditions),
        lambda: store.history("bob", namespace, key),
        lambda: store.list_namespaces("bob"),
        lambda: store.archived("bob"),
        lambda: retrieve(store, "bob", f"{SECRET} a{limit}", embedder=WordEmbedder()),
        lambda: store.put("bob", namespace, key, {"content": "planted"}),
        lambda: store.put_many("bob", [(namespace, key, {}), (namespace, "new", {})]),
        lambda: store.delete("bob", namespace, key),
        lambda: store.clear("bob", namespace),
        lambda: store.archive("bob", [(namespace, key)]),
        lambda: store.restore("bob", "facts", "k7"),
        lambda: store.expire("bob"),
        lambda: store.forget_user("bob").memories,
        lambda: log.list("bob"),
        lambda: log.claim("bob"),
        lambda: log.finish("bob", TRANSCRIPT),
    ]


def queries(chance: random.Random) -> list[str]:
    """SQL that forgot whose rows are meant, or names bob."""
    table = chance.choice(TABLES)
    column, limit = owner_column(table), chance.randrange(100, 1000)
    return [
        f"SELECT * FROM {table}",
        f"SELECT CAST(t AS text) FROM {table} t ORDER BY random() LIMIT {limit}",
        f"SELECT * FROM {table} WHERE {column} = 'bob'",
        f"SELECT * FROM {table} WHERE {column} = 'ada' OR TRUE",
        f"SELECT * FROM {table} WHERE {column} <> 'ada'",
        f"SELECT * FROM {table} WHERE {column} IN (SELECT id FROM users)",
        f"SELECT {column}, count(*) FROM {table} GROUP BY 1",
        f"WITH found AS (SELECT * FROM {table}) SELECT * FROM found WHERE {column} LIKE 'b%'",
        f"SELECT string_agg({column}, ',') FROM {table}",
        "SELECT u.id, m.value FROM users u JOIN memories m ON TRUE",
        "SELECT m.* FROM memory_index i JOIN memories m ON m.id = i.memory_id",
        "SELECT v.* FROM memory_versions v LEFT JOIN memories m ON m.id = v.memory_id",
        "SELECT * FROM memories WHERE value ->> 'content' LIKE '%a%'",
        "SELECT user_id FROM memories UNION ALL SELECT user_id FROM archived_memories",
    ]


def changes(chance: random.Random) -> list[str]:
    """SQL that would change, or plant, rows of bob's."""
    table = chance.choice(TABLES)
    column, content = owner_column(table), f'{{"content": "planted {chance.randrange(10_000)}"}}'
    return [
        f"DELETE FROM {table} WHERE {column} = 'bob'",
        "UPDATE memories SET value = '{}' WHERE user_id = 'bob'",
        "UPDATE memories SET updated_at = now()",
        "UPDATE memories SET user_id = 'bob', key = CAST(id AS text) WHERE key = 'k2'",
        "UPDATE users SET preferences = '{}', created_at = now()",
        "UPDATE sessions SET transcript = NULL",
        "UPDATE content_cache SET access_count = access_count + 1",
        "INSERT INTO memories (id, user_id, namespace, key, value, search_text, created_at, updated_at) VALUES "
        f"(gen_random_uuid(), 'bob', 'facts', '{chance.random()}', '{content}', '', now(), now())",
        "INSERT INTO memory_versions (memory_id, user_id, value, written_at, replaced_at) "
        "SELECT id, 'bob', '{}', now(), now() FROM memories",
    ]


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except NotYourRows:
        return None


def sql_outcome(engine: Engine, query: str) -> str:
    """What comes back, as a text; what was changed is committed."""
    try:
        with engine.begin() as connection:
            result = connection.execute(text(query))
            return str(result.all()) if result.returns_rows else ""
    except DBAPIError as error:
        assert error.orig.sqlstate == "42501", query
        return ""


def test_a_thousand_attempts_on_the_rows_of_another_return_nothing_and_change_nothing(
    two_users: Engine, clock: Clock
) -> None:
    before, chance = rows_of(two_users, "bob"), random.Random(1)
    bound = as_user(two_users, "ada")
    store, log = MemoryStore(bound, now=clock), SessionLog(bound, now=clock)

    for number in range(ATTEMPTS):
        if number % 2:
            found = outcome(chance.choice(calls(store, log, chance)))
            assert not found, found
        else:
            query = chance.choice(queries(chance) + changes(chance))
            found = sql_outcome(bound, query)
            assert SECRET not in found and "bob" not in found, query

    assert rows_of(two_users, "bob") == before
    assert all(before.values())


def test_the_same_sql_of_who_is_not_bound_does_read_and_change_them(two_users: Engine) -> None:
    chance = random.Random(1)

    for _ in range(30):
        for query in queries(chance):
            found = sql_outcome(two_users, query)
            assert SECRET in found or "bob" in found, query
        for query in changes(chance):
            with two_users.connect() as connection:
                before = connection.scalars(text(ALL_OF_BOB)).all()
                connection.execute(text(query))
                assert connection.scalars(text(ALL_OF_BOB)).all() != before, query


ALL_OF_BOB = " UNION ALL ".join(
    f"(SELECT CAST(t AS text) FROM {table} t WHERE {owner_column(table)} = 'bob' ORDER BY 1)" for table in TABLES
)


def test_sql_that_changes_everything_changes_ones_own_rows(two_users: Engine) -> None:
    with as_user(two_users, "ada").begin() as connection:
        changed = connection.execute(text("UPDATE memories SET updated_at = now()")).rowcount
        deleted = connection.execute(text("DELETE FROM archived_memories")).rowcount

    assert (changed, deleted) == (8, 1)


def test_who_is_bound_to_nobody_and_is_not_the_owner_sees_no_row(two_users: Engine) -> None:
    with two_users.begin() as connection:
        connection.execute(text(f"SET LOCAL ROLE {ROLE}"))

        counts = [connection.scalar(text(f"SELECT count(*) FROM {table}")) for table in TABLES]

    assert counts == [0] * len(TABLES)


def test_the_view_of_tokens_shows_ones_own(two_users: Engine) -> None:
    """It has the owner's rights, so no policy holds for it."""
    query = text(f"SELECT user_id, count(*) FROM {TOKENS_VIEW} GROUP BY 1")

    with two_users.connect() as unbound, as_user(two_users, "ada").connect() as bound:
        assert bound.execute(query).all() == [("ada", 8)]
        assert unbound.execute(query).all() == []


# --- the store, whole -------------------------------------------------------------------------------------------------


def test_every_call_of_the_store_works_for_ones_own_rows(owner: Engine, clock: Clock) -> None:
    outcomes = []
    for engine in (owner, as_user(owner, "ada")):
        empty(owner)
        clock.time = datetime(2026, 3, 1, tzinfo=UTC)
        outcomes.append(scenario(MemoryStore(engine, now=clock), SessionLog(engine, now=clock), clock))

    assert outcomes[0] == outcomes[1]
    assert "Rome" in str(outcomes[0])


def scenario(store: MemoryStore, log: SessionLog, clock: Clock) -> list[Any]:
    """Every call, with what it returns, of an ada who wasn't there before."""
    seen: list[Any] = [store.put("ada", "facts", "city", {"content": "Ada lives in Rome.", "session": "s1"})]
    clock.advance(hours=1)
    seen.append(store.put("ada", "facts", "city", {"content": "Ada lives in Lund.", "session": "s1"}))
    seen.append(store.put_many("ada", [("facts", f"k{n}", {"content": f"a{n}", "n": n}) for n in range(1500)]))
    seen.append(store.put("ada", "facts", "soon", {"content": "b"}, expires_at=clock() + timedelta(hours=1)))
    seen += [store.get("ada", "facts", "city"), store.search("ada", "facts"), store.search("ada", filter={"n": 7})]
    seen += [store.search_by_content("ada", "LUND"), store.history("ada", "facts", "city")]
    seen += [store.delete("ada", "facts", "k1"), store.delete("ada", "facts", "k1")]
    seen += [
        store.archive("ada", [("facts", "k2"), ("facts", "k3")], reason="old"),
        store.restore("ada", "facts", "k2"),
    ]
    seen += [[item.key for item in store.archived("ada")], store.list_namespaces("ada")]
    seen.append(retrieve(store, "ada", "Where does Ada live?", embedder=WordEmbedder())[0].item)
    seen.append(store.put("ada", "facts", "city", {"content": "Ada lives in Oslo."}).value)
    seen.append(retrieve(store, "ada", "lives in Oslo", embedder=WordEmbedder(), key_prefix="c")[0].item.key)
    clock.advance(hours=2)
    seen.append(store.expire("ada"))
    session_id = log.finish("ada", TRANSCRIPT)
    claimed = log.claim("ada")
    log.complete(claimed, write=lambda connection: store.in_transaction(connection).put("ada", "facts", "new", {}))
    seen += [log.get(session_id).state, log.counts("ada"), log.claim()]
    with store.locked_transaction("ada") as inside:
        seen += [inside.put("ada", "rules", "k", {}).key, inside.delete("ada", "rules", "k")]
    seen += [store.clear("ada", "facts"), store.forget_user("ada"), store.search("ada")]
    return seen


def test_a_write_for_another_says_whose_engine_it_is_and_whose_row_it_was(owner: Engine) -> None:
    bound = as_user(owner, "ada")
    store, log = MemoryStore(bound), SessionLog(bound)

    for call in (
        lambda: store.put("bob", "facts", "k", {}),
        lambda: store.put_many("bob", [("facts", "k", {})]),
        lambda: log.finish("bob", TRANSCRIPT),
    ):
        with pytest.raises(NotYourRows, match=r"bound to the user 'ada', and a row of 'bob'.*as_user"):
            call()

    assert rows_of(owner, "bob")["users"] == []


def test_the_id_of_another_users_conversation_is_refused(owner: Engine) -> None:
    session_id = SessionLog(owner).finish("bob", TRANSCRIPT)

    with pytest.raises(InvalidInput, match="is another user's"):
        SessionLog(as_user(owner, "ada")).finish("ada", TRANSCRIPT, session_id=session_id)

    assert SessionLog(owner).get(session_id).user_id == "bob"


def test_an_error_of_a_new_users_first_put_is_not_logged(owner: Engine, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(20):
        MemoryStore(as_user(owner, f"user {number}")).put(f"user {number}", "facts", "k", {})

    assert not caplog.records
    assert MemoryStore(owner).get("user 19", "facts", "k") == {}


def test_who_listens_to_the_engine_hears_who_is_bound(owner: Engine) -> None:
    from sqlalchemy import event

    heard, bound = [], as_user(owner, "ada")
    event.listen(owner, "before_cursor_execute", listener := lambda *call: heard.append(call[2]))
    try:
        MemoryStore(bound).get("ada", "facts", "k")
    finally:
        event.remove(owner, "before_cursor_execute", listener)

    assert ["set_config" in heard[0], "memories" in heard[1]] == [True, True]


def test_shared_content_of_the_cache_is_read_and_not_written(two_users: Engine) -> None:
    with write_transaction(two_users) as connection:
        connection.execute(text("UPDATE content_cache SET user_id = NULL WHERE user_id = 'bob'"))

    with as_user(two_users, "ada").begin() as connection:
        read = connection.scalars(text("SELECT user_id FROM content_cache ORDER BY 1")).all()
        counted = connection.execute(text("UPDATE content_cache SET access_count = 9")).rowcount
        deleted = connection.execute(text("DELETE FROM content_cache WHERE user_id IS NULL")).rowcount
    with pytest.raises(DBAPIError, match="row-level security"), as_user(two_users, "ada").begin() as connection:
        connection.execute(text("UPDATE content_cache SET user_id = NULL"))

    assert (read, counted, deleted) == (["ada", None], 1, 0)


def test_a_request_uses_the_cache_for_its_user_and_reads_what_is_shared(owner: Engine, clock: Clock) -> None:
    key, kind, whole = content_hash("a"), {"content_type": "lesson"}, ContentCache(owner, now=clock)
    cache = whole.on(as_user(owner, "ada"))
    whole.get_or_generate(key, lambda: {"by": "owner"}, **kind, scope=SHARED)
    whole.get_or_generate(key, lambda: {"by": SECRET}, **kind, scope=for_user("bob"))

    own = [cache.get_or_generate(key, lambda: {"by": "ada"}, **kind, scope=for_user("ada")) for _ in range(3)]
    shared = [cache.get_or_generate(key, lambda: {"by": "ada"}, **kind, scope=SHARED) for _ in range(2)]
    whole.flush()

    assert [(answer.outcome, answer.content["by"]) for answer in own + shared] == [
        ("miss", "ada"), ("hit", "ada"), ("hit", "ada"), ("hit", "owner"), ("hit", "owner"),
    ]  # fmt: skip
    with owner.connect() as connection:
        counts = dict(connection.execute(text("SELECT user_id, access_count FROM content_cache")).all())
        assert connection.scalar(text("SELECT count(*) FROM cache_leases")) == 0
    assert counts == {"ada": 2, "bob": 0, None: 2}
    assert whole.metrics.requests == 7


def test_a_request_neither_generates_nor_deletes_what_is_shared_nor_touches_anothers(
    owner: Engine, clock: Clock
) -> None:
    key, whole = content_hash("a"), ContentCache(owner, now=clock)
    address = {"content_type": "lesson", "scope": SHARED}
    generated = []

    for cache in (ContentCache(as_user(owner, "ada"), now=clock), whole.on(as_user(owner, "ada"))):
        assert cache.get(key, **address) is None
        for call, arguments in (
            (cache.get_or_generate, {"key": key, "generate": lambda: generated.append(1), **address}),
            (cache.put, {"key": key, "generated": {}, **address}),
            (cache.invalidate, {"key": key, **address}),
            (cache.invalidate_type, {"content_type": "lesson"}),
            (cache.invalidate_type, address),
            (cache.get, {"key": key, **address, "scope": for_user("bob")}),
        ):
            with pytest.raises(NotYourRows, match="'ada'"):
                call(**arguments)
        cache.put(key, {"of": "ada"}, content_type="lesson", scope=for_user("ada"))
        assert cache.invalidate_type("lesson", scope=for_user("ada")) == 1
    with pytest.raises(NotYourRows, match="evicted"):
        ContentCache(as_user(owner, "ada")).evict(max_entries=0)
    for engine in (connect("sqlite://"), None, "ada"):
        with pytest.raises(InvalidInput, match="as_user"):
            whole.on(engine)

    assert generated == []


def test_hits_of_shared_contents_on_a_cache_of_ones_own_are_not_counted_and_harm_nothing(owner: Engine) -> None:
    """The role may not write to them. `ContentCache(engine).on(as_user(…))` counts them, with the owner's engine."""
    key, address = content_hash("a"), {"content_type": "lesson", "scope": SHARED}
    ContentCache(owner).put(key, {"by": "owner"}, **address)
    cache = ContentCache(as_user(owner, "ada"))

    assert cache.get(key, **address).content == {"by": "owner"}
    cache.close()

    with owner.connect() as connection:
        assert connection.scalar(text("SELECT access_count FROM content_cache")) == 0


# --- nothing stays on a connection ------------------------------------------------------------------------------------

# All that binds is LOCAL to a transaction. A pooler in front of the server (PgBouncer in transaction mode) gives a
# connection to somebody else only between transactions, when there is nothing left of it, as here: these look at the
# one connection between the transactions of others. A single statement is sent with its BEGIN and COMMIT.
WHO = text("SELECT current_user = session_user, coalesce(current_setting('workbook.user_id', true), '')")
WHO_PATH = text("SELECT current_setting('search_path')")


def who(engine: Engine) -> tuple[bool, str]:
    with engine.connect() as connection:
        return tuple(connection.execute(WHO).one())


def test_two_users_on_one_connection_take_turns(alone: Engine) -> None:
    stores = {user_id: MemoryStore(as_user(alone, user_id)) for user_id in ("ada", "bob")}
    with alone.connect() as connection:
        path = connection.scalar(WHO_PATH)

    for number in range(20):
        for user_id, store in stores.items():
            store.put(user_id, "facts", str(number), {"of": user_id})
            assert {item.user_id for item in store.search(user_id)} == {user_id}
            assert who(alone) == (True, "")
            with as_user(alone, user_id).connect() as connection:
                assert connection.execute(WHO).one() == (False, user_id)
                assert {row.user_id for row in connection.execute(text("SELECT user_id FROM memories"))} == {user_id}

    with alone.connect() as connection:
        assert connection.scalar(WHO_PATH) == path
        assert connection.scalar(text("SELECT count(*) FROM memories")) == 40


def test_an_error_in_a_transaction_leaves_nothing_on_the_connection(alone: Engine) -> None:
    bound = as_user(alone, "ada")
    store = MemoryStore(bound)

    with pytest.raises(ZeroDivisionError), write_transaction(bound):
        1 / 0  # noqa: B018
    after_ours = who(alone)
    with pytest.raises(DBAPIError), bound.connect() as connection:
        connection.execute(text("SELECT 1 / 0"))
    after_theirs = who(alone)
    with pytest.raises(NotYourRows):
        store.put("bob", "facts", "k", {})
    after_refused = who(alone)
    with pytest.raises(KeyboardInterrupt), write_transaction(bound) as connection:
        connection.execute(text("SELECT 1"))
        raise KeyboardInterrupt

    assert [after_ours, after_theirs, after_refused, who(alone)] == [(True, "")] * 4
    assert store.put("ada", "facts", "k", {"n": 1}).value == MemoryStore(alone).get("ada", "facts", "k")


def test_threads_of_many_users_share_few_connections(owner: Engine) -> None:
    engine = connect(owner.url.render_as_string(hide_password=False), pool_size=2, max_overflow=1)
    start = threading.Barrier(6)

    def work(user_id: str) -> set[str]:
        store, seen = MemoryStore(as_user(engine, user_id)), set()
        start.wait()
        for number in range(40):
            store.put(user_id, "facts", str(number % 5), {"of": user_id})
            with as_user(engine, user_id).connect() as connection:
                seen |= set(connection.scalars(text("SELECT user_id FROM memories")))
            seen |= {item.value["of"] for item in store.search(user_id, limit=None)}
        return seen

    users = [f"user {number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, users)) == [{user_id} for user_id in users]
    assert who(engine) == (True, "")
    engine.dispose()


def test_a_connection_is_bound_anew_after_each_commit_and_rollback(two_users: Engine) -> None:
    query = text("SELECT DISTINCT user_id FROM memories")

    with as_user(two_users, "ada").connect() as connection:
        seen = [connection.scalars(query).all()]
        connection.commit()
        seen.append(connection.scalars(query).all())
        connection.rollback()
        with connection.begin():
            seen.append(connection.scalars(query).all())
            with connection.begin_nested():
                seen.append(connection.scalars(query).all())
    with as_user(two_users, "ada").execution_options(isolation_level="SERIALIZABLE").connect() as connection:
        seen.append(connection.scalars(query).all())

    assert seen == [["ada"]] * 5


def test_autocommit_is_refused_because_it_would_lose_the_user(two_users: Engine) -> None:
    query, options = text("SELECT user_id FROM memories"), {"isolation_level": "AUTOCOMMIT"}
    bound = as_user(two_users, "ada")

    for engine in (bound.execution_options(**options), as_user(two_users.execution_options(**options), "ada")):
        with pytest.raises(InvalidInput, match=r"'ada'.*AUTOCOMMIT"), engine.connect() as connection:
            connection.execute(query)
    with bound.connect() as connection, pytest.raises(InvalidInput, match="AUTOCOMMIT"):
        connection.execution_options(**options).execute(query)
    with autocommit_connection(bound) as connection:
        assert set(connection.scalars(query)) == {"ada"}


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_transaction_that_was_ended_in_sql_does_not_go_on_as_the_owner(two_users: Engine, end: str) -> None:
    with as_user(two_users, "ada").connect() as connection:
        connection.execute(text(end))

        with pytest.raises(InvalidInput, match=r"connection\.commit"):
            connection.execute(text("SELECT user_id FROM memories"))


def test_a_bound_store_joins_no_transaction_of_the_owner(owner: Engine) -> None:
    bound = as_user(owner, "ada")
    store, others = MemoryStore(bound), MemoryStore(as_user(owner, "bob"))

    with write_transaction(owner) as connection, pytest.raises(InvalidInput, match="of this store's engine"):
        store.in_transaction(connection)
    with write_transaction(bound) as connection:
        with pytest.raises(InvalidInput):
            others.in_transaction(connection)
        MemoryStore(owner).in_transaction(connection).put("ada", "facts", "k", {"n": 1})

    assert store.get("ada", "facts", "k") == {"n": 1}


# --- enabling ---------------------------------------------------------------------------------------------------------


def test_every_table_with_rows_of_users_has_a_policy(isolated: Engine) -> None:
    """A table that is added to `tables` is seen by `enable_row_level_security`; one that is made otherwise isn't."""
    ours = {name for name, table in Base.metadata.tables.items() if "user_id" in table.columns} | {"users"}
    with read_transaction(isolated) as connection:
        columns = text("SELECT table_name FROM information_schema.columns WHERE table_schema = current_schema() "
                       "AND column_name = 'user_id' AND table_name <> :view")  # fmt: skip
        there = set(connection.scalars(columns, {"view": TOKENS_VIEW})) | {"users"}
        policies = connection.execute(text(
            "SELECT tablename, qual, with_check FROM pg_policies WHERE schemaname = current_schema() AND cmd = 'ALL'"
        )).all()  # fmt: skip
        secured = set(connection.scalars(text(
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relrowsecurity"
        )))  # fmt: skip

    assert ours == set(TABLES)
    assert there == {row.tablename for row in policies} == secured
    assert all("current_setting" in row.qual and row.qual == row.with_check for row in policies)


def test_a_role_has_the_rights_of_requests_and_no_more(isolated: Engine) -> None:
    with read_transaction(isolated) as connection:
        rights = text(
            "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type) FROM "
            "information_schema.table_privileges WHERE grantee = :role AND table_schema = current_schema() GROUP BY 1"
        )
        found = dict(connection.execute(rights, {"role": ROLE}).all())
        role = connection.execute(text("SELECT * FROM pg_roles WHERE rolname = :role"), {"role": ROLE}).one()
        creates = connection.scalar(text(f"SELECT has_schema_privilege('{ROLE}', current_schema(), 'CREATE')"))

    assert set(found) == {*TABLES, TOKENS_VIEW}
    assert found[TOKENS_VIEW] == "SELECT"
    assert found["memory_versions"] == found["archived_memories"] == "DELETE INSERT SELECT"
    assert found["memories"] == "DELETE INSERT SELECT UPDATE"
    assert not (role.rolsuper or role.rolbypassrls or role.rolcanlogin or role.rolcreaterole or creates)


def test_enabling_twice_by_many_at_once_leaves_one_policy_each(postgres_server_url: str) -> None:
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url, pool_size=7)
        create_tables(engine)

        with ThreadPoolExecutor(6) as pool:
            with engine.begin() as connection:  # so that they all wait for the first table, having looked at it
                connection.execute(text("LOCK TABLE archived_memories IN ACCESS SHARE MODE"))
                waiting = [pool.submit(enable_row_level_security, engine, role="workbook_test_many") for _ in range(6)]
                time.sleep(0.5)
            for each in waiting:
                each.result()

        with read_transaction(engine) as connection:
            policies = text("SELECT tablename FROM pg_policies WHERE schemaname = current_schema()")
            assert sorted(connection.scalars(policies)) == sorted([*TABLES, "content_cache"])
        disable_row_level_security(engine, role="workbook_test_many")
        engine.dispose()


def test_enabling_while_others_write_loses_no_write(postgres_server_url: str) -> None:
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url, pool_size=6)
        create_tables(engine)
        done = threading.Event()

        def write(user_id: str) -> int:
            store, count = MemoryStore(engine), 0
            while not done.is_set():
                store.put_many(user_id, [("facts", str(count), {})])
                store.put(user_id, "facts", str(count), {"n": 1})
                store.archive(user_id, [("facts", str(count))])
                count += 1
            return count

        with ThreadPoolExecutor(3) as pool:
            writers = [pool.submit(write, f"user {number}") for number in range(3)]
            try:
                for _ in range(3):
                    enable_row_level_security(engine, role="workbook_test_busy")
                    disable_row_level_security(engine, role="workbook_test_busy")
            finally:
                done.set()

            for number, writer in enumerate(writers):
                written = writer.result()
                assert len(MemoryStore(engine).archived(f"user {number}", limit=None)) == written > 0
        engine.dispose()


def test_no_two_things_share_the_number_of_a_lock() -> None:
    numbers = [int(lock) for lock in Lock.__members__.values()]  # with the aliases, which one number would make

    assert len(numbers) == len(set(numbers))


def test_it_is_enabled_whatever_else_is_locked(postgres_server_url: str) -> None:
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url)
        create_tables(engine)

        with engine.begin() as holding, ThreadPoolExecutor(1) as pool:
            for lock in set(Lock) - {Lock.ROW_LEVEL_SECURITY}:
                wait_for(holding, lock)
            pool.submit(enable_row_level_security, engine).result(timeout=15)

        disable_row_level_security(engine)
        engine.dispose()


def test_disabling_leaves_neither_policy_nor_right_nor_role(postgres_server_url: str) -> None:
    with fresh_schema(postgres_server_url) as url, fresh_schema(postgres_server_url) as other_url:
        engine, other = connect(url), connect(other_url)
        for one in (engine, other):
            create_tables(one)
            enable_row_level_security(one, role="workbook_test_gone")

        disable_row_level_security(engine, role="workbook_test_gone")
        still_there = role_exists(engine, "workbook_test_gone")
        disable_row_level_security(other, role="workbook_test_gone")
        disable_row_level_security(other, role="workbook_test_gone")

        assert still_there and not role_exists(engine, "workbook_test_gone")
        with read_transaction(engine) as connection:
            secured = text(
                "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relrowsecurity"
            )
            assert connection.scalar(secured) == 0
        engine.dispose()
        other.dispose()


def role_exists(engine: Engine, role: str) -> bool:
    with read_transaction(engine) as connection:
        return connection.scalar(text("SELECT count(*) > 0 FROM pg_roles WHERE rolname = :role"), {"role": role})


def test_before_it_is_enabled_a_bound_engine_says_what_to_do(postgres_server_url: str, isolated: Engine) -> None:
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url)
        create_tables(engine)

        for role in (ROLE, "workbook_test_nobody"):  # one that has no rights here, one that isn't there
            bound = as_user(engine, "ada", role=role)
            for call in (
                lambda: MemoryStore(bound).get("ada", "facts", "k"),  # noqa: B023
                lambda: MemoryStore(bound).put("ada", "facts", "k", {}),  # noqa: B023
                lambda: MemoryStore(bound).delete("ada", "facts", "k"),  # noqa: B023
            ):
                with pytest.raises(IsolationUnavailable, match="call enable_row_level_security"):
                    call()
        engine.dispose()


def test_a_role_that_would_see_everything_is_refused(isolated: Engine) -> None:
    with read_transaction(isolated) as connection:
        me = connection.scalar(text("SELECT session_user"))

    with pytest.raises(InvalidInput, match="would see every row"):
        enable_row_level_security(isolated, role=me)
    for role in ("", "Workbook", "a b", 'a"; DROP', "public", "pg_monitor", "x" * 60, None):
        with pytest.raises(InvalidInput, match="a role is named"):
            enable_row_level_security(isolated, role=role)


def test_without_tables_it_says_so(postgres_server_url: str) -> None:
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url)
        with pytest.raises(TablesMissing, match="create_tables"):
            enable_row_level_security(engine)
        engine.dispose()


def test_on_sqlite_there_is_none(sqlite_engine: Engine) -> None:
    for call in (
        lambda: enable_row_level_security(sqlite_engine),
        lambda: disable_row_level_security(sqlite_engine),
        lambda: as_user(sqlite_engine, "ada"),
    ):
        with pytest.raises(IsolationUnavailable, match=r"sqlite has no row-level security.*SQLite file of their own"):
            call()


def test_a_user_id_is_checked_and_a_bound_engine_is_not_bound_again(isolated: Engine) -> None:
    for user_id in ("", "x" * 51, None, 7):
        with pytest.raises(WorkbookError):
            as_user(isolated, user_id)
    bound = as_user(isolated, "ada")
    for call in (lambda: as_user(bound, "bob"), lambda: disable_row_level_security(bound)):
        with pytest.raises(InvalidInput, match="bound to 'ada' already"):
            call()


@pytest.fixture
def login(postgres_server_url: str) -> Iterator[Callable[[str], str]]:
    """Makes a role that may log in, with some rights; gives the server's URL with its name. Needs a superuser."""
    engine, made = connect(postgres_server_url), []

    def make(rights: str) -> str:
        name = f"workbook_test_login_{len(made)}"
        with engine.begin() as connection:
            connection.execute(text(f"DROP ROLE IF EXISTS {name}"))
            connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'pw' {rights}"))
            connection.execute(text(f"CREATE SCHEMA {name} AUTHORIZATION {name}"))
        made.append(name)
        return engine.url.set(username=name, password="pw").render_as_string(hide_password=False)

    yield make
    with engine.begin() as connection:
        for name in made:
            connection.execute(text(f"DROP OWNED BY {name} CASCADE"))
            connection.execute(text(f"DROP ROLE {name}"))
    engine.dispose()


def test_an_owner_who_is_no_superuser_enables_it_if_they_may_make_roles(login: Callable[[str], str]) -> None:
    """Their tables lie in a schema of their name, which "$user" in the path means: it doesn't, for the role."""
    engine = connect(login("CREATEROLE"))
    create_tables(engine)

    enable_row_level_security(engine, role="workbook_test_small")
    MemoryStore(engine).put("bob", "facts", "k", {})
    bound = as_user(engine, "ada", role="workbook_test_small")
    MemoryStore(bound).put("ada", "facts", "k", {"n": 1})

    with bound.connect() as connection:
        assert connection.scalars(text("SELECT user_id FROM memories")).all() == ["ada"]
    disable_row_level_security(engine, role="workbook_test_small")
    assert not role_exists(engine, "workbook_test_small")
    engine.dispose()


def test_an_owner_who_may_not_make_roles_is_told_what_an_administrator_can_do(
    login: Callable[[str], str], postgres_server_url: str
) -> None:
    engine, admin = connect(login("NOCREATEROLE")), connect(postgres_server_url)
    create_tables(engine)

    with pytest.raises(IsolationUnavailable, match='CREATE ROLE "workbook_test_given" NOLOGIN; GRANT'):
        enable_row_level_security(engine, role="workbook_test_given")
    with admin.begin() as connection:
        connection.execute(text("CREATE ROLE workbook_test_given NOLOGIN"))
        connection.execute(text(f"GRANT workbook_test_given TO {engine.url.username}"))
    enable_row_level_security(engine, role="workbook_test_given")
    MemoryStore(as_user(engine, "ada", role="workbook_test_given")).put("ada", "facts", "k", {})
    disable_row_level_security(engine, role="workbook_test_given")  # the role isn't theirs to drop

    with admin.begin() as connection:
        connection.execute(text("DROP ROLE workbook_test_given"))
    admin.dispose()
    engine.dispose()


def test_who_is_not_the_owner_can_be_bound_and_enable_nothing(owner: Engine, login: Callable[[str], str]) -> None:
    name = make_url(login("CREATEROLE")).username
    with owner.begin() as connection:
        connection.execute(text(f"GRANT {ROLE} TO {name}"))
    requests = connect(owner.url.set(username=name, password="pw").render_as_string(hide_password=False))

    with pytest.raises(IsolationUnavailable, match="the owner of the tables"):
        enable_row_level_security(requests, role="workbook_test_third")
    MemoryStore(as_user(requests, "ada")).put("ada", "facts", "k", {})
    MemoryStore(owner).put("bob", "facts", "k", {})

    with as_user(requests, "ada").connect() as connection:
        connection.execute(text("RESET ROLE"))  # gains nothing: who logged in is no owner, either
        assert connection.scalars(text("SELECT user_id FROM memories")).all() == ["ada"]
    assert not role_exists(owner, "workbook_test_third")
    requests.dispose()
