"""An agent that remembers and recalls with tools, during the conversation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lib.agent.memory_tools import memory_tools
from lib.agent.prompt_quoting import RULE
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
    from langchain.agents.middleware import ModelCallLimitMiddleware

    # A model that never stops calling would be asked, and paid, thousands of times: LangChain's own limit is far away.
    limit = ModelCallLimitMiddleware(run_limit=MAX_CALLS, exit_behavior="end")
    guards = [limit, _unreadable_calls_are_answered()]
    return create_agent(model, tools=list(tools), system_prompt=prompt, middleware=guards)


def _unreadable_calls_are_answered() -> Any:
    """Middleware: a call whose arguments aren't JSON goes back to the model.

    LangChain sorts such a call out, and an agent without any call ends its turn: the user would read nothing.
    """
    from langchain.agents.middleware import after_model
    from langchain_core.messages import ToolMessage

    @after_model(can_jump_to=["model"])
    def answer_unreadable_calls(state: Any, runtime: Any) -> dict[str, Any] | None:
        last = state["messages"][-1]
        calls = [] if last.tool_calls else getattr(last, "invalid_tool_calls", [])
        if not calls:
            return None
        text = "The call was not carried out, because its arguments are no JSON. Call again, or answer without it."
        return {"messages": [ToolMessage(text, tool_call_id=call["id"]) for call in calls], "jump_to": "model"}

    return answer_unreadable_calls
