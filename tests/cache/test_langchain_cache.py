"""LangChain's chat models on the cache: what changes the answer misses, what doesn't hits, nothing is paid twice."""

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import empty
from langchain.agents import create_agent
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from sqlalchemy import Engine, select, text

from lib.cache.content_cache import ContentCache
from lib.cache.langchain_cache import LangChainCache
from lib.cache.scope import SHARED, for_user
from lib.database._side_tables import CachedContent
from lib.database._user_binding import BoundUser, bound_engine
from lib.errors import DatabaseUnavailable, InvalidInput, NotYourRows
from lib.llm.chat import chat_model
from lib.practice.practice_model import PracticeModel

TOOL = {"type": "function", "function": {"name": "recall", "description": "d", "parameters": {"type": "object"}}}
ASKED = [SystemMessage("You help."), HumanMessage("Hello, my name is Zoë 🪣")]
Made = Callable[..., ChatOpenAI]


class City(BaseModel):
    """Where somebody lives."""

    name: str


@pytest.fixture
def engine(sqlite_engine: Engine) -> Engine:
    """One database: keys are made before it is asked. What comes back from the other one has a test of its own."""
    return empty(sqlite_engine)


@pytest.fixture
def cache(engine: Engine) -> Iterator[ContentCache]:
    with ContentCache(engine) as cache:
        yield cache


@pytest.fixture
def make(server: PracticeModel, cache: ContentCache) -> Made:
    """A new model on the cache."""

    def made(**options: Any) -> ChatOpenAI:
        options = {"temperature": 0, "max_retries": 0, "timeout": 10, **options}
        return chat_model(practice=server, cache=LangChainCache(cache, scope=SHARED), **options)

    return made


def calls(server: PracticeModel, call: Callable[[], Any]) -> int:
    """How often the model was asked."""
    before = server.usage.calls
    call()
    return server.usage.calls - before


def test_the_same_question_is_paid_once_also_by_another_model_that_is_set_the_same(
    make: Made, server: PracticeModel
) -> None:
    answers: list[AIMessage] = []

    paid = [calls(server, lambda: answers.append(make().invoke(ASKED))) for _ in range(3)]

    assert paid == [1, 0, 0]
    assert len({answer.content for answer in answers}) == 1
    assert answers[2].usage_metadata["total_cost"] == 0
    assert answers[1].response_metadata == answers[0].response_metadata


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0.5},
        {"model": "gpt-5.4-mini"},
        {"max_tokens": 50},
        {"seed": 3},
        {"top_p": 0.5},
        {"reasoning_effort": "low"},
        {"extra_body": {"safety": True}},
        {"model_kwargs": {"user": "zoe"}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_setting_of_the_model_misses(make: Made, server: PracticeModel, changed: dict[str, Any]) -> None:
    make().invoke(ASKED)

    assert [calls(server, lambda: make(**changed).invoke(ASKED)) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize(
    "bound",
    [
        {"stop": ["x"]},
        {"tools": [TOOL]},
        {"tools": [{**TOOL, "function": {**TOOL["function"], "description": "e"}}]},
        {"tools": [TOOL], "tool_choice": "none"},
        {"temperature": 0.7},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "A", "schema": {"type": "object"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "B", "schema": {"type": "object"}}}},
    ],
    ids=str,
)
def test_what_is_bound_to_a_model_is_in_the_key(make: Made, server: PracticeModel, bound: dict[str, Any]) -> None:
    make().invoke(ASKED)
    make().bind(tools=[TOOL]).invoke(ASKED)

    expected = 0 if bound == {"tools": [TOOL]} else 1
    assert [calls(server, lambda: make().bind(**bound).invoke(ASKED)) for _ in range(2)] == [expected, 0]


@pytest.mark.parametrize(
    "messages",
    [
        [SystemMessage("You tease."), ASKED[1]],
        [ASKED[1]],
        [*ASKED, AIMessage("Hi"), HumanMessage("And now?")],
        [HumanMessage("You help."), ASKED[1]],
        [SystemMessage("You help.Hello"), HumanMessage(", my name is Zoë 🪣")],
    ],
    ids=["system prompt", "no system prompt", "history", "role", "boundary"],
)
def test_other_messages_miss(make: Made, server: PracticeModel, messages: list) -> None:
    make().invoke(ASKED)

    assert calls(server, lambda: make().invoke(messages)) == 1


def test_ids_of_messages_are_not_in_the_key(make: Made, server: PracticeModel) -> None:
    make().invoke(ASKED)
    again = [SystemMessage("You help.", id="1"), HumanMessage(ASKED[1].content, id="2")]

    assert calls(server, lambda: make().invoke(again)) == 0


