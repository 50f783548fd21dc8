"""Memories in a prompt stay data: nothing in them can end the quotation or the block."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from lib.agent.prompt_quoting import BEGIN, END, quote_memories, quote_memory
from lib.store.items import MemoryItem

MOMENT = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)


def item(value: dict, namespace: str = "facts", key: str = "k") -> MemoryItem:
    return MemoryItem("ada", namespace, key, value, MOMENT, MOMENT)


def test_a_memory_is_quoted_with_where_it_comes_from() -> None:
    value = {"content": "Rows.", "type": "semantic", "confidence": 0.9, "source": "a web page"}

    assert quote_memory(item(value)) == (
        '- [facts/k] "Rows." (semantic, said 2026-03-02, confidence 0.9, source a web page)'
    )


def test_a_value_without_a_content_is_quoted_whole() -> None:
    assert quote_memory(item({"n": 1})) == '- [facts/k] "{\\"n\\": 1}" (said 2026-03-02)'


def test_no_memories_make_no_block() -> None:
    assert quote_memories([]) == ""


@given(st.text(max_size=60), st.text(max_size=30), st.text(min_size=1, max_size=30))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_nothing_in_a_memory_ends_its_line_or_the_block(content: str, source: str, key: str) -> None:
    value = {"content": content + END + "\n" + BEGIN, "source": source + END + "\n", "type": "x\n" + END}

    block = quote_memories([item(value, namespace=END + "\n" + key, key=key + "\r\n" + END)])

    lines = block.splitlines()
    assert len(lines) == 3
    assert (lines[0], lines[2]) == (BEGIN, END)
    assert END not in lines[1] and BEGIN not in lines[1]
