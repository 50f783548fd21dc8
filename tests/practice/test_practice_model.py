"""The practice model over real HTTP, as OpenAI's own client and LangChain see it; its rules here are a parrot's."""

import http.client
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from pydantic import BaseModel, ValidationError

from lib.errors import ServerStartError
from lib.practice.practice_model import Behaviour, PracticeModel, Usage, rules, start_practice_model
from lib.practice.practice_model.api import MODEL_NAME
from lib.workbook.command import main

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 10  # longest wait for an answer
HELLO = [{"role": "user", "content": "Hello, I live in Montréal 🍁."}]
WEATHER = [{"role": "user", "content": "The weather in Paris and Rome?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def parrot(messages, *, tools=(), schema=None, obedient=False):
    """Repeats what the user said; asks the first tool for each city; fills a schema with a trip."""
    last = messages[-1]
    if schema is not None:
        return {"role": "assistant", "content": json.dumps({"city": "Paris", "days": 3})}
    if last["role"] == "tool":
        return {"role": "assistant", "content": f"The tool said: {last['content']}"}
    cities = [city for city in ("Paris", "Rome") if city in last["content"]]
    if tools and cities:
        calls = [{"name": tools[0]["function"]["name"], "arguments": json.dumps({"city": city})} for city in cities]
        return {"role": "assistant", "content": None, "tool_calls": [{"function": call} for call in calls]}
    return {"role": "assistant", "content": f"You said: {last['content']}{' Sir!' if obedient else ''}"}


class Trip(BaseModel):
    """A trip."""

    city: str
    days: int


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch, start_practice_model() as model:
        patch.setattr(rules, "respond", parrot)
        yield model


@pytest.fixture
def model(server):
    """A running practice model as if new; one server for all tests, because starting is not what they test."""
    server.behaviour = Behaviour()
    server.usage.reset()
    server.requests.clear()
    return server


@pytest.fixture
def client(model):
    with client_of(model) as client:
        yield client


def client_of(model: PracticeModel, **options) -> openai.OpenAI:
    return openai.OpenAI(
        **{"base_url": model.url, "api_key": "practice", "timeout": SECONDS, "max_retries": 0} | options
    )


def chat_model(model: PracticeModel, **options):
    from langchain_openai import ChatOpenAI

    settings = {"base_url": model.url, "api_key": "practice", "model": MODEL_NAME, "timeout": SECONDS, "max_retries": 0}
    return ChatOpenAI(**settings | {"stream_usage": True} | options)


def ask(client: openai.OpenAI, messages=HELLO, **options):
    return client.chat.completions.create(model=MODEL_NAME, messages=messages, **options)


def post(model: PracticeModel, body: bytes | dict, path: str = "/chat/completions", method: str = "POST"):
    """(status, content) of a request without a client's help."""
    address = urlsplit(model.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=SECONDS)
    connection.request(method, address.path + path,
                       body if isinstance(body, bytes) else json.dumps(body).encode())  # fmt: skip
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response.status, content


def error_of(model: PracticeModel, body: bytes | dict, **options) -> tuple[int, str]:
    status, content = post(model, body, **options)
    assert set(content["error"]) == {"message", "type", "param", "code"}
    return status, content["error"]["message"]


# Answers


def test_a_plain_answer_has_text_usage_and_the_model_that_was_asked_for(model, client):
    answer = client.chat.completions.create(model="gpt-any", messages=HELLO)

    assert answer.choices[0].message.content == "You said: Hello, I live in Montréal 🍁."
    assert (answer.choices[0].finish_reason, answer.model, answer.created) == ("stop", "gpt-any", 0)
    assert answer.usage.prompt_tokens == math.ceil(len(HELLO[0]["content"]) / 4) + 4
    assert answer.usage.completion_tokens == math.ceil(len(answer.choices[0].message.content) / 4)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert model.requests[-1] == {"model": "gpt-any", "messages": HELLO}


def test_a_streamed_answer_is_the_plain_one(client):
    plain = ask(client)

    pieces = list(ask(client, stream=True, stream_options={"include_usage": True}))

    assert "".join(piece.choices[0].delta.content for piece in pieces[:-1]) == plain.choices[0].message.content
    assert pieces[-1].usage == plain.usage
    assert [piece.usage for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-2].choices[0].finish_reason == "stop"


def test_a_stream_has_usage_only_if_asked_for(client):
    assert not any(piece.usage for piece in ask(client, stream=True))


def test_langchain_gets_the_same_text_and_usage_streamed_or_not(model):
    chat = chat_model(model)

    plain = chat.invoke("Hello there")
    streamed = None
    for piece in chat.stream("Hello there"):
        streamed = piece if streamed is None else streamed + piece

    assert streamed.content == plain.content == "You said: Hello there"
    assert streamed.usage_metadata["output_tokens"] == plain.usage_metadata["output_tokens"] == 6
    assert streamed.usage_metadata["total_tokens"] == plain.usage_metadata["total_tokens"]


def test_an_asynchronous_client_is_answered(model):
    import asyncio

    answers = asyncio.run(chat_model(model).abatch(["one", "two"]))

    assert [answer.content for answer in answers] == ["You said: one", "You said: two"]


def test_the_rules_are_told_to_be_obedient(model, client):
    model.behaviour.obedient = True

    assert ask(client).choices[0].message.content.endswith("Sir!")


# Tools and structured output


def test_tool_calls_come_side_by_side_and_alike_when_streamed(client):
    plain = ask(client, WEATHER, tools=[TOOL])

    streamed: dict[int, list] = {}
    for piece in ask(client, WEATHER, tools=[TOOL], stream=True):
        for call in piece.choices[0].delta.tool_calls or ():
            known = streamed.setdefault(call.index, [call.id, call.function.name, ""])
            known[2] += call.function.arguments

    calls = [(call.id, call.function.name, call.function.arguments) for call in plain.choices[0].message.tool_calls]
    assert [json.loads(arguments) for _, _, arguments in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert [tuple(call) for call in streamed.values()] == calls
    assert len({identifier for identifier, _, _ in calls}) == 2
    assert (plain.choices[0].finish_reason, plain.choices[0].message.content) == ("tool_calls", None)


@pytest.mark.parametrize(
    ("choice", "said", "called"),
    [
        ("auto", WEATHER, ["weather", "weather"]),
        ("none", WEATHER, []),
        ("auto", HELLO, []),
        ("required", HELLO, ["weather"]),
        ({"type": "function", "function": {"name": "other"}}, WEATHER, ["other", "other"]),
        ({"type": "function", "function": {"name": "other"}}, HELLO, ["other"]),
    ],
)
def test_the_choice_of_a_tool_is_kept_to(client, choice, said, called):
    other = {"type": "function", "function": {**TOOL["function"], "name": "other"}}

    message = ask(client, said, tools=[TOOL, other], tool_choice=choice).choices[0].message

    assert [call.function.name for call in message.tool_calls or ()] == called
    assert all(json.loads(call.function.arguments)["city"] for call in message.tool_calls or ())


def test_langchain_binds_tools(model):
    def weather(city: str) -> str:
        """The weather of a city."""

    calls = chat_model(model).bind_tools([weather]).invoke("The weather in Rome?").tool_calls

    assert [(call["name"], call["args"]) for call in calls] == [("weather", {"city": "Rome"})]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_gets_structured_output(model, method):
    trip = chat_model(model).with_structured_output(Trip, method=method).invoke("Plan it")

    assert trip == Trip(city="Paris", days=3)


def test_openai_parses_structured_output(client):
    answer = client.chat.completions.parse(model=MODEL_NAME, messages=HELLO, response_format=Trip)

    assert answer.choices[0].message.parsed == Trip(city="Paris", days=3)


@pytest.mark.parametrize("streamed", [False, True])
def test_an_agent_completes_a_round_trip_to_its_tools(model, streamed):
    from langchain.agents import create_agent

    def weather(city: str) -> str:
        """The weather of a city."""
        return f"sun in {city}"

    agent = create_agent(chat_model(model, streaming=streamed), [weather])
    messages = agent.invoke({"messages": WEATHER})["messages"]

    assert [message.type for message in messages] == ["human", "ai", "tool", "tool", "ai"]
    assert messages[-1].content == "The tool said: sun in Rome"
    assert model.usage.calls == 2
    assert [message["role"] for message in model.requests[-1]["messages"]] == ["user", "assistant", "tool", "tool"]


# Requests that are refused


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "JSON"),
        (b"[]", "valid dictionary"),
        (b"", "JSON"),
        ({}, "messages: Field required"),
        ({"messages": []}, "at least 1 item"),
        ({"messages": [{"role": "robot", "content": ""}]}, "not 'robot'"),
        ({"messages": ["Hello"]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "tool_call_id": "call_9", "content": ""}]}, "'call_9'"),
        ({"messages": [ASKED]}, "alone: 'call_1'"),
        ({"messages": [ASKED, *HELLO]}, "alone: 'call_1'"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "no 'id'"),
        ({"messages": HELLO, "tool_choice": "required"}, "there are none"),
        ({"messages": HELLO, "tools": [TOOL], "tool_choice": {"function": {"name": "x"}}}, "(weather)"),
        ({"messages": HELLO, "response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_a_request_that_openai_would_refuse_is_refused(model, body, said):
    status, message = error_of(model, body)

    assert status == 400
    assert said in message
    assert (model.usage.calls, model.usage.failed) == (1, 1)


def test_an_answered_tool_call_is_no_fault(model):
    answered = {"role": "tool", "tool_call_id": "call_1", "content": "sun"}

    assert post(model, {"messages": [*HELLO, ASKED, answered]})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/responses", 404), ("GET", "/nothing", 404)],
)
def test_an_unknown_path_or_method_is_named_and_not_counted(model, method, path, status):
    found, message = error_of(model, {}, path=path, method=method)

    assert found == status
    assert path.strip("/") in message or method in message
    assert model.usage.calls == 0


def test_its_models_are_listed(client):
    assert [listed.id for listed in client.models.list()] == [MODEL_NAME]


def test_a_connection_is_kept_open_also_after_a_refusal(model):
    address = urlsplit(model.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=SECONDS)
    statuses, ports = [], set()
    body = json.dumps({"messages": HELLO}).encode()

    for sent in (body, b"{", body):
        connection.request("POST", "/v1/chat/completions", sent)
        ports.add(connection.sock.getsockname()[1])
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()

    assert statuses == [200, 400, 200]
    assert len(ports) == 1


# Failures


def test_a_rate_limit_is_seen_without_retries(model, client):
    model.behaviour.failures = ["429:0.2"]

    with pytest.raises(openai.RateLimitError) as failed:
        ask(client)

    assert failed.value.response.headers["Retry-After"] == "0.2"
    assert ask(client).choices[0].message.content
    assert repr(model.usage).startswith("2 calls (1 failed)")


def test_a_retry_waits_as_long_as_it_was_told_to(model):
    model.behaviour.failures = ["429:0.3", "429:0.3"]
    start = time.monotonic()

    answer = chat_model(model, max_retries=2).invoke("Hello")

    assert answer.content == "You said: Hello"
    assert 0.6 <= time.monotonic() - start < 1.5
    assert (model.usage.calls, model.usage.failed) == (3, 2)


def test_a_rate_limit_without_a_time_asks_for_a_second(model, client):
    model.behaviour.failures.append("429")

    with pytest.raises(openai.RateLimitError) as failed:
        ask(client)

    assert failed.value.response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("failure", "error"), [("500", openai.InternalServerError), ("401", openai.AuthenticationError)]
)
def test_a_status_is_seen_as_the_error_that_it_means(model, client, failure, error):
    model.behaviour.failures = [failure]

    with pytest.raises(error, match="practice model failed"):
        ask(client, stream=True)


