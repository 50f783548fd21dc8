"""The tables of the practice model: what words it knows, as patterns. They are used in `statements`.

A row says what a sentence looks like that is worth remembering; to teach the model more, add a row. Every pattern
is general English: a row that fits one sentence of a data set only would be a memory, not a rule.
"""

import re
from typing import NamedTuple

from lib.text_terms import STOP_WORDS, stem, words

# Pieces of patterns, written <name>. Upper and lower case are one, except within (?-i:…).
_PIECES = {
    "day": "(?:mon|tues|wednes|thurs|fri|satur|sun)day",
    "month": "(?:january|february|march|april|may|june|july|august|september|october|november|december)",
    "date": r"\b(?:\d{1,2}(?:st|nd|rd|th)?(?: of)? <month>|<month> \d{1,2}|(?:from|until|by) <month>"
    r"|\d{4}-\d\d-\d\d|the \d{1,2}(?:st|nd|rd|th))\b",
    "event": r"\b(?:exam|deadline|test|interview|appointment|trip|wedding|presentation|defen[cs]e|audit|upgrade|release"
    r"|launch|submission|conference|holiday|operation|birthday|review|meeting|flight)",
    "I": r"\b(?:I|we)(?:'m| am|'re| are|'ve| have)?(?: (?:now|also|still|really|just|always|only|currently|sort of))*",
    "us": r"\b(?:I|I'm|I've|I'll|me|my|we|we're|we've|us|our)\b",
    "not": "(?: (?:keep|kept|constantly|often|don't|do not|no longer|never))*(?: on)?",
    "job": "(?:engineer|developer|programmer|analyst|teacher|nurse|doctor|student|researcher|scientist|designer"
    "|manager|consultant|administrator|technician|writer|lawyer|accountant|chef|professor|lecturer)",
    "kin": "(?:cat|dog|horse|daughter|son|child|wife|husband|partner|sister|brother|mother|father|grandmother)",
    "other": "(?:colleague|friend|boss|neighbour|manager|turn|fault|question|problem|guess|point)",
    "Cap": "(?-i:[A-ZÀ-ÞĀ-Ž])",  # near enough: half of the last range are small letters
    "season": "(?:christmas|(?:the )?(?:summer|autumn|winter|spring|end)|<month>)",
    "reply": r"(?:answers?|explanations?|repl(?:y|ies))\b",
    "standing": r"\b(?:from (?:now|today) on|always|never|not ever|when ?ever|when you|next time|no more"
    r"|in (?:the )?future|(?:each|every|any) \w+|until I)\b",
}

# namespace, key, confidence, pattern; where && parts patterns, all must fit. Of a clause the first row that fits
# counts. A key * is made from the group `about` or, without one, from the words after the match.
_CUES = r"""
facts allergy 0.9 (?:<I> |me )(?:\w+ )?(?:allergic|intolerant)\b|\bmy (?:\w+ )?allergy
struggles * 0.9 <I><not> (?:mix|swap|confus|forget|misread|struggl)\w*(?: (?:\w+ )?up)?
struggles * 0.9 <I> (?:stuck (?:on|with|at)|bad at|guessing|afraid of|nervous about|slow at)\b
struggles * 0.7 \bI (?:guess\b|get lost|ran out of|run out of|find it hard|have trouble|can't (?:keep|concentrate))
preferences learning_style 0.9 <I> (?:learn|think|understand|remember|study) (?:best|better|by|with|in|from|through)\b
preferences * 0.9 <I> (?:don't |do not )?(?:prefer|hate|love|enjoy|dislike|can't stand|like)\b
facts home 0.9 <I> (?:live|moved|moving|based|grew up) (?:in|to|at|near|on)\b|\bwhere I live\b
facts job 0.9 <I> (?:work|working|employed|start|starting) (?:at|for|in|on|as|with)\b
facts job 0.9 <I> (?:become |became )?(?:an? |the )?(?:[\w-]+ ){0,3}(?:<job>|head of \w+)\b|<job> at <Cap>
facts *_contact 0.9 [\w.+-]{1,64}@[\w-]+\.\w+
facts *_date 0.9 <date> && <us>|<event> (?:is|was|will)\b|\bit(?:'s| is)\b
facts *_date 0.9 <event>(?: is| has been| was)?(?: now| moved)?(?: on| in| at| for| to| by)? (?:<date>|<day>|tomorrow)
facts weekly_schedule 0.9 \b<day>s\b|\b<day> (?:morning|afternoon|evening|night)s\b|\bevery <day>\b
goals * 0.9 <I>(?:'d| would)? (?:very much )?(?:want|like|love|hope|plan|aim|planning|hoping|dream) (?:to|on|of)\b
goals * 0.9 \b(?:I|we) want\b && \b(?:by|before|until|for) <season>
facts * 0.9 \bmy (?P<about>(?:\w+ )?<kin>)(?: \w+)?(?: is| was| has| turns| turned|,? called|,? named)
facts * 0.9 <I>(?: got)? (?:an?|one|two|three) (?:\w+ )?(?P<about><kin>)s?\b
facts * 0.7 <I> (?:signed up for|signed|booked|bought|registered|enrolled|joined|moved|dropped|switched)\b
facts * 0.7 <I> (?:use|using|run|running|follow|following)\b
facts name 0.9 \b(?:my name is|call me|I'm|I am) <Cap>\w+
preferences * 0.7 \b(?:I|we) (?:always|never|only|usually|no longer) \w+
facts * 0.7 \b(?:my|our) (?!(?:\w+ )?<other>)(?P<about>[\w-]+(?: [\w-]+)?) (?:is|are|has|comes|lives)\b
"""

