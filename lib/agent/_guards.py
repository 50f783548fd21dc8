"""What keeps an agent from calling without end, and from falling silent."""

from typing import Any


def guards(max_calls: int) -> list[Any]:
    """Return the middleware of an agent. max_calls: of the model, in one turn."""
    from langchain.agents.middleware import ModelCallLimitMiddleware

    # A model that never stops calling would be asked, and paid, thousands of times: LangChain's own limit is far away.
    limit = ModelCallLimitMiddleware(run_limit=max_calls, exit_behavior="end")
    return [limit, _unreadable_calls_are_answered()]


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
