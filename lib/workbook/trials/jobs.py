"""Workers tried out in a lesson: started, watched, killed; and what they did in all."""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import Engine
from tqdm.auto import tqdm

from lib.database import create_job_tables, url_of
from lib.errors import WorkbookError
from lib.jobs.jobs import Jobs
from lib.practice.practice_model import PracticeModel
from lib.practice.practice_model.api import MODEL_NAME

ROOT = Path(__file__).parents[3]
START_SECONDS, STOP_SECONDS = 60, 30
LOOK_SECONDS = 0.1  # between looks at how far it has come


class Workers:
    """Worker processes on one database; leaving the block of `workers` stops them."""

    def __init__(self, processes: Sequence[psutil.Popen]):
        self._processes = processes

    @property
    def alive(self) -> int:
        """How many are running."""
        return sum(process.poll() is None for process in self._processes)

    def kill(self) -> None:
        """End one of those alive in the middle of what it does, without a word of warning."""
        victim = next((process for process in self._processes if process.poll() is None), None)
        if victim is None:
            raise WorkbookError("no worker is alive that could be killed. Start more of them: workers(3, engine).")
        victim.kill()
        victim.wait()

    def stop(self) -> None:
        """Ask all to stop, and wait: each finishes what it has in hand, or gives it back."""
        for process in self._processes:
            with suppress(OSError):
                process.stdin.close()
        _, late = psutil.wait_procs(self._processes, timeout=STOP_SECONDS)
        for process in late:
            process.kill()
            process.wait()


@contextmanager
def workers(count: int, engine: Engine, *, model: PracticeModel) -> Iterator[Workers]:
    """So many processes of `workbook worker` on this engine's database, ready to work; they stop with the block.

    Hand in within the block: the first one that is ready doesn't wait for the others.

    model: a practice model that they ask.
    """
    create_job_tables(engine)
    environment = {**os.environ, "POSTGRES_URL": url_of(engine), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    environment |= {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "practice", "OPENAI_MODEL": MODEL_NAME}
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    # It reads a pipe of ours, and ends with us, whatever ends us.
    command = [sys.executable, "-m", "lib", "worker", "--while-stdin", "--no-weekly"]
    command += ["--heartbeat-seconds=0.5"]  # a lesson waits for what a product needn't
    # Not interrupted with us, by a notebook's stop button: leaving the block stops them.
    apart = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0), "start_new_session": True}
    with tempfile.TemporaryDirectory(prefix="workbook-workers-", ignore_cleanup_errors=True) as folder:
        printed = Path(folder, "printed.txt")
        with printed.open("ab") as file:
            options = {"stdin": subprocess.PIPE, "stdout": file, "stderr": subprocess.STDOUT, **apart}
            crew = Workers([psutil.Popen(command, env=environment, **options) for _ in range(count)])
        try:
            _wait_for_start(crew, count, printed)
            yield crew
        finally:
            crew.stop()


def _wait_for_start(crew: Workers, count: int, printed: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while (text := printed.read_text(encoding="utf-8")).count(" started") < count:
        if crew.alive < count or time.monotonic() > deadline:
            raise WorkbookError(f"a worker did not start. What they printed:\n{text}")
        time.sleep(LOOK_SECONDS)


def hand_in(jobs: Jobs, count: int, *, users: int = 10) -> list[str]:
    """Hand in so many short conversations of so many users; returns their ids.

    Each says one thing that no other says. They all end at the same moment, so that none is newer than another.
    """
    now, session_ids = jobs.store.now(), []
    for number in range(count):
        text = f"My house number is {number}. I prefer short answers."
        transcript = [{"turn": 1, "speaker": "user", "text": text}]
        session_ids.append(jobs.session_ended(f"user {number % users}", transcript, ended_at=now))
    return session_ids


def drain(
    jobs: Jobs,
    *,
    at: Mapping[float, Callable[[], object]] | None = None,
    progress: bool = True,
    timeout_seconds: float = 300,
) -> float:
    """Watch until no conversation waits or is in hand any more; return the seconds that it took.

    at: what to call when so large a share is done, such as {0.3: crew.kill}. progress: show a bar.
    Errors: WorkbookError after timeout_seconds.
    """
    total, done, begin, calls = _waiting(jobs), 0, time.monotonic(), sorted((at or {}).items())
    with tqdm(total=total, unit="session", disable=not progress) as bar:
        while done < total:
            time.sleep(LOOK_SECONDS)
            done = total - _waiting(jobs)
            bar.update(done - bar.n)
            while calls and done >= calls[0][0] * total:
                calls.pop(0)[1]()
            if time.monotonic() - begin > timeout_seconds:
                raise WorkbookError(f"after {timeout_seconds:g} s, {total - done} of {total} are left.")
    return time.monotonic() - begin


def _waiting(jobs: Jobs) -> int:
    counts = jobs.log.counts()
    return counts["pending"] + counts["extracting"]


@dataclass(frozen=True)
class Outcome:
    """What became of conversations, counted from the memories that were stored of them."""

    handed_in: int
    once: int  # extracted, and what they say is stored once
    lost: int
    twice: int
    tries: int  # how often one was taken in hand, in all


def outcome(jobs: Jobs, session_ids: Sequence[str]) -> Outcome:
    """What became of the conversations that `hand_in` returned."""
    sessions = [session for id in session_ids if (session := jobs.log.get(id))]
    stored: Counter[str] = Counter()
    for user_id in {session.user_id for session in sessions}:
        for item in jobs.store.search(user_id, limit=None):
            versions = jobs.store.history(user_id, item.namespace, item.key)
            stored.update(v.value["source"] for v in versions if "house number" in v.value["content"])
    times = Counter(min(stored[session.id], 2) for session in sessions)
    lost = len(session_ids) - times[1] - times[2]
    return Outcome(len(session_ids), times[1], lost, times[2], sum(session.attempts for session in sessions))