def test_a_dropped_answer_is_a_lost_connection(model, client):
    model.behaviour.failures = ["drop"]

    with pytest.raises(openai.APIConnectionError):
        ask(client)

    assert (model.usage.calls, model.usage.failed, model.usage.completion_tokens) == (1, 1, 0)


def test_a_dropped_stream_ends_with_an_error(model, client):
    model.behaviour.failures = ["drop"]
    model.behaviour.answers = ["for the next one"]

    with pytest.raises(openai.APIConnectionError):
        list(ask(client, stream=True))

    assert ask(client).choices[0].message.content == "for the next one"
    assert (model.usage.calls, model.usage.failed) == (2, 1)


def test_a_timeout_is_the_clients_own(model):
    model.behaviour.failures = ["timeout"]
    start = time.monotonic()

    with client_of(model, timeout=0.5) as client, pytest.raises(openai.APITimeoutError):
        ask(client)

    assert 0.5 <= time.monotonic() - start < 1.5
    wait_until(lambda: model.usage.failed == 1)


def test_a_failure_that_is_unknown_is_told_to_the_client(model, client):
    model.behaviour.failures.append("explode")

    with pytest.raises(openai.BadRequestError, match="'explode'"):
        ask(client)


def test_answers_that_are_no_list_are_told_to_the_client(model, client):
    model.behaviour.answers = "empty"

    with pytest.raises(openai.BadRequestError, match=r"answers .* must be a list such as \['empty'\]"):
        ask(client)


