"""Which chat model is used, and what it costs: by environment and .env, without a word in the notebooks."""

import csv
import typing
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from lib.errors import ModelUnavailable
from lib.llm._endpoints import practice_model
from lib.llm._prices import DEFAULT_MODEL, PRACTICE_MODEL, PRICES, cost_usd
from lib.llm.chat import chat_model, model_choice
from lib.practice.practice_model import MODEL_NAME, PracticeModel, start_practice_model

VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # no .env here or above


@pytest.fixture(scope="module")
def server() -> Iterator[PracticeModel]:
    with start_practice_model() as server:
        yield server


def test_without_a_key_it_is_the_practice_model() -> None:
    model = chat_model()

    assert model_choice().kind == "practice"
    assert str(model.openai_api_base) == practice_model().url
    assert model.invoke("Hello").content


def test_the_practice_model_of_a_process_is_one() -> None:
    assert practice_model() is practice_model()


def test_with_a_key_it_is_openai_with_the_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")

    model = chat_model()

    assert (model.model_name, model.openai_api_base) == (DEFAULT_MODEL, None)
    assert model.openai_api_key.get_secret_value() == "sk-test"
    assert "OpenAI" in str(model_choice())


def test_the_model_can_be_named_by_the_environment_or_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_MODEL", "model-of-the-school")

    assert chat_model().model_name == "model-of-the-school"
    assert chat_model(model="mine").model_name == "mine"


def test_a_file_sets_what_the_environment_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-file\nOPENAI_MODEL=from-file\n", encoding="utf-8")

    from_file = model_choice()
    monkeypatch.setenv("OPENAI_API_KEY", "")
    switched_off = model_choice()

    assert (from_file.kind, from_file.model) == ("openai", "from-file")
    assert switched_off.kind == "practice"


def test_an_endpoint_is_used_with_its_first_model(monkeypatch: pytest.MonkeyPatch, server: PracticeModel) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)

    model = chat_model()

    assert model_choice().kind == "endpoint"
    assert model.model_name == "practice-model"
    assert model.invoke("Hello").content


def test_an_endpoint_that_does_not_answer_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")

    with pytest.raises(ModelUnavailable, match=r"http://127.0.0.1:9/v1 doesn't list its models.*Set OPENAI_MODEL"):
        chat_model()


def test_a_proxy_for_the_outside_is_not_asked_for_the_practice_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert chat_model().invoke("Hello").content


def test_streamed_tokens_are_counted(server: PracticeModel) -> None:
    chunks = list(chat_model(practice=server).stream("Hello"))

    assert sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks) > 0


def test_the_default_model_is_known_to_the_client_and_not_on_its_list_of_endings() -> None:
    from openai.types.shared import chat_model as known

    ending = Path(known.__file__).read_text(encoding="utf-8").partition("Deprecated values")[2]

    assert DEFAULT_MODEL in typing.get_args(known.ChatModel)
    assert f'"{DEFAULT_MODEL}"' not in ending


def test_every_price_has_a_date_and_a_source() -> None:
    with PRICES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert DEFAULT_MODEL in {row["model"] for row in rows}
    for row in rows:
        assert 0 < float(row["cached_input_usd_per_million"]) < float(row["input_usd_per_million"])
        assert float(row["input_usd_per_million"]) < float(row["output_usd_per_million"])
        assert date.fromisoformat(row["as_of"]) and row["source"].startswith("https://")


def test_costs_are_input_plus_output() -> None:
    with PRICES.open(encoding="utf-8", newline="") as file:
        [row] = [row for row in csv.DictReader(file) if row["model"] == DEFAULT_MODEL]
    cost = 2 * float(row["input_usd_per_million"]) + float(row["output_usd_per_million"])

    for model in (DEFAULT_MODEL, f"{DEFAULT_MODEL}-2026-03-17", PRACTICE_MODEL):
        assert cost_usd(model, 2_000_000, 1_000_000) == pytest.approx(cost)
    assert PRACTICE_MODEL == MODEL_NAME


def test_a_model_without_a_price_is_named() -> None:
    with pytest.raises(ModelUnavailable, match=r"no price for 'llama'.*data/prices.csv"):
        cost_usd("llama", 1, 1)


def test_no_notebook_names_a_model() -> None:
    notebooks = Path(__file__).parents[2] / "notebooks"

    for path in notebooks.rglob("*.ipynb"):
        if ".ipynb_checkpoints" in path.parts:  # JupyterLab's own copies of what somebody has open
            continue
        assert "gpt-" not in path.read_text(encoding="utf-8"), path
