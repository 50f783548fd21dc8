"""Database URLs: which may be given, how SQLAlchemy wants them, and how a message may show them."""

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from lib.config import setting
from lib.errors import InvalidDatabaseURL, shown

FORMS = (
    "Write sqlite:// (in memory), sqlite:///file.db, or "
    "postgresql://user:password@host:5432/database (postgres:// works too)."
)


def configured_url() -> str | None:
    """POSTGRES_URL from the environment, or from a .env file here or in a folder above; None if unset."""
    return setting("POSTGRES_URL")


def parse_url(url: str) -> URL:
    """The URL as SQLAlchemy wants it, with the driver named.

    `postgresql://` alone means psycopg2 in SQLAlchemy 2.0 and psycopg 3 in 2.1, and `postgres://`, which
    some hosts hand out, is refused by both: so the driver is always spelled out.

    >>> str(parse_url("postgres://ada@db.example/app"))
    'postgresql+psycopg://ada@db.example/app'
    """
    if not isinstance(url, str) or not url.strip():
        raise InvalidDatabaseURL(f"a database URL must be a text, not {shown(url)}. {FORMS}")
    try:
        parsed = make_url(url.strip())
    except (ArgumentError, ValueError):
        # The text may hold a password anywhere, so the message repeats nothing but a scheme.
        scheme, separator, _ = url.strip().partition("://")
        beginning = f"it begins with {scheme[:20]!r}" if separator else "it has no ://"
        raise InvalidDatabaseURL(
            f"this database URL can't be read ({beginning}). {FORMS} "
            "Characters such as @ / : # in a password must be percent-encoded (@ is %40)."
        ) from None
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        if parsed.password and not parsed.host and "host" not in parsed.query:
            raise InvalidDatabaseURL(f"the database URL names no host: {safe(parsed)}. {FORMS}")
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return parsed.set(drivername="sqlite")
    raise InvalidDatabaseURL(f"{parsed.drivername!r} databases are not supported: {safe(parsed)}. {FORMS}")


def safe(url: URL) -> str:
    """The URL with its password hidden, for messages and logs."""
    query = {k: "***" if "password" in k.lower() else v for k, v in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)
