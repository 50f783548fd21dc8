"""What the practice model notices in what a user says: tables of patterns, read one sentence at a time.

What it can: find what a user says about themself in plain English: job, home, people, dates, habits, wishes for
answers, struggles, goals, standing orders, corrections, and whatever they ask to be remembered.
What it can't: join two sentences, know what "it" stands for, see irony, or read other languages. It reads the first
20,000 characters of a message and passes over sentences of more than 600, so that no text makes it slow.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lib.practice.practice_model import patterns as known
from lib.practice.practice_model.patterns import Cue, content_words, singular, telling_words
from lib.text_terms import fold, stem

MAX_READ = 20_000  # characters of one message
MAX_SENTENCE_LENGTH = 600
MAX_CONTENT_LENGTH = 300
FEWEST_TURNS = 4  # that make an episode of a conversation


@dataclass(frozen=True, slots=True)
class Statement:
    """Something worth remembering in what a user said.

    type: semantic, episodic or procedural. namespace, key: its address; the same kind of fact gets the same key.
    content: one sentence in the third person, 10 to 300 characters. topics: one to three tags.
    confidence: 1.0 asked to be remembered, 0.9 clear, 0.7 inferred. turn: where it was said.
    urgent: asked for outright or critical (a deadline, an exam date, an allergy, a correction).
    """

    type: str
    namespace: str
    key: str
    content: str
    topics: list[str]
    confidence: float
    turn: int
    urgent: bool


def statements_in(text: str, turn: int = 0) -> list[Statement]:
    """What one message of a user says that is worth remembering; questions and suppositions are passed over.

    turn: number of the message, handed through.

    >>> [(one.key, one.urgent) for one in statements_in("My exam is on 22 May, and I live in Malmö.")]
    [('exam_date', True), ('home', False)]
    """
    found: dict[tuple[str, str], Statement] = {}
    for sentence, masked in _sentences(text):
        if not _passed_over(masked):
            for noticed in _in_sentence(sentence, masked):
                found[noticed.namespace, noticed.key] = replace(noticed, turn=turn)
    return list(found.values())


def extract(turns: list[tuple[int, str, str]]) -> list[Statement]:
    """What a whole conversation leaves to remember: the notices of the user's turns, and an episode.

    turns: (number, speaker, text) in order. A later notice replaces an earlier one at the same address. The episode,
    of what was worked on and how it ended, needs at least 4 turns.
    """
    found: dict[tuple[str, str], Statement] = {}
    for number, speaker, text in turns:
        for noticed in statements_in(text, number) if speaker == "user" else ():
            found[noticed.namespace, noticed.key] = noticed
    return list(found.values()) + _episodes(turns)


# --- Sentences ------------------------------------------------------------------------------------


def _sentences(text: str) -> Iterator[tuple[str, str]]:
    """Each sentence as it stands, and with blanks in place of what it quotes: others' words aren't the user's."""
    text = text[:MAX_READ].replace("’", "'")
    masked = known.QUOTED.sub(lambda quote: "_" * len(quote[0]), text)
    start = 0
    for end in known.SENTENCE_END.finditer(masked):
        sentence = masked[start : end.end()].strip()
        if 0 < len(sentence) <= MAX_SENTENCE_LENGTH:
            yield text[start : end.end()].strip(), sentence
        start = end.end()


def _passed_over(masked: str) -> bool:
    question = masked.endswith(known.QUESTION_MARKS) and not known.REQUEST.search(masked)
    return bool(question or known.IGNORED.search(masked))


def _in_sentence(sentence: str, masked: str) -> Iterator[Statement]:
    explicit = known.EXPLICIT.search(masked)
    standing = known.STANDING.search(masked) or explicit
    asks = known.ASKS.search(masked)
    if known.WISH.search(masked) or (asks and standing):
        for cue in known.FORM_CUES:
            if match := cue.fits(masked):
                yield _noticed(cue, match, sentence, sentence, bool(explicit))
                return
    if standing and (asks or (explicit and known.STANDING.search(masked))):
        yield _noticed(known.ORDER_CUE, explicit or standing, sentence, sentence, bool(explicit))
        return
    some = False
    for clause, part in _clauses(sentence, masked):
        for cue in known.CLAUSE_CUES:
            if (match := cue.fits(part)) and (cue.key == "*_contact" or not known.THIRD.search(part)):
                some = True
                yield _noticed(cue, match, clause, sentence, bool(explicit))
                break
    if not some and (match := explicit or known.CORRECTION.search(masked)):
        yield _noticed(known.ASKED_CUE, match, sentence, sentence, bool(explicit))


