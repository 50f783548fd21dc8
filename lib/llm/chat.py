"""The chat model: the OpenAI API with a key, any compatible endpoint, or the practice model; always as ChatOpenAI."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from lib.config import setting
from lib.llm._endpoints import first_model, local_client, practice_model
from lib.llm._prices import DEFAULT_MODEL, PRACTICE_MODEL

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

    from lib.practice.practice_model import PracticeModel

TIMEOUT_SECONDS = 60.0
MAX_RETRIES = 2  # after a 429, a 5xx or a lost connection; the client waits as long as Retry-After says


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
    return ModelChoice("practice", PRACTICE_MODEL, None)


def chat_model(*, model: str | None = None, practice: "PracticeModel | None" = None, **options: Any) -> "ChatOpenAI":
    """A chat model, the same class in every case, so that code written on one runs on the others.

    model: its name; None takes OPENAI_MODEL, else the default.
    practice: a practice model of your own; it is used whatever is set.
    options: of ChatOpenAI, such as temperature (some models refuse one), max_tokens, timeout in seconds.
    Errors: ModelUnavailable, when an endpoint has no model to offer.
    """
    from langchain_openai import ChatOpenAI

    choice = model_choice() if practice is None else ModelChoice("practice", PRACTICE_MODEL, None)
    # Without stream_usage, the tokens of a streamed answer of a compatible endpoint would be counted as none.
    options = {"timeout": TIMEOUT_SECONDS, "max_retries": MAX_RETRIES, "stream_usage": True, **options}
    if choice.kind == "practice":
        from openai import DefaultAsyncHttpxClient

        clients = {"http_client": local_client(), "http_async_client": DefaultAsyncHttpxClient(trust_env=False)}
        url = (practice or practice_model()).url
        options = {"base_url": url, "use_responses_api": False, **clients, **options}
        return ChatOpenAI(model=model or PRACTICE_MODEL, api_key=SecretStr("practice"), **options)
    key = setting("OPENAI_API_KEY") or "not-needed"  # the client insists on one; local servers ignore it
    if choice.base_url is not None:
        options = {"base_url": choice.base_url, **options}
    name = model or choice.model or first_model(choice.base_url, key)
    return ChatOpenAI(model=name, api_key=SecretStr(key), **options)
