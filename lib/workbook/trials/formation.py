"""Ways of forming memories, tried on recorded conversations: what each costs in a turn, and what it finds."""

import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from tqdm.auto import tqdm

from lib.agent.tool_agent import AGENT_PROMPT, WHEN_TO_REMEMBER, memory_agent
from lib.formation.extraction import extract_pending
from lib.formation.session_log import SessionLog
from lib.html_table import html_table
from lib.llm.chat_model import cost_usd
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODIC
from lib.workbook.lesson import Clock, day

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

STRATEGIES = ("hot path", "background", "hybrid")


@dataclass
class Trial:
    """One way of forming memories, on one person's conversations."""

    strategy: str
    user_turns: int = 0
    added_ms: list[float] = field(default_factory=list)  # by user turn: over answering without any memory
    calls: int = 0  # of the model, in turns and afterwards
    input_tokens: int = 0
    output_tokens: int = 0
    model: str = ""
    stored: list[tuple[str, int, str, int]] = field(default_factory=list)  # session, turn, type, usable after turns
    right: Counter[str] = field(default_factory=Counter)  # by type
    gold: Counter[str] = field(default_factory=Counter)  # by type

    @property
    def precision(self) -> float:
        """Share of what was stored that a careful reader keeps, too."""
        return self.right.total() / len(self.stored) if self.stored else 0.0

    @property
    def recall(self) -> float:
        """Share of what a careful reader keeps that was stored."""
        return self.right.total() / self.gold.total() if self.gold else 0.0

    def recall_of(self, type: str) -> float:
        """The same for one type of memory."""
        return self.right[type] / self.gold[type] if self.gold[type] else 0.0

    @property
    def usd_per_1000_turns(self) -> float:
        """Cost of all calls, for a thousand turns of users."""
        return 1000 * cost_usd(self.model, self.input_tokens, self.output_tokens) / max(self.user_turns, 1)

    @property
    def usable_after(self) -> float:
        """Mean number of the user's turns until a memory can be used; 1 is the very next one."""
        return sum(turns for *_, turns in self.stored) / len(self.stored) if self.stored else 0.0