def test_served_answers_have_no_id_of_an_earlier_conversation(make: Made, cache: ContentCache, engine: Engine) -> None:
    """A graph would take two answers with one id for one, and replace the first by the second."""
    first, second, third = (make().invoke(ASKED) for _ in range(3))

    assert first.id and second.id != first.id
    assert third.id is None or third.id != second.id
    with engine.connect() as connection:
        stored = connection.scalars(select(CachedContent.content)).one()
    assert first.id not in str(stored)


def test_structured_output_and_tool_calls_come_back_as_they_were(make: Made, server: PracticeModel) -> None:
    question = "I live in Lund. Which city do I live in?"
    structured = [make().with_structured_output(City) for _ in range(2)]
    tooled = [make().bind_tools([City], tool_choice="City") for _ in range(2)]

    cities = [model.invoke(question) for model in structured]
    calls_made = [model.invoke(question).tool_calls for model in tooled]

    assert cities[0] == cities[1] and isinstance(cities[1], City)
    assert calls_made[0] == calls_made[1] != []


def test_asynchronous_calls_share_the_same_answers(make: Made, server: PracticeModel) -> None:
    async def ask() -> list[str]:
        model = make()
        return [(await model.ainvoke(ASKED)).content for _ in range(2)]

    assert calls(server, lambda: asyncio.run(ask())) == 1
    assert calls(server, lambda: make().invoke(ASKED)) == 0


def test_a_stream_is_not_cached_and_works(make: Made, server: PracticeModel) -> None:
    texts = ["".join(chunk.content for chunk in make().stream(ASKED)) for _ in range(2)]

    assert texts[0] == texts[1] == make().invoke(ASKED).content
    assert calls(server, lambda: list(make().stream(ASKED))) == 1


def test_a_failed_call_is_not_cached(make: Made, server: PracticeModel) -> None:
    server.behaviour.failures.append("500")

    with pytest.raises(Exception, match="500"):
        make().invoke(ASKED)

    assert [calls(server, lambda: make().invoke(ASKED)) for _ in range(2)] == [1, 0]


def test_an_agent_runs_on_it(make: Made, server: PracticeModel) -> None:
    def run() -> str:
        agent = create_agent(make(), tools=[], system_prompt="You help.")
        return agent.invoke({"messages": [HumanMessage("Hello", id="7")]})["messages"][-1].content

    assert run() == run()
    assert calls(server, run) == 0


def test_tokens_and_the_model_are_kept_for_the_metrics(make: Made, cache: ContentCache, engine: Engine) -> None:
    for _ in range(3):
        make().invoke(ASKED)

    assert cache.metrics.cost_saved_usd > 0
    assert cache.metrics.hits == 2
    [row] = cache.metrics.by_type().to_dict("records")
    assert row["tokens_in_saved"] > 0 and row["tokens_out_saved"] > 0


def test_what_can_be_asked_of_no_json_goes_to_the_model(make: Made, server: PracticeModel) -> None:
    half = [HumanMessage("half \ud800 of a character")]

    for _ in range(2):
        with pytest.raises(UnicodeEncodeError):  # by the client, as without a cache
            make().invoke(half)


def test_the_answer_of_another_version_is_asked_for_anew(make: Made, server: PracticeModel, engine: Engine) -> None:
    make().invoke(ASKED)
    with engine.begin() as connection:
        connection.execute(text("""UPDATE content_cache SET content = '{"generations": [{"lc": 9}]}'"""))

    assert calls(server, lambda: make().invoke(ASKED)) == 1


def test_answers_come_back_from_postgresql_as_they_were(postgres_engine: Engine, server: PracticeModel) -> None:
    cache = ContentCache(empty(postgres_engine))
    model = chat_model(practice=server, cache=LangChainCache(cache, scope=SHARED))

    answers = [model.bind_tools([City], tool_choice="City").invoke("I live in Lund.") for _ in range(3)]
    cities = [model.with_structured_output(City).invoke("I live in Lund.") for _ in range(2)]

    assert answers[0].tool_calls == answers[2].tool_calls != []
    assert answers[0].response_metadata == answers[2].response_metadata
    assert cities[0] == cities[1]
    assert (cache.metrics.hits, cache.metrics.misses) == (3, 2)


def test_a_new_model_with_new_settings_is_another_model_and_a_changed_one_is_not(
    make: Made, server: PracticeModel
) -> None:
    """LangChain describes a model once, to its cache, so the docstring says: make a new one."""
    model = make()
    model.invoke(ASKED)

    model.temperature = 0.7
    changed = calls(server, lambda: model.invoke(ASKED))
    renewed = calls(server, lambda: make(temperature=0.7).invoke(ASKED))

    assert (changed, renewed) == (0, 1)


