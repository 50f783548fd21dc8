"""The trial of many clients counts what was really done, and leaves nothing behind."""

import pytest
from conftest import start_worker  # noqa: F401
from sqlalchemy import Engine, func, select, text

from lib.database._urls import parse_url
from lib.database.engine import connect, create_tables
from lib.database.tables import Memory, User
from lib.errors import InvalidInput, TablesMissing
from lib.store.memory_store import MemoryStore
from lib.workbook.trials.load import throughput


def test_clients_put_and_read_at_once_and_are_forgotten(database_url: str) -> None:
    engine = connect(database_url)
    MemoryStore(engine).put("ada", "facts", "k", {"a": 1})

    measured = throughput(engine, clients=2, seconds=0.2)

    assert measured.clients == 2
    assert measured.puts_per_second > 20 and measured.reads_per_second > measured.puts_per_second
    with engine.connect() as connection:
        assert connection.scalars(select(User.id)).all() == ["ada"]
        assert connection.scalar(select(func.count()).select_from(Memory)) == 1
    engine.dispose()


def test_the_schema_of_the_engine_is_used_whatever_its_name(postgres_engine: Engine, postgres_url: str) -> None:
    schema = "workbook_test it's \\ odd"
    with postgres_engine.begin() as connection:
        connection.execute(text(f'CREATE SCHEMA "{schema}"'))
    escaped = f'"{schema}"'.replace("\\", "\\\\").replace(" ", "\\ ")
    url = parse_url(postgres_url).update_query_dict({"options": f"-csearch_path={escaped}"})
    engine = connect(url.render_as_string(hide_password=False))
    create_tables(engine)

    measured = throughput(engine, clients=1, seconds=0.1, pooled=False)

    assert measured.puts_per_second > 0
    engine.dispose()
    with postgres_engine.begin() as connection:
        connection.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))


def test_what_cannot_be_measured_is_refused(bare_database_url: str) -> None:
    with pytest.raises(InvalidInput, match="no other process can reach"):
        throughput(connect("sqlite://"), clients=1)
    with pytest.raises(TablesMissing):
        throughput(connect(bare_database_url), clients=1)
