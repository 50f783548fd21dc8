"""A conversation that uses memories by one of four patterns: not at all, from the start, on demand, or unasked."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lib.agent.agents import tool_agent
from lib.agent.prompt_quoting import RULE
from lib.agent.system_prompt import Prompt, build_system_prompt, proactive_memories, proactive_prompt
from lib.agent.tools import recall_on_demand
from lib.checks import checked_number
from lib.errors import InvalidInput, shown
from lib.retrieval.scored_memory import ScoredList, ScoredMemory
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODES, FACTS, GOALS, PREFERENCES, PROCEDURES, STRUGGLES

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

PATTERNS = {
    "none": "the model sees no memory",
    "at the start": "the newest memories that fit a budget stand in the system prompt, from the first turn to the last",
    "on demand": "the model has the tool recall, and calls it when it thinks that it should",
    "proactive": "for each turn, the program looks for what is worth bringing up, and mostly finds nothing",
}
ROLE = "You are a helpful assistant who knows the user from earlier conversations."
WHEN_TO_RECALL = (
    "Before you answer, call `recall` where the user asks for something that they have told you, or is about to do "
    "something for which you may know a reason to wait."
)
START_NAMESPACES = (PROCEDURES, PREFERENCES, GOALS, FACTS, STRUGGLES, EPISODES)
START_BUDGET = 1000  # tokens of the system prompt, about
START_LIMIT = 100  # memories that may be in it; the budget decides how many are


@dataclass(frozen=True)
class Answer:
    """What the assistant said in one turn, and what it cost."""

    text: str
    pattern: str
    memories: ScoredList  # all that the model saw in this turn; `explain()` says why these
    calls: int = 1  # of the model
    prompt_tokens: int = 0  # of all calls, as the model's endpoint counts them
    left_out: ScoredList = field(default_factory=ScoredList)  # what the budget had no room for

    def __repr__(self) -> str:
        return f"{self.text}\n\n{len(self.memories)} memories seen ({self.pattern}), {self.calls} model calls"


class Conversation:
    """A conversation with one user. The history holds what both have said, without what tools have returned."""

    def __init__(
        self,
        model: "BaseChatModel",
        store: MemoryStore,
        user_id: str,
        *,
        pattern: str = "at the start",
        role: str = ROLE,
        budget_tokens: int = START_BUDGET,
    ):
        """pattern: one of PATTERNS. role: what the assistant is. budget_tokens: of the prompt of "at the start"."""
        self.model, self.store, self.user_id, self.role = model, store, user_id, role
        self.pattern = checked_pattern(pattern)
        self.budget_tokens = checked_number("budget_tokens", budget_tokens, 1, whole=True)
        self.history: list[tuple[str, str]] = []  # (user or assistant, text)
        self._start: Prompt | None = None

    def say(self, text: str, *, pattern: str | None = None) -> Answer:
        """Say something as the user and get the answer.

        pattern: for this turn and those after it; None keeps the one that there was.
        Errors: InvalidInput; the errors of the client if the model can't be reached; then the turn counts as not said.
        """
        if not isinstance(text, str) or not text.strip():
            raise InvalidInput(f"say something: a text, not {shown(text)}.")
        if pattern is not None:
            self.pattern = checked_pattern(pattern)
        messages = [*self.history, ("user", text)]
        if self.pattern == "on demand":
            answer = self._with_tool(messages)
        else:
            prompt = self._prompt(text)
            reply = self.model.invoke([("system", prompt), *messages])
            answer = self._answer([reply], prompt.used, prompt.left_out)
        self.history = [*messages, ("assistant", answer.text)]
        return answer

    def _prompt(self, text: str) -> Prompt:
        if self.pattern == "none":
            return Prompt(self.role)
        if self.pattern == "proactive":
            return proactive_prompt(self.role, proactive_memories(self.store, self.user_id, text))
        if self._start is None:  # later turns keep it: a prompt that stays the same is cheaper (chapter 08)
            options: dict[str, Any] = {"namespaces": START_NAMESPACES, "budget_tokens": self.budget_tokens}
            self._start = build_system_prompt(self.store, self.user_id, self.role, limit=START_LIMIT, **options)
        return self._start

    def _with_tool(self, messages: list[tuple[str, str]]) -> Answer:
        tool = recall_on_demand(self.store, self.user_id)
        agent = tool_agent(self.model, [tool], f"{self.role} {RULE}\n{WHEN_TO_RECALL}")
        replies = agent.invoke({"messages": messages})["messages"][len(messages) :]
        recalled: dict[tuple[str, str], ScoredMemory] = {}
        for message in replies:
            for scored in getattr(message, "artifact", None) or ():
                recalled.setdefault((scored.item.namespace, scored.item.key), scored)
        return self._answer(replies, ScoredList(recalled.values()), ScoredList())

    def _answer(self, replies: "list[BaseMessage]", memories: ScoredList, left_out: ScoredList) -> Answer:
        usages = [usage for message in replies if (usage := getattr(message, "usage_metadata", None))]
        tokens = sum(usage["input_tokens"] for usage in usages)
        return Answer(replies[-1].text, self.pattern, memories, max(len(usages), 1), tokens, left_out)


def checked_pattern(pattern: str) -> str:
    """The pattern, if it is one of PATTERNS; else InvalidInput."""
    if pattern not in PATTERNS:
        raise InvalidInput(f"the pattern must be one of {', '.join(map(repr, PATTERNS))}, not {shown(pattern)}.")
    return pattern
