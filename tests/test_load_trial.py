"""The trial of many clients counts what was really done, and leaves nothing behind."""

from conftest import start_worker  # noqa: F401
from sqlalchemy import func, select

from lib.database import connect
from lib.load_trial import throughput
from lib.models import Memory, User
from lib.store import MemoryStore


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
