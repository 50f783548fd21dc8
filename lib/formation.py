"""When memories are formed: in the turn (hot path), after the conversation (background), or both (hybrid)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from tqdm.auto import tqdm

from lib.errors import ClaimLost, ExtractionFailed, InvalidInput
from lib.namespaces import MEANINGS, PREFERENCES, PROCEDURAL, SEMANTIC, TYPES
from lib.quoting import RULE
from lib.remembering import Remembered, check_memory, remember_all
from lib.sessions import FinishedSession, SessionLog
from lib.store import MemoryStore
from lib.structured import ask
from lib.tools import memory_tools

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool

MOST_CALLS = 8  # of the model, in one turn of an agent
# Claims of one conversation, after which it is marked failed, so that it doesn't end one worker after another; after
# `retry_failed` it gets as many again.
MOST_CLAIMS = 10
_NAMESPACES = "\n".join(f"- {name}: {meaning}" for name, meaning in MEANINGS.items())

AGENT_PROMPT = f"You are a helpful assistant who remembers the user from one conversation to the next. {RULE}"
WHEN_TO_REMEMBER = {
    "hot path": "Call `remember` for everything about the user that will matter in a later conversation.",
    "hybrid": (
        "Call `remember` only when the user asks you to remember something, or when it can't wait: a deadline, a "
        "correction of what you remember, a rule for how you answer. The rest is collected afterwards."
    ),
}
EXTRACTION_PROMPT = f"""You read a conversation and list what should be remembered about the user.

Keep what will matter in a later conversation. Leave out small talk, what others said about themselves, what was only
supposed or asked for this once. Where the user changed their mind, keep the last word only.
Each memory is one sentence that can be understood without the conversation, with the number of the turn that says it.
Namespaces:
{_NAMESPACES}
Type: episodic for episodes, procedural for procedures, semantic for the others."""


class ExtractedMemory(BaseModel, extra="forbid"):
    """One memory as a model gives it; the schema of its answer is made from this."""

    type: Literal["semantic", "episodic", "procedural"]
    namespace: str
    key: str = Field(description="short snake_case name; a changed fact keeps its key")
    content: str = Field(description="one sentence")
    topics: list[str] = Field(description="one to three tags")
    confidence: float = Field(description="1.0 if said outright, less if concluded", ge=0, le=1)
    turn: int = Field(description="number of the turn that says it")


class Extraction(BaseModel, extra="forbid"):
    """What a model found in one conversation."""

    memories: list[ExtractedMemory]


@dataclass
class ExtractionReport:
    """What `extract_pending` did."""

    extracted: int = 0  # sessions
    failed: int = 0
    lost_claims: int = 0  # sessions that another worker had taken over meanwhile; nothing of ours was kept
    memories: Remembered = field(default_factory=Remembered)

    @property
    def sessions(self) -> int:
        """How many were taken in hand."""
        return self.extracted + self.failed + self.lost_claims


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
    limit = ModelCallLimitMiddleware(run_limit=MOST_CALLS, exit_behavior="end")
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


def transcript_text(transcript: Sequence[dict[str, Any]]) -> str:
    """A transcript as a model reads it: a line for each turn.

    >>> transcript_text([{"turn": 1, "speaker": "user", "text": "Hello"}])
    '[1] user: Hello'
    """
    return "\n".join(f"[{turn['turn']}] {turn['speaker']}: {' '.join(turn['text'].split())}" for turn in transcript)


def extract_memories(model: "BaseChatModel", transcript: Sequence[dict[str, Any]]) -> list[ExtractedMemory]:
    """What should be remembered of a conversation, by a model.

    transcript: dicts with turn, speaker and text.
    An answer that can't be used goes back to the model once, with what is wrong with it.
    Errors: ExtractionFailed after the second one; the errors of the client if the model can't be reached.
    """
    turns = {turn["turn"] for turn in transcript}

    def problem_of(extraction: Extraction) -> str | None:
        for number, memory in enumerate(extraction.memories):
            try:
                check_memory(memory.namespace, memory.key, memory.content)
            except InvalidInput as error:
                return f"memory {number}: {error}"
            if memory.turn not in turns:
                return f"memory {number}: there is no turn {memory.turn}; the turns are {min(turns)} to {max(turns)}."
        return None

    text = transcript_text(transcript)
    return ask(model, Extraction, EXTRACTION_PROMPT, text, problem_of=problem_of).memories


def extract_pending(
    log: SessionLog,
    store: MemoryStore,
    model: "BaseChatModel",
    *,
    user_id: str | None = None,
    limit: int | None = None,
    rules: bool = False,
    progress: bool = False,
) -> ExtractionReport:
    """Extract the memories of all finished conversations that wait for it, the oldest first.

    May run in many processes at once, may be killed, may be run again: each conversation's memories are stored
    together with the mark that it is done, in one transaction. A conversation whose answer can't be used is marked
    failed with the reason (`log.retry_failed()` tries it again); when the model can't be reached, the one in hand
    is given back and the error raised: the others would only fail, too.

    limit: at most so many conversations. progress: show a bar.
    rules: whether rules for the agent's behaviour are stored as such, in `procedures`; else they are kept as wishes, in
        `preferences`, which are quoted and not obeyed. See `memory_tools`.
    """

    report = ExtractionReport()
    waiting = log.counts(user_id)["pending"]
    with tqdm(total=min(waiting, waiting if limit is None else limit), unit="session", disable=not progress) as bar:
        while (limit is None or report.sessions < limit) and (session := log.claim(user_id)):
            try:
                extract_claimed(log, store, model, session, report, rules)
            except BaseException:
                log.give_back(session)
                raise
            bar.update()
    return report


def extract_claimed(
    log: SessionLog,
    store: MemoryStore,
    model: "BaseChatModel",
    session: FinishedSession,
    report: ExtractionReport,
    rules: bool = False,
) -> None:
    """Extract one conversation that `log.claim` returned, and count in `report` what became of it.

    Errors: those of the model's client. The claim is still held then; give it back.
    """
    if session.attempts % MOST_CLAIMS == 0:
        log.fail(session, f"it was taken in hand {session.attempts} times and never finished; does it end its worker?")
        report.failed += 1
        return
    try:
        found = extract_memories(model, session.transcript)
        report.memories += _complete(log, store, session, found, rules)
        report.extracted += 1
    except ExtractionFailed as error:
        log.fail(session, str(error))
        report.failed += 1
    except ClaimLost:
        report.lost_claims += 1


def _complete(
    log: SessionLog, store: MemoryStore, session: FinishedSession, found: Sequence[ExtractedMemory], rules: bool
) -> Remembered:
    episodes = [memory.content for memory in found if memory.type == "episodic"]
    records = [memory.model_dump() for memory in found]
    for record in records:
        if not rules and PROCEDURAL in (record["type"], TYPES.get(record["namespace"])):
            record.update(namespace=PREFERENCES, type=SEMANTIC)

    def write(connection: Any) -> Remembered:
        inside = store.within(connection)
        return remember_all(inside, session.user_id, records, source=session.id, said_at=session.ended_at)

    return log.complete(session, summary=episodes[-1] if episodes else None, write=write)
