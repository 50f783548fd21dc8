"""The agent's memory tools: remember and recall."""

from typing import TYPE_CHECKING, Any

from lib.agent.prompt_quoting import quote_memories
from lib.checks import checked_number, renamed
from lib.errors import WorkbookError
from lib.formation.deduplication import check_memory
from lib.retrieval.scored_memory import ScoredList, ScoredMemory
from lib.retrieval.search import retrieve
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import MEANINGS, PREFERENCES, PROCEDURES, SEMANTIC, TYPES

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

RECALLED = 5  # memories that recall gives back
# What is less relevant than this has nothing to do with the query. Of the labelled questions for development in data/,
# 72 of the 73 answers that five memories hold stay; it is no test of whether anything is known (see KNOWN_FROM).
RECALL_FROM = 0.15


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

    def remember(namespace: str, key: str, fact: str, topics: list[str] | None = None, confidence: float = 1.0) -> str:
        if namespace == PROCEDURES and not rules:
            return (
                f"Not stored: rules of behaviour are not yours to set. If it is a wish of the user, use {PREFERENCES}."
            )
        value = {
            "content": fact.strip(),
            "type": TYPES.get(namespace, SEMANTIC),
            "topics": [topic for topic in topics or [] if topic.strip()],
            "confidence": confidence,
            **({"source": source} if source else {}),
        }
        try:
            check_memory(namespace, key, fact, "the fact")
            checked_number("confidence", confidence, 0, 1)
            before = store.get(user_id, namespace, key)
            store.put(user_id, namespace, key, value)
        except WorkbookError as error:
            return f"Not stored: {error}"
        replaced = before.get("content") if before else value["content"]
        instead = f" It replaces: {replaced!r}" if replaced != value["content"] else ""
        return f"Stored as {namespace}/{key}.{instead}"

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
    return [_tool(remember), recall_on_demand(store, user_id)]


@renamed(k="limit")
def recall_on_demand(store: MemoryStore, user_id: str, *, limit: int = RECALLED) -> "BaseTool":
    """The tool `recall` alone: the model looks things up when it thinks that it should.

    limit: memories that a call gives back at most, the most relevant first; the newest, if the model names no query.
    The tool message has them with their scores, too, as its `artifact`: a ScoredList. Only the quotations go to the
    model.
    Errors: InvalidInput for a limit that isn't a whole number of at least 1.
    """
    checked_number("limit", limit, 1, whole=True)

    def recall(query: str = "", namespace: str = "") -> tuple[str, ScoredList]:
        try:
            memories = _recalled(store, user_id, query, namespace or None, limit)
        except WorkbookError as error:
            return f"Nothing could be looked up: {error}", ScoredList()
        return quote_memories(memories.items) or "No memories found.", memories

    recall.__doc__ = """Look up what is remembered about the user from earlier conversations.

        Args:
            query: What to look for, in a few words. Empty for the newest memories.
            namespace: Look only there. Empty for everywhere.
        """
    return _tool(recall, response_format="content_and_artifact")


def _tool(function: Any, **options: Any) -> "BaseTool":
    from langchain_core.tools import StructuredTool

    return StructuredTool.from_function(function, parse_docstring=True, handle_validation_error=_as_message, **options)


def _recalled(store: MemoryStore, user_id: str, query: str, namespace: str | None, limit: int) -> ScoredList:
    if not query.strip():
        newest = store.search(user_id, namespace, limit=limit)
        return ScoredList(ScoredMemory(item, 0.0, 0.0, note="one of the newest") for item in newest)
    return retrieve(
        store, user_id, query, limit=limit, namespaces=[namespace] if namespace else None, min_relevance=RECALL_FROM
    )


def _as_message(error: Any) -> str:
    """What a model that called a tool with wrong arguments is told."""
    wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return f"The call was not carried out, because its arguments are wrong ({wrong}). Correct them and call again."
