"""Lines of postgresql.conf for a local server."""

import re
from collections.abc import Mapping

from lib.errors import InvalidInput, shown

# Where the server listens is start_postgres's to say: its `url` must lead there.
ADDRESS = ("listen_addresses", "port", "unix_socket_directories", "unix_socket_permissions", "include")
NOT_FLUSHED = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def checked_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings, if they are names with texts and leave the server's address alone; else InvalidInput.

    >>> checked_settings({"work_mem": "64MB"})
    {'work_mem': '64MB'}
    """
    if not isinstance(settings, Mapping):
        raise InvalidInput(f"settings must be a dict such as {{'work_mem': '64MB'}}, not {shown(settings)}.")
    for name, value in settings.items():
        is_name = isinstance(name, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name)
        if not is_name or not isinstance(value, str) or "\x00" in value:
            raise InvalidInput(f"settings are names with texts, as {{'work_mem': '64MB'}}, not {shown({name: value})}.")
        if name.lower() in ADDRESS:
            raise InvalidInput(f"the setting {name} can't be given: start_postgres chooses where its server listens.")
    return dict(settings)


def as_lines(settings: Mapping[str, str]) -> str:
    r"""The text of a file of settings.

    >>> as_lines({"search_path": "it's", "data": "C:\\x"})
    "search_path = 'it''s'\ndata = 'C:\\\\x'\n"
    """
    return "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n").replace("\r", "\\r") + "'"