def test_a_fault_of_the_rules_is_told_to_the_client(model, client, monkeypatch, capfd):
    def broken(messages, **options):
        raise KeyError("content")

    monkeypatch.setattr(rules, "respond", broken)

    with pytest.raises(openai.InternalServerError, match=r"rules failed: KeyError\('content'\)"):
        ask(client)

    assert capfd.readouterr().err == ""


# Bad answers


@pytest.mark.parametrize("answer", ["not json", "wrong schema", "verbatim: { no"])
def test_structured_output_by_schema_fails_on_a_bad_answer_and_works_again(model, answer):
    model.behaviour.answers = [answer]
    structured = chat_model(model).with_structured_output(Trip, method="json_schema", include_raw=True)

    # Not under "parsing_error": OpenAI's client parses the answer before LangChain sees it.
    with pytest.raises(ValidationError):
        structured.invoke("Plan it")

    assert structured.invoke("Plan it")["parsed"] == Trip(city="Paris", days=3)


@pytest.mark.parametrize("answer", ["bad arguments", "wrong arguments", "empty"])
def test_structured_output_by_function_calling_fails_on_a_bad_answer_and_works_again(model, answer):
    model.behaviour.answers = [answer]
    structured = chat_model(model).with_structured_output(Trip, method="function_calling", include_raw=True)

    bad, good = structured.invoke("Plan it"), structured.invoke("Plan it")

    assert bad["parsed"] is None
    assert good["parsed"] == Trip(city="Paris", days=3)


