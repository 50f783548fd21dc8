"""How memories are formed from conversations, and what becomes of many of them.

Read in this order: `session_log` (conversations that are over, none of them lost), `extraction` (a model lists what to
remember), `deduplication` (said again, corrected, or new), `procedures` (rules from episodes), `consolidation` (a week
becomes what it shows).
"""

from lib.formation._duplicates import merge_near_duplicates
from lib.formation._episodes import monday_of, users_with_episodes
from lib.formation._session_rows import FinishedSession, SessionList
from lib.formation.consolidation import consolidate
from lib.formation.deduplication import remember_all
from lib.formation.extraction import extract_memories, extract_pending
from lib.formation.procedures import learn_procedures
from lib.formation.session_log import SessionLog

__all__ = [
    "FinishedSession",
    "SessionList",
    "SessionLog",
    "consolidate",
    "extract_memories",
    "extract_pending",
    "learn_procedures",
    "merge_near_duplicates",
    "monday_of",
    "remember_all",
    "users_with_episodes",
]
