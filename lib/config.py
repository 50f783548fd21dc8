"""Settings of the learner: from the environment, or from a .env file."""

import os
from functools import lru_cache
from pathlib import Path


def setting(name: str) -> str | None:
    """The value of an environment variable, or of a line in .env here or in a folder above; None if unset or empty.

    The environment wins, also with an empty value: `POSTGRES_URL= uv run …` switches a line of .env off.
    """
    if name in os.environ:
        return os.environ[name].strip() or None
    from dotenv import find_dotenv

    path = find_dotenv(usecwd=True)
    if not path:
        return None
    file = Path(path).stat()
    return (_lines_of(path, file.st_mtime_ns, file.st_size).get(name) or "").strip() or None


@lru_cache(maxsize=1)  # read anew when the file has changed: that takes as long as ten reads of a memory
def _lines_of(path: str, changed_ns: int, size: int) -> dict[str, str | None]:
    from dotenv import dotenv_values

    return dotenv_values(path)
