"""What the practice model concludes from episodes: what two of them or more have in common.

What it can: see that episodes share a topic, how they ended as far as a word tells ("stuck", "solved"), and a few
things that helped, such as a drawing; always the same answer to the same episodes.
What it can't: read. It sees no cause and no change from one week to the next, takes "no longer stuck" for being stuck
and a word in passing for what an episode was about, and finds nothing that the tables below have no row for. Ids with a
] in them, and topics with brackets, it doesn't see.
"""

import re
from collections import defaultdict
from typing import Any

from lib.practice.practice_model.patterns import content_words

FEWEST = 2  # episodes that make a pattern
MOST = 10  # patterns in one answer

# [id] what happened (topics: one, another)
_EPISODE = re.compile(r"^\[([^\]\n]+)\] (.+?)(?: \(topics: ([^()\n]*)\))?[ \t]*$", re.MULTILINE)
_SHARED = [  # what episodes have in common, as a key, and what the assistant should do about it
    ("drawing", "Explain with a drawing: it helps this user.", r"\b(?:draw|drew|picture|sketch|pencil|diagram)"),
    ("example", "Begin with an example: it helps this user.", r"\bexamples?\b"),
    ("steps", "Go one step at a time.", r"\b(?:step by step|one step|one (?:short )?command|steps)\b"),
]
_TROUBLE = re.compile(
    r"\b(?:struggl|confus|mix(?:ed|es|ing)? up|swap|stuck|fail|blam|mis(?:led|read)|guess|wrong|trouble)", re.IGNORECASE
)
_SUCCESS = re.compile(
    r"\b(?:underst(?:oo|an)d|solved|(?:worked|figured|found) (?:it )?out|correct(?:ly)?\b|right\b|succe|managed to"
    r"|fixed|repaired|passed|at once|(?:him|her|them|it)sel(?:f|ves)\b)",
    re.IGNORECASE,
)


def rules_in(text: str) -> list[dict[str, Any]]:
    """What to do because of what episodes share, the most common first: [{"rule", "evidence", "confidence"}].

    text: lines such as "[id] what happened".
    """
    episodes = _episodes(text)
    evidence: dict[str, list[str]] = defaultdict(list)
    for _, rule, shape in _SHARED:
        evidence[rule] = [name for name, (told, _) in episodes.items() if re.search(shape, told, re.IGNORECASE)]
    for name, (told, _) in episodes.items():
        if trouble := _TROUBLE.search(told):
            for word in content_words(re.split(r"[,;:.]", told[trouble.end() :])[0]):
                evidence[f"Go over {word} again: it went wrong more than once."].append(name)
    return _most_common([{"rule": rule, "evidence": names} for rule, names in evidence.items()], "rule")


def conclusions_in(text: str) -> list[dict[str, Any]]:
    """What episodes say together, as memories: dicts with namespace, key, content, topics, evidence and confidence.

    text: lines such as "[id] what happened (topics: one, another)". One semantic memory for each shared topic, by how
    the episodes ended, and a procedural one for each thing that helped. The same pattern has the same words every time.

    >>> text = "[mon] Stuck on joins. (topics: sql)\\n[tue] Stuck on views. (topics: sql)\\n[wed] Slept. (topics: home)"
    >>> [(one["namespace"], one["content"], one["evidence"]) for one in conclusions_in(text)]
    [('struggles', 'The user had trouble with sql more than once.', ['mon', 'tue'])]
    """
    episodes = _episodes(text)
    conclusions = []

    def conclude(namespace: str, key: str, content: str, topics: list[str], evidence: list[str]) -> None:
        fields = {"namespace": namespace, "key": key, "content": content, "topics": topics, "evidence": evidence}
        conclusions.append(fields)

    for key, rule, shape in _SHARED:
        names = [name for name, (told, _) in episodes.items() if re.search(shape, told, re.IGNORECASE)]
        topics = list(dict.fromkeys(topic for name in names for topic in episodes[name][1]))
        conclude("procedures", key, rule, topics[:3], names)
    for topic in dict.fromkeys(topic for _, topics in episodes.values() for topic in topics):
        names = [name for name, (_, topics) in episodes.items() if topic in topics]
        key = re.sub(r"\W+", "_", topic.lower()).strip("_") or "topic"
        troubles = [name for name in names if _TROUBLE.search(episodes[name][0])]
        successes = [name for name in names if _SUCCESS.search(episodes[name][0])]
        if len(troubles) >= FEWEST:
            conclude("struggles", key, f"The user had trouble with {topic} more than once.", [topic], troubles)
        elif len(successes) >= FEWEST:
            conclude("facts", key, f"The user does well with {topic}.", [topic], successes)
        else:
            conclude("facts", key, f"The user keeps coming back to {topic}.", [topic], names)
    return _most_common(conclusions, "content")


def _episodes(text: str) -> dict[str, tuple[str, list[str]]]:
    """{id: (what happened, topics)}."""
    return {
        name: (told, [topic.strip() for topic in topics.split(",") if topic.strip()])
        for name, told, topics in _EPISODE.findall(text)
    }


def _most_common(patterns: list[dict[str, Any]], wording: str) -> list[dict[str, Any]]:
    """Those with evidence enough, the best shown first, with a confidence that grows with it."""
    shared = [pattern for pattern in patterns if len(pattern["evidence"]) >= FEWEST]
    shared.sort(key=lambda pattern: (-len(pattern["evidence"]), pattern[wording]))
    return [
        pattern | {"confidence": min(0.9, round(0.4 + 0.1 * len(pattern["evidence"]), 1))} for pattern in shared[:MOST]
    ]
