"""What a text says by its words: stems in every script, and the times that it names."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.retrieval._named_times import times_named
from lib.text_terms import FUNCTION_WORDS, STOP_WORDS, content_words, stem, stems, words

NOW = datetime(2026, 9, 1, 10, tzinfo=UTC)


def days(text: str, now: datetime = NOW) -> list[str]:
    """The spans as "first day/day after the last"."""
    return [f"{start:%Y-%m-%d}/{end:%Y-%m-%d}" for start, end in times_named(text, now)]


# --- words and stems ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Montréal, MONTREAL", ["montreal", "montreal"]),
        ("Łódź and Smørrebrød", ["lodz", "and", "smorrebrod"]),
        ("O'Brien’s tea", ["o", "brien", "s", "tea"]),
        ("e-mail: t2.micro, C++", ["e", "mail", "t2", "micro", "c"]),
        ("مُدَرِّسَة القاهرة", ["مدرسة", "القاهرة"]),  # the vowel signs may be left out in writing
        ("한국어 공부", ["한국어", "공부"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("猫", ["猫"]),
        ("S3を使う", ["s3", "を使", "使う"]),
        ("मुझे हिन्दी पसंद है", ["मुझे", "हिन्दी", "पसंद", "है"]),
        ("🎉 !? …", []),
        ("", []),
    ],
)
def test_words_of_every_script_are_found_without_case_and_accents(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_thai_word_is_found_by_its_letters_with_their_vowels() -> None:
    whole, part = set(words("ฉันกินข้าวที่บ้าน")), set(words("ที่บ้าน"))

    assert part <= whole
    assert all(len(pair) == 2 for pair in whole)


def test_a_word_inside_a_longer_japanese_sentence_is_found() -> None:
    assert set(words("試験")) <= set(words("来週の試験が心配です"))
    assert not set(words("試験")) & set(words("来週の天気"))


def test_the_forms_of_a_word_have_one_stem() -> None:
    assert len({stem(word) for word in ("study", "studies", "studying", "studied")}) == 1
    assert stem("exam") != stem("example")


def test_stems_leave_out_what_carries_no_content_and_keep_repetitions() -> None:
    assert stems("What is it that I told you about the exams, and the exam?") == ["told", "exam", "exam"]
    assert stems("What was that?") == []


@pytest.mark.parametrize("word", ["I'm", "it's", "I've", "you'll", "we're", "he'd"])
def test_a_contraction_of_small_words_leaves_nothing(word: str) -> None:
    assert stems(word) == []


def test_stop_words_are_folded_words() -> None:
    assert all(words(word) == [word] for word in STOP_WORDS)
    assert FUNCTION_WORDS < STOP_WORDS


def test_content_words_come_once_with_their_vowel_signs_and_without_function_words() -> None:
    assert content_words("Is it NOT the tea, or is the TEA hers?") == ["not", "tea", "hers"]
    assert content_words("किताब, क़लम और किताब") == ["किताब", words("क़लम")[0], "और"]


@given(st.text(max_size=80))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_any_text_has_words_that_hold_no_space_and_come_again_from_themselves(text: str) -> None:
    found = words(text)

    assert all(word and not any(letter.isspace() for letter in word) for word in found)
    assert words(" ".join(found)) == found
    assert len(stems(text)) <= len(found)


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What did I do in March?", "2026-03-01/2026-04-01"),
        ("What did I do in Mar?", "2026-03-01/2026-04-01"),
        ("in march 2025", "2025-03-01/2025-04-01"),
        ("12 March 2025", "2025-03-12/2025-03-13"),
        ("the 3rd of June", "2026-06-03/2026-06-04"),
        ("March 12", "2026-03-12/2026-03-13"),
        ("March 12, 2025", "2025-03-12/2025-03-13"),
        ("Aug. 7th", "2026-08-07/2026-08-08"),
        ("29 February 2024", "2024-02-29/2024-03-01"),
        ("31 December 2025", "2025-12-31/2026-01-01"),
        ("late August", "2026-08-19/2026-09-01"),
        ("late February 2025", "2025-02-19/2025-03-01"),
        ("mid-May", "2026-05-09/2026-05-22"),
        ("in early March", "2026-03-01/2026-03-12"),
        ("at the end of June", "2026-06-19/2026-07-01"),
        ("December 2025", "2025-12-01/2026-01-01"),
    ],
)
def test_a_date_is_the_span_that_it_names(text: str, expected: str) -> None:
    assert days(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "May I ask what you may know?",
        "I may be late",
        "a hotel on the Mar Menor",
        "We march tomorrow",
        "the marching band in decembers past",
        "on 31 June",
        "29 February 2025",
        "45 March",
        "in 2025",
        "",
    ],
)
def test_what_names_no_date_gives_no_span(text: str) -> None:
    assert days(text) == []


def test_a_month_without_a_year_is_the_last_one_that_has_begun() -> None:
    january = datetime(2026, 1, 10, tzinfo=UTC)

    assert days("in December", january) == ["2025-12-01/2026-01-01"]
    assert days("in January", january) == ["2026-01-01/2026-02-01"]
    assert days("in February", january) == ["2025-02-01/2025-03-01"]
    assert days("in March", datetime(2026, 3, 1, tzinfo=UTC)) == ["2026-03-01/2026-04-01"]


def test_several_months_in_a_text_are_several_spans() -> None:
    found = days("Was it in March, in late May or on 2 July 2025 that we met?")

    assert found == ["2026-03-01/2026-04-01", "2026-05-19/2026-06-01", "2025-07-02/2025-07-03"]


def test_a_date_that_does_not_exist_hides_no_other() -> None:
    assert days("from 31 June until 2 July") == ["2026-07-02/2026-07-03"]


@given(st.dates(min_value=datetime(1950, 1, 1).date(), max_value=datetime(2090, 1, 1).date()))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_every_day_is_named_by_its_date(day: datetime) -> None:
    for text in (f"{day.day} {day:%B} {day.year}", f"{day:%b} {day.day}, {day.year}"):
        [(start, end)] = times_named(text, NOW)
        assert (start.date(), end - start) == (day, timedelta(days=1))


@pytest.mark.parametrize("text", ["may " * 2500, "in" + " " * 2000 + "may " * 1900, "1 " * 5000, "early " + " " * 9000])
def test_a_long_text_takes_no_longer_than_its_length(text: str) -> None:
    start = time.perf_counter()

    times_named(text, NOW)

    assert time.perf_counter() - start < 0.2
