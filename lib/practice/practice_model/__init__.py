"""The practice model: a local HTTP server that speaks OpenAI's API, with rules behind it instead of weights.

The code that uses it is the code that uses a paid model: only OPENAI_BASE_URL differs. It can be told to be slow, to
fail and to answer badly, which a paid model does without being told.
"""

import atexit
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from lib.practice.practice_model.api import MODEL_NAME
from lib.practice.practice_model.mistakes import MISTAKES
from lib.practice.practice_model.server import HOST, Server

__all__ = [
    "MISTAKES",
    "MODEL_NAME",
    "Behaviour",
    "PracticeModel",
    "Usage",
    "start_practice_model",
]

KEPT_REQUESTS = 100


@dataclass
class Behaviour:
    """How the practice model behaves; its fields may be changed while it runs.

    first_token_ms: ms until an answer begins.
    tokens_per_second: speed from there on, 0 for all at once. An answer arrives when all of it is there, also if it
        is to be streamed.
    failures: what the next requests meet, one each, in order: "429" (with Retry-After; "429:0.2" asks for 0.2
        seconds), "500" or any other status of an error, "drop" (the connection is closed in the middle of the
        answer), "timeout" (no answer until the client gives up).
    answers: bad answers for the next chats that don't fail, one each: one of MISTAKES, or any other text, which is
        then the answer word for word.
    obedient: follow instructions that stand in remembered text, as a careless model does.
    """

    first_token_ms: float = 0
    tokens_per_second: float = 0
    failures: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    obedient: bool = False

    def seconds_for(self, tokens: int) -> float:
        """Seconds from a request until an answer of so many tokens is there."""
        return self.first_token_ms / 1000 + (tokens / self.tokens_per_second if self.tokens_per_second else 0)


class Usage:
    """What the model was asked to do so far, by all threads: calls, prompt_tokens, completion_tokens, failed.

    calls: requests for a chat. failed: those of them that got no answer; they cost no tokens.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self.calls = self.prompt_tokens = self.completion_tokens = self.failed = 0

    def add(self, usage: dict[str, int] | None) -> None:
        """Count one request: OpenAI's usage object of its answer, None if it failed."""
        with self._lock:
            self.calls += 1
            self.failed += usage is None
            self.prompt_tokens += (usage or {}).get("prompt_tokens", 0)
            self.completion_tokens += (usage or {}).get("completion_tokens", 0)

    def __repr__(self) -> str:
        return (
            f"{self.calls:,} calls ({self.failed:,} failed), {self.prompt_tokens:,} prompt tokens, "
            f"{self.completion_tokens:,} completion tokens"
        )


class PracticeModel:
    """A running server. `url` is for OPENAI_BASE_URL; `usage` counts; `requests` holds the last 100 bodies."""

    def __init__(self, port: int, behaviour: Behaviour | None):
        self.behaviour = behaviour or Behaviour()
        self.usage = Usage()
        self.requests: deque[dict[str, Any]] = deque(maxlen=KEPT_REQUESTS)
        self._server = Server(port, self)
        self.url = f"http://{HOST}:{self._server.server_address[1]}/v1"
        # stop() waits for one round of this loop, so the rounds are short: 0.05 seconds.
        self._loop = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._loop.start()
        atexit.register(self.stop)

    def __enter__(self) -> "PracticeModel":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<practice model at {self.url}, {'stopped' if self._server.stopping.is_set() else 'running'}>"

    def stop(self) -> None:
        """Stop the server; requests that it hasn't answered yet are dropped. A second call does nothing."""
        atexit.unregister(self.stop)
        if not self._loop.is_alive():  # stopped before; or we are a fork, and our parent goes on serving
            return
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()


def start_practice_model(port: int = 0, *, behaviour: Behaviour | None = None) -> PracticeModel:
    """Start a practice model and return it running; it stops with `stop()`, a `with` block, or this process.

    port: on this computer only; 0 takes a free one.
    Errors: ServerStartError if the port can't be had.

    >>> with start_practice_model() as model:
    ...     model.usage
    0 calls (0 failed), 0 prompt tokens, 0 completion tokens
    """
    return PracticeModel(port, behaviour)
