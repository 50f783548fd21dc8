"""Background work by many processes: extraction after a conversation, consolidation after a week.

Read `jobs`. Depth: `_queue` (handing in), `_worker` (working off).
"""

from lib.jobs.jobs import Jobs

__all__ = [
    "Jobs",
]
