"""The chat model and the agent on an OpenAI-compatible server that we didn't write.

    uv run --group compatibility pytest -n0 tests/compatibility

The server (fakellm) follows a script: it stands for the protocol, not for a model.
"""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.agent.agents import memory_agent
from lib.database.engine import connect, create_tables
from lib.formation.extraction import extract_memories
from lib.llm.chat import chat_model, model_choice
from lib.store.memory_store import MemoryStore

FACT = {"namespace": "facts", "key": "exam_date", "fact": "The exam is on 22 May 2026."}
MEMORY = {
    "type": "semantic", "namespace": "facts", "key": "exam_date", "content": "The exam is on 22 May.",
    "topics": ["exam"], "confidence": 1.0, "turn": 1,
}  # fmt: skip
RULES = [
    {"name": "greet", "when": {"messages_contain": "Good morning"}, "respond": {"content": "Good morning to you."}},
    {
        "name": "extract",
        "when": {"messages_contain": "You read a conversation"},
        "respond": {"content": "```json\n" + json.dumps({"memories": [MEMORY]}) + "\n```"},
    },
    {
        "name": "answer",
        "when": {"tool_result_contains": "Stored as"},
        "respond": {"content": "I will remember your exam."},
    },
    {
        "name": "call",
        "when": {"tools_include": "remember"},
        "respond": {"tool_calls": [{"name": "remember", "arguments": FACT}]},
    },
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("server")
    (folder / "fakellm.yaml").write_text(json.dumps({"rules": RULES}), encoding="utf-8")  # JSON is YAML
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("fakellm")
    server = subprocess.Popen([program, "serve", "--port", str(port)], cwd=folder, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_fakellm/stats", timeout=1)
            break
        except OSError:
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/v1"
    server.terminate()
    server.wait()


@pytest.fixture(autouse=True)
def pointed_at_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_MODEL", "scripted")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_an_agent_completes_a_turn_with_a_tool() -> None:
    engine = connect("sqlite://")
    create_tables(engine)
    store = MemoryStore(engine)

    talk = memory_agent(chat_model(), store, "ada").invoke({"messages": [("user", "My exam is on 22 May 2026.")]})

    assert model_choice().kind == "endpoint"
    assert [message.type for message in talk["messages"]] == ["human", "ai", "tool", "ai"]
    assert talk["messages"][-1].text == "I will remember your exam."
    assert store.get("ada", "facts", "exam_date")["content"] == FACT["fact"]


def test_an_answer_is_streamed() -> None:
    chunks = [chunk.text for chunk in chat_model().stream("Good morning")]

    assert "".join(chunks) == "Good morning to you."
    assert len([chunk for chunk in chunks if chunk]) > 1


def test_memories_are_extracted_though_the_server_ignores_the_schema() -> None:
    transcript = [{"turn": 1, "speaker": "user", "text": "My exam is on 22 May."}]

    (found,) = extract_memories(chat_model(), transcript)

    assert found.model_dump() == MEMORY
