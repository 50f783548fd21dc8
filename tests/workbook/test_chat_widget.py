"""The chat works without a browser, shows what it used, and lets no text of a user or a memory become HTML."""

from collections.abc import Iterator

import ipywidgets as widgets
import pytest
from conftest import empty
from sqlalchemy import Engine

from lib.llm.chat import chat_model
from lib.practice.practice_model import PracticeModel, start_practice_model
from lib.store.memory_store import MemoryStore
from lib.workbook.chat_widget import Chat


@pytest.fixture(scope="module")
def server() -> Iterator[PracticeModel]:
    with start_practice_model() as server:
        yield server


@pytest.fixture
def model(server: PracticeModel):
    yield chat_model(practice=server, max_retries=0)
    server.behaviour.failures = []


@pytest.fixture
def store(sqlite_engine: Engine) -> MemoryStore:
    """On SQLite only: the chat knows no database."""
    return MemoryStore(empty(sqlite_engine))


@pytest.fixture
def known(store: MemoryStore) -> MemoryStore:
    store.put("ada", "facts", "exam", {"content": "Ada's exam is on <b>Friday</b> 22 May 2026."})
    return store


def part(view: widgets.VBox, kind: type) -> widgets.Widget:
    return next(child for child in view.children if isinstance(child, kind))


def test_say_gives_the_answer_and_the_memories(known: MemoryStore, model) -> None:
    talk = Chat(known, "ada", model=model)

    without = talk.say("When is my exam?", pattern="none")
    answer = talk.say("When is my exam?", pattern="on demand")

    assert without.memories == [] and "don't know" in without.text
    assert "22 May" in answer.text
    assert [scored.item.key for scored in answer.memories] == ["exam"]
    assert "lexical" in repr(answer.memories.explain())


def test_under_each_answer_stands_what_was_seen_and_why(known: MemoryStore, model) -> None:
    talk = Chat(known, "ada", model=model)
    talk.say("When is my exam?", pattern="on demand")

    html = talk.as_html()

    assert "<summary>on demand: memories seen: 1, calls of the model: 2," in html
    assert "facts/exam" in html and "lexical" in html


def test_what_the_budget_left_out_is_shown(known: MemoryStore, model) -> None:
    known.put("ada", "facts", "long", {"content": "Long story. " * 400})
    talk = Chat(known, "ada", model=model)

    talk.say("When is my exam?")

    assert "Left out, for the budget: 1" in talk.as_html()


def test_text_never_becomes_html(known: MemoryStore, model) -> None:
    talk = Chat(known, "ada", model=model)

    talk.say("When is my exam? <script>alert(1)</script>")

    assert "<script>" not in talk.as_html() and "<b>Friday" not in talk.as_html()


def test_the_view_sends_what_is_in_its_box_by_the_pattern_of_its_switch(known: MemoryStore, model) -> None:
    talk = Chat(known, "ada", model=model)
    box, switch = part(talk.view, widgets.Textarea), part(talk.view, widgets.ToggleButtons)
    box.value, switch.value = "When is my exam?", "on demand"

    part(talk.view, widgets.Button).click()

    assert [answer.pattern for _, answer in talk.turns] == ["on demand"]
    assert "22 May" in part(talk.view, widgets.HTML).value
    assert box.value == ""


def test_the_view_shows_what_was_said_without_it(known: MemoryStore, model) -> None:
    talk = Chat(known, "ada", model=model)
    talk.say("When is my exam?", pattern="proactive")

    view = talk.view

    assert "When is my exam?" in part(view, widgets.HTML).value
    assert part(view, widgets.ToggleButtons).value == "proactive"


def test_a_failure_is_shown_and_keeps_the_text_in_the_box(known: MemoryStore, model, server: PracticeModel) -> None:
    talk = Chat(known, "ada", model=model)
    box, button = part(talk.view, widgets.Textarea), part(talk.view, widgets.Button)
    box.value, server.behaviour.failures = "When is my exam?", ["500"]

    button.click()

    assert 'role="alert"' in talk.view.children[-1].value
    assert box.value == "When is my exam?" and not button.disabled and talk.turns == []
