"""When the practice model looks something up without being asked about the user, and what it brings up by itself.

What it can: tell by a table of phrases that a user announces, wants or is offered something of their own ("I'm about to
sign", "shall I", "they want me to"), for which something may be known; and say what a prompt or a tool gave it that
fits.
What it can't: know what matters. "I'll have a tea" is looked up like "I'll sign the contract", and what somebody tells
without announcing anything ("the certificate runs out on the 21st") is not.
"""

import re
from collections.abc import Sequence

from lib.practice.practice_model.answers import Memory, Texts, memories_in, outside_blocks
from lib.practice.practice_model.patterns import content_words
from lib.practice.practice_model.statements import MAX_READ, MAX_SENTENCE_LENGTH

FEWEST_WORDS = 7  # of a message that announces something; shorter ones are greetings, or "Shall I?"
FEWEST_SHARED = 2  # words that a message and a memory have in common, for the memory to fit
MOST = 2  # memories brought up in one answer
UNASKED = "worth bringing up"  # in a system prompt: what stands between this and the memories' end may be told unasked

_ANNOUNCED = re.compile(
    r"\b(?:I(?:'m| am|'ve been| was)(?: \w+)? (?:about|going|thinking|looking|planning|inclined|doing|invited) "
    r"|I(?:'ll|'d| will| would) |I (?:want|plan|mean|have|need|must) (?:to |tell )|(?:let's|shall (?:I|we))\b"
    r"|we(?:'re| are) (?:about|going|planning) to"
    r"|(?:wants?|asks?|invites?|would like|would) (?:me|us|to)\b|(?:proposes?|suggests?|offers?)\b"
    r"|(?:can|could|would|will) you (?:explain|show|tell|write|draw|help|plan|settle)\b.{0,80}\b(?:me|us|my|our)\b"
    r"|(?:give|show|tell|send|write) (?:me|us)\b)",
    re.IGNORECASE,
)


def may_be_known(text: str) -> bool:
    """Whether a message announces, wants or reports an offer of something that memories may have a word on.

    >>> may_be_known("I'm about to sign up for pottery on Thursdays."), may_be_known("What does a subnet do?")
    (True, False)
    """
    said = outside_blocks(text)[:MAX_READ].replace("’", "'")
    if len(said.split()) < FEWEST_WORDS:
        return False
    sentences = re.split(r"(?<=[.!?])\s+|\n+", said)
    return any(len(one) <= MAX_SENTENCE_LENGTH and _ANNOUNCED.search(one) for one in sentences)


def given_to_bring_up(texts: Texts) -> list[Memory]:
    """The memories that a system prompt gives as worth bringing up."""
    after = [
        text.partition(UNASKED)[2]
        for role, text in texts
        if role in ("system", "developer") and UNASKED in outside_blocks(text)
    ]
    return memories_in([("system", text) for text in after])


def fitting(text: str, memories: Sequence[Memory]) -> list[Memory]:
    """Of memories that were looked up, those that share at least two words with the message, the most first.

    >>> fitting("I'll pay the exam fee.", [Memory("facts/fee", "Her company pays the exam fee.", "")])[0].content
    'Her company pays the exam fee.'
    """
    words = set(content_words(text[:MAX_READ]))
    shared = [(len(words & memory.words()), memory) for memory in memories]
    return [memory for count, memory in sorted(shared, key=lambda one: -one[0]) if count >= FEWEST_SHARED]


def reminder(memories: Sequence[Memory], said: str) -> str:
    """A sentence on memories that nobody asked for, without those that the answer has said; empty for none."""
    new = list(dict.fromkeys(one.content for one in memories if one.content not in said))[:MOST]
    return f"By the way, I remember: {' '.join(new)}" if new else ""
