"""The practice model's HTTP: requests in, answers out, in time and with the failures that it was told to have."""

import json
import os
import select
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from lib.errors import InvalidInput, ServerStartError, shown
from lib.practice.practice_model import api
from lib.practice.practice_model.api import RequestError
from lib.practice.practice_model.mistakes import mistake, parse_failure

HOST = "127.0.0.1"  # nobody on the network can reach it
CHAT, MODELS = "/v1/chat/completions", "/v1/models"


class Server(ThreadingTCPServer):
    """Hands each connection to a thread of its own.

    model: the PracticeModel whose behaviour is read and whose usage is counted. Errors: ServerStartError.
    """

    # Not HTTPServer: it looks up this computer's name when it starts, which takes seconds in some networks.
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name != "nt"  # on Windows it would let two servers have one port
    request_queue_size = 128

    def __init__(self, port: int, model: Any):
        from lib.practice.practice_model import rules  # here, because their patterns take a while to compile

        self.model, self.rules = model, rules
        self.stopping = threading.Event()
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            raise ServerStartError(
                f"port {port} of this computer can't be had: {error}. Choose another one, or 0 for any that "
                "is free; or stop the program that has it."
            ) from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; the default prints a traceback into the reader's notebook."""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a small piece of a stream waits 40 ms for the next one

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == MODELS:
            model = {"id": api.MODEL_NAME, "object": "model", "created": 0, "owned_by": "workbook"}
            self._send(200, json.dumps({"object": "list", "data": [model]}))
        else:
            self._refuse_path()

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != CHAT:
            self._refuse_path()
            return
        self._started = time.monotonic()
        self._counted = False
        try:
            self._chat(raw)
        except RequestError as refused:
            self._count(None)
            self._refuse(refused)
        except OSError:  # the client went away, or we are stopping
            self._count(None)
            self.close_connection = True
        except Exception as error:  # a fault of the rules: to be seen by who wrote them, at the other end
            self._count(None)
            self._refuse(RequestError(f"the practice model's rules failed: {error!r}", status=500))

    def _chat(self, raw: bytes) -> None:
        try:
            body = json.loads(raw)
        except ValueError as error:
            raise RequestError(f"the body isn't JSON that can be read: {error}.") from None
        self.server.model.requests.append(body)
        request = api.chat_request(body)
        behaviour = self.server.model.behaviour
        drop = self._fail()
        bad = None if drop else _next("answers", behaviour.answers)
        if bad is None:
            message = api.answer(request, self.server.rules.respond, obedient=behaviour.obedient)
        else:
            message = mistake(bad, request)
        answer = api.completion(request, api.finished(message, request))
        self._wait(behaviour.seconds_for(answer["usage"]["completion_tokens"]))
        if not drop:
            self._count(answer["usage"])
        if request.stream:
            self._send(200, api.streamed(request, answer), {"Content-Type": "text/event-stream"}, drop=drop)
        else:
            self._send(200, json.dumps(answer), drop=drop)

    def _fail(self) -> bool:
        """Have the next failure that is planned, if any; True if the answer is to be broken off in the middle."""
        planned = _next("failures", self.server.model.behaviour.failures)
        if planned is None:
            return False
        try:
            kind, seconds = parse_failure(planned)
        except InvalidInput as error:  # a 400, because clients don't try that again
            raise RequestError(str(error)) from None
        if kind == "timeout":
            while not self.server.stopping.is_set() and not select.select([self.connection], [], [], 0.05)[0]:
                pass  # until the client gives up
            raise ConnectionAbortedError
        if kind == "drop":
            return True
        text = "too many requests; wait a little." if kind == "429" else "it was told to."
        headers = {} if seconds is None else {"Retry-After": f"{seconds:g}"}
        raise RequestError(f"the practice model failed: {text}", int(kind), headers)

    def _wait(self, seconds: float) -> None:
        # Until a moment, not for a time: what the work itself takes is part of it.
        if self.server.stopping.wait(max(0.0, self._started + seconds - time.monotonic())):
            raise ConnectionAbortedError  # not an answer before its time

    def _refuse_path(self) -> None:
        known = f"There are POST {CHAT} and GET {MODELS}; a client's base URL must end with /v1."
        self._refuse(RequestError(f"there is no {self.command} {shown(self.path)}. {known}", status=404))

    def _refuse(self, refused: RequestError) -> None:
        self._send(refused.status, json.dumps(refused.body), refused.headers)

    def _send(self, status: int, content: str, headers: dict[str, str] | None = None, *, drop: bool = False) -> None:
        """Send a whole answer, or with `drop` the first half of it."""
        data = content.encode()
        self.send_response(status)
        sizes = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        for name, value in (sizes | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if drop else data)
        if drop:
            raise ConnectionAbortedError

    def _count(self, usage: dict[str, int] | None) -> None:
        """Count an answer, before its last byte is sent: who has read it finds it counted."""
        if not self._counted:  # an answer may fail after it was counted: the client left at the last moment
            self._counted = True
            self.server.model.usage.add(usage)


def _next(name: str, plan: list[str]) -> str | None:
    if isinstance(plan, str):
        raise RequestError(f"{name} of the practice model must be a list such as [{plan!r}], not a text.")
    try:
        return plan.pop(0)  # one step, so that no two requests get the same
    except IndexError:
        return None
