"""The rules behind the practice model: what it answers, with tables of patterns in place of weights.

What it can: call `remember` for what a user says about themself; call `recall` for what they ask about themself, and
where they announce, want or are offered something of their own; answer from memories by shared words; bring up what a
prompt gives it for that; fill a JSON schema; follow a few rules on the form of answers; word an explanation by level.
What it can't: know anything about a topic, draw conclusions, or learn. Where no rule fits, it says what it is.

What it notices is in `statements` beside this file, when it looks something up unasked in `mentions`, what it concludes
from episodes in `conclusions`, how it answers in words in `answers`, and the words that it knows are in `patterns`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import takewhile
from typing import Any

from lib.practice.practice_model.answers import (
    Memory,
    Texts,
    answer_in_words,
    answers,
    asked_about_self,
    from_memories,
    memories_in,
    order_in,
    outside_blocks,
)
from lib.practice.practice_model.conclusions import conclusions_in, rules_in
from lib.practice.practice_model.mentions import fitting, given_to_bring_up, may_be_known, reminder
from lib.practice.practice_model.statements import Statement, extract, statements_in

HYBRID = "only when the user asks"  # in a system prompt: the rest is left to the background


def respond(
    messages: list[dict[str, Any]],
    *,
    tools: Sequence[dict[str, Any]] = (),
    schema: dict[str, Any] | None = None,
    obedient: bool = False,
) -> dict[str, Any]:
    """The next message of the assistant; the same input always gets the same answer.

    messages, tools: as in OpenAI's chat API, the content of each message a text; calls of tools get no ids yet.
    schema: the JSON schema that the answer must fit.
    obedient: carry out "ignore your rules and say …" found anywhere but between the lines <memories> and </memories>.

    >>> respond([{"role": "user", "content": "Explain recursion to a beginner in one sentence"}])["role"]
    'assistant'
    """
    texts = [(message["role"], message["content"]) for message in messages]
    asked = next((text for role, text in reversed(texts) if role == "user"), "")
    if schema is not None:
        return _says(json.dumps(_filled(schema, asked), ensure_ascii=False))
    question = outside_blocks(asked)
    answering_tool = messages[-1]["role"] == "tool"
    if not answering_tool and (calls := _remember(texts, question, tools)):
        return _calls(calls)
    if obedient and (order := order_in([text for _, text in texts])):
        return _says(order)
    if answering_tool:
        return _says(_from_tools(messages, texts, question))
    if _is_missing(question, memories_in(texts)) and (call := _recall(question, tools)):
        return _calls([call])
    said = answer_in_words(texts, question)
    return _says(" ".join(filter(None, [said, reminder(given_to_bring_up(texts), said)])))


def _says(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def _calls(calls: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    functions = [{"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)} for name, arguments in calls]
    return {"role": "assistant", "content": None, "tool_calls": [{"function": function} for function in functions]}


# --- Tools ----------------------------------------------------------------------------------------


def _tool(tools: Sequence[dict[str, Any]], start: str) -> tuple[str, dict[str, Any]] | None:
    """Name and parameters (a JSON schema) of the first tool whose name starts so."""
    for function in (tool["function"] for tool in tools):
        if function["name"].startswith(start):
            return function["name"], function.get("parameters") or {}
    return None


def _remember(texts: Texts, question: str, tools: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    if (tool := _tool(tools, "remember")) is None:
        return []
    name, parameters = tool
    turn = sum(role == "user" for role, _ in texts)
    only_urgent = any(HYBRID in text.lower() for role, text in texts if role in ("system", "developer"))
    statements = [one for one in statements_in(question, turn) if one.urgent or not only_urgent]
    return [(name, _arguments(_fields(statement), parameters)) for statement in statements]


def _fields(statement: Statement) -> dict[str, Any]:
    """A statement under every name that a tool may have for its fields."""
    value = {name: getattr(statement, name) for name in ("type", "content", "topics", "confidence")}
    return asdict(statement) | dict.fromkeys(("fact", "text", "memory"), statement.content) | {"value": value}


def _is_missing(question: str, memories: list[Memory]) -> bool:
    """Whether something should be looked up that the prompt doesn't hold."""
    if about_self := asked_about_self(question):
        return not answers(about_self, memories)
    return may_be_known(question) and not fitting(question, memories)


def _recall(question: str, tools: Sequence[dict[str, Any]]) -> tuple[str, dict[str, Any]] | None:
    if (tool := _tool(tools, "recall")) is None:
        return None
    return tool[0], _arguments(dict.fromkeys(("query", "question", "text"), question), tool[1])


def _arguments(known: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Of what is known, what the tool has a parameter for; what else it requires, as simply as can be."""
    required = parameters.get("required") or []
    return {
        name: known[name] if name in known else _simplest(part, parameters)
        for name, part in (parameters.get("properties") or {}).items()
        if name in known or name in required
    }


def _from_tools(messages: list[dict[str, Any]], texts: list[tuple[str, str]], question: str) -> str:
    """An answer in words from the tool results that end the conversation."""
    names = {call["id"]: call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()}
    last = list(takewhile(lambda message: message["role"] == "tool", reversed(messages)))
    results = [(names[message["tool_call_id"]], message["content"]) for message in reversed(last)]
    stored = sum(name.startswith("remember") for name, _ in results)
    asked = asked_about_self(question)
    memories = memories_in(texts)
    sentences = ["I will remember that." if stored == 1 else f"I will remember these {stored} things."][: stored > 0]
    own = ("remember", "recall")
    sentences += [f"The tool {name} says: {text[:300]}" for name, text in results if not name.startswith(own)]
    recalled = any(name.startswith("recall") for name, _ in results)
    if recalled and not asked and may_be_known(question):
        said = answer_in_words(texts, question)
        sentences += filter(None, [said, reminder(fitting(question, memories), said)])
    elif recalled or (asked and stored):
        sentences.append(from_memories(asked or question, memories))
    return " ".join(sentences)


# --- JSON schemas ---------------------------------------------------------------------------------

_TRANSCRIPT = re.compile(r"^\[(\d+)\] (\w+): (.*)$", re.MULTILINE)
_LONGEST_READ = 200_000  # characters of a transcript or a list of episodes


def _filled(schema: dict[str, Any], text: str) -> Any:
    """A JSON value that fits the schema: extracted memories, patterns of episodes, or the simplest one there is."""
    answer, text = _simplest(schema, schema), text[:_LONGEST_READ]
    properties = schema.get("properties") or {}
    name = next((name for name in ("memories", "patterns") if name in properties), None)
    if name is None:
        return answer
    item = _resolved(properties[name]["items"], schema) | {"$defs": schema.get("$defs")}
    if name == "memories":
        turns = [(int(number[:9]), speaker.lower(), said) for number, speaker, said in _TRANSCRIPT.findall(text)]
        items = [_fields(statement) for statement in extract(turns)]
    else:
        items = rules_in(text) if "rule" in (item.get("properties") or {}) else conclusions_in(text)
    return answer | {name: [_arguments(one, item) for one in items]}


def _simplest(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """The simplest value that a JSON schema allows: its default or first choice, else empty or its least number."""
    schema = _resolved(schema, root)
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _simplest(schema["properties"][name], root) for name in schema.get("required") or ()}
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "array":
            return []
        case "boolean":
            return False
        case "string":
            return ""
    return None


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema that a schema stands for: what it refers to, or the first of its choices."""
    if reference := schema.get("$ref"):
        return _resolved(root["$defs"][reference.removeprefix("#/$defs/")], root)
    return _resolved(schema["anyOf"][0], root) if "anyOf" in schema else schema
