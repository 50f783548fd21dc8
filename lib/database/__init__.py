"""The database: its tables, engines that reach it, transactions on it. SQLite and PostgreSQL, by one code.

Read in this order: `tables` (what is stored), `engine` (from a URL to a connection pool), `transactions`.
Depth: `_side_tables` (earlier values, the archive, the search index, cached content), `_triggers` (history kept by the
database), `_urls` and `_poolers` (what a URL means), `_outages` (what errors mean), `_user_binding` (engines of one
user), `_job_tables` (Procrastinate's), `_locks`.
"""

from lib.database._job_tables import QUEUE, check_job_tables, create_job_tables, delete_jobs, url_of
from lib.database._locks import Lock, wait_for
from lib.database._poolers import is_marked, is_pooled, without_mark
from lib.database._side_tables import (
    CONTENT_TYPE_LENGTH,
    ArchivedMemory,
    CachedContent,
    CacheLease,
    IndexedMemory,
    PastVersion,
)
from lib.database._urls import configured_url, parse_url, safe
from lib.database._user_binding import (
    MISSING_RIGHT,
    TOKENS_VIEW,
    USER_SETTING,
    BoundUser,
    bound,
    bound_engine,
    may_join,
)
from lib.database.engine import connect, create_tables
from lib.database.transactions import autocommit_connection, read_transaction, write_transaction

__all__ = [
    "CONTENT_TYPE_LENGTH",
    "MISSING_RIGHT",
    "QUEUE",
    "TOKENS_VIEW",
    "USER_SETTING",
    "ArchivedMemory",
    "BoundUser",
    "CacheLease",
    "CachedContent",
    "IndexedMemory",
    "Lock",
    "PastVersion",
    "autocommit_connection",
    "bound",
    "bound_engine",
    "check_job_tables",
    "configured_url",
    "connect",
    "create_job_tables",
    "create_tables",
    "delete_jobs",
    "is_marked",
    "is_pooled",
    "may_join",
    "parse_url",
    "read_transaction",
    "safe",
    "url_of",
    "wait_for",
    "without_mark",
    "write_transaction",
]