def test_each_bad_answer_is_what_its_name_says(model, client):
    model.behaviour.answers = [
        "not json",
        "wrong schema",
        "empty",
        "unknown tool",
        "bad arguments",
        "wrong arguments",
        "X",
    ]
    messages = [ask(client, WEATHER, tools=[TOOL]).choices[0].message for _ in range(7)]
    not_json, wrong_schema, empty, unknown_tool, bad_arguments, wrong_arguments, verbatim = messages
    calls = [message.tool_calls[0].function for message in (unknown_tool, bad_arguments, wrong_arguments)]

    for text in (not_json.content, calls[1].arguments):
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
    assert json.loads(wrong_schema.content)
    assert (empty.content, empty.tool_calls) == ("", None)
    assert [call.name for call in calls] == ["no_such_tool", "weather", "weather"]
    assert not isinstance(json.loads(calls[2].arguments)["city"], str)
    assert verbatim.content == "X"
    assert ask(client).choices[0].message.content.startswith("You said")


def test_an_empty_answer_may_be_streamed(model, client):
    model.behaviour.answers = ["empty"]

    pieces = list(ask(client, stream=True))

    assert [piece.choices[0].delta.content for piece in pieces] == [""]


def test_an_agent_hears_of_an_unknown_tool_and_of_wrong_arguments(model):
    from langchain.agents import create_agent

    def weather(city: str) -> str:
        """The weather of a city."""
        return f"sun in {city}"

    model.behaviour.answers = ["unknown tool", "wrong arguments"]
    messages = create_agent(chat_model(model), [weather]).invoke({"messages": HELLO})["messages"]

    assert [message.type for message in messages] == ["human", "ai", "tool", "ai", "tool", "ai"]
    assert "no_such_tool is not a valid tool" in messages[2].content
    assert "city" in messages[4].content and "sun" not in messages[4].content


