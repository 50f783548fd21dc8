"""The tables of memories in hash partitions by user, on PostgreSQL: the same tables, so that all of lib works on them.

What a call reads and writes is one user's, so it touches one partition, whose indexes are a fraction of the whole
table's; VACUUM and the building of an index go partition by partition. `users` and `sessions` stay whole: a worker
takes the oldest conversation of all users, and the id of one is unique among them all.
"""

from sqlalchemy import (
    Connection,
    Engine,
    ForeignKeyConstraint,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    inspect,
    text,
)
from sqlalchemy.schema import Constraint, CreateTable

from lib.checks import checked_number
from lib.database import Lock, wait_for
from lib.database.engine import create_tables
from lib.database.tables import Base
from lib.database.transactions import autocommit_connection, write_transaction
from lib.errors import InvalidInput, shown

PARTITIONED = ("memories", "memory_versions", "memory_index", "archived_memories")
MAX_PARTITIONS = 1000
_OWNER = "user_id"

_PARTITIONS = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:name)")


def create_partitioned_tables(engine: Engine, partitions: int = 8) -> None:
    """Create the workbook's tables in an empty schema, those of memories in partitions by a hash of the user.

    Called again with the same number it changes nothing, and so does `create_tables`. The number can't be changed
    later: make another schema, and `copy_memories` into it. A power of two can be split further by hand one day.

    partitions: 1 to 1,000, for each of the tables `PARTITIONED`.
    Errors: InvalidInput on SQLite, where the tables are there already unpartitioned or in another number.
    """
    checked_number("partitions", partitions, 1, MAX_PARTITIONS, whole=True)
    _check_postgres(engine)
    metadata = partitioned_metadata()
    with write_transaction(engine) as connection:
        wait_for(connection, Lock.CREATE_TABLES)
        _check_schema(connection, partitions)
        for table in metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
        for name in PARTITIONED:
            for number in range(partitions):
                bounds = f"FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number})"
                connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {name}_p{number} PARTITION OF {name} {bounds}")
    create_tables(engine)  # adds the indexes and the triggers


def partitioned_metadata() -> MetaData:
    """The workbook's tables as `tables` has them, but with the user in every key of those that are partitioned.

    PostgreSQL keeps what is unique so in each partition alone, so a key must say in which one it is. The id stays
    first in the primary key: what looks for an id without naming its user then still finds it by an index.
    """
    metadata = MetaData()
    for table in Base.metadata.sorted_tables:
        copied = table.to_metadata(metadata)
        if table.name in PARTITIONED:
            _partition(copied)
    return metadata


def partition_sizes(engine: Engine, table: str = "memories") -> dict[str, int]:
    """How many rows each partition of a table holds, by its name; all of them are counted.

    Errors: InvalidInput on SQLite, and for a table that isn't partitioned.
    """
    _check_postgres(engine)
    with autocommit_connection(engine) as connection:
        names = sorted(connection.scalars(_PARTITIONS, {"name": table}), key=lambda name: (len(name), name))
        if not names:
            raise InvalidInput(
                f"{shown(table)} is not partitioned here. create_partitioned_tables(engine) makes "
                f"{', '.join(PARTITIONED)} so, in an empty schema."
            )
        return {name.rpartition(".")[2]: connection.scalar(text(f"SELECT count(*) FROM {name}")) for name in names}


def _partition(table: Table) -> None:
    """Give a table its partition key, and the keys that go with it."""
    for constraint in list(table.constraints):
        names = [column.name for column in getattr(constraint, "columns", ())]
        if isinstance(constraint, PrimaryKeyConstraint):
            for column in constraint.columns:
                column.primary_key = False  # until the new key is there, which says so again
            changed: Constraint = PrimaryKeyConstraint(*names, _OWNER)
        elif isinstance(constraint, UniqueConstraint) and _OWNER not in names:
            changed = UniqueConstraint(*names, _OWNER)
        elif isinstance(constraint, ForeignKeyConstraint) and constraint.elements[0].target_fullname == "memories.id":
            changed = ForeignKeyConstraint(
                [*names, _OWNER], ["memories.id", f"memories.{_OWNER}"], ondelete=constraint.ondelete
            )
        else:
            continue
        table.constraints.discard(constraint)
        table.append_constraint(changed)
    table.kwargs["postgresql_partition_by"] = f"HASH ({_OWNER})"


def _check_postgres(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        raise InvalidInput(
            f"{engine.dialect.name} has no partitions; they are PostgreSQL's. Set POSTGRES_URL, or start a server with "
            "start_postgres(). On SQLite, create_tables(engine) makes the same tables in one piece."
        )


def _check_schema(connection: Connection, partitions: int) -> None:
    """InvalidInput, if there are tables already that would have to be others."""
    for name in PARTITIONED:
        count = len(connection.scalars(_PARTITIONS, {"name": name}).all())
        if inspect(connection).has_table(name) and count != partitions:
            raise InvalidInput(
                f"the table {name} is there already, {f'in {count} partitions' if count else 'in one piece'}, and "
                f"can't be parted into {partitions} in place. Create the tables in an empty schema or database, then "
                "copy_memories(this, that)."
            )
