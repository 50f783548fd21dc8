"""The practice model's HTTP: requests in, answers out, in time and with the failures that it was told to have."""

import contextlib
import itertools
import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from lib.errors import InvalidInput, ServerStartError, shown
from lib.practice.practice_model import api
from lib.practice.practice_model.api import RequestError
from lib.practice.practice_model.mistakes import mistake, parse_failure
from lib.practice.practice_model.vectors import EMBEDDING_MODEL_NAME, embeddings

HOST = "127.0.0.1"  # nobody on the network can reach it
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


class Server(ThreadingTCPServer):
    """Hands each connection to a thread of its own.

    model: the PracticeModel whose behaviour is read and whose usage is counted. Errors: ServerStartError.
    """

    # Not HTTPServer: it looks up this computer's name when it starts, which takes seconds in some networks.
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name != "nt"  # on Windows it would let two servers have one port
    request_queue_size = 128

    def __init__(self, port: int, model: Any, respond: api.Respond):
        self.model = model
        self.respond = respond
        self.stopping = threading.Event()
        self.numbers = itertools.count(1)  # of the answers
        self._open: set[socket.socket] = set()
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise ServerStartError(
                f"port {port} of this computer can't be had: {error.strerror}. Choose another one, or 0 for any that "
                "is free; or stop the program that has it."
            ) from None
        except (OverflowError, TypeError):
            raise InvalidInput(f"port must be a whole number from 0 to 65535, not {shown(port)}.") from None

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End all connections, so that no thread goes on waiting for its client."""
        for connection in self._open.copy():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; the default prints a traceback into the reader's notebook."""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a small piece of a stream waits 40 ms for the next one

    def log_message(self, *args: object) -> None:
        pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What BaseHTTPRequestHandler itself refuses, such as an unknown method, in OpenAI's shape."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self._send(code, RequestError(message or "this request can't be read.", status=code).body)

    def do_GET(self) -> None:
        path = self._path()
        if path == "/v1/models":
            names = (api.MODEL_NAME, EMBEDDING_MODEL_NAME)
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "workbook"} for name in names]
            self._send(200, {"object": "list", "data": models})
        else:
            refused = _wrong_path(path, "GET")
            self._send(refused.status, refused.body)

    def do_POST(self) -> None:
        self._started = time.monotonic()
        self._counted = False
        try:
            self._post()
        except RequestError as refused:
            self._count(None)
            self._send(refused.status, refused.body, refused.headers)
        except OSError:  # the client went away, or we are stopping
            self._count(None)
            self.close_connection = True
        except Exception as error:  # a fault of the rules: to be seen by who wrote them, at the other end
            self._count(None)
            self._send(500, RequestError(f"the practice model's rules failed: {error!r}", status=500).body)

    def _post(self) -> None:
        raw = self._read_body()
        path = self._path()
        if path not in (CHAT, EMBEDDINGS):
            self._counted = True  # only chats and embeddings count
            raise _wrong_path(path, "POST")
        body = _parsed(raw)
        self.server.model.requests.append(body)
        if path == CHAT:
            self._chat(api.checked_body(api.ChatRequest, body))
        else:
            answer = embeddings(body)
            self._send(200, answer, usage=answer["usage"], drop=self._fail())

    def _chat(self, request: api.ChatRequest) -> None:
        behaviour = self.server.model.behaviour
        drop = self._fail()
        bad = None if drop else _next(behaviour.answers)
        if bad is None:
            message = api.answer(request, self.server.respond, obedient=behaviour.obedient)
        else:
            message = mistake(bad, request)
        message, reason = api.finished(message, request)
        number = next(self.server.numbers)
        if request.stream:
            self._send_stream(list(api.chunks(request, message, reason, number)), behaviour, request, drop)
        else:
            answer = api.completion(request, message, reason, number)
            self._wait(behaviour, answer["usage"]["completion_tokens"])
            self._send(200, answer, usage=answer["usage"], drop=drop)

    def _fail(self) -> bool:
        """Have the next failure that is planned, if any; True if the answer is to be broken off in the middle."""
        planned = _next(self.server.model.behaviour.failures)
        if planned is None:
            return False
        try:
            kind, seconds = parse_failure(planned)
        except InvalidInput as error:  # it was put into the list later; a 400, because clients don't try that again
            raise RequestError(str(error)) from None
        if kind == "timeout":
            self.connection.recv(1)  # returns when the client gives up, or we hang up
            raise ConnectionAbortedError
        if kind == "drop":
            return True
        headers = {} if seconds is None else {"Retry-After": f"{seconds:g}"}
        text = "too many requests; wait a little." if kind == "429" else "it was told to."
        code = "rate_limit_exceeded" if kind == "429" else None
        raise RequestError(f"the practice model failed: {text}", status=int(kind), code=code, headers=headers)

    def _wait(self, behaviour: Any, token: int) -> None:
        # Until a moment, not for a time: what the work itself takes is part of it, and errors don't add up.
        due = self._started + behaviour.seconds_until(token)
        if self.server.stopping.wait(max(0.0, due - time.monotonic())):
            raise ConnectionAbortedError  # not an answer before its time

    def _send(
        self,
        status: int,
        content: dict[str, Any],
        headers: dict[str, str] | None = None,
        *,
        usage: dict[str, int] | None = None,
        drop: bool = False,
    ) -> None:
        """Send a whole answer; it is counted first, so that who has read it finds it counted."""
        data = json.dumps(content).encode()
        self._start_answer(status, {"Content-Type": "application/json", "Content-Length": str(len(data))}, headers)
        if drop:
            self.wfile.write(data[: len(data) // 2])
            raise ConnectionAbortedError
        if usage:
            self._count(usage)
        self.wfile.write(data)

    def _send_stream(
        self, chunks: list[tuple[int, dict[str, Any]]], behaviour: Any, request: api.ChatRequest, drop: bool
    ) -> None:
        self._start_answer(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})

        def write(text: str) -> None:
            data = f"data: {text}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

        for position, (token, chunk) in enumerate(chunks):
            if drop and position >= len(chunks) // 2:
                raise ConnectionAbortedError
            self._wait(behaviour, token)
            write(json.dumps(chunk))
        self._count(api.token_usage(request.prompt_tokens, chunks[-1][0]))
        write("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _start_answer(self, status: int, *headers: dict[str, str] | None) -> None:
        self.send_response(status)
        for name, value in (item for some in headers for item in (some or {}).items()):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _count(self, usage: dict[str, int] | None) -> None:
        if not self._counted:  # an answer may fail after it was counted: the client left at the last moment
            self._counted = True
            self.server.model.usage.add(usage)

    def _path(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():  # nobody knows where the next request begins
            self.close_connection = True
            raise RequestError("a request must say how long its body is, by Content-Length.", status=411)
        return self.rfile.read(int(length))


def _next(plan: list[str]) -> str | None:
    try:
        return plan.pop(0)  # one step, so that no two requests get the same
    except IndexError:
        return None


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body isn't JSON that can be read: {error}.") from None
    if not isinstance(body, dict):
        raise RequestError(f"the body must be a JSON object, not {shown(body)}.")
    return body


def _wrong_path(path: str, method: str) -> RequestError:
    if path in (CHAT, EMBEDDINGS):
        return RequestError(f"{path} wants POST, not {method}.", status=405)
    return RequestError(
        f"there is no {method} {shown(path)}. There are POST {CHAT}, POST {EMBEDDINGS}, "
        "and GET /v1/models; a client's base URL must end with /v1.",
        status=404,
        code="unknown_url",
    )
