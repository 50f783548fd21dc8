"""Is there a pooler between us and PostgreSQL that lends a connection for one transaction only?"""

import re

from sqlalchemy import Engine
from sqlalchemy.engine import URL

MARK = "pgbouncer"  # in a URL's query, as other libraries write it: ?pgbouncer=true
# Supabase's and PgBouncer's usual ports for it. Supabase's pooler on 5432 keeps a connection for a whole session.
PORTS = (6543, 6432)
_OPTION = "workbook_pooled"  # among an engine's execution options
# Neon's, also behind Vercel; and Supabase's, of which the port decides.
_NEON = re.compile(r"^[^.]+-pooler\.")


def is_pooled(url: URL) -> bool:
    """Whether a URL leads to a pooler in transaction mode: by `?pgbouncer=true`, or by the names that hosts give.

    Nothing stays on a connection there. What is prepared or set on it in one transaction meets another server's
    process in the next; so `connect` prepares no statements.

    >>> from sqlalchemy import make_url
    >>> is_pooled(make_url("postgresql://ada@ep-blue-sea-pooler.eu.example/app"))
    True
    >>> is_pooled(make_url("postgresql://ada@db.example:6543/app?pgbouncer=false"))
    False
    """
    if MARK in url.query:
        return str(url.query[MARK]).lower() not in ("false", "0", "no", "off")
    return url.port in PORTS or bool(_NEON.match(url.host or ""))


def without_mark(url: URL) -> URL:
    """The URL without `?pgbouncer=…`, which the driver doesn't know."""
    return url.difference_update_query([MARK])


def mark(engine: Engine) -> None:
    """Note on an engine that there is a pooler between."""
    engine.update_execution_options(**{_OPTION: True})


def is_marked(engine: Engine) -> bool:
    """Whether `connect` has found a pooler between this engine and the server."""
    return bool(engine.get_execution_options().get(_OPTION))
