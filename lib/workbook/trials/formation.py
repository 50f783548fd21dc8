"""Strategies of forming memories, tried on recorded conversations: what each costs in a turn, and what it finds."""

import re
import timeit
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.callbacks import BaseCallbackHandler
from sqlalchemy import Engine
from tqdm.auto import tqdm

from lib.agent.agents import AGENT_PROMPT, WHEN_TO_REMEMBER, memory_agent
from lib.formation.extraction import extract_pending
from lib.formation.session_log import SessionLog
from lib.llm import cost_usd
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODIC, SEMANTIC
from lib.workbook.lesson import Clock, day

if TYPE_CHECKING:
    import pandas
    from langchain_openai import ChatOpenAI

Stored = tuple[str, int, str, int]  # session, turn, type, usable after how many turns of the user


def try_strategies(
    engine: Engine, model: "ChatOpenAI", sessions: Sequence[dict[str, Any]], gold: Sequence[dict[str, Any]]
) -> "pandas.DataFrame":
    """Replay one person's conversations once for each strategy; the assistant's words are those of the record.

    sessions: as from `load_sessions(person)`. gold: as from `load_memories(person)`: a stored memory is right if
    one of them has its session, its type and its turn (for an episode, its session and type), each counted once.
    Returns a row for each strategy. added: to the time of a user's turn, over answering without any memory. model
    calls, tokens, USD: of all calls, in turns and afterwards. usable after: mean number of the user's turns until a
    memory can be used; 1 is the very next one. precision: share of what was stored that is right. recall: share of
    gold that was stored, of all types and of the semantic ones alone.
    """
    import pandas

    types = Counter(memory["type"] for memory in gold)
    rows = {}
    plain_ms: list[float] = []  # of each answer without memory, which the strategies are compared with
    for strategy in ("no memory", "hot path", "background", "hybrid"):
        meter = _Meter()
        metered = model.model_copy(update={"callbacks": [meter]})
        turns_ms, stored = _replay(strategy, engine, metered, sessions)
        plain_ms = plain_ms or turns_ms
        # In the background a turn is the same call as without memory, and adds nothing.
        added_ms = np.subtract(turns_ms, plain_ms) if strategy in WHEN_TO_REMEMBER else np.zeros(1)
        usd = cost_usd(model.model_name, meter.input_tokens, meter.output_tokens)
        right = _right(stored, gold)
        rows[strategy] = {
            "added mean, ms": round(added_ms.mean()),
            "added p50, ms": round(np.percentile(added_ms, 50)),
            "added p95, ms": round(np.percentile(added_ms, 95)),
            "model calls": meter.calls,
            "tokens": meter.input_tokens + meter.output_tokens,
            "USD per 1,000 turns": round(1000 * usd / len(turns_ms), 2),
            "usable after, turns": round(fmean([wait for *_, wait in stored] or [0]), 1),
            "precision": round(right.total() / max(len(stored), 1), 2),
            "recall": round(right.total() / max(types.total(), 1), 2),
            "recall, semantic": round(right[SEMANTIC] / max(types[SEMANTIC], 1), 2),
        }
    return pandas.DataFrame.from_dict(rows, orient="index")


def _replay(
    strategy: str, engine: Engine, model: "ChatOpenAI", sessions: Sequence[dict[str, Any]]
) -> tuple[list[float], list[Stored]]:
    """Have one strategy remember the conversations; return the milliseconds of each answer, and what was stored."""
    clock = Clock()
    store, log = MemoryStore(engine, now=clock), SessionLog(engine, now=clock)
    turns_ms = []
    for session in tqdm(sessions, desc=strategy, unit="session"):
        clock.now = day(session["ended_at"])
        user_id = f"{session['person']} ({strategy})"
        for messages in _user_turns(session):
            if strategy in WHEN_TO_REMEMBER:
                source = f"{session['session']} turn {len(messages)}"
                agent = memory_agent(model, store, user_id, strategy=strategy, source=source, rules=True, recall=False)
                answer = partial(agent.invoke, {"messages": messages})
            else:
                answer = partial(model.invoke, [("system", AGENT_PROMPT), *messages])
            turns_ms.append(1000 * timeit.timeit(answer, number=1))
        if strategy in ("background", "hybrid"):
            times: dict[str, Any] = {"started_at": day(session["started_at"]), "ended_at": day(session["ended_at"])}
            log.finish(user_id, session["turns"], details={"session": session["session"]}, **times)
            extract_pending(log, store, model, user_id=user_id, rules=True)
    return turns_ms, _stored(store, log, user_id, sessions)


def _user_turns(session: dict[str, Any]) -> Iterable[list[tuple[str, str]]]:
    """For each turn of the user: the conversation up to it, as messages."""
    messages = []
    for turn in session["turns"]:
        messages.append((turn["speaker"], turn["text"]))
        if turn["speaker"] == "user":
            yield list(messages)


def _stored(store: MemoryStore, log: SessionLog, user_id: str, sessions: Sequence[dict[str, Any]]) -> list[Stored]:
    """Everything that was ever stored for one user."""
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


def _right(stored: Iterable[Stored], gold: Iterable[dict[str, Any]]) -> Counter[str]:
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

    calls = input_tokens = output_tokens = 0

    def on_llm_end(self, response: Any, **_: Any) -> None:
        usage = response.generations[0][0].message.usage_metadata or {}
        self.calls += 1
        self.input_tokens += usage.get("input_tokens", 0)
        self.output_tokens += usage.get("output_tokens", 0)
