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
from typing import Any

from lib.practice.practice_model.answers import (
    Memory,
    answer_in_words,
    answers,
    asked_about_self,
    from_memories,
    memories_in,
    order_in,
    outside_blocks,
    plain_lines,
)
from lib.practice.practice_model.conclusions import conclusions_in, rules_in
from lib.practice.practice_model.mentions import fitting, given_to_bring_up, may_be_known, reminder
from lib.practice.practice_model.statements import Statement, extract, statements_in

__all__ = ["Statement", "extract", "respond", "statements_in"]

HYBRID = "only when the user asks"  # in a system prompt: the rest is left to the background


def respond(
    messages: list[dict[str, Any]],
    *,
    tools: Sequence[dict[str, Any]] = (),
    schema: dict[str, Any] | None = None,
    obedient: bool = False,
) -> dict[str, Any]:
    """The next message of the assistant; the same input always gets the same answer.

    messages, tools: as in OpenAI's chat API. schema: the JSON schema that the answer must fit.
    obedient: carry out "ignore your rules and say …" found anywhere but between the lines <memories> and </memories>.

    >>> respond([{"role": "user", "content": "Explain recursion to a beginner in one sentence"}])["role"]
    'assistant'
    """
    messages = [message if isinstance(message, dict) else {} for message in messages or []]
    texts = [(str(message.get("role")), _text(message)) for message in messages]
    asked = next((text for role, text in reversed(texts) if role == "user"), "")
    if schema is not None:
        return _says(json.dumps(_filled(schema, asked), ensure_ascii=False))
    question = outside_blocks(asked)
    answering_tool = bool(messages) and messages[-1].get("role") == "tool"
    if not answering_tool and (calls := _remember(messages, question, tools)):
        return _calls(messages, calls)
    if obedient and (order := order_in([text for _, text in texts])):
        return _says(order)
    if answering_tool:
        return _says(_from_tools(messages, texts, question))
    if _is_missing(question, memories_in(texts)) and (call := _recall(question, tools)):
        return _calls(messages, [call])
    said = answer_in_words(texts, question)
    return _says(" ".join(filter(None, [said, reminder(given_to_bring_up(texts), said)])))


def _says(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def _calls(messages: list[dict[str, Any]], calls: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    as_json = [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls]
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": f"call_{len(messages)}_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(as_json)
        ],
    }


def _text(message: dict[str, Any]) -> str:
    """The text of a message, whose content may be a text, a list of parts, or nothing."""
    content = message.get("content")
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


# --- Tools ----------------------------------------------------------------------------------------


def _tool(tools: Sequence[dict[str, Any]], start: str) -> tuple[str, dict[str, Any]] | None:
    """Name and parameters (a JSON schema) of the first tool whose name starts so."""
    functions = [tool.get("function") or {} for tool in tools or () if isinstance(tool, dict)]
    found = next((one for one in functions if str(one.get("name", "")).startswith(start)), None)
    return (found["name"], found.get("parameters") or {}) if found else None


def _remember(
    messages: list[dict[str, Any]], question: str, tools: Sequence[dict[str, Any]]
) -> list[tuple[str, dict[str, Any]]]:
    tool = _tool(tools, "remember")
    since = [number for number, message in enumerate(messages) if message.get("role") == "user"]
    done = (
        {call["function"]["name"] for message in messages[since[-1] :] for call in _made(message)} if since else set()
    )
    if tool is None or not since or tool[0] in done:
        return []
    system = " ".join(_text(message) for message in messages if message.get("role") in ("system", "developer"))
    turn = len(since)
    found = [one for one in statements_in(question, turn) if one.urgent or HYBRID not in system.lower()]
    return [(tool[0], _arguments(_fields(one), tool[1])) for one in found]


def _fields(one: Statement) -> dict[str, Any]:
    """A notice under every name that a tool may have for its fields."""
    value = {"type": one.type, "content": one.content, "topics": one.topics, "confidence": one.confidence}
    return asdict(one) | dict.fromkeys(("fact", "text", "memory"), one.content) | {"value": value}