# Time


@pytest.mark.parametrize("streamed", [False, True])
def test_a_slow_answer_takes_the_time_that_was_stated(model, client, streamed):
    model.behaviour = Behaviour(first_token_ms=150, tokens_per_second=50)
    start = time.monotonic()

    list(ask(client, stream=streamed))

    stated = 0.15 + math.ceil(len("You said: Hello, I live in Montréal 🍁.") / 4) / 50
    assert stated <= time.monotonic() - start < 2 * stated + 0.3


def test_32_requests_at_once_are_all_answered_and_counted(model):
    model.behaviour.first_token_ms = 100
    questions = [f"question {number}" for number in range(32)]
    start = time.monotonic()

    with client_of(model) as client, ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda text: ask(client, [{"role": "user", "content": text}]), questions))

    assert [answer.choices[0].message.content for answer in answers] == [f"You said: {text}" for text in questions]
    assert time.monotonic() - start < 3
    assert (model.usage.calls, model.usage.failed) == (32, 0)
    assert model.usage.prompt_tokens == sum(answer.usage.prompt_tokens for answer in answers)
    assert model.usage.completion_tokens == sum(answer.usage.completion_tokens for answer in answers)
    assert len({answer.id for answer in answers}) == 32


def test_failures_are_given_to_one_request_each_also_at_once(model):
    model.behaviour.failures = ["500"] * 10

    with client_of(model) as client, ThreadPoolExecutor(20) as pool:
        done = [pool.submit(ask, client) for _ in range(20)]
        failed = [request for request in done if request.exception()]

    assert len(failed) == model.usage.failed == 10


def test_usage_shows_as_text_and_starts_anew():
    usage = Usage()
    usage.add({"prompt_tokens": 1200, "completion_tokens": 30})
    usage.add(None)

    shown = repr(usage)
    usage.reset()

    assert shown == "2 calls (1 failed), 1,200 prompt tokens, 30 completion tokens"
    assert (usage.calls, usage.failed, usage.prompt_tokens, usage.completion_tokens) == (0, 0, 0, 0)


def test_the_last_hundred_requests_are_kept(model):
    with client_of(model) as client:
        for number in range(102):
            ask(client, [{"role": "user", "content": f"text {number}"}])

    kept = [request["messages"][0]["content"] for request in model.requests]
    assert [kept[0], kept[-1]] == ["text 2", "text 101"]
    assert len(model.requests) == 100


# Starting and stopping


def wait_until(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_stop_waits_for_nobody_and_may_be_repeated(capfd):
    model = start_practice_model(behaviour=Behaviour(failures=["timeout"], first_token_ms=60_000))
    with client_of(model) as client, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, client) for _ in range(2)]  # one meets the timeout, one waits for its first token
        wait_until(lambda: len(model.requests) == 2)
        start = time.monotonic()

        model.stop()
        model.stop()

        assert time.monotonic() - start < 1
        assert all(isinstance(request.exception(SECONDS), openai.APIConnectionError) for request in waiting)
        with pytest.raises(openai.APIConnectionError):
            ask(client)
    wait_until(lambda: model.usage.failed == 2)
    assert "stopped" in repr(model)
    assert capfd.readouterr().err == ""