def test_users_are_kept_apart_and_what_they_say_is_not_summarized(
    server: PracticeModel, cache: ContentCache, engine: Engine
) -> None:
    for scope in (for_user("zoe"), for_user("tomas"), SHARED):
        model = chat_model(practice=server, cache=LangChainCache(cache, scope=scope))
        assert [calls(server, lambda m=model: m.invoke(ASKED)) for _ in range(2)] == [1, 0]

    with engine.connect() as connection:
        summaries = dict(connection.execute(text("SELECT user_id, input_summary FROM content_cache")).all())
    assert summaries == {"zoe": None, "tomas": None, None: ASKED[1].content}


def test_it_can_be_everybodys_cache_and_be_cleared(server: PracticeModel, cache: ContentCache) -> None:
    ours = LangChainCache(cache, scope=SHARED)
    set_llm_cache(ours)
    try:
        model = chat_model(practice=server)
        paid = [calls(server, lambda: model.invoke(ASKED)) for _ in range(2)]
        ours.clear()
        paid.append(calls(server, lambda: model.invoke(ASKED)))
        asyncio.run(ours.aclear())
        paid.append(calls(server, lambda: model.invoke(ASKED)))
    finally:
        set_llm_cache(None)

    assert paid == [1, 0, 1, 1]


def test_its_misses_are_counted_and_not_timed(server: PracticeModel, cache: ContentCache) -> None:
    model = chat_model(practice=server, cache=LangChainCache(cache, scope=SHARED))

    for _ in range(3):
        model.invoke(ASKED)

    assert (cache.metrics.hits, cache.metrics.misses) == (2, 1)
    figures = cache.metrics.by_type().iloc[0]
    assert math.isnan(figures.miss_ms) and figures.hit_ms > 0


def test_two_who_ask_at_once_are_two_misses(engine: Engine) -> None:
    cache = ContentCache(engine)
    ours, answer = LangChainCache(cache, scope=SHARED), [ChatGeneration(message=AIMessage("Hi"))]

    assert [ours.lookup("[]", "model"), ours.lookup("[]", "model")] == [None, None]
    ours.update("[]", "model", answer)
    ours.update("[]", "model", answer)

    assert (cache.metrics.hits, cache.metrics.misses) == (0, 2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('[{"kwargs": {"id": "cust-1"}}]', '[{"kwargs": {"id": "cust-2"}}]'), ("1", "1.0"),
        ('{"a": 1, "b": 2}', '{"b": 2.0, "a": 1}'), ('{"a": 1, "a": 2}', '{"a": 2}'), ("[" * 200_000, "[" * 199_999),
    ],
)  # fmt: skip
def test_a_plain_text_is_that_text_also_if_it_is_json(engine: Engine, one: str, other: str) -> None:
    ours = LangChainCache(ContentCache(engine), scope=SHARED)

    ours.update(one, "model", [ChatGeneration(message=AIMessage("Hi"))])

    assert ours.lookup(one, "model") is not None
    assert ours.lookup(other, "model") is None


def test_an_answer_outlives_a_database_that_is_away(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_away(*_: Any, **__: Any) -> None:
        raise DatabaseUnavailable("the database is away")

    monkeypatch.setattr(ContentCache, "put", is_away)
    with pytest.warns(UserWarning, match="couldn't be stored"):
        LangChainCache(ContentCache(engine), scope=SHARED).update("[]", "m", [ChatGeneration(message=AIMessage("Hi"))])


def test_one_who_may_not_store_is_told_when_the_cache_is_made(engine: Engine) -> None:
    cache = ContentCache(bound_engine(engine, BoundUser("zoe", "workbook_app")))

    with pytest.raises(NotYourRows):
        LangChainCache(cache, scope=SHARED)
    assert LangChainCache(cache, scope=for_user("zoe"))


def test_an_answer_that_cannot_be_stored_is_still_the_callers(engine: Engine) -> None:
    ours = LangChainCache(ContentCache(engine), scope=SHARED)

    with pytest.warns(UserWarning, match="couldn't be stored"):
        ours.update("[]", "model", [ChatGeneration(message=AIMessage("a \x00 in the middle"))])

    assert ours.lookup("[]", "model") is None


@pytest.mark.parametrize("scope", ["zoe", None])
def test_a_scope_that_is_none_is_refused_when_the_cache_is_made(cache: ContentCache, scope: Any) -> None:
    with pytest.raises(InvalidInput, match="SHARED"):
        LangChainCache(cache, scope=scope)
