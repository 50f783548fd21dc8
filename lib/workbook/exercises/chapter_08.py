"""Checks of chapter 08: a key, a scope, a break-even, and an extraction that may be cached."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from lib.workbook.exercises import exercise, expect, expect_error, try_cases, wrong

REQUEST = {
    "topic": "S3 pricing", "level": "beginner", "sources": ["price list", "guide"], "model": "model-1",
    "temperature": 0, "prompt_version": 7, "user_id": "zoe", "request_id": "5f0c",
    "asked_at": datetime(2026, 3, 2, 9, tzinfo=UTC),
}  # fmt: skip


@exercise("8.1")
def lesson_key(answer):
    first = answer(dict(REQUEST))
    if not isinstance(first, str) or not re.fullmatch("[0-9a-f]{64}", first):
        wrong(f"return the 64 digits that content_hash returns, not {first!r}.")
    same = {
        "request_id": ("77aa", "an id that is new with each request makes every request a miss"),
        "asked_at": (datetime(2026, 3, 2, 10, tzinfo=UTC), "a time makes every request a miss"),
        "user_id": ("tomas", "this lesson is the same for all, and was made from nobody's data"),
        "sources": (["guide", "price list"], "the search found the same sources in another order"),
        "temperature": (0.0, "0 and 0.0 are one temperature"),
    }
    for field, (value, why) in same.items():
        if answer({**REQUEST, field: value}) != first:
            wrong(f"with {field}={value!r} the key becomes another one; {why}.")
    if answer({**REQUEST, "topic": "caf\u00e9"}) != answer({**REQUEST, "topic": "cafe\u0301"}):
        wrong("é can be written as one character or as two. content_hash knows that; your own hash doesn't.")
    other = [
        {"topic": "S3 limits"}, {"level": "expert"}, {"sources": ["price list"]}, {"model": "model-2"},
        {"temperature": 1}, {"prompt_version": 8},
        {"sources": ["guideprice list"]}, {"sources": ["guide|price list"]}, {"sources": ["guide, price list"]},
        {"topic": "S3 pricingbeg", "level": "inner"}, {"topic": REQUEST["level"], "level": REQUEST["topic"]},
        {"topic": "guide", "sources": ["price list", "S3 pricing"]},
    ]  # fmt: skip
    for changed in other:
        if answer({**REQUEST, **changed}) == first:
            wrong(
                f"with {changed} the key stays the same, and the old answer is served: hand over each part by its own "
                "name, joined with nothing."
            )


@exercise("8.2")
def scope_of(answer):
    from lib.cache.scope import SHARED, for_user

    shared = [{"instructions", "topic", "level"}, {"instructions", "topic", "public_documents"}, {"topic"}]
    personal = [
        {"instructions", "transcript"}, {"instructions", "topic", "level", "memories"}, {"memories"},
        {"instructions", "topic", "calendar"}, {"topic", "level", "last_orders"},
    ]  # fmt: skip
    why = "these are nobody's: for each user by themself, every learner would pay for the lesson"
    cases = [((parts, "zoe"), SHARED, why) for parts in shared]
    why = "some of it may be the user's own, and in SHARED it would be served to everybody; if in doubt, it is"
    cases += [((parts, "zoe"), for_user("zoe"), why) for parts in personal]
    cases.append((({"memories"}, "tomas"), for_user("tomas"), "use the user_id that you are given"))
    try_cases(answer, cases)


@exercise("8.3")
def least_hit_rate(answer):
    cases = [
        ((0.02, 0.0, 0.0), 0.0, "it costs nothing, so it saves from the first hit on"),
        ((0.02, 0.005, 0.0), 0.2, "ten requests save 2 × 0.02 and store 8 × 0.005"),
        ((0.004, 0.001, 0.001), 0.4, "ten requests save 4 × 0.004, store 6 × 0.001 and look 10 × 0.001"),
        ((0.002, 0.002, 0.001), 0.75, "hits store nothing: of four requests with three hits, one is stored"),
        ((0.001, 0.001, 0.002), None, "if a look costs more than a generation, it never pays: return None"),
    ]
    try_cases(answer, cases)


@exercise("8.4")
def cached_extraction(answer):
    from lib.cache.content_cache import ContentCache
    from lib.database.engine import connect, create_tables
    from lib.store.memory_store import MemoryStore

    engine = connect("sqlite://")
    create_tables(engine)
    cache, calls = ContentCache(engine), []
    ours = [{"turn": 1, "speaker": "user", "text": "My exam is on 12 May."}]

    def extract(transcript):
        calls.append(transcript)
        return {"memories": [f"number {len(calls)}"]}

    def fails(transcript):
        raise ConnectionError("the model is away")

    def run(user_id, transcript=ours, prompt="prompt 1", by=extract):
        before = len(calls)
        return answer(cache, user_id, transcript, prompt, by), len(calls) - before

    with expect_error(ConnectionError, "the model was away, and nobody was told. Let the error out."):
        answer(cache, "amelie", ours, "prompt 1", fails)
    if not run("amelie")[1]:
        wrong("the model was away, and what it didn't say is in the cache now.")
    first, made = run("zoe")
    if not made:
        wrong("Zoë and Amélie had the same conversation, and Zoë got Amélie's extraction. It isn't for another user.")
    expect(first, {"memories": [f"number {len(calls)}"]}, "the first extraction of a user is what extract returns")
    expect(run("zoe"), (first, 0), "the same user and transcript come from the cache, as the same dict, with no call")
    for what, options in {
        "another user": {"user_id": "tomas"},
        "another transcript": {"user_id": "zoe", "transcript": [{"turn": 1, "speaker": "user", "text": "Hello."}]},
        "another prompt": {"user_id": "zoe", "prompt": "prompt 2"},
    }.items():
        if not run(**options)[1]:
            wrong(f"{what} was served what is Zoë's, from her transcript and the old prompt.")

    def slowly(transcript):
        time.sleep(0.05)
        return extract(transcript)

    before = len(calls)
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda _: answer(cache, "tomas", ours, "prompt 3", slowly), range(4)))
    if len(calls) - before > 1:
        wrong(f"four workers asked at once, and {len(calls) - before} extractions were paid: let the cache decide.")
    MemoryStore(engine).forget_user("zoe")
    if not run("zoe")[1]:
        wrong("Zoë was forgotten, and her extraction is still there: the user belongs into the scope.")
    engine.dispose()