def test_a_stopped_model_leaves_no_thread_and_frees_its_port():
    before = threading.active_count()
    with start_practice_model() as model, client_of(model) as client:
        ask(client)
    port = urlsplit(model.url).port

    wait_until(lambda: threading.active_count() <= before)
    with start_practice_model(port) as again:
        assert again.url == model.url


def test_two_models_side_by_side_know_nothing_of_each_other(model):
    with start_practice_model(behaviour=Behaviour(answers=["the other", "the other"])) as other:
        with client_of(model) as client, client_of(other) as other_client:
            texts = [ask(one).choices[0].message.content for one in (other_client, client, other_client)]

        assert texts == ["the other", "You said: Hello, I live in Montréal 🍁.", "the other"]
        assert (model.usage.calls, other.usage.calls) == (1, 2)


def test_a_port_that_is_taken_or_none_is_named(model):
    port = urlsplit(model.url).port

    with pytest.raises(ServerStartError, match=f"port {port} .* Choose another one"):
        start_practice_model(port)
    with pytest.raises(ServerStartError, match="70000"):
        start_practice_model(70_000)


@pytest.mark.parametrize("way", ["trust_env", "NO_PROXY"])
def test_a_proxy_of_the_users_need_not_matter(model, monkeypatch, way):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens there
    if way == "NO_PROXY":
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    own = {} if way == "NO_PROXY" else {"http_client": openai.DefaultHttpxClient(trust_env=False)}

    with client_of(model, **own) as client:
        assert ask(client).choices[0].message.content
    own = {} if way == "NO_PROXY" else {"http_client": openai.DefaultHttpxClient(trust_env=False)}
    assert chat_model(model, **own).invoke("Hello").content == "You said: Hello"


def test_a_client_that_leaves_is_no_news(model, capfd):
    model.behaviour.first_token_ms = 300
    with client_of(model, timeout=0.1) as client, pytest.raises(openai.APITimeoutError):
        ask(client)

    wait_until(lambda: model.usage.calls == 1)
    assert capfd.readouterr() == ("", "")


# The command


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    # A shell that starts it in the background has it ignore the interrupt, so it is told to heed it.
    code = (
        "import signal, sys, lib.workbook.command as m\n"
        "signal.signal(getattr(signal, 'SIGBREAK', signal.SIGINT), signal.default_int_handler)\n"
        "sys.exit(m.main(['practice-model']))"
    )
    options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {}
    running = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "http_proxy": "http://127.0.0.1:9"}, **options,
    )  # fmt: skip
    try:
        lines = [running.stdout.readline().strip()]
        while not lines[-1].startswith("curl") and running.poll() is None:
            lines.append(running.stdout.readline().strip())
        assert lines[-1], running.communicate()
        settings = dict(line.split("=", 1) for line in lines if line.startswith(("OPENAI", "NO_PROXY")))
        with openai.OpenAI(
            base_url=settings["OPENAI_BASE_URL"], api_key=settings["OPENAI_API_KEY"], timeout=SECONDS, max_retries=0
        ) as client:
            answer = ask(client)
        running.send_signal(signal.CTRL_BREAK_EVENT if os.name == "nt" else signal.SIGINT)
        out, err = running.communicate(timeout=SECONDS)
    finally:
        running.kill()
        running.communicate()

    assert answer.choices[0].message.content
    assert settings["NO_PROXY"] == "127.0.0.1,localhost"
    assert (running.returncode, out, err) == (0, "stopped\n", "")


def test_the_command_names_a_port_that_is_taken(model, capsys):
    port = str(urlsplit(model.url).port)

    code = main(["practice-model", "--port", port])

    assert code == 1
    assert f"port {port}" in capsys.readouterr().err
