"""Processes of their own that ask the cache, for the tests of what happens between processes."""

import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

from lib.cache import _hit_counts
from lib.cache.cache_key import content_hash
from lib.cache.content_cache import ContentCache
from lib.cache.scope import SHARED
from lib.database.engine import connect

KEY = content_hash("new")
ADDRESS = {"content_type": "lesson", "scope": SHARED}


class Worker:
    """A process that asks for the content, when `begin` says so, and then reads it `hits` times in four threads.

    hangs: it begins at once, and its model never answers.
    """

    def __init__(self, url: str, *, lease_seconds: float = 60, hits: int = 0, hangs: bool = False):
        self._ours, theirs = multiprocessing.Pipe()
        # Forked from a process that has imported lib already: an import takes a second of the processor.
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if hasattr(context, "set_forkserver_preload"):
            context.set_forkserver_preload(
                ["pytest", "lib.cache.content_cache", "lib.database.engine", "sqlalchemy.dialects.postgresql.psycopg"]
            )
        arguments = (theirs, url, lease_seconds, hits, hangs)
        self.process = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()

    def said(self) -> str:
        """What it says next."""
        assert self._ours.poll(60), "the worker says nothing"
        return self._ours.recv()

    def begin(self) -> None:
        self._ours.send("begin")


def work(parent: Connection, url: str, lease_seconds: float, hits: int, hangs: bool) -> None:
    _hit_counts.FLUSH_SECONDS = 0.1
    cache = ContentCache(connect(url), lease_seconds=lease_seconds)

    def generate() -> dict[str, int]:
        if hangs:
            parent.send("generating")
            parent.recv()  # until we are killed
        time.sleep(0.2)
        return {"by": os.getpid()}

    if not hangs:
        parent.send("ready")
        parent.recv()
    answer = cache.get_or_generate(KEY, generate, **ADDRESS)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cache.get(KEY, **ADDRESS), range(hits)))
    cache.close()
    parent.send(f"{answer.outcome} {answer.content['by']}")
