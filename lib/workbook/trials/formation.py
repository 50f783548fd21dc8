"""Strategies of forming memories, tried on recorded conversations: what each costs in a turn, and what it finds."""

import re
import timeit
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.callbacks import BaseCallbackHandler
from sqlalchemy import Engine
from tqdm.auto import tqdm

from lib.agent.tool_agent import AGENT_PROMPT, WHEN_TO_REMEMBER, memory_agent
from lib.formation.extraction import extract_pending
from lib.formation.session_log import SessionLog
from lib.llm import cost_usd
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODIC
from lib.workbook.lesson import Clock, day
from lib.workbook.trials import Results

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

STRATEGIES = ("hot path", "background", "hybrid")


@dataclass
class Trial:
    """One strategy of forming memories, on one person's conversations."""

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
        return self.right.total() / max(len(self.stored), 1)

    @property
    def recall(self) -> float:
        """Share of what a careful reader keeps that was stored."""
        return self.right.total() / max(self.gold.total(), 1)

    def recall_of(self, type: str) -> float:
        """The same for one type of memory."""
        return self.right[type] / max(self.gold[type], 1)

    @property
    def usd_per_1000_turns(self) -> float:
        """Cost of all calls, for a thousand turns of users."""
        return 1000 * cost_usd(self.model, self.input_tokens, self.output_tokens) / max(self.user_turns, 1)

    @property
    def usable_after(self) -> float:
        """Mean number of the user's turns until a memory can be used; 1 is the very next one."""
        return sum(turns for *_, turns in self.stored) / max(len(self.stored), 1)

    def row(self) -> dict[str, Any]:
        """Return what a table shows of it. Times in milliseconds, cost in USD."""
        added_ms = np.array(self.added_ms or [0.0])
        return {
            "strategy": self.strategy,
            "added mean, ms": round(added_ms.mean()),
            "added p50, ms": round(np.percentile(added_ms, 50)),
            "added p95, ms": round(np.percentile(added_ms, 95)),
            "model calls": self.calls,
            "tokens": self.input_tokens + self.output_tokens,
            "USD per 1,000 turns": round(self.usd_per_1000_turns, 2),
            "usable after, turns": round(self.usable_after, 1),
            "precision": round(self.precision, 2),
            "recall": round(self.recall, 2),
        }


def try_strategies(
    engine: Engine, model: "ChatOpenAI", sessions: Sequence[dict[str, Any]], gold: Sequence[dict[str, Any]]
) -> Results:
    """Replay one person's conversations once for each strategy; the assistant's words are those of the record.

    sessions: as from `load_sessions(person)`. gold: as from `load_memories(person)`: a stored memory is right if
    one of them has its session, its type and its turn (for an episode, its session and type), each counted once.
    """
    types = Counter(memory["type"] for memory in gold)
    trials = Results()
    plain_ms: list[float] = []  # of each answer without memory, which the strategies are compared with
    for strategy in ("no memory", *STRATEGIES):
        trial = Trial(strategy, gold=types, model=model.model_name)
        turns_ms = _replay(trial, engine, model, sessions)
        plain_ms = plain_ms or turns_ms
        if strategy in WHEN_TO_REMEMBER:  # else it is the same call as without memory, and adds nothing
            trial.added_ms = [ms - plain for ms, plain in zip(turns_ms, plain_ms, strict=True)]
        trial.right = _right(trial.stored, gold)
        trials.append(trial)
    return trials


def _replay(trial: Trial, engine: Engine, model: "ChatOpenAI", sessions: Sequence[dict[str, Any]]) -> list[float]:
    """Have one strategy remember the conversations; return the milliseconds of each answer."""
    clock = Clock()
    store, log = MemoryStore(engine, now=clock), SessionLog(engine, now=clock)
    model = model.model_copy(update={"callbacks": [_Meter(trial)]})
    turns_ms = []
    for session in tqdm(sessions, desc=trial.strategy, unit="session"):
        clock.now = day(session["ended_at"])
        user_id = f"{session['person']} ({trial.strategy})"
        for messages in _user_turns(session):
            if trial.strategy in WHEN_TO_REMEMBER:
                source = f"{session['session']} turn {len(messages)}"
                agent = memory_agent(
                    model, store, user_id, strategy=trial.strategy, source=source, rules=True, recall=False
                )
                answer = partial(agent.invoke, {"messages": messages})
            else:
                answer = partial(model.invoke, [("system", AGENT_PROMPT), *messages])
            turns_ms.append(1000 * timeit.timeit(answer, number=1))
        if trial.strategy in ("background", "hybrid"):
            times: dict[str, Any] = {"started_at": day(session["started_at"]), "ended_at": day(session["ended_at"])}
            log.finish(user_id, session["turns"], details={"session": session["session"]}, **times)
            extract_pending(log, store, model, user_id=user_id, rules=True)
    trial.user_turns, trial.stored = len(turns_ms), _stored(store, log, user_id, sessions)
    return turns_ms


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
    stored = []
    for item in store.search(user_id, limit=None):
        for version in store.history(user_id, item.namespace, item.key):
            value = version.value
            in_turn = re.fullmatch(r"(\S+) turn (\d+)", value["source"])
            name = in_turn[1] if in_turn else names[value["source"]]
            turn = int(in_turn[2]) if in_turn else value["turn"]
            wait = 1 if in_turn else 1 + sum(number > turn for number in user_turns[name])
            stored.append((name, turn, value["type"], wait))
    return stored


def _right(stored: Iterable[tuple[str, int, str, int]], gold: Iterable[dict[str, Any]]) -> Counter[str]:
    """How many stored memories a careful reader keeps, too, by type."""
    open_gold = [
        (memory["source_session"], memory["type"], None if memory["type"] == EPISODIC else memory["source_turn"])
        for memory in gold
    ]
    right: Counter[str] = Counter()
    for session, turn, type_, _ in stored:
        wanted = (session, type_, None if type_ == EPISODIC else turn)
        if wanted in open_gold:
            open_gold.remove(wanted)
            right[type_] += 1
    return right


class _Meter(BaseCallbackHandler):
    """Counts the calls and tokens of whatever model it is given to."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_llm_end(self, response: Any, **_: Any) -> None:
        usage = response.generations[0][0].message.usage_metadata or {}
        self.trial.calls += 1
        self.trial.input_tokens += usage.get("input_tokens", 0)
        self.trial.output_tokens += usage.get("output_tokens", 0)
