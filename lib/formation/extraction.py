"""When memories are formed: in the turn (hot path), after the conversation (background), or both (hybrid)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import Connection
from tqdm.auto import tqdm

from lib.checks import checked_number
from lib.errors import ClaimLost, ExtractionFailed, InvalidInput
from lib.formation._session_rows import FinishedSession
from lib.formation.deduplication import Remembered, check_memory, remember_all
from lib.formation.session_log import SessionLog
from lib.llm.structured_output import ask
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import MEANINGS, PREFERENCES, PROCEDURAL, SEMANTIC, TYPES

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

# Claims of one conversation, after which it is marked failed, so that it doesn't end one worker after another; after
# `retry_failed` it gets as many again.
MAX_CLAIMS = 10
_NAMESPACES = "\n".join(f"- {name}: {meaning}" for name, meaning in MEANINGS.items())

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


def transcript_text(transcript: Sequence[dict[str, Any]]) -> str:
    """A transcript as a model reads it: a line for each turn.

    >>> transcript_text([{"turn": 1, "speaker": "user", "text": "Hello"}])
    '[1] user: Hello'
    """
    return "\n".join(f"[{turn['turn']}] {turn['speaker']}: {' '.join(turn['text'].split())}" for turn in transcript)


def extract_memories(model: "BaseChatModel", transcript: Sequence[dict[str, Any]]) -> list[ExtractedMemory]:
    """Return what should be remembered of a conversation, by a model.

    transcript: dicts with turn, speaker and text.
    An answer that can't be used goes back to the model once, with what is wrong with it.
    Errors: ExtractionFailed after the second one; the errors of the client if the model can't be reached.
    """
    turns = {turn["turn"] for turn in transcript}

    def check(answer: Extraction) -> None:
        for memory in answer.memories:
            check_memory(memory.namespace, memory.key, memory.content)
            if memory.turn not in turns:
                raise InvalidInput(f"there is no turn {memory.turn}; the turns are {min(turns)} to {max(turns)}.")

    return ask(model, Extraction, EXTRACTION_PROMPT, transcript_text(transcript), check=check).memories


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
    if limit is not None:
        checked_number("limit", limit, 0, whole=True)
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
    if session.attempts % MAX_CLAIMS == 0:
        log.fail(session, f"it was taken in hand {session.attempts} times and never finished; does it end its worker?")
        report.failed += 1
        return
    try:
        memories = extract_memories(model, session.transcript)
        report.memories += _complete(log, store, session, memories, rules)
        report.extracted += 1
    except ExtractionFailed as error:
        log.fail(session, str(error))
        report.failed += 1
    except ClaimLost:
        report.lost_claims += 1


def _complete(
    log: SessionLog, store: MemoryStore, session: FinishedSession, memories: Sequence[ExtractedMemory], rules: bool
) -> Remembered:
    """Store the memories and the mark that the conversation is extracted, in one transaction."""
    records = [memory.model_dump() for memory in memories]
    for record in records:
        if not rules and PROCEDURAL in (record["type"], TYPES.get(record["namespace"])):
            record.update(namespace=PREFERENCES, type=SEMANTIC)

    def write(connection: Connection) -> Remembered:
        inside = store.in_transaction(connection)
        return remember_all(inside, session.user_id, records, source=session.id, said_at=session.ended_at)

    episodes = [memory.content for memory in memories if memory.type == "episodic"]
    return log.complete(session, summary=episodes[-1] if episodes else None, write=write) or Remembered()
