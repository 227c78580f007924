"""Guesses, exercises, progress and expectations.

`nb01`, `nb02`, ... hold the exercises of one notebook each; `check` imports them when needed.
"""

from wmlib.checks.exercises import Wrong, array, check, exercise, number, require
from wmlib.checks.expectations import Unexpected, expect
from wmlib.checks.guesses import guess, guesses, reveal, score
from wmlib.checks.records import progress, tally

__all__ = [
    "Unexpected",
    "Wrong",
    "array",
    "check",
    "exercise",
    "expect",
    "guess",
    "guesses",
    "number",
    "progress",
    "require",
    "reveal",
    "score",
    "tally",
]
