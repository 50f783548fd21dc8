"""Answers of a model that must fit a schema: asked for, checked, and asked for once more."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from lib.errors import ExtractionFailed, InvalidInput

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

ATTEMPTS = 2  # that a model gets for an answer that can be used
T = TypeVar("T", bound=BaseModel)


def ask(
    model: "BaseChatModel",
    schema: type[T],
    instructions: str,
    text: str,
    *,
    check: Callable[[T], None] = lambda _: None,
) -> T:
    """Return the model's answer as an object of `schema`, whose JSON schema the server is asked to keep to.

    check: raises InvalidInput for an answer that fits the schema and is wrong, in words that a model can act on.
    A bad answer goes back once, with what is wrong with it.
    Errors: ExtractionFailed after the second one; the errors of the client if the model can't be reached.
    """
    response_format = {
        "type": "json_schema",
        "json_schema": {"name": schema.__name__, "schema": schema.model_json_schema(), "strict": True},
    }
    asking = model.bind(response_format=response_format)
    from openai import BadRequestError, UnprocessableEntityError

    request, problem = text, ""
    for _ in range(ATTEMPTS):
        # Parsed here and not by the client: some servers ignore the schema, and then each client fails in its own way.
        try:
            answer = asking.invoke([("system", instructions), ("user", request)])
        except (BadRequestError, UnprocessableEntityError) as error:  # it is about this text: others may do better
            raise ExtractionFailed(f"the model's server refuses this request: {error}") from error
        try:
            parsed = schema.model_validate_json(_without_fence(answer.text))
            check(parsed)
            return parsed
        except ValidationError as error:
            problem = _in_words(error)
        except InvalidInput as error:
            problem = str(error)
        request = f"{text}\n\nYour last answer could not be used: {problem} Answer again."
    raise ExtractionFailed(f"the model's answer could not be used, {ATTEMPTS} times: {problem}")


def _without_fence(text: str) -> str:
    """JSON without the ``` that models like to put around it."""
    return re.sub(r"^```.*\n|```$", "", text.strip())


def _in_words(error: ValidationError) -> str:
    """The first few faults of an answer, short enough to be sent back."""
    faults = error.errors(include_url=False, include_context=False)
    words = [f"{'.'.join(map(str, fault['loc'])) or 'the answer'}: {fault['msg']}" for fault in faults[:3]]
    return f"it doesn't fit the schema ({'; '.join(words)[:400]})."
