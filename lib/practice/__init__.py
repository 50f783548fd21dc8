"""What stands in for a provider and for a server on this computer.

`practice_model/` speaks OpenAI's protocol and follows rules; `local_postgres` starts a real PostgreSQL server. Neither
needs the other, so each is imported by its own name.
"""

from lib.practice._postgres_programs import find_binaries

__all__ = [
    "find_binaries",
]
