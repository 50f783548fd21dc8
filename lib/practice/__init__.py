"""What stands in for a provider and for a server on this computer.

`practice_model/` speaks OpenAI's protocol and follows rules; `local_postgres` starts a real PostgreSQL server.
"""

from lib.practice._postgres_programs import find_binaries
from lib.practice.local_postgres import start_postgres
from lib.practice.practice_model import start_practice_model

__all__ = [
    "find_binaries",
    "start_postgres",
    "start_practice_model",
]