def _clauses(sentence: str, masked: str) -> Iterator[tuple[str, str]]:
    start = 0
    for end in known.CLAUSE_END.finditer(masked):
        yield sentence[start : end.start()], masked[start : end.start()]
        start = end.end()
    yield sentence[start:], masked[start:]


# --- Notices --------------------------------------------------------------------------------------


def _noticed(cue: Cue, match: re.Match[str], clause: str, sentence: str, explicit: bool) -> Statement:
    urgent = explicit or bool(known.URGENT.search(clause) or known.CORRECTION.search(sentence))
    return Statement(
        type="procedural" if cue.namespace == "procedures" else "semantic",
        namespace=cue.namespace,
        key=_key(cue, match, clause, sentence),
        content=third_person(clause, cue.asked),
        topics=[tag for tag, pattern in known.TOPIC_TAGS if pattern.search(clause)][:3] or [cue.namespace],
        confidence=1.0 if explicit else cue.confidence,
        turn=0,
        urgent=urgent,
    )


def _key(cue: Cue, match: re.Match[str], clause: str, sentence: str) -> str:
    if cue.key in known.NAMED:
        name = known.NAMED[cue.key].search(sentence)
        named = fold(name[0]) if name else "_".join(_worth_naming(clause)[:2])
        return cue.key.replace("*", named).strip("_")
    if cue.key != "*":
        return cue.key
    about = match.groupdict().get("about") or match.string[match.end() :]
    # "the code of the door is 12" and "… is 34" are one fact: what is told about comes before the verb.
    about = re.split(r"\b(?:is|are)\b", about, maxsplit=1)[0] if cue is known.ASKED_CUE else about
    words = _worth_naming(about)[:3] or _worth_naming(clause)[:3]
    return "_".join(sorted(words))[:100] or "other"


def _worth_naming(text: str) -> list[str]:
    """Telling words without days, months and numbers: a key must outlive a change of date."""
    return [singular(word) for word in telling_words(text) if not known.CALENDAR.match(word)]


_VERBS = {"am": "is", "have": "has", "don't": "doesn't", "haven't": "hasn't", "need": "needs"}
_SHORT = {"'m": "is", "'ve": "has", "'ll": "will", "'d": "would"}
_LATER = {  # the user's words after the first: they, as in "a reader and their book"
    "i'm": "they are", "i've": "they have", "i'll": "they will", "i'd": "they would", "i": "they", "me": "them",
    "my": "their", "mine": "theirs", "myself": "themself", "we": "they", "us": "them", "our": "their",
    "we're": "they are", "we've": "they have", "we'll": "they will", "i am": "they are", "i was": "they were",
}  # fmt: skip
_LATER_WORD = re.compile(r"\b(?:i (?:am|was)|(?:i|we)(?:'\w+)?|me|my|mine|myself|us|our)\b", re.IGNORECASE)
_LEAD = re.compile(
    r"(?:(?:and|but|so|because|oh|ok|okay|well|also|please|now)\b[,.:!]?\s*|(?:yes|no|hello|hi|hey|actually|sorry)[,.:!]\s*)+",
    re.IGNORECASE,
)  # "No, I …" but not "No calls"
_FIRST = re.compile(
    r"I\b('m|'ve|'ll|'d)?"
    r"((?: (?:always|never|often|usually|only|also|still|really|just|now|mostly|sort of|kind of))*) ?([\w']*)",
    re.IGNORECASE,
)
_UNCHANGED = re.compile(
    r"(?:is|was|were|had|did|went|told|said|got|made|took|found|bought|began|became|thought|knew|kept|left|sent|saw"
    r"|met|meant|felt|lost|won|read|wrote|put|set|can|could|will|would|shall|should|must|may|might|ran|\w+ed|\w+n't)",
    re.IGNORECASE,
)


