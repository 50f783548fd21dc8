"""Background work by many processes: extraction after a conversation, consolidation after a week.

Read `jobs`. Depth: `_queue` (handing in, and the work of one job), `_worker` (Procrastinate's worker and our tasks).
"""

from lib.jobs.jobs import Jobs

__all__ = [
    "Jobs",
]
