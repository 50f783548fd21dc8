"""Moving memories to another database: interrupted anywhere, it goes on; and it proves what it did."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import JSON, Connection, Engine, Select, Table, Text, bindparam, cast, delete, func, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from tqdm.auto import tqdm

from lib.database import safe
from lib.database.tables import Base, utcnow
from lib.database.transactions import add_user, autocommit_connection, read_transaction, write_transaction
from lib.errors import InvalidInput, TablesMissing
from lib.postgres._copied import Copied, CopiedTable, checksum, count_rows
from lib.store.values import prepare

PAGE_ROWS = 200  # read and written at a time; each page is a transaction

Row = dict[str, Any]  # column -> value, JSON as the store's text; that of a memory has its earlier `versions`, too

_NAMES = ("users", "memories", "memory_versions", "memory_index", "archived_memories", "sessions")
_users, _memories, _versions, _index, _archived, _sessions = (Base.metadata.tables[name] for name in _NAMES)
_OF_VERSION = ("value", "written_at", "replaced_at")
_STAGES = {None: 0, "pending": 1, "extracting": 1, "failed": 1, "extracted": 2}


class _Kind(NamedTuple):
    """How the rows of one table are found in the target, and which of two is newer."""

    table: Table
    identity: tuple[str, ...]
    age: Callable[[Row], Any]  # larger for the newer of two rows
    elsewhere: Table | None = None  # where the target may have this id instead


KINDS = {
    # Nobody notes when a user's row has changed: of two rows, the one with more in it stays.
    "users": _Kind(_users, ("id",), lambda row: len(row["preferences"])),
    "memories": _Kind(_memories, ("user_id", "namespace", "key"), lambda row: row["updated_at"], _archived),
    "archived": _Kind(_archived, ("user_id", "id"), lambda row: row["updated_at"], _memories),
    "sessions": _Kind(_sessions, ("user_id", "id"), lambda row: (_STAGES[row["state"]], row["attempts"])),
}


def copy_memories(source: Engine, target: Engine, *, progress: bool = False) -> Copied:
    """Copy users, memories with their earlier versions, the archive and the conversations into another database.

    The source is only read. Values, times and ids stay what they are to the last digit. The index of the search isn't
    copied: the next search makes it. Neither are cached contents and jobs. The two databases may be of any kind; both
    need the tables. progress: show a bar.

    - Interrupted, by an error or by force, it is called again and goes on. Called again at the end, it writes nothing.
    - The target may hold memories of its own. One with the same address that is newer there stays, with its history;
      an older one is replaced, with its history. At the same time of change, the source is right. A memory that was
      archived or brought back in the source is so in the target, too, unless it is newer there.
    - What was deleted in the source after an earlier copy is not deleted in the target: see `only_in_target`.
    - Others may write to both meanwhile. What they change behind the place that we are at isn't copied: the result
      then says that it isn't `verified`, and another call brings it. So let the writers of the source pause for the
      last call, and workers that extract its conversations before the first, or they do it twice.

    Afterwards everything is read back from both databases and compared, row by row. Memory for two pages of 200 rows
    is needed, and each page is a transaction. Errors: InvalidInput (both are one database, or a row can't be stored),
    TablesMissing, DatabaseUnavailable.

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
    _check_tables("source", source)
    _check_tables("target", target)
    if source.pool is target.pool:
        raise InvalidInput(f"source and target are one database, {safe(source.url)}: there is nothing to move.")
    rows = sum(_count(source, kind.table) for kind in KINDS.values())
    with tqdm(total=2 * rows, unit="row", unit_scale=True, desc="copying", disable=not progress) as bar:
        copied = _go_through(source, target, bar, write=True)
        bar.set_description("verifying")
        verified = _go_through(source, target, bar, write=False)
    tables = {name: kind.table for name, kind in KINDS.items()} | {"versions": _versions}
    counts = {name: _count(target, table) for name, table in tables.items()}
    return Copied(**{name: CopiedTable.of(copied[name], verified[name], counts[name]) for name in counts})


def _go_through(source: Engine, target: Engine, bar: Any, *, write: bool) -> dict[str, Counter[str]]:
    """Compare all rows of the source with the target, page by page; write what the target lacks."""
    tallies: dict[str, Counter[str]] = defaultdict(Counter)
    for name, kind in KINDS.items():
        last_id = None
        while rows := _page(source, kind.table, last_id):
            last_id = rows[-1]["id"]
            with autocommit_connection(target) as connection:
                matches = _match(connection, kind, rows)
            if write and any(match.is_to_write for match in matches):
                with write_transaction(target) as connection:
                    matches = _write(connection, kind, rows)
            for row, in_target, fate in matches:
                count_rows(tallies[name], fate, [row], [in_target] if in_target else [])
                if in_target and in_target["id"] != row["id"] and fate != "kept":
                    tallies[name]["other_id"] += 1
                if kind.table is _memories:  # the history of one that is kept has nothing to do with ours
                    theirs = in_target["versions"] if in_target and fate != "kept" else []
                    count_rows(tallies["versions"], fate, row["versions"], theirs)
            bar.update(len(rows))
    return tallies


def _page(source: Engine, table: Table, last_id: str | None) -> list[Row]:
    """Read the rows behind the last one; by its id, an index finds them however far we have come."""
    query = _select(table).order_by(table.c.id).limit(PAGE_ROWS)
    with read_transaction(source) as connection:  # so that a memory and its versions belong together
        return _read(connection, table, query if last_id is None else query.where(table.c.id > last_id))


class _Match(NamedTuple):
    """A row of the source, what the target has in its place, and what becomes of it."""

    row: Row
    in_target: Row | None
    fate: str  # copied, replaced, already_there, kept

    @property
    def is_to_write(self) -> bool:
        return self.fate in ("copied", "replaced")


def _match(connection: Connection, kind: _Kind, rows: Sequence[Row], *, lock: bool = False) -> list[_Match]:
    """Find each row in the target, and decide what becomes of it. lock: hold what is found."""
    at_address = _find(connection, kind.table, kind.identity, rows, lock)
    elsewhere = {} if kind.elsewhere is None else _find(connection, kind.elsewhere, ("user_id", "id"), rows, lock)
    matches = []
    for row in rows:
        in_target = at_address.get(tuple(row[name] for name in kind.identity))
        rivals = [rival for rival in (in_target, elsewhere.get((row.get("user_id"), row["id"]))) if rival]
        if in_target is not None and checksum(in_target) == checksum(row):
            fate = "already_there"
        elif any(kind.age(rival) > kind.age(row) for rival in rivals):
            fate = "kept"
        else:
            fate = "replaced" if rivals else "copied"
        matches.append(_Match(row, in_target, fate))
    return matches


def _write(connection: Connection, kind: _Kind, rows: Sequence[Row]) -> list[_Match]:
    """Bring a page into the target, in its transaction; what is older there goes, with its history."""
    if kind.table is not _users:
        for user_id in sorted({row["user_id"] for row in rows}):  # held, as by all who write many rows
            add_user(connection, user_id, utcnow())
    matches = _match(connection, kind, rows, lock=True)
    rows = [match.row for match in matches if match.is_to_write]
    if kind.table is not _users:
        _delete(connection, kind.table, [match.in_target for match in matches if match.is_to_write and match.in_target])
    if kind.elsewhere is not None:
        _delete(connection, kind.elsewhere, rows)
    ids = _insert(connection, kind.table, rows)
    refused_rows = [row for row in rows if row["id"] not in ids]
    for refused in _match(connection, kind, refused_rows):
        if refused.is_to_write:
            raise InvalidInput(
                f"the target has the id {refused.row['id']} of {kind.table.name} already, for another user or "
                "address. Give the row of the source another id."
            )
        matches = [refused if match.row is refused.row else match for match in matches]  # put there since we looked
    if kind.table is _memories:
        written = [(row, version) for row in rows if row["id"] in ids for version in row["versions"]]
        _insert(connection, _versions, [{"memory_id": r["id"], "user_id": r["user_id"], **v} for r, v in written])
    return matches


def _find(
    connection: Connection, table: Table, identity: tuple[str, ...], rows: Sequence[Row], lock: bool
) -> dict[tuple[Any, ...], Row]:
    """Find the rows that are alike with the given ones in some columns, by the values of these."""
    # Column by column, and so perhaps a few more: a list of whole addresses takes longer to plan than to find.
    query = _select(table).where(*[table.c[name].in_({row[name] for row in rows}) for name in identity])
    alike = _read(connection, table, query.with_for_update() if lock else query)
    return {tuple(row[name] for name in identity): row for row in alike}


def _documents(table: Table) -> list[str]:
    """Return the names of the columns that hold JSON."""
    return [column.name for column in table.c if isinstance(column.type, JSON)]


def _select(table: Table) -> Select[Any]:
    documents = _documents(table)
    return select(
        *(cast(column, Text).label(column.name) if column.name in documents else column for column in table.c)
    )


def _read(connection: Connection, table: Table, query: Select[Any]) -> list[Row]:
    """Execute a query of all columns; a memory comes with its earlier versions, in their order."""
    rows = [dict(row) for row in connection.execute(query).mappings()]
    for name in _documents(table):
        for row in rows:
            try:
                row[name] = _as_stored(row[name])
            except ValueError as error:
                raise InvalidInput(f"{name} of row {row['id']} of {table.name} can't be stored: {error}") from None
    if table is _memories:
        ids, users = {row["id"] for row in rows}, {row["user_id"] for row in rows}
        history = _select(_versions).where(_versions.c.memory_id.in_(ids), _versions.c.user_id.in_(users))
        versions: dict[str, list[Row]] = defaultdict(list)
        for version in _read(connection, _versions, history.order_by(_versions.c.id)):
            versions[version["memory_id"]].append({name: version[name] for name in _OF_VERSION})
        rows = [row | {"versions": versions[row["id"]]} for row in rows]
    return rows


def _as_stored(document: str | None) -> str | None:
    """Return a JSON text of either database as the store writes it, so that equal documents are equal texts."""
    parsed = None if document is None else json.loads(document)
    if isinstance(parsed, list):
        return prepare({"": parsed})[1].removeprefix('{"":').removesuffix("}")
    return None if parsed is None else prepare(parsed)[1]


def _insert(connection: Connection, table: Table, rows: Sequence[Row]) -> set[Any]:
    """Insert rows where nothing stands in their way; returns the ids of those that were stored."""
    if not rows:
        return set()
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    values: dict[str, Any] = {column.name: bindparam(column.name) for column in table.c if column.name in rows[0]}
    for name in _documents(table):
        values[name] = bindparam(name, type_=Text)  # JSON already; as JSON it would be serialized once more
        if dialect is postgresql:
            values[name] = cast(values[name], postgresql.JSONB)
    insert = dialect.insert(table).values(values)
    if table is _users:
        changes = {name: insert.excluded[name] for name in ("created_at", "preferences")}
        insert = insert.on_conflict_do_update(index_elements=["id"], set_=changes)
    else:
        # Not DO UPDATE: the trigger that keeps versions would add the older value to those that we bring.
        insert = insert.on_conflict_do_nothing()
    return set(connection.scalars(insert.returning(table.c.id), [{name: row[name] for name in values} for row in rows]))


def _delete(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    # What belongs to a memory goes by itself only where foreign keys are switched on.
    parts = [(_index, "memory_id"), (_versions, "memory_id")] if table is _memories else []
    ids, users = {row["id"] for row in rows}, {row["user_id"] for row in rows}
    for part, column in [*parts, (table, "id")] if rows else []:
        connection.execute(delete(part).where(part.c[column].in_(ids), part.c.user_id.in_(users)))


def _count(engine: Engine, table: Table) -> int:
    with autocommit_connection(engine) as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def _check_tables(side: str, engine: Engine) -> None:
    inspector = inspect(engine)
    for name in _NAMES:
        there = {column["name"] for column in inspector.get_columns(name)} if inspector.has_table(name) else set()
        if lacking := {column.name for column in Base.metadata.tables[name].c} - there:
            raise TablesMissing(
                f"the {side}'s table {name} lacks {', '.join(sorted(lacking))}. Call create_tables({side}), which adds "
                "what is missing and changes nothing else."
            )