def third_person(clause: str, asked: bool = False) -> str:
    """A clause of the user's as a sentence about them, at most 300 characters.

    >>> third_person("and I always study in my kitchen")
    'The user always studies in their kitchen.'
    >>> third_person("Give me one example", asked=True)
    'The user asked: Give them one example.'
    """
    clause = " ".join(clause.split()).strip(" ,;:-–—")
    clause = known.EXPLICIT.sub("", clause, count=1) if known.EXPLICIT.match(clause) else clause
    clause = clause.strip(" ,;:-–—")
    clause = clause[lead.end() :] if (lead := _LEAD.match(clause)) and lead.end() < len(clause) else clause
    first = _FIRST.match(clause)
    if first:
        opening, rest = f"The user{_predicate(*first.groups())}", clause[first.end() :]
    elif name := re.match(r"call me\b", clause, re.IGNORECASE):
        opening, rest = "The user wants to be called", clause[name.end() :]
    elif re.match(r"my\b", clause, re.IGNORECASE):
        opening, rest = "The user's", clause[2:]
    else:
        opening, rest = f"The user {'asked' if asked else 'said'}: ", clause
    told = opening + _LATER_WORD.sub(lambda word: _LATER.get(word[0].lower(), "they"), rest)
    told = told if told.endswith((".", "!", "?", "…")) else f"{told}."
    return told if len(told) <= MAX_CONTENT_LENGTH else f"{told[: MAX_CONTENT_LENGTH - 1]}…"


def _predicate(short: str | None, adverbs: str, verb: str) -> str:
    """What follows "The user", with the verb in the third person: " always studies"."""
    if short:
        return f" {_SHORT.get(short.lower(), 'is')}{adverbs} {verb}".rstrip()
    if not verb or (_UNCHANGED.fullmatch(verb) and verb.lower() not in _VERBS):
        return f"{adverbs} {verb}".rstrip()
    if known_form := _VERBS.get(verb.lower()):
        return f"{adverbs} {known_form}"
    if re.search(r"[^aeiou]y$", verb):
        return f"{adverbs} {verb[:-1]}ies"
    return f"{adverbs} {verb}{'es' if verb.endswith(('s', 'x', 'ch', 'sh', 'o')) else 's'}"


# --- Episodes -------------------------------------------------------------------------------------

_OPEN = re.compile(r"\b(?:still|not|\w+n't|fail\w*|stuck|wrong|tomorrow|later|next time)\b", re.IGNORECASE)
_SOLVED = re.compile(
    r"\b(?:works?|worked|solved|fixed|done|got it|thanks?|perfect|great|closed?|good)\b", re.IGNORECASE
)


def _episodes(turns: list[tuple[int, str, str]]) -> list[Statement]:
    said = [(number, text[:MAX_READ]) for number, speaker, text in turns if speaker == "user" and text.strip()]
    if len(turns) < FEWEST_TURNS or not said:
        return []
    words = _most_said([text for _, text in said])
    last = said[-1][1]
    ending = "it was solved" if _SOLVED.search(last) and not _OPEN.search(last) else "the end was"
    about = ", ".join(words) or "a small matter"
    content = f"The user worked on {about}. They began with: “{_cut(said[0][1])}”; {ending}: “{_cut(last)}”."
    key = "_".join(["session", *map(fold, words)])[:100]
    topics = [tag for tag, pattern in known.TOPIC_TAGS if any(pattern.search(text) for _, text in said)][:3]
    return [Statement("episodic", "episodes", key, content, topics or ["conversation"], 0.9, said[-1][0], False)]


def _most_said(texts: list[str]) -> list[str]:
    """The three words that come back most, as first written; the earlier one when two are level."""
    written = [word for text in texts for word in re.findall(r"[^\W\d_]{4,}", text) if content_words(word)]
    counts = Counter(stem(fold(word)) for word in written)
    first: dict[str, str] = {}
    for word in written:
        first.setdefault(stem(fold(word)), word)
    return [first[root][:30] for root, _ in counts.most_common(3)]


def _cut(text: str, longest: int = 80) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
