"""The chat model: the OpenAI API with a key, any compatible endpoint, or the practice model; always as ChatOpenAI."""

import atexit
import contextlib
import csv
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.config import setting
from lib.errors import ModelUnavailable, shown
from lib.practice.practice_model import PracticeModel, start_practice_model
from lib.practice.practice_model.api import MODEL_NAME

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

DEFAULT_MODEL = "gpt-5.4-mini"  # the one place where a model is named; OPENAI_MODEL overrides it
TIMEOUT_SECONDS = 60.0
MAX_RETRIES = 2  # after a 429, a 5xx or a lost connection; the client waits as long as Retry-After says
PRICES = Path(__file__).parents[2] / "data" / "prices.csv"

_practice: PracticeModel | None = None
_practice_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model `chat_model()` would use, without starting anything."""

    kind: str  # "openai", "endpoint" or "practice"
    model: str | None  # None: the endpoint has to be asked
    base_url: str | None  # None: OpenAI's own

    def __str__(self) -> str:
        if self.kind == "practice":
            return "the practice model (rules on this computer; no OPENAI_API_KEY is set)"
        where = "the OpenAI API" if self.kind == "openai" else self.base_url
        return f"{self.model or 'the first model'} on {where}"


def model_choice() -> ModelChoice:
    """What the learner has set: OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL, in the environment or in .env."""
    base_url, key, model = setting("OPENAI_BASE_URL"), setting("OPENAI_API_KEY"), setting("OPENAI_MODEL")
    if base_url:
        return ModelChoice("endpoint", model, base_url)
    if key:
        return ModelChoice("openai", model or DEFAULT_MODEL, None)
    return ModelChoice("practice", MODEL_NAME, None)


def chat_model(*, model: str | None = None, practice: PracticeModel | None = None, **options: Any) -> "ChatOpenAI":
    """A chat model, the same class in every case, so that code written on one runs on the others.

    model: its name; None takes OPENAI_MODEL, else the default.
    practice: a practice model of your own; it is used whatever is set.
    options: of ChatOpenAI, such as temperature (some models refuse one), max_tokens, timeout in seconds.
    Errors: ModelUnavailable, when an endpoint has no model to offer.
    """
    from langchain_openai import ChatOpenAI

    choice = model_choice() if practice is None else ModelChoice("practice", MODEL_NAME, None)
    # Without stream_usage, the tokens of a streamed answer of a compatible endpoint would be counted as none.
    options = {"timeout": TIMEOUT_SECONDS, "max_retries": MAX_RETRIES, "stream_usage": True, **options}
    if choice.kind == "openai":
        return ChatOpenAI(model=model or choice.model, api_key=setting("OPENAI_API_KEY"), **options)
    if choice.kind == "endpoint":
        key = setting("OPENAI_API_KEY") or "not-needed"  # the client insists on one; local servers ignore it
        name = model or choice.model or _first_model(choice.base_url, key)
        return ChatOpenAI(model=name, base_url=choice.base_url, api_key=key, **options)
    from openai import DefaultAsyncHttpxClient

    server = practice or practice_model()
    clients = {"http_client": _local_client(), "http_async_client": DefaultAsyncHttpxClient(trust_env=False)}
    return ChatOpenAI(
        model=model or MODEL_NAME,
        base_url=server.url,
        api_key="practice",
        use_responses_api=False,
        **clients,
        **options,
    )


@cache
def _local_client() -> Any:
    """One for all models, so that their connections are shared; an asynchronous one belongs to its event loop.

    A proxy that is set for the outside must not be asked for our own computer: hence trust_env=False.
    """
    from openai import DefaultHttpxClient

    return DefaultHttpxClient(trust_env=False)


def practice_model() -> PracticeModel:
    """The practice model of this process; started when it is first asked for, stopped with the process."""
    global _practice
    with _practice_lock:
        if _practice is None:
            _practice = start_practice_model()
            atexit.register(_practice.stop)
        return _practice


def price_of(model: str) -> tuple[float, float]:
    """(USD per million input tokens, USD per million output tokens), from data/prices.csv.

    The practice model costs nothing; it is given the price of the default model, so that lessons can count.
    Errors: ModelUnavailable for a model without a price.
    """
    name = DEFAULT_MODEL if model == MODEL_NAME else model
    with PRICES.open(encoding="utf-8", newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    # A dated name, such as the API answers with, costs what the name without the date costs.
    row = rows.get(name) or next(
        (rows[known] for known in sorted(rows, key=len) if name.startswith(f"{known}-20")), None
    )
    if row is None:
        raise ModelUnavailable(f"there is no price for {shown(model)}. Add a line to data/prices.csv, with its source.")
    return float(row["input_usd_per_million"]), float(row["output_usd_per_million"])


def cost_usd(model: str, input_tokens: int, output_tokens: int) -> float:
    """What so many tokens cost.

    >>> round(cost_usd("practice-model", 1_000_000, 0), 2)
    0.75
    """
    per_input, per_output = price_of(model)
    return (input_tokens * per_input + output_tokens * per_output) / 1_000_000


def _first_model(base_url: str, key: str) -> str:
    """The first model that an endpoint lists; a local server often has one, with a name that nobody remembers."""
    from openai import OpenAI, OpenAIError

    remedy = "Is the server running? Set OPENAI_MODEL to the name of its model, or unset OPENAI_BASE_URL."
    with contextlib.closing(OpenAI(base_url=base_url, api_key=key, timeout=10, max_retries=0)) as client:
        try:
            names = [model.id for model in client.models.list()]
        except OpenAIError as error:
            raise ModelUnavailable(f"{base_url} doesn't list its models: {error}. {remedy}") from None
    if not names:
        raise ModelUnavailable(f"{base_url} offers no model. {remedy}")
    return names[0]
