"""What chapter 07 shows of a server: plans, the schema, statements, vectors, and chapters run on it."""

from datetime import timedelta

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import InvalidRequestError

from lib.database.engine import connect, create_tables
from lib.errors import InvalidInput
from lib.practice.local_postgres import start_postgres
from lib.workbook.lesson import TODAY
from lib.workbook.trials import plans, schema_picture
from lib.workbook.trials.plans import explain
from lib.workbook.trials.postgres import (
    fill,
    index_sizes,
    new_database,
    on_both,
    run_chapter,
    run_script,
    some_traffic,
    statements,
    states_of_connections,
)
from lib.workbook.trials.vectors import VectorTrial

NEWEST = (
    "SELECT * FROM memories WHERE user_id = :user_id AND namespace = 'facts' ORDER BY updated_at DESC, id DESC LIMIT 3"
)


@pytest.fixture(scope="module")
def server():
    with start_postgres(settings={"shared_preload_libraries": "pg_stat_statements"}) as server:
        yield server


@pytest.fixture
def own_engine(server):
    """An engine on a server that nobody else uses, with empty tables."""
    engine = connect(server.url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    create_tables(engine)
    yield engine
    engine.dispose()


def test_a_script_gets_its_arguments_and_returns_what_it_prints():
    assert run_script("import sys; print(sys.argv[1:])", "a b", "é") == "['a b', 'é']"


def test_a_script_that_fails_returns_its_error():
    assert run_script("1 / 0") == "ZeroDivisionError: division by zero"


def test_both_databases_answer_or_name_their_error(postgres_engine, sqlite_engine):
    both = {"one": sqlite_engine, "other": postgres_engine}

    assert on_both(both, "SELECT true = 1") == {"one": [1], "other": "UndefinedFunction"}


def test_a_plan_counts_the_rows_that_a_filter_threw_away(postgres_engine):
    plan = explain(postgres_engine, "SELECT n FROM generate_series(1, 100) AS n WHERE n <= :most", most=5)

    assert plan.read == 100


def test_explaining_a_write_writes_nothing(own_engine):
    explain(own_engine, "INSERT INTO users (id, created_at, preferences) VALUES ('ada', now(), '{}')")

    with own_engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM users")) == 0


def test_the_newest_are_read_from_the_ordered_index_also_while_the_table_grows(own_engine):
    fill(own_engine, users=12, memories=1000)  # statistics of the first user alone would find the others by sorting

    plan = explain(own_engine, NEWEST, user_id="user_5")

    assert plan.read == 3
    assert plan.tables == {"memories"}


def test_plans_are_drawn_with_what_each_step_read(own_engine, monkeypatch):
    drawn = []
    monkeypatch.setattr(plans, "show_figure", lambda axes, alt: drawn.append(axes))
    fill(own_engine, users=1, memories=50)

    plans.plans({"newest": explain(own_engine, NEWEST, user_id="user_0")}, title="t", alt="a")

    assert "3" in {label.get_text() for label in drawn[0].texts}


def test_the_diagram_shows_what_the_database_has(engine, monkeypatch):
    drawn = []
    monkeypatch.setattr(schema_picture, "show_figure", lambda axes, alt: drawn.append(axes))

    schema_picture.schema_diagram(engine, [["memories"], ["users"]], title="t", alt="a")

    shown = {label.get_text() for label in drawn[0].texts}
    assert {"memories", "search_text", "preferences"} <= shown
    assert sum(hasattr(label, "arrow_patch") for label in drawn[0].texts) == 1  # user_id -> users.id


def test_a_table_that_is_not_there_is_named(engine):
    with pytest.raises(InvalidRequestError, match="nonsense"):
        schema_picture.schema_diagram(engine, [["nonsense"]], title="t", alt="a")


def test_a_filled_store_holds_two_rare_memories_among_many(own_engine):
    store = fill(own_engine, users=12, memories=40)

    found = [store.search(f"user_{user}", topics=["lighthouses"]) for user in range(12)]

    assert sum(map(len, found)) == 2
    assert store.search("user_0", since=TODAY - timedelta(days=1)) == []
    assert index_sizes(own_engine, "memories").keys() >= {"memories", "ix_memory_newest_of_user"}


def test_the_dashboard_takes_the_most_time_until_it_has_an_index(own_engine):
    store = fill(own_engine, users=20, memories=500)
    some_traffic(store)

    slowest = statements(own_engine).iloc[0]

    assert "count(*)" in slowest["statement"] and slowest["calls"] == 30


def test_an_open_transaction_is_seen_by_others(own_engine, server):
    watcher = connect(server.url)
    with own_engine.connect() as connection:
        connection.execute(text("SELECT 1"))

        assert states_of_connections(watcher) == {"idle in transaction": 1}

    assert states_of_connections(watcher) == {}
    watcher.dispose()


def test_the_approximate_index_misses_some_and_a_late_filter_more(own_engine):
    trial = VectorTrial(own_engine, count=4000, questions=15)
    exact = trial.ask()
    trial.build_index()

    few, many = trial.ask(ef=10), trial.ask(ef=300)

    assert exact["recall"] == 1 and few["recall"] < 0.7 < many["recall"]
    assert trial.ask(users=20)["found"] < 10 == trial.ask(users=20, iterative=True)["found"]


def test_a_new_database_is_empty_and_on_the_same_server(own_engine):
    other = new_database(own_engine, "another")

    assert inspect(other).get_table_names() == []
    with other.connect() as connection:
        assert connection.scalar(text("SELECT current_database()")) == "another"
    other.dispose()


def test_a_chapter_that_is_not_there_is_refused():
    with pytest.raises(InvalidInput, match="no single chapter begins with '99'"):
        run_chapter("99", "sqlite://")
