"""The words of a text, as they are compared: without case and accents, and by their stems. Pure functions."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

# Letters that a reader takes for a plain letter with an accent, but that Unicode doesn't take apart.
_PLAIN = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)

# Marks that may be left out in writing: accents on Latin, Greek and Cyrillic letters, Hebrew points, Arabic
# vowels. Not *all* combining marks: in Hindi or Japanese they make another letter, and dropping them would
# find other words.
_OPTIONAL_MARKS = (
    (0x0300, 0x036F), (0x0591, 0x05C7), (0x0610, 0x061A), (0x064B, 0x065F), (0x0670, 0x0670),
    (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF),
)  # fmt: skip
_DROP_MARKS = {code: None for first, last in _OPTIONAL_MARKS for code in range(first, last + 1)}

_FUNCTION = """
    a about and any are at be can did do does for from had has have how i in is it me my of on
    or our should so that the their them they this to user was we were what when where which who
    why will with would you your
"""
_COMMON = """
    after again all also am an anything as because been before being between but by could d
    doing done during each else ever every few further get gets got having he her here hers him
    his if into its itself just know let like ll m many might mine more most much must need no
    nor not now off once only other ours out over own please re really s same say shall she some
    such t tell than theirs then there these thing things those through too under until up us
    use used very ve want while whom whose yet yours
"""
# Two facts may differ in nothing but a common word (before or after noon, his or her), never in a function word.
FUNCTION_WORDS = frozenset(_FUNCTION.split())
STOP_WORDS = FUNCTION_WORDS | frozenset(_COMMON.split())  # what a search leaves out
# \w leaves out the marks that stand for vowels in Thai, Hindi and their like: words would fall to pieces at each.
_MARKS = "".join(mark for code in range(0x0300, 0x1D00) if unicodedata.category(mark := chr(code)).startswith("M"))
_WORD = re.compile(rf"[\w{_MARKS}]+")
# Scripts that are written without spaces: their words are found by pairs of letters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def fold(text: str) -> str:
    """Text as it is compared in a search: without case, accents and differences of spacing.

    >>> fold("Montréal"), fold("MONTREAL"), fold("Łukasz  Straße")
    ('montreal', 'montreal', 'lukasz strasse')
    >>> fold("がく") == fold("かく")  # two different words stay two
    False
    """
    if text.isascii():
        return " ".join(text.lower().split())
    text = unicodedata.normalize("NFKD", text).casefold()
    text = unicodedata.normalize("NFKD", text).translate(_DROP_MARKS).translate(_PLAIN)
    return " ".join(unicodedata.normalize("NFC", text).split())


@lru_cache(maxsize=1)
def _stemmer() -> Callable[[str], str]:
    import snowballstemmer  # not at the top: `import lib` should stay cheap

    stem_word: Callable[[str], str] = snowballstemmer.stemmer("english").stemWord
    return stem_word


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The stem of a folded English word (Snowball); words of other languages stay nearly as they are.

    >>> stem("studying"), stem("studies")
    ('studi', 'studi')
    """
    return _stemmer()(word)


def words(text: str) -> list[str]:
    """The words of a text, folded (no case, no accents), in order.

    Japanese, Chinese and Thai don't part their words: there, each pair of neighbouring letters counts as one.

    >>> words("Zoë's exam: 東京都")
    ['zoe', 's', 'exam', '東京', '京都']
    """
    parts = []
    for word in _WORD.findall(fold(text)):
        if word.isascii() or not _UNSPACED.search(word):
            parts.append(word)
        else:
            for run in re.findall(rf"{_UNSPACED.pattern}|[^{_UNSPACED.pattern[1:-2]}]+", word):
                pairs = [run[i : i + 2] for i in range(len(run) - 1)] if _UNSPACED.match(run) else []
                parts += pairs or [run]
    return parts


def content_words(text: str) -> list[str]:
    """Return the words of a text by which it is compared with another: folded, each once, unstemmed.

    >>> content_words("When is the exam? Not before the EXAM!")
    ['exam', 'not', 'before']
    """
    return [word for word in dict.fromkeys(words(text)) if word not in FUNCTION_WORDS]


def stems(text: str) -> list[str]:
    """The stems of the words that carry the content of a text, in order, repeated as they are.

    >>> stems("When is the exam? I'm studying for the exams")
    ['exam', 'studi', 'exam']
    """
    return [stem(word) for word in words(text) if word not in STOP_WORDS]
