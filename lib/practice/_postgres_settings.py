"""Lines of postgresql.conf for a local server."""

from collections.abc import Mapping

from lib.errors import InvalidInput, shown

# Where the server listens is start_postgres's to say: its `url` must lead there.
ADDRESS = ("listen_addresses", "port", "unix_socket_directories", "unix_socket_permissions", "include")
NOT_FLUSHED = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def as_lines(settings: Mapping[str, str]) -> str:
    r"""Return the text of a file of settings.

    >>> as_lines({"search_path": "it's", "data": "C:\\x"})
    "search_path = 'it''s'\ndata = 'C:\\\\x'\n"
    """
    return "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())


def check_settings(settings: Mapping[str, str]) -> None:
    """Raise InvalidInput, unless they are names with texts that leave the server's address alone."""
    for name, value in settings.items() if isinstance(settings, Mapping) else [(str(settings), None)]:
        is_name = isinstance(name, str) and name.replace(".", "_").isidentifier()
        if not is_name or not isinstance(value, str) or "\x00" in value:
            raise InvalidInput(f"settings are names with texts, as {{'work_mem': '64MB'}}, not {shown({name: value})}.")
        if name.lower() in ADDRESS:
            raise InvalidInput(f"start_postgres itself chooses where its server listens; leave {name} out.")


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n").replace("\r", "\\r") + "'"
