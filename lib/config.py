"""Settings of the learner: from the environment, or from a .env file."""

import os


def setting(name: str) -> str | None:
    """The value of an environment variable, or of a line in .env here or in a folder above; None if unset or empty.

    The environment wins, also with an empty value: `POSTGRES_URL= uv run …` switches a line of .env off.
    """
    if name in os.environ:
        return os.environ[name].strip() or None
    from dotenv import dotenv_values, find_dotenv

    value = dotenv_values(find_dotenv(usecwd=True)).get(name)
    return (value or "").strip() or None
