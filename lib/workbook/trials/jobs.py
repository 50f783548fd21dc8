"""Workers tried out in a lesson: started, watched, killed; what they did in all, and how fast."""

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
from lib.html_table import html_table
from lib.jobs.jobs import Jobs
from lib.llm.chat_model import model_choice, practice_model
from lib.practice.practice_model import PracticeModel
from lib.practice.practice_model.api import MODEL_NAME

ROOT = Path(__file__).parents[3]
START_SECONDS, STOP_SECONDS = 60, 30
LOOK_SECONDS = 0.1  # between looks at how far it has come


class Workers:
    """Worker processes on one database; leaving the block of `workers` stops them."""

    def __init__(self, count: int, environment: Mapping[str, str], options: Sequence[str], folder: Path):
        self._printed = [folder / f"{number}.txt" for number in range(count)]
        self._processes = [_start(environment, options, file) for file in self._printed]
        self._kept: list[str] | None = None  # of `lines`, when the files are gone

    def __repr__(self) -> str:
        return f"<{self.alive} of {len(self._processes)} workers are alive>"

    @property
    def alive(self) -> int:
        """How many are running."""
        return sum(process.poll() is None for process in self._processes)

    def kill(self) -> None:
        """End one of those alive in the middle of what it does, without a word of warning."""
        victim = next((process for process in self._processes if process.poll() is None), None)
        if victim is None:
            raise WorkbookError("no worker is alive that could be killed. Start more of them: workers(3, engine).")
        psutil.Process(victim.pid).kill()
        victim.wait()

    def stop(self) -> None:
        """Ask all to stop, and wait: each finishes what it has in hand, or gives it back."""
        for process in self._processes:
            with suppress(OSError):
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._kept = self.lines

    @property
    def lines(self) -> list[str]:
        """What they have printed, worker by worker."""
        if self._kept is not None:
            return self._kept
        return [line for file in self._printed for line in file.read_text(encoding="utf-8").splitlines()]

    def _wait_for_start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while sum(" started" in line for line in self.lines) < len(self._processes):
            if self.alive < len(self._processes) or time.monotonic() > deadline:
                raise WorkbookError("a worker did not start. What they printed:\n" + "\n".join(self.lines))
            time.sleep(LOOK_SECONDS)


def _start(environment: Mapping[str, str], options: Sequence[str], printed: Path) -> subprocess.Popen:
    # Not interrupted with us, by a notebook's stop button: leaving the block stops them.
    apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
    command = [sys.executable, "-m", "lib", "worker", "--while-stdin", "--no-weekly", *options]
    with printed.open("ab") as file:
        # It reads a pipe of ours, and ends with us, whatever ends us.
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, **apart
        )


@contextmanager
def workers(
    count: int,
    engine: Engine,
    *,
    model: PracticeModel | None = None,
    concurrency: int = 1,
    heartbeat_seconds: float = 0.5,
    retry_seconds: float = 0.5,
) -> Iterator[Workers]:
    """So many processes of `workbook worker` on this engine's database, ready to work; they stop with the block.

    Hand in within the block: the first one that is ready doesn't wait for the others.

    model: a practice model that they ask; None for the model that `chat_model()` gives here.
    heartbeat_seconds, retry_seconds: as for `Jobs`; short, because a lesson waits for what a product needn't.
    """
    create_job_tables(engine)
    environment = {**os.environ, "POSTGRES_URL": url_of(engine), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    if model is not None or model_choice().kind == "practice":
        url = (model or practice_model()).url
        environment |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "practice", "OPENAI_MODEL": MODEL_NAME}
        environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    options = [f"--concurrency={concurrency}", f"--heartbeat-seconds={heartbeat_seconds}"]
    with tempfile.TemporaryDirectory(prefix="workbook-workers-") as folder:
        crew = Workers(count, environment, [*options, f"--retry-seconds={retry_seconds}"], Path(folder))
        try:
            crew._wait_for_start()
            yield crew
        finally:
            crew.stop()


def hand_in(jobs: Jobs, count: int, *, users: int = 10) -> list[str]:
    """Hand in so many short conversations of so many users; returns their ids.

    Each says one thing that no other says. They all end at the same moment, so that none is newer than another.
    """
    said, now = "My house number is {}. I prefer short answers.", jobs.store.now()
    return [
        jobs.session_ended(
            f"user {number % users}", [{"turn": 1, "speaker": "user", "text": said.format(number)}], ended_at=now
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class ExtractionProgress:
    """How the waiting conversations became fewer."""

    seconds: list[float]  # since the beginning, of each look
    done: list[int]  # conversations extracted or failed by then

    @property
    def per_second(self) -> float:
        """Conversations a second, over the whole time."""
        return self.done[-1] / self.seconds[-1] if self.done[-1] else 0.0


def drain(
    jobs: Jobs,
    *,
    at: Mapping[float, Callable[[], object]] | None = None,
    progress: bool = True,
    timeout_seconds: float = 300,
) -> ExtractionProgress:
    """Watch until no conversation waits or is in hand any more.

    at: what to call when so large a share is done, such as {0.3: crew.kill}. progress: show a bar.
    Errors: WorkbookError after timeout_seconds.
    """
    counts, begin, calls = jobs.log.counts(), time.monotonic(), sorted((at or {}).items())
    before = counts["extracted"] + counts["failed"]
    total = sum(counts.values()) - before
    seconds, done = [0.0], [0]
    with tqdm(total=total, unit="session", disable=not progress) as bar:
        while done[-1] < total:
            time.sleep(LOOK_SECONDS)
            counts = jobs.log.counts()
            seconds.append(time.monotonic() - begin)
            done.append(counts["extracted"] + counts["failed"] - before)
            bar.update(done[-1] - bar.n)
            while calls and done[-1] >= calls[0][0] * total:
                calls.pop(0)[1]()
            if seconds[-1] > timeout_seconds:
                raise WorkbookError(f"after {timeout_seconds:g} s, {total - done[-1]} of {total} are left: {counts}.")
    return ExtractionProgress(seconds, done)


@dataclass(frozen=True)
class Outcome:
    """What became of conversations, counted from the memories that were stored of them."""

    handed_in: int
    once: int  # extracted, and what they say is stored once
    lost: int
    twice: int
    tries: int  # how often one was taken in hand, in all

    def _repr_html_(self) -> str:
        return html_table(tuple(vars(self)), [tuple(vars(self).values())])


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


def speed_by_workers(
    engine: Engine,
    counts: Sequence[int] = (1, 2, 4),
    *,
    sessions: int = 60,
    concurrency: int = 1,
    model: PracticeModel | None = None,
    progress: bool = True,
) -> dict[int, float]:
    """Conversations a second, by the number of workers; the options are those of `workers`."""
    found = {}
    jobs = Jobs(engine)
    for count in counts:
        with workers(count, engine, model=model, concurrency=concurrency):
            hand_in(jobs, sessions)
            found[count] = drain(jobs, progress=progress).per_second
    return found
