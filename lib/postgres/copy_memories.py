"""Moving what somebody has to another database: interrupted anywhere, it goes on; and it proves what it did."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, select, text, update
from sqlalchemy.exc import DBAPIError
from tqdm.auto import tqdm

from lib.database import IndexedMemory, safe
from lib.database.tables import USER_ID_LENGTH, ArchivedMemory, Memory, PastVersion, User, new_id, utcnow
from lib.database.transactions import add_user, autocommit_connection, read_transaction, write_transaction
from lib.errors import DatabaseUnavailable, InvalidInput, TablesMissing
from lib.postgres._bulk import Row, among, beyond, delete_rows, find, insert_rows, page
from lib.postgres._comparing import (
    KINDS,
    Kind,
    Look,
    compare,
    earlier_versions,
    histories,
    in_target,
    row_sum,
    to_write,
)
from lib.postgres._copied import Copied, CopiedTable
from lib.store.values import check_address, check_name, prepare

TRIES = 20  # of a page of which others write the same memories at the same time

_users, _memories, _past = User.__table__, Memory.__table__, PastVersion.__table__
_archived, _index = ArchivedMemory.__table__, IndexedMemory.__table__


def copy_memories(source: Engine, target: Engine, *, user_id: str | None = None, progress: bool = False) -> Copied:
    """Copy users, memories with their earlier versions, the archive and the conversations into another database.

    Of all users, or of one. The source is only read. Values and times stay what they are to the last digit, and ids
    too wherever they are free. The index of the search isn't copied: the next search makes it. Neither are cached
    contents and jobs. The two databases may be of any kind; both need the tables.

    - Interrupted, by an error or by force, it is called again and goes on. Called again at the end, it writes nothing.
    - The target may hold memories of its own. One with the same address that is newer there stays, with its history;
      an older one is replaced, with its history. At the same time of change, the source is right. A memory that was
      archived or brought back in the source is so in the target, too, unless it is newer there.
    - What was deleted in the source after an earlier copy is not deleted in the target: see `only_in_target`.
    - Others may write to both meanwhile. What comes to the source behind the place that we are at isn't copied:
      the result then says that it isn't `verified`, and another call brings it; what somebody changes in the target
      behind us isn't verified either, and stays in another call. So let the writers of the source pause for the last
      call. Workers that extract its conversations should stop before the first, or they do it twice.

    Afterwards everything is read back from both databases and compared, row by row. Memory for two pages of rows is
    needed, and each page is a transaction. Errors: InvalidInput (both are one database, or a row that the target
    can't hold), TablesMissing, DatabaseUnavailable.

    >>> from lib.database.engine import connect, create_tables
    >>> from lib.store.memory_store import MemoryStore
    >>> old, new = connect("sqlite://"), connect("sqlite://")
    >>> create_tables(old), create_tables(new)
    (None, None)
    >>> item = MemoryStore(old).put("ada", "facts", "home", {"city": "Lund"})
    >>> result = copy_memories(old, new)
    >>> result.memories.copied, result.verified
    (1, True)
    >>> copy_memories(old, new).copied
    0
    """
    if user_id is not None:
        check_name(user_id, "user_id", USER_ID_LENGTH)
    for side, engine in (("source", source), ("target", target)):
        _check_tables(side, engine)
    if _same_database(source, target):
        raise InvalidInput(f"source and target are one database, {safe(source.url)}: there is nothing to move.")
    in_source, in_target = _counts(source, user_id), _counts(target, user_id)
    rows = sum(in_source[kind.name] for kind in KINDS)
    with tqdm(total=2 * rows, unit="row", unit_scale=True, desc="copying", disable=not progress) as bar:
        done = found = _Pass(source, target, user_id, bar).run(write=True)
        if any(tally["copied"] + tally["replaced"] for tally in done.values()):
            _tell_planner(target)
            bar.set_description("verifying")
            in_target = _counts(target, user_id)
            found = _Pass(source, target, user_id, bar).run(write=False)
        bar.update(bar.total - bar.n)  # what wrote nothing has compared everything already
    return Copied(**{name: _result(done[name], found[name], in_target[name]) for name in in_source})


def _result(done: Counter, found: Counter, in_target: int) -> CopiedTable:
    """done: what the copy did with the rows of a table. found: what it found when it read them back."""
    fates = {fate: done[fate] for fate in ("copied", "replaced", "already_there", "kept")}
    # Without those kept by the copy. One that only now looks newer in the target is one that is not as we wrote it.
    sums = found["source"] - done["source_kept"], found["target"]
    missing = found["copied"] + found["replaced"] + max(0, found["kept"] - done["kept"]) if found is not done else 0
    return CopiedTable(
        sum(fates.values()),
        **fates,
        missing=missing,
        other_id=found["other_id"],
        only_in_target=max(0, in_target - found["in_target"]),
        source_checksum=f"{sums[0] % 2**256:064x}",
        target_checksum=f"{sums[1] % 2**256:064x}",
    )


class _Pass:
    """One way through all rows of the source, with or without writing what the target lacks."""

    def __init__(self, source: Engine, target: Engine, user_id: str | None, bar: Any):
        self._source, self._target, self._user_id, self._bar = source, target, user_id, bar
        self._tallies: dict[str, Counter] = defaultdict(Counter)

    def run(self, *, write: bool) -> dict[str, Counter]:
        for kind in KINDS:
            mine, after, is_last = _of(kind.table, self._user_id), [], False
            while not is_last:
                # One state of the source for a page, so that a memory and its versions belong together.
                with read_transaction(self._source) as reading:
                    rows, is_last = page(reading, kind.table, kind.order, *mine, *after)
                    looks = self._page(kind, reading, rows, write)
                after = [beyond(kind.table, kind.order, rows[-1])] if rows else []
                self._count(kind, looks)
                self._bar.update(len(rows))
        return self._tallies

    def _page(self, kind: Kind, reading: Connection, rows: list[Row], write: bool) -> list[Look]:
        earlier = histories(reading, rows) if kind.table is _memories else {}
        looks = [Look(row, row_sum(row), earlier.get(row["id"], (0, 0)), row["id"]) for row in rows]
        try:
            with autocommit_connection(self._target) as connection:
                compare(kind, connection, looks)
            if not write or not to_write(looks):
                return looks
            for _ in range(TRIES):
                # After that, nothing of the page was kept, and the next try sees what others wrote.
                with suppress(_Overtaken), write_transaction(self._target) as connection:
                    _write(kind, reading, connection, looks)
                    return looks
        except (DBAPIError, UnicodeError):
            _explain(kind, looks)
            raise
        raise DatabaseUnavailable(
            f"others write the same rows of {kind.table.name} to the target all the time; {TRIES} tries were too few. "
            "What was copied stays; call again when there is less going on."
        )

    def _count(self, kind: Kind, looks: list[Look]) -> None:
        rows, versions = self._tallies[kind.name], self._tallies["versions"]
        for look in looks:
            (count, total), (count_there, total_there) = look.history, look.history_there
            rows[look.fate] += 1
            versions[look.fate] += count
            rows["in_target"] += look.there is not None
            rows["source"] += look.sum
            versions["source"] += total
            if look.fate == "kept":
                rows["source_kept"] += look.sum
                versions["source_kept"] += total
                continue
            rows["other_id"] += look.there is not None and look.there["id"] != look.row["id"]
            rows["target"] += look.sum_there
            versions["in_target"] += count_there
            versions["target"] += total_there


class _Overtaken(Exception):
    """Somebody wrote a row of ours between our look and our write."""


def _write(kind: Kind, reading: Connection, connection: Connection, looks: list[Look]) -> None:
    """Bring the page's rows into the target, in its transaction. Errors: _Overtaken."""
    _hold_users(kind, reading, connection, looks)
    compare(kind, connection, looks, lock=True)
    new = to_write(looks)
    if kind.table is _users:
        for look in (look for look in new if look.there):
            values = {name: look.row[name] for name in ("created_at", "preferences")}
            connection.execute(update(_users).where(_users.c.id == look.id).values(values))
        new = [look for look in new if not look.there]
    replaced = [look.there for look in new if look.there]
    if kind.table is _memories:
        _delete_memories(connection, replaced)
        delete_rows(connection, _archived, [look.elsewhere for look in new if look.elsewhere])
        taken = find(connection, _memories, ("id",), [look.row for look in new])
        for look in new:
            look.id = new_id() if (look.row["id"],) in taken else look.row["id"]
    elif kind.table is not _users:
        delete_rows(connection, kind.table, replaced)
        _delete_memories(connection, [look.elsewhere for look in new if look.elsewhere])
    if insert_rows(connection, kind.table, [in_target(look) for look in new]) < len(new):
        raise _Overtaken
    if kind.table is _memories:
        ids = {look.row["id"]: look.id for look in new if look.history[0]}
        for versions in earlier_versions(reading, [look.row for look in new if look.history[0]]):
            insert_rows(connection, _past, [_version(row, ids[row["memory_id"]]) for row in versions])


def _hold_users(kind: Kind, reading: Connection, connection: Connection, looks: list[Look]) -> None:
    """Hold the users' rows in the target, in one order; those that aren't there come from the source, before theirs."""
    users = {look.row["id" if kind.table is _users else "user_id"] for look in looks}
    these = select(_users.c.id).where(among(connection, _users.c.id, sorted(users))).order_by(_users.c.id)
    held = set(connection.scalars(these.with_for_update(key_share=True)))
    lacking = sorted(users - held)
    if kind.table is not _users and lacking:  # they came to the source, or went from the target, a moment ago
        known = find(reading, _users, ("id",), [{"id": user_id} for user_id in lacking])
        insert_rows(connection, _users, list(known.values()))
        for user_id in lacking:
            add_user(connection, user_id, utcnow())


def _delete_memories(connection: Connection, rows: Sequence[Row]) -> None:
    # What belongs to them goes by itself only where foreign keys are switched on.
    for table, column in ((_index, "memory_id"), (_past, "memory_id"), (_memories, "id")):
        delete_rows(connection, table, rows, column)


def _version(row: Row, memory_id: str) -> Row:
    return {name: value for name, value in row.items() if name != "id"} | {"memory_id": memory_id}


def _of(table: Table, user_id: str | None) -> list[Any]:
    column = table.c.id if table is _users else table.c.user_id
    return [] if user_id is None else [column == user_id]


def _explain(kind: Kind, looks: list[Look]) -> None:
    """InvalidInput, if a row is to blame for an error: something that lib wouldn't have stored in the source."""
    for look in looks:
        try:
            uuid.UUID("0" * 32 if kind.table is _users else look.row["id"])
            if "key" in look.row:
                check_address(*[look.row[name] for name in ("user_id", "namespace", "key")])
            prepare({"value": [value for value in look.row.values() if isinstance(value, dict | list | str)]})
        except ValueError as error:
            place = "/".join(str(look.row[name]) for name in kind.identity)
            raise InvalidInput(f"{place} of {kind.table.name} can't be stored in the target: {error}") from None


def _check_tables(side: str, engine: Engine) -> None:
    for table in (*(kind.table for kind in KINDS), _past, _index):
        try:
            with autocommit_connection(engine) as connection:
                present = set(connection.execute(text(f"SELECT * FROM {table.name} LIMIT 0")).keys())
        except TablesMissing:
            raise TablesMissing(f"the {side} has no table {table.name}. Call create_tables({side}) first.") from None
        if lacking := sorted({column.name for column in table.columns} - present):
            raise TablesMissing(
                f"the {side}'s table {table.name} has no column {', '.join(lacking)}: an older workbook made it. "
                f"Call create_tables({side}), which adds what is missing and changes nothing else."
            )


def _same_database(source: Engine, target: Engine) -> bool:
    if source.pool is target.pool:
        return True
    if source.dialect.name != target.dialect.name:
        return False
    with autocommit_connection(source) as one, autocommit_connection(target) as other:
        if source.dialect.name == "postgresql":
            which = text("SELECT pg_postmaster_start_time(), current_database(), 'memories'::regclass::oid")
            return tuple(one.execute(which).one()) == tuple(other.execute(which).one())
        files = [connection.exec_driver_sql("PRAGMA database_list").first()[2] for connection in (one, other)]
    if not all(files) or not all(map(Path.exists, map(Path, files))):
        return False  # in memory: each engine has its own
    return Path(files[0]).samefile(files[1])


def _counts(engine: Engine, user_id: str | None) -> dict[str, int]:
    tables = {kind.name: kind.table for kind in KINDS} | {"versions": _past}
    with autocommit_connection(engine) as connection:
        return {
            name: connection.scalar(select(func.count()).select_from(table).where(*_of(table, user_id)))
            for name, table in tables.items()
        }


def _tell_planner(engine: Engine) -> None:
    """Renew the statistics that PostgreSQL plans by; by itself it does so up to a minute later."""
    if engine.dialect.name == "postgresql":
        with autocommit_connection(engine) as connection:
            for kind in KINDS:
                connection.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {kind.table.name}")  # not ours: a warning
