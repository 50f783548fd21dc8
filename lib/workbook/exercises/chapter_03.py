"""Checks of chapter 03: types, keys of episodes, the last time, rules that still hold."""

from datetime import UTC, datetime, timedelta, timezone

from lib.workbook.exercises import exercise, expect, try_cases, wrong
from lib.workbook.exercises.chapter_02 import _store

_TYPES = {
    "a": "episodic", "b": "semantic", "c": "procedural", "d": "semantic", "e": "episodic", "f": "semantic",
}  # fmt: skip
_WHY = {
    "episodic": "it happened at some time",
    "semantic": "it holds until somebody says otherwise",
    "procedural": "it tells the agent what to do",
}


@exercise("3.1")
def types(answer):
    if not isinstance(answer, dict) or set(answer) != set(_TYPES):
        wrong('give a dict with the letters a to f: {"a": "episodic", …}.')
    try_cases(answer.get, [((letter,), right, _WHY[right]) for letter, right in _TYPES.items()])


@exercise("3.2")
def episode_key(answer):
    noon = datetime(2026, 3, 3, 12, tzinfo=UTC)
    moments = [noon, noon + timedelta(seconds=1), noon + timedelta(minutes=1), noon + timedelta(days=30)]
    moments.append(datetime(2027, 1, 1, tzinfo=UTC))
    keys = [answer(moment) for moment in moments]
    if not all(isinstance(key, str) and 0 < len(key) <= 200 for key in keys):
        wrong(f"a key is a text of 1 to 200 characters, and you return {keys[0]!r}.")
    if len(set(keys)) < len(keys):
        wrong("two different seconds have the same key: the later episode would replace the earlier one.")
    if keys != sorted(keys):
        wrong(f"sorted keys aren't in the order of time: {keys[0]!r} and {keys[-1]!r}. Begin with the year.")
    abroad = noon.astimezone(timezone(timedelta(hours=9)))
    expect(answer(abroad), keys[0], "the same instant in another time zone has another key: convert to UTC first")


@exercise("3.3")
def last_time(answer):
    store, clock = _store()
    expect(answer(store, "zoe", "exam"), None, "where there is no episode, return None")
    for number, (topic, text) in enumerate((("exam", "first exam"), ("exam", "second exam"), ("cat", "on a cat"))):
        clock.now += timedelta(days=1)
        store.put("zoe", "episodes", f"e{number}", {"content": text, "topics": [topic]})
    clock.now += timedelta(days=1)
    store.put("zoe", "facts", "f", {"content": "a fact", "topics": ["exam"]})
    store.put("tomas", "episodes", "e", {"content": "of another user", "topics": ["exam"]})
    why = 'search in the namespace "episodes", by `topics`, for the newest episode on that topic'
    expect(answer(store, "zoe", "exam"), "second exam", why)


@exercise("3.4")
def still_holds(answer):
    store, _ = _store()
    expect(answer(store, "zoe", "gone"), False, "a rule that isn't there doesn't hold")
    for key in ("e1", "e2", "e3"):
        store.put("zoe", "episodes", key, {"content": key})
    store.put("zoe", "procedures", "draw", {"content": "Draw.", "evidence": ["e1", "e2", "e3"]})
    expect(answer(store, "zoe", "draw"), True, "all three episodes are there")
    store.delete("zoe", "episodes", "e1")
    expect(answer(store, "zoe", "draw"), True, "two episodes of three are left, and two are enough")
    store.delete("zoe", "episodes", "e2")
    expect(answer(store, "zoe", "draw"), False, "one episode is left, too few. Look each of them up")
    store.put("tomas", "episodes", "e1", {"content": "of another user"})
    expect(answer(store, "zoe", "draw"), False, "the episode of another user is no evidence")
