"""The agent's memory tools: remember and recall."""

import re
from typing import TYPE_CHECKING, Any

from lib.errors import InvalidInput, WorkbookError
from lib.items import MemoryItem
from lib.namespaces import MEANINGS, PREFERENCES, PROCEDURES, SEMANTIC, TYPES
from lib.quoting import quote_memories
from lib.store import MemoryStore
from lib.values import fold

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

LONGEST_FACT = 1000  # characters; a fact is a sentence or two, not a document
RECALLED = 5  # memories that recall gives back
WORDS_SEARCHED = 8  # of a query
_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a about and any are at be can did do does for from had has have how i in is it me my of on or our should so "
        "that the their them they this to user was we were what when where which who why will with would you your"
    )
)


def memory_tools(
    store: MemoryStore, user_id: str, *, source: str | None = None, rules: bool = False
) -> "list[BaseTool]":
    """[remember, recall] for one user, as LangChain tools.

    user_id: comes from your program, from whoever is logged in. The model has no way to name another one.
    source: kept with each memory, for example the id of the conversation.
    rules: whether the agent may store rules for its own behaviour (`procedures`). They are followed later, so allow
        it only where the agent reads nothing but the user's own words: a web page could ask for a rule as well.

    What goes wrong comes back to the model as a message that it can act on, not as an exception: an agent should
    not fall over because a model wrote an empty key.
    """
    from langchain_core.tools import StructuredTool

    def remember(namespace: str, key: str, fact: str, topics: list[str] | None = None, confidence: float = 1.0) -> str:
        if namespace == PROCEDURES and not rules:
            return (
                f"Not stored: rules of behaviour are not yours to set. If it is a wish of the user, use {PREFERENCES}."
            )
        try:
            return _remember(store, user_id, namespace, key, fact, topics or [], confidence, source)
        except WorkbookError as error:
            return f"Not stored: {error}"

    def recall(query: str = "", namespace: str = "") -> str:
        try:
            found = find_by_words(store, user_id, query, namespace or None)
        except WorkbookError as error:
            return f"Nothing could be looked up: {error}"
        return quote_memories(found) or "No memories found."

    allowed = {name: meaning for name, meaning in MEANINGS.items() if rules or name != PROCEDURES}
    namespaces = "; ".join(f"{name}: {meaning}" for name, meaning in allowed.items())
    remember.__doc__ = f"""Store a fact about the user for later conversations, or replace the one with this key.

        Args:
            namespace: One of {namespaces}. Others are allowed.
            key: Short snake_case name of what the fact is about, such as exam_date. A changed fact keeps its key.
            fact: One sentence that can be understood by itself.
            topics: One to three tags.
            confidence: 1.0 if the user said it outright, less if you concluded it.
        """
    recall.__doc__ = """Look up what is remembered about the user from earlier conversations.

        Args:
            query: What to look for, in a few words. Empty for the newest memories.
            namespace: Look only there. Empty for everywhere.
        """
    options: dict[str, Any] = {"parse_docstring": True, "handle_validation_error": _as_message}
    return [StructuredTool.from_function(function, **options) for function in (remember, recall)]


def _remember(
    store: MemoryStore,
    user_id: str,
    namespace: str,
    key: str,
    fact: str,
    topics: list[str],
    confidence: float,
    source: str | None,
) -> str:
    fact = fact.strip()
    if not fact:
        raise InvalidInput("the fact is empty. Write one sentence.")
    if len(fact) > LONGEST_FACT:
        raise InvalidInput(
            f"the fact has {len(fact):,} characters, and {LONGEST_FACT:,} is the limit. Write one or two sentences."
        )
    if not 0 <= confidence <= 1:
        raise InvalidInput(f"confidence must be from 0 to 1, not {confidence}.")
    value = {
        "content": fact,
        "type": TYPES.get(namespace, SEMANTIC),
        "topics": [topic for topic in topics if topic.strip()],
        "confidence": confidence,
        **({"source": source} if source else {}),
    }
    before = store.get(user_id, namespace, key)
    store.put(user_id, namespace, key, value)
    instead = f" It replaces: {before.get('content')!r}" if before and before.get("content") != fact else ""
    return f"Stored as {namespace}/{key}.{instead}"


def find_by_words(
    store: MemoryStore, user_id: str, query: str, namespace: str | None = None, *, limit: int = RECALLED
) -> list[MemoryItem]:
    """Memories that hold the words of a query: those with the most words first, then the newest.

    Without a word to look for: the newest ones. A word counts wherever it stands, also within another word.
    """
    words = content_words(query)
    if not words:
        return store.search(user_id, namespace, limit=limit)
    found: dict[tuple[str, str], MemoryItem] = {}
    hits: dict[tuple[str, str], int] = {}
    for word in words[:WORDS_SEARCHED]:
        for item in store.search_by_content(user_id, word, namespace, limit=50):
            address = (item.namespace, item.key)
            found[address] = item
            hits[address] = hits.get(address, 0) + 1
    newest_first = sorted(found.values(), key=lambda item: item.updated_at, reverse=True)
    return sorted(newest_first, key=lambda item: -hits[item.namespace, item.key])[:limit]


def content_words(text: str) -> list[str]:
    """The words of a text that carry its content, folded, each once.

    >>> content_words("When is the exam? THE exam!")
    ['exam']
    """
    return [word for word in dict.fromkeys(_WORD.findall(fold(text))) if word not in _STOP_WORDS]


def _as_message(error: Any) -> str:
    """What a model that called a tool with wrong arguments is told."""
    wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return f"The call was not carried out, because its arguments are wrong ({wrong}). Correct them and call again."
