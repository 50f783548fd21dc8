"""Checks of chapter 04: what is urgent, how often a memory changed, what it was, and a budget."""

from datetime import timedelta

from lib.database.engine import connect, create_tables
from lib.formation.session_log import SessionLog
from lib.llm.chat_model import chat_model
from lib.practice.practice_model import start_practice_model
from lib.store.memory_store import MemoryStore
from lib.workbook.exercises import exercise, try_cases, wrong
from lib.workbook.exercises.chapter_02 import _store


@exercise("4.1")
def is_urgent(answer):
    cases = [
        (("Please remember that I'm allergic to nuts.",), True, "it asks to be remembered"),
        (("REMEMBER the red one",), True, "a capital letter is asking, too"),
        (("The deadline is Friday.",), True, "a deadline can't wait"),
        (("I like tea.",), False, "it can wait until the conversation is over"),
        (("Do you remember my name?",), False, "it asks; it doesn't tell"),
        (("",), False, "nothing was said"),
    ]
    if not isinstance(answer("I like tea."), bool):
        wrong(f"return True or False, not {answer('I like tea.')!r}.")
    try_cases(answer, cases)


@exercise("4.2")
def changes(answer):
    store, clock = _store()
    if answer(store, "zoe", "facts", "exam") != 0:
        wrong("a memory that isn't there was never replaced: 0.")
    for number, text in enumerate(("22 May", "18 June", "18 June", "14 August")):
        clock.now += timedelta(days=1)
        store.put("zoe", "facts", "exam", {"content": text})
        expected = (0, 1, 1, 2)[number]
        result = answer(store, "zoe", "facts", "exam")
        if result == expected + 1:
            wrong("you count the versions. The first one was written, not replaced.")
        if result != expected:
            wrong(f"after {number + 1} puts the memory was replaced {expected} times, and you say {result!r}.")


@exercise("4.3")
def as_of(answer):
    store, clock = _store()
    start = clock.now
    if answer(store, "zoe", "facts", "exam", start) is not None:
        wrong("where there is no memory, return None.")
    for days, text in ((1, "22 May"), (10, "18 June"), (20, "14 August")):
        clock.now = start + timedelta(days=days)
        store.put("zoe", "facts", "exam", {"content": text})
    cases = {0: None, 1: "22 May", 5: "22 May", 10: "18 June", 19: "18 June", 20: "14 August", 99: "14 August"}
    for days, text in cases.items():
        result = answer(store, "zoe", "facts", "exam", start + timedelta(days=days))
        right = None if text is None else {"content": text}
        if result != right:
            hint = " A version holds from the moment when it was written." if days in (1, 10, 20) else ""
            wrong(f"{days} days after the start it was {right!r}, and you return {result!r}.{hint}")


@exercise("4.4")
def extract_within(answer):
    engine = connect("sqlite://")
    create_tables(engine)
    log, store = SessionLog(engine), MemoryStore(engine)
    with start_practice_model() as practice:
        model = chat_model(practice=practice)
        if answer(log, store, model, 2) != 0:
            wrong("with nothing to extract, nothing is waiting: return 0.")
        for number in range(5):
            log.finish("zoe", [{"turn": 1, "speaker": "user", "text": f"My lucky number is {number}."}])
        waiting = answer(log, store, model, 2)
        if log.counts()["extracted"] != 2:
            wrong(f"with a budget of 2, you extracted {log.counts()['extracted']}. extract_pending has a `limit`.")
        if waiting != 3:
            wrong(f"3 of 5 are still waiting, and you return {waiting!r}.")
        if answer(log, store, model, 10) != 0 or log.counts()["extracted"] != 5:
            wrong("a budget that is larger than the work should finish it, and return 0.")