class Trials(list[Trial]):
    """Trials side by side; shows as a table in a notebook."""

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each trial, for pandas or a plot. Times in milliseconds, cost in USD."""
        return [
            {
                "strategy": trial.strategy,
                "added mean, ms": round(sum(trial.added_ms) / max(len(trial.added_ms), 1)),
                "added p50, ms": round(percentile(trial.added_ms, 50)),
                "added p95, ms": round(percentile(trial.added_ms, 95)),
                "model calls": trial.calls,
                "tokens": trial.input_tokens + trial.output_tokens,
                "USD per 1,000 turns": round(trial.usd_per_1000_turns, 2),
                "usable after, turns": round(trial.usable_after, 1),
                "precision": round(trial.precision, 2),
                "recall": round(trial.recall, 2),
            }
            for trial in self
        ]

    def _repr_html_(self) -> str:
        rows = self.rows()
        return html_table(tuple(rows[0]), [tuple(row.values()) for row in rows]) if rows else "<em>no trials</em>"


def try_strategies(
    engine: Engine,
    model: "ChatOpenAI",
    sessions: Sequence[dict[str, Any]],
    gold: Iterable[dict[str, Any]],
    *,
    progress: bool = True,
) -> Trials:
    """Replay one person's conversations once for each strategy; the assistant's words are those of the record.

    sessions: as from `load_sessions(person)`. gold: as from `load_memories(person)`: a stored memory is right if
    one of them has its session, its type and its turn (for an episode, its session and type), each counted once.
    """
    gold = list(gold)
    types = Counter(memory["type"] for memory in gold)
    without = Trial("no memory", gold=types, model=model.model_name)
    plain_ms = _plain_answers(without, model, sessions, progress)
    trials = Trials([without])
    for strategy in STRATEGIES:
        trial = Trial(strategy, user_turns=len(plain_ms), gold=types, model=model.model_name)
        _replay(trial, engine, model, sessions, plain_ms, progress)
        trial.right = _right(trial.stored, gold)
        trials.append(trial)
    return trials


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent lie (nearest rank); 0 for none.

    >>> percentile([1, 2, 3, 4], 50), percentile([1, 2, 3, 4], 95)
    (2, 4)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


def _plain_answers(
    trial: Trial, model: "ChatOpenAI", sessions: Sequence[dict[str, Any]], progress: bool
) -> list[float]:
    """Milliseconds of each answer without memory; what the strategies are compared with."""
    meter = _meter()
    model = model.model_copy(update={"callbacks": [meter]})
    durations = []
    for session in tqdm(sessions, desc=trial.strategy, unit="session", disable=not progress):
        for messages in _user_turns(session):
            start = time.perf_counter()
            model.invoke([("system", AGENT_PROMPT), *messages])
            durations.append(1000 * (time.perf_counter() - start))
    trial.user_turns, trial.added_ms = len(durations), [0.0] * len(durations)
    meter.read_into(trial)
    return durations


def _replay(
    trial: Trial,
    engine: Engine,
    model: "ChatOpenAI",
    sessions: Sequence[dict[str, Any]],
    plain_ms: Sequence[float],
    progress: bool,
) -> None:
    clock = Clock()
    user_id = f"{sessions[0]['person']} ({trial.strategy})"
    store, log = MemoryStore(engine, now=clock), SessionLog(engine, now=clock)
    meter = _meter()
    model = model.model_copy(update={"callbacks": [meter]})
    plain = iter(plain_ms)
    for session in tqdm(sessions, desc=trial.strategy, unit="session", disable=not progress):
        clock.now = day(session["ended_at"])
        for messages in _user_turns(session):
            duration_plain = next(plain)
            if trial.strategy not in WHEN_TO_REMEMBER:
                model.invoke([("system", AGENT_PROMPT), *messages])
                trial.added_ms.append(0.0)  # the same call as without memory
                continue
            source = f"{session['session']} turn {len(messages)}"
            agent = memory_agent(
                model, store, user_id, strategy=trial.strategy, source=source, rules=True, recall=False
            )
            start = time.perf_counter()
            agent.invoke({"messages": messages})
            trial.added_ms.append(1000 * (time.perf_counter() - start) - duration_plain)
        if trial.strategy != "hot path":
            times = {"started_at": day(session["started_at"]), "ended_at": day(session["ended_at"])}
            log.finish(user_id, session["turns"], details={"session": session["session"]}, **times)
            extract_pending(log, store, model, user_id=user_id, rules=True)
    meter.read_into(trial)
    trial.stored = _stored(store, log, user_id, sessions)


def _user_turns(session: dict[str, Any]) -> Iterable[list[tuple[str, str]]]:
    """For each turn of the user: the conversation up to it, as messages."""
    messages = []
    for turn in session["turns"]:
        messages.append((turn["speaker"], turn["text"]))
        if turn["speaker"] == "user":
            yield list(messages)


def _stored(
    store: MemoryStore, log: SessionLog, user_id: str, sessions: Sequence[dict[str, Any]]
) -> list[tuple[str, int, str, int]]:
    """(session, turn, type, usable after how many turns of the user) of everything that was ever stored."""
    names = {finished.id: finished.details["session"] for finished in log.list(user_id, limit=None)}
    user_turns = {s["session"]: [t["turn"] for t in s["turns"] if t["speaker"] == "user"] for s in sessions}
    found = []
    for item in store.search(user_id, limit=None):
        for version in store.history(user_id, item.namespace, item.key):
            value = version.value
            in_turn = re.fullmatch(r"(\S+) turn (\d+)", value["source"])
            name = in_turn[1] if in_turn else names[value["source"]]
            turn = int(in_turn[2]) if in_turn else value["turn"]
            wait = 1 if in_turn else 1 + sum(number > turn for number in user_turns[name])
            found.append((name, turn, value["type"], wait))
    return found


def _right(stored: Iterable[tuple[str, int, str, int]], gold: Iterable[dict[str, Any]]) -> Counter[str]:
    """How many stored memories a careful reader keeps, too, by type."""
    open_gold = [
        (memory["source_session"], memory["type"], None if memory["type"] == EPISODIC else memory["source_turn"])
        for memory in gold
    ]
    right = Counter()
    for session, turn, type_, _ in stored:
        wanted = (session, type_, None if type_ == EPISODIC else turn)
        if wanted in open_gold:
            open_gold.remove(wanted)
            right[type_] += 1
    return right


def _meter() -> Any:
    """A LangChain callback that counts calls and tokens of whatever model it is given to."""
    from langchain_core.callbacks import BaseCallbackHandler

    class Meter(BaseCallbackHandler):
        def __init__(self) -> None:
            self.calls = self.input_tokens = self.output_tokens = 0

        def on_llm_end(self, response: Any, **_: Any) -> None:
            self.calls += 1
            usage = response.generations[0][0].message.usage_metadata or {}
            self.input_tokens += usage.get("input_tokens", 0)
            self.output_tokens += usage.get("output_tokens", 0)

        def read_into(self, trial: Trial) -> None:
            trial.calls, trial.input_tokens, trial.output_tokens = self.calls, self.input_tokens, self.output_tokens

    return Meter()
