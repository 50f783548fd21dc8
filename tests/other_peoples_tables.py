"""Run a command on a server that holds other people's tables, and see that it leaves them as they were.

workbook on-postgres python tests/other_peoples_tables.py COMMAND ...

Fills the server of POSTGRES_URL, which must be a new one, with tables of others, some of them named like ours; dumps
all of its databases, roles and settings; runs the command; dumps them again. Ends with the command's own code, or with
1 and the difference where there is one.
"""

import difflib
import os
import re
import subprocess
import sys
import time

import psycopg

from lib.database.engine import connect
from lib.practice._postgres_programs import EXE, clean_environment, find_binaries
from lib.workbook.practice_database import drop_abandoned_schemas

SETTLE_SECONDS = 20  # after its owner was killed, as nbval does, a schema can be dropped when its connections are gone

OTHERS = """
CREATE ROLE clerk LOGIN CONNECTION LIMIT 3;
CREATE ROLE readers NOLOGIN;
GRANT readers TO clerk;
ALTER ROLE clerk SET work_mem TO '5MB';
ALTER DATABASE {database} SET search_path TO somebody, public;

CREATE TABLE public.users (id varchar(50) PRIMARY KEY, born date);
INSERT INTO public.users VALUES ('ada', '1815-12-10'), ('zoe', NULL);
CREATE TABLE public.memories (
    id serial PRIMARY KEY, user_id varchar(50) REFERENCES public.users ON DELETE CASCADE, namespace text, key text,
    value json, note text DEFAULT 'not the workbook''s'
);
INSERT INTO public.memories (user_id, namespace, key, value)
    SELECT 'ada', 'facts', 'key-' || n, '{{"content": "mine"}}' FROM generate_series(1, 100) AS n;
CREATE INDEX ix_memories_user_namespace ON public.memories (user_id);
CREATE TABLE public.conversation_sessions (id int, started_at timestamp);
CREATE TABLE public.memory_index (id int PRIMARY KEY, vector bytea);
CREATE VIEW public.first_memories AS SELECT key, value FROM public.memories WHERE id < 10;
CREATE FUNCTION public.keep_version() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER keep_version BEFORE UPDATE ON public.memories FOR EACH ROW EXECUTE FUNCTION public.keep_version();
GRANT SELECT ON public.memories TO readers;
COMMENT ON TABLE public.memories IS 'ours, not yours';

CREATE SCHEMA somebody AUTHORIZATION clerk;
CREATE TABLE somebody.memories (id int);
INSERT INTO somebody.memories VALUES (1), (2);
CREATE SEQUENCE somebody.tickets START 42;
SELECT nextval('somebody.tickets');
CREATE MATERIALIZED VIEW somebody.counted AS SELECT count(*) FROM public.memories;
ALTER DEFAULT PRIVILEGES IN SCHEMA somebody GRANT SELECT ON TABLES TO readers;

-- Named as if it were a schema to practise in, but without the workbook's mark.
CREATE SCHEMA workbook_of_somebody;
CREATE TABLE workbook_of_somebody.memories (id int);
INSERT INTO workbook_of_somebody.memories VALUES (7);
SELECT lo_from_bytea(0, 'a large object');
"""
OTHER_DATABASE = """
CREATE TABLE public.memories (id int PRIMARY KEY, sold boolean);
INSERT INTO public.memories SELECT n, n % 2 = 0 FROM generate_series(1, 50) AS n;
CREATE SCHEMA workbook_shop;
"""
SETTINGS = "SELECT name, setting FROM pg_file_settings WHERE applied ORDER BY name"


def furnish(url: str) -> None:
    """Fill a new server with the things of others: in its database, in another one, and a role."""
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        connection.execute(OTHERS.format(database=connection.info.dbname))
        connection.execute("CREATE DATABASE shop")
    with psycopg.connect(libpq(url), dbname="shop", autocommit=True) as connection:
        connection.execute(OTHER_DATABASE)
        connection.execute("ALTER DATABASE shop SET timezone TO 'Europe/Malta'")


def photograph(url: str) -> str:
    """All that the server holds, as SQL: databases, roles, schemas, definitions, rows, and its settings."""
    program = find_binaries() / f"pg_dumpall{EXE}"  # of the newest server: it dumps older ones, too
    done = subprocess.run(
        [program, "-d", libpq(url)], capture_output=True, encoding="utf-8", env=clean_environment(), check=True
    )
    with psycopg.connect(libpq(url)) as connection:
        settings = connection.execute(SETTINGS).fetchall()
    # A comment may tell the time; \restrict is followed by a word that differs from dump to dump.
    lines = [line for line in done.stdout.splitlines() if not re.match(r"--|\\(un)?restrict ", line)]
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in settings)])


def differences(before: str, after: str) -> list[str]:
    """The lines that are in one of two photographs alone; none if nothing was changed."""
    both = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", n=1, lineterm="")
    return list(both)


def changes_since(before: str, url: str) -> list[str]:
    """The difference to now, as soon as there is none, or when things had the time to settle.

    What a killed kernel has left is dropped first, as the next notebook on the server does.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    engine = connect(url)
    drop_abandoned_schemas(engine)
    while changed := differences(before, photograph(url)):
        if time.monotonic() > deadline:
            return changed
        time.sleep(0.5)
        drop_abandoned_schemas(engine)
    return []


def libpq(url: str) -> str:
    """A URL without the name of SQLAlchemy's driver."""
    return url.replace("+psycopg", "", 1)


def main(command: list[str]) -> int:
    url = os.environ.get("POSTGRES_URL")
    if not url or not command:
        print(__doc__)
        return 2
    furnish(url)
    before = photograph(url)
    code = subprocess.run(command).returncode
    changed = changes_since(before, url)
    if not changed:
        print(f"Other people's things are as they were: {len(before.splitlines()):,} lines of dump are equal.")
        return code
    print("Other people's things were changed, or something was left behind:", *changed[:200], sep="\n")
    return code or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
