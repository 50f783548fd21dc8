"""Checks of chapter 04: what is urgent, how often a memory changed, what it was, and a budget."""

from datetime import timedelta

from lib.database.engine import connect, create_tables
from lib.formation.session_log import SessionLog
from lib.llm.chat import chat_model
from lib.practice.practice_model import start_practice_model
from lib.store.memory_store import MemoryStore
from lib.workbook.exercises import exercise, expect, try_cases
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
    try_cases(answer, cases)


@exercise("4.2")
def changes(answer):
    store, clock = _store()
    expect(answer(store, "zoe", "facts", "exam"), 0, "a memory that isn't there was never replaced")
    puts = [
        ("22 May", 0, "the first version was written, not replaced"),
        ("18 June", 1, "the second version replaced the first"),
        ("18 June", 1, "the same value again replaces nothing"),
        ("14 August", 2, "the third version replaced the second"),
    ]
    for text, replaced, why in puts:
        clock.now += timedelta(days=1)
        store.put("zoe", "facts", "exam", {"content": text})
        expect(answer(store, "zoe", "facts", "exam"), replaced, why)


@exercise("4.3")
def as_of(answer):
    store, clock = _store()
    start = clock.now
    expect(answer(store, "zoe", "facts", "exam", start), None, "where there is no memory, return None")
    for days, text in ((1, "22 May"), (10, "18 June"), (20, "14 August")):
        clock.now = start + timedelta(days=days)
        store.put("zoe", "facts", "exam", {"content": text})
    cases = {0: None, 1: "22 May", 5: "22 May", 10: "18 June", 19: "18 June", 20: "14 August", 99: "14 August"}
    for days, text in cases.items():
        result = answer(store, "zoe", "facts", "exam", start + timedelta(days=days))
        why = f"{days} days after the start; a version holds from the moment when it was written"
        expect(result, text and {"content": text}, why)


@exercise("4.4")
def extract_within(answer):
    engine = connect("sqlite://")
    create_tables(engine)
    log, store = SessionLog(engine), MemoryStore(engine)
    with start_practice_model() as practice:
        model = chat_model(practice=practice)
        expect(answer(log, store, model, 2), 0, "with nothing to extract, nothing is waiting")
        for number in range(5):
            log.finish("zoe", [{"turn": 1, "speaker": "user", "text": f"My lucky number is {number}."}])
        waiting = answer(log, store, model, 2)
        expect(log.counts()["extracted"], 2, "two are extracted with a budget of 2: extract_pending has a `limit`")
        expect(waiting, 3, "return how many of the 5 are still waiting")
        left = answer(log, store, model, 10), log.counts()["extracted"]
        expect(left, (0, 5), "a budget that is larger than the work finishes it: nothing waits, 5 are extracted")