# How answers should be. Preferences, but only in a sentence that also shows a wish (see WISH).
_FORMS = r"""
preferences answer_length 0.9 \b(?:short|brief|concise|long|detailed)(?:er)? (?:(?:\w+ )?<reply>|one\b)
preferences time_format 0.9 \b(?:24|12)[- ]?h(?:ours?)? (?:format|time|clock)|\b24 ?h\b|\bam/pm\b
preferences language 0.9 \bin (?:plain )?(?:English|Spanish|French|German|Swedish|Italian|Portuguese|Catalan)\b
preferences drawing_format 0.9 \b(?:draw(?:ings?)?|sketch(?:es)?|diagrams?|pictures?)\b
preferences answer_format 0.9 \b(?:one|an?|single) (?:command|cmd|example|step)\b|\bno (?:theory|jargon)
preferences answer_format 0.9 \bcommands? (?:first|only|that I)|\bbullet|\bin tables\b|\bblocks?\b|\bstep by step\b
"""

_TOPICS = r"""
exam \b(?:exams?\b|tests?\b|quiz|mock|certif|exercise)
work \b(?:job|work|team|colleague|boss|company|rota|shift|customer|office|desk)
schedule <date>|\b<day>|\b(?:deadline|tomorrow|week|window|schedule)
home \b(?:live|home|flat|house|moved? to|cat|dog)\b
people \b(?:<kin>|friend|uncle|contact)\b|@
health \b(?:allerg|doctor|coffee|sleep|vegetarian|vegan|ill\b|pain)
learning-style \b(?:explain|explanation|answers?\b|examples?\b|picture|draw|learn|lesson|teach|sketch)
technology \b(?:server|database|code|command|cloud|version|network|api|sql|python|install|deploy)
money \b(?:cost|price|pay|invoice|budget|dollar|euro|fee)
travel \b(?:trip|flight|travel|train|holiday|bike)
"""


def _compiled(pattern: str) -> re.Pattern[str]:
    while (filled := re.sub(r"(?<!P)<([A-Za-z]+)>", lambda piece: _PIECES[piece[1]], pattern)) != pattern:
        pattern = filled
    return re.compile(pattern, re.IGNORECASE)


class Cue(NamedTuple):
    """One row: where what it finds belongs, and the patterns that must all fit."""

    namespace: str
    key: str
    confidence: float
    patterns: list[re.Pattern[str]]
    asked: bool = False  # of the agent, rather than told about the user

    def fits(self, text: str) -> re.Match[str] | None:
        matches = [pattern.search(text) for pattern in self.patterns]
        return matches[0] if all(matches) else None


def _cues(table: str, asked: bool = False) -> list[Cue]:
    rows = [line.split(" ", 3) for line in table.strip().splitlines()]
    return [
        Cue(namespace, key, float(confidence), list(map(_compiled, text.split(" && "))), asked)
        for namespace, key, confidence, text in rows
    ]


CLAUSE_CUES, FORM_CUES = _cues(_CUES), _cues(_FORMS, asked=True)
ORDER_CUE = Cue("procedures", "*", 0.9, [], asked=True)
ASKED_CUE = Cue("facts", "*", 0.9, [])
TOPIC_TAGS = [
    (tag, _compiled(pattern)) for tag, pattern in (line.split(" ", 1) for line in _TOPICS.strip().splitlines())
]
NAMED = {"*_date": _compiled("<event>"), "*_contact": _compiled("invoice|billing|technical|support|legal|emergency")}

