"""Background work by many processes: extraction after a conversation, consolidation after a week.

Read `jobs` (the worker, by Procrastinate). Depth: `_queue` (handing in, and the work of one job).
"""

from lib.jobs.jobs import Jobs

__all__ = [
    "Jobs",
]
