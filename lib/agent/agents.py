"""An agent that remembers and recalls with tools, during the conversation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lib.agent._guards import guards
from lib.agent.prompt_quoting import RULE
from lib.agent.tools import memory_tools
from lib.errors import InvalidInput
from lib.store.memory_store import MemoryStore

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool

MAX_CALLS = 8  # of the model, in one turn of an agent
AGENT_PROMPT = f"You are a helpful assistant who remembers the user from one conversation to the next. {RULE}"
WHEN_TO_REMEMBER = {
    "hot path": "Call `remember` for everything about the user that will matter in a later conversation.",
    "hybrid": (
        "Call `remember` only when the user asks you to remember something, or when it can't wait: a deadline, a "
        "correction of what you remember, a rule for how you answer. The rest is collected afterwards."
    ),
}


def memory_agent(
    model: "BaseChatModel",
    store: MemoryStore,
    user_id: str,
    *,
    strategy: str = "hot path",
    source: str | None = None,
    rules: bool = False,
    recall: bool = True,
) -> Any:
    """An agent (LangChain's `create_agent`) that remembers and recalls with tools during the conversation.

    strategy: "hot path" remembers all that matters in the turn, "hybrid" only what can't wait.
    source, rules: as for `memory_tools`. recall: whether it may look things up, too.
    """
    if strategy not in WHEN_TO_REMEMBER:
        raise InvalidInput(f"strategy must be one of {', '.join(map(repr, WHEN_TO_REMEMBER))}, not {strategy!r}.")
    tools = memory_tools(store, user_id, source=source, rules=rules)[: 2 if recall else 1]
    return tool_agent(model, tools, f"{AGENT_PROMPT}\n{WHEN_TO_REMEMBER[strategy]}")


def tool_agent(model: "BaseChatModel", tools: "Sequence[BaseTool]", prompt: str) -> Any:
    """LangChain's `create_agent` with two guards: against endless calls, and against calls that can't be read."""
    from langchain.agents import create_agent

    return create_agent(model, tools=list(tools), system_prompt=prompt, middleware=guards(MAX_CALLS))