IGNORED = _compiled(  # suppositions, and what holds for one day
    r"\b(?:if (?:I|we|the)|suppose|supposing|imagine|let's say|what if|some day|one day|hypothetically)\b"
    r"|\b(?:only|just) (?:for )?(?:today|tonight|this (?:once|time|evening|morning))\b|\bI remember\b"
)
THIRD = _compiled(r"^(?:(?:and|but|so|because) )*(?:he|she|they|his|her|their|(?:my|an?|our) (?:\w+ )?<other>)\b")
REQUEST = _compiled(r"\b(?:can|could|would|will) you (?:please )?(?:always|never|remember|note)\b")
WISH = _compiled(
    r"\b(?:prefer|please|pls|from (?:now|today) on|always|never|any ?more|instead|every time|I want (?!to\b)|I'd like"
    r"|I would like|I like|must be|no more)\b"
)
EXPLICIT = _compiled(
    r"(?:^|[,;:.!]\s*|\b(?:please|and|but|also|must|(?:can|could|would|will) you) )(?:please )?"
    r"(?:remember|note|keep in mind|don't forget)\b(?:(?: (?:down|that|this|it))*[,:]?)"
    r"|\bfor the record\b:?|\bfrom now on\b,?"
)
STANDING = _compiled("<standing>")
ASKS = _compiled(
    r"(?:^|[,;:.!] ?|\b(?:and|but|so|please|then|now on|today on) )(?:(?:please|always|never|do not|don't|just|also) )*"
    r"(?:give|tell|put|ask|open|send|show|remind|use|start|begin|end|let|write|explain|answer|keep|avoid|skip|include"
    r"|add|offer|say|check|warn|speak|draw|make|quiz|stop|repeat|mention|reply|call|summari[sz]e)\b"
    r"|\bI(?:'d| would) like (?:you|each|every|to be)\b|\bI want you\b|\b(?:can|could|would|will|should|must) you\b"
    r"|\bno \w+,? please\b|\byou (?:should|must|always|never)\b"
)
CORRECTION = _compiled(
    r"\bI meant\b|\bcorrection\b|\bno,? not \w+|\bforget the \d|\bI (?:wrote|read|said) .{1,30}\bwrong\b"
    r"|\bit isn't [^,.]+[,.] (?:it's|but)\b|^actually\b|\bnot \w+ but \w+"
)
URGENT = _compiled(r"\b(?:deadline|exams?\b|due|allerg|intoleran)")
CLAUSE_END = _compiled(
    r"(?:[,;:]|\s[-–—])\s+(?=(?:(?:and|but|so|because) )?(?:I|my|we|our)\b)|\s+(?=(?:and|but|so) (?:I|my|we|our)\b)"
)
SENTENCE_END = re.compile(r"[.!?…]{1,9}[)\"'”]{0,3}\s+|[。！？؟]|\n+|\Z")
QUOTED = re.compile(
    r"```.*?```|`[^`\n]{0,400}`|\"[^\"\n]{0,400}\"|“[^”\n]{0,400}”|«[^»\n]{0,400}»|(?<!\w)'[^'\n]{2,400}'(?!\w)",
    re.DOTALL,
)
CALENDAR = _compiled(r"(?:\d+\w*|<day>|<month>)s?$")
QUESTION_MARKS = ("?", "؟", "？")

# Words of talk that say nothing about what a text is about, beside those of every text.
_TALK = """
    always doesn don first go goes good isn keep long longer mean never next one said says set since single still time
    whenever
"""
_UNTELLING = STOP_WORDS | frozenset(_TALK.split())


def telling_words(text: str) -> list[str]:
    """The words that say what a text is about: folded, each once, in order."""
    return list(dict.fromkeys(word for word in words(text.replace("_", " ")) if word not in _UNTELLING))


def content_words(text: str) -> list[str]:
    """The same as stems, so that exam and exams, plan and planning meet.

    >>> content_words("When is my exam, and what did I prefer for studying?")
    ['exam', 'prefer', 'studi']
    """
    return list(dict.fromkeys(map(stem, telling_words(text))))


def singular(word: str) -> str:
    """A folded word without the s of the plural, as keys are made of them.

    >>> singular("groups"), singular("boxes"), singular("bus")
    ('group', 'box', 'bus')
    """
    word = re.sub(r"(?<=[sxh])es$", "", word)
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
