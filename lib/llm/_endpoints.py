"""Where a chat model runs: an endpoint that is asked for its models, or the practice model of this process."""

from functools import cache
from typing import TYPE_CHECKING, Any

from lib.errors import ModelUnavailable

if TYPE_CHECKING:
    from lib.practice.practice_model import PracticeModel


@cache
def practice_model() -> "PracticeModel":
    """Return the practice model of this process; started when it is first asked for, stopped with the process.

    It is lib/practice, which a product needn't have: there, set OPENAI_API_KEY or OPENAI_BASE_URL.
    """
    from lib.practice.practice_model import start_practice_model

    return start_practice_model()


@cache
def local_client() -> Any:
    """Return one client for all models, so that their connections are shared.

    An asynchronous one belongs to its event loop, so each model has its own. A proxy that is set for the outside must
    not be asked for our own computer: hence trust_env=False.
    """
    from openai import DefaultHttpxClient

    return DefaultHttpxClient(trust_env=False)


def first_model(base_url: str | None, key: str) -> str:
    """Return the first model that an endpoint lists.

    A local server often has one, with a name that nobody remembers. Errors: ModelUnavailable.
    """
    from openai import OpenAI, OpenAIError

    remedy = "Is the server running? Set OPENAI_MODEL to the name of its model, or unset OPENAI_BASE_URL."
    with OpenAI(base_url=base_url, api_key=key, timeout=10, max_retries=0) as client:
        try:
            names = [model.id for model in client.models.list()]
        except OpenAIError as error:
            raise ModelUnavailable(f"{base_url} doesn't list its models: {error}. {remedy}") from None
    if not names:
        raise ModelUnavailable(f"{base_url} offers no model. {remedy}")
    return names[0]
