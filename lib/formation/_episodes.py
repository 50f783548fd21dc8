"""Episodes as a model reads them, each with an id that it can cite; and in which week they happened."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import select

from lib.database.tables import Memory, as_utc
from lib.database.transactions import autocommit_connection
from lib.errors import InvalidInput, shown
from lib.store import ArchivedItem
from lib.store.items import MemoryItem
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODES
from lib.store.values import topics_of

WEEK = timedelta(days=7)
RECORDS = "consolidations"  # the namespace, in the archive, of what was read in which week
RECORD = "which episodes a consolidation has read"  # the reason in the archive
MIN_EVIDENCE = 2  # episodes that must show a pattern, before it is more than a coincidence


def by_prompt_id(episodes: Iterable[MemoryItem]) -> dict[str, MemoryItem]:
    """Each episode by the id under which a model reads it: its key, or a text like it that a model can repeat."""
    episode_of: dict[str, MemoryItem] = {}
    for episode in episodes:
        name = prompt_id(episode.key)
        number = 1
        while name in episode_of:
            number += 1
            name = f"{prompt_id(episode.key)}_{number}"
        episode_of[name] = episode
    return episode_of


def prompt_id(key: str) -> str:
    """A key without what models change when they repeat it: white space, brackets, and how an accent is encoded.

    >>> prompt_id("monday  [late]")
    'monday_late'
    """
    return re.sub(r"[\s\[\]]+", "_", unicodedata.normalize("NFC", key)).strip("_") or "episode"


def prompt_lines(episode_of: Mapping[str, MemoryItem]) -> str:
    """A line for each episode: [id] what happened (topics)."""
    return "\n".join(_line(name, episode.value) for name, episode in episode_of.items())


def _line(name: str, value: Mapping[str, Any]) -> str:
    topics = topics_of(value)
    about = f" (topics: {', '.join(topics)})" if topics else ""
    return " ".join(f"[{name}] {value.get('content', '')}{about}".split())


def users_with_episodes(store: MemoryStore, week: date | None = None) -> list[str]:
    """Return who has episodes of that week in the working memory, in order; the week is as for `consolidate`."""
    monday = monday_of(store, week)
    # What was said in the week was not written before it.
    columns = select(Memory.user_id, Memory.value, Memory.updated_at)
    with autocommit_connection(store.engine) as connection:
        rows = connection.execute(columns.where(Memory.namespace == EPISODES, Memory.updated_at >= monday)).all()
    return sorted({row.user_id for row in rows if monday <= happened_at(row.value, row.updated_at) < monday + WEEK})


def unread_episodes(store: MemoryStore, user_id: str, monday: datetime) -> list[MemoryItem]:
    """A user's episodes of the week that begins then, oldest first; none if a model has read all of them already."""
    episodes = store.search(user_id, EPISODES, limit=None)
    of_week = [item for item in episodes if monday <= happened_at(item.value, item.updated_at) < monday + WEEK]
    archived = store.archived(user_id, RECORDS, limit=None)
    # Somebody may have archived memories of their own there: a record is known by its reason.
    records = [item for item in archived if isinstance(item, ArchivedItem) and item.reason == RECORD]
    read = {key for record in records if record.key.startswith(name_of(monday)) for key in record.value["episodes"]}
    if {item.key for item in of_week} <= read:
        return []
    return sorted(of_week, key=lambda item: happened_at(item.value, item.updated_at))


def record_as_read(inside: MemoryStore, user_id: str, week: str, episodes: Iterable[MemoryItem], patterns: int) -> None:
    """Record in the archive which episodes of a week a model has read, in a transaction that is open."""
    key, number = week, 1
    while inside.get(user_id, RECORDS, key) is not None:  # a memory that somebody keeps at this address
        number += 1
        key = f"{week}_{number}"
    inside.put(user_id, RECORDS, key, {"episodes": [item.key for item in episodes], "patterns": patterns})
    inside.archive(user_id, [(RECORDS, key)], reason=RECORD)


def name_of(monday: datetime) -> str:
    """The name of the week that begins then, by ISO 8601, such as 2026-W12."""
    return f"{monday:%G-W%V}"


def monday_of(store: MemoryStore, week: date | None) -> datetime:
    """The beginning of a week in UTC. week: a day of it; None: the last one that is over, by the store's clock."""
    if week is None:
        week = (store.now() - WEEK).date()
    elif isinstance(week, datetime):
        week = as_utc(week).date()
    elif not isinstance(week, date):
        raise InvalidInput(f"week must be a date, such as date(2026, 3, 16), not {shown(week)}.")
    return datetime.combine(week - timedelta(days=week.weekday()), time(), UTC)


def happened_at(value: Mapping[str, Any], updated_at: datetime) -> datetime:
    """When an episode was said; when it was last written, if its value doesn't tell."""
    return time_said(value) or updated_at


def time_said(value: Mapping[str, Any]) -> datetime | None:
    """The time in a memory's value, in UTC; None if there is none that can be read."""
    try:
        return as_utc(datetime.fromisoformat(value["said_at"]))
    except (KeyError, TypeError, ValueError):
        return None
