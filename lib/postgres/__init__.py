"""What only PostgreSQL can do for the store.

Read in this order: `row_level_security` (the database keeps users apart), `transfer` (from SQLite, and between
servers), `partitioning` (tables parted by users).
"""

from lib.postgres.partitioning import create_partitioned_tables
from lib.postgres.row_level_security import as_user, disable_row_level_security, enable_row_level_security
from lib.postgres.transfer import copy_memories

__all__ = [
    "as_user",
    "copy_memories",
    "create_partitioned_tables",
    "disable_row_level_security",
    "enable_row_level_security",
]
