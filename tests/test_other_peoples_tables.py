"""On a server with tables of others, also with names like ours, a notebook changes nothing outside its own schema.

Here one notebook; .ci/run does all of them.
"""

import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from conftest import ROOT
from other_peoples_tables import changes_since, differences, furnish, libpq, photograph

from lib.practice.local_postgres import start_postgres

NOTEBOOK = "notebooks/03_memory_types.ipynb"
CHANGES = {
    "a row": "INSERT INTO public.memories (user_id) VALUES ('zoe')",
    "a value": "UPDATE somebody.memories SET id = 3 WHERE id = 2",
    "a column": "ALTER TABLE public.users ADD COLUMN preferences jsonb",
    "an index": "CREATE INDEX ON public.memories (key)",
    "a sequence": "SELECT nextval('somebody.tickets')",
    "a trigger": "ALTER TABLE public.memories DISABLE TRIGGER keep_version",
    "a function": "CREATE OR REPLACE FUNCTION public.keep_version() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
    "an extension": "CREATE EXTENSION vector WITH SCHEMA public",
    "a schema left behind": "CREATE SCHEMA workbook_0123456789ab",
    "a schema that is gone": "DROP SCHEMA workbook_of_somebody CASCADE",
    "a role": "ALTER ROLE clerk CONNECTION LIMIT 4",
    "a right": "REVOKE SELECT ON public.memories FROM readers",
    "a setting": "ALTER SYSTEM SET work_mem = '6MB'",
    "a setting of a database": "ALTER DATABASE shop SET timezone TO 'UTC'",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with start_postgres() as server:
        furnish(server.url)
        yield server.url


def rows_inserted(url: str) -> int:
    """Since the server started, in all tables of the database, also in those that are gone."""
    with psycopg.connect(libpq(url)) as connection:
        query = "SELECT tup_inserted FROM pg_stat_database WHERE datname = current_database()"
        return connection.execute(query).fetchone()[0]


def test_a_notebook_leaves_the_things_of_others_as_they_were(url: str) -> None:
    before, inserted = photograph(url), rows_inserted(url)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", NOTEBOOK],
        cwd=ROOT, env={**os.environ, "POSTGRES_URL": url}, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-3000:]
    assert rows_inserted(url) > inserted + 100  # it did work there
    assert changes_since(before, url) == []


def test_every_change_is_seen_in_the_comparison(url: str) -> None:
    for what, change in CHANGES.items():
        before = photograph(url)
        with psycopg.connect(libpq(url), autocommit=True) as connection:
            connection.execute(change)

        assert differences(before, photograph(url)), what
