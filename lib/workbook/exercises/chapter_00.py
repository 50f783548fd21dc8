"""Check of chapter 00."""

from lib.workbook.exercises import exercise, wrong
from lib.workbook.lesson import load_sessions


@exercise("0.1")
def how_many_turns(answer):
    turns = sum(len(session["turns"]) for session in load_sessions("zoe"))
    if answer == len(load_sessions("zoe")):
        wrong("that is the number of sessions. Each session has a list of turns; add up their lengths.")
    if answer == sum(len(session["turns"]) for session in load_sessions()):
        wrong('that counts all three people. load_sessions("zoe") gives the sessions of one.')
    if answer != turns:
        wrong(f"{answer!r} is not the number of turns. Sum len(session['turns']) over load_sessions('zoe').")