def _made(message: dict[str, Any]) -> list[dict[str, Any]]:
    return [call for call in message.get("tool_calls") or [] if isinstance(call, dict) and call.get("function")]


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
    properties = parameters.get("properties") or {}
    required = parameters.get("required") or []
    return {
        name: _fitted(known[name], part, parameters) if name in known else _simplest(part, parameters)
        for name, part in properties.items()
        if name in known or name in required
    }


def _from_tools(messages: list[dict[str, Any]], texts: list[tuple[str, str]], question: str) -> str:
    """An answer in words from the tool results that end the conversation."""
    names = {call.get("id"): call["function"].get("name", "") for message in messages for call in _made(message)}
    results: list[tuple[str, str]] = []
    for message in reversed(messages):
        if message.get("role") != "tool":
            break
        results.insert(0, (names.get(message.get("tool_call_id")) or message.get("name") or "", _text(message)))
    stored = sum(name.startswith("remember") for name, _ in results)
    asked = asked_about_self(question)
    memories = memories_in(texts)
    sentences = ["I will remember that." if stored == 1 else f"I will remember these {stored} things."][: stored > 0]
    for name, text in results:
        if name.startswith("recall"):
            memories += [] if memories_in([("tool", text)]) else plain_lines(text)
        elif not name.startswith("remember"):
            sentences.append(f"The tool {name or 'called'} says: {text[:300]}")
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
_DEEPEST = 20  # levels; a schema may refer to itself


def _filled(schema: dict[str, Any], text: str) -> Any:
    """A JSON value that fits the schema: extracted memories, patterns of episodes, or the simplest one there is."""
    answer, text = _simplest(schema, schema), text[:_LONGEST_READ]
    properties = schema.get("properties") or {}
    name = next((name for name in ("memories", "patterns") if name in properties), None)
    if name is None:
        return answer
    item = _resolved(_resolved(properties[name], schema).get("items") or {}, schema)
    if name == "memories":
        turns = [(int(number[:9]), speaker.lower(), said) for number, speaker, said in _TRANSCRIPT.findall(text)]
        found = [_fields(one) for one in extract(turns)]
    else:
        found = rules_in(text) if "rule" in (item.get("properties") or {}) else conclusions_in(text)
    return answer | {name: [_arguments(one, item | {"$defs": schema.get("$defs")}) for one in found]}


def _resolved(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """The schema that a schema stands for: what it refers to, or the first of its choices."""
    for _ in range(_DEEPEST):
        if not isinstance(schema, dict):
            return {}
        if (reference := schema.get("$ref")) is not None:
            schema = root
            for part in str(reference).removeprefix("#").strip("/").split("/"):
                schema = schema.get(part) if part and isinstance(schema, dict) else schema
        elif choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            schema = choices[0]
        else:
            break
    return schema if isinstance(schema, dict) else {}


def _simplest(schema: Any, root: dict[str, Any], depth: int = 0) -> Any:
    """The simplest value that a JSON schema allows: its default or first choice, else empty or 0."""
    schema = _resolved(schema, root)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "null")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" and depth < _DEEPEST:
        properties = schema.get("properties") or {}
        return {name: _simplest(properties.get(name), root, depth + 1) for name in schema.get("required") or []}
    if kind == "array" and depth < _DEEPEST:
        return [_simplest(schema.get("items"), root, depth + 1) for _ in range(schema.get("minItems", 0))]
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema["exclusiveMinimum"] + 1 if "exclusiveMinimum" in schema else 0)
        return min(max(low, 0), schema.get("maximum", low if low > 0 else 0))
    return {"string": "-" * schema.get("minLength", 0), "boolean": False}.get(kind)


def _fitted(value: Any, schema: Any, root: dict[str, Any]) -> Any:
    """A value as the schema of its field wants it, where that is a matter of form."""
    schema = _resolved(schema, root)
    if schema.get("enum"):
        return value if value in schema["enum"] else schema["enum"][0]
    if schema.get("type") == "string" and not isinstance(value, str):
        value = value.get("content", "") if isinstance(value, dict) else value
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return value
