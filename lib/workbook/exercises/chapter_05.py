"""Checks of chapter 05: a half-life, recall, relevance before age, and the newest version."""

from lib.workbook.exercises import exercise, expect, try_cases, wrong


@exercise("5.1")
def half_life_hours(answer):
    cases = [
        ((24, 0.5), 24.0, "half is left after one half-life"),
        ((48, 0.25), 24.0, "the age is two half-lives long: divide by their number"),
        ((72, 0.2), 31.01, "the number of half-lives, log2(1 / weight), needn't be whole"),
        ((10, 0.9), 65.79, "the half-life of what has hardly faded is longer than its age"),
    ]
    try_cases(answer, cases)


@exercise("5.2")
def my_recall(answer):
    cases = [
        ((["a", "b", "c"], ["a"], 1), 1.0, "the only one that is wanted was found"),
        ((["a", "b", "c"], ["c"], 2), 0.0, "only the first k count"),
        ((["a", "b"], ["a", "x", "y", "z"], 2), 0.25, "divide by the number that was wanted, not by k"),
        ((["a", "b", "c", "d"], ["b", "d"], 5), 1.0, "there may be fewer than k"),
        (([], ["a"], 5), 0.0, "nothing was found"),
    ]
    try_cases(answer, cases)


@exercise("5.3")
def rank(answer):
    def named(memories):
        return [memory["name"] for memory in memories]

    old_right = {"name": "old and right", "relevance": 0.8, "age_days": 180}
    new_wrong = {"name": "new and irrelevant", "relevance": 0.3, "age_days": 0}
    new_version = {"name": "new version", "relevance": 0.75, "age_days": 1}
    result = answer([new_wrong, old_right])
    if not isinstance(result, list) or not all(isinstance(memory, dict) for memory in result):
        wrong(f"return the memories themselves, as a list of dicts, not {result!r}.")
    why = "half a year old and relevant belongs above new and irrelevant: don't multiply with age"
    expect(named(result), ["old and right", "new and irrelevant"], why)
    why = "0.75 and a day old gets a bonus of nearly 0.1, and belongs above 0.8 and half a year old"
    expect(named(answer([old_right, new_version])), ["new version", "old and right"], why)
    close = [
        {"name": "half", "relevance": 0.42, "age_days": 0},
        {"name": "less than half", "relevance": 0.38, "age_days": 0},
    ]
    low = [
        {"name": "best", "relevance": 0.8, "age_days": 300},
        *close,
        {"name": "x", "relevance": 0.45, "age_days": 300},
    ]
    why = "only memories with at least half of the best relevance get the bonus: here 0.42 does, and 0.38 doesn't"
    expect(named(answer(low)), ["best", "half", "x", "less than half"], why)
    expect(answer([]), [], "an empty list has an empty ranking")


@exercise("5.4")
def current(answer):
    memories = [
        {"key": "k7", "content": "18 June", "supersedes": "k1"},
        {"key": "k1", "content": "22 May"},
        {"key": "k2", "content": "Pixel"},
        {"key": "k9", "content": "25 September", "supersedes": "k7"},
        {"key": "k10", "content": "Lund", "supersedes": "k0"},
    ]
    why = "a memory is current if its key isn't the `supersedes` of another one, whatever it supersedes itself"
    expect(answer(memories), ["Pixel", "25 September", "Lund"], why)
    expect(answer(memories[::-1]), ["Lund", "25 September", "Pixel"], "keep the order of the list")
    expect(answer([]), [], "of no memories, none is current: return an empty list")
