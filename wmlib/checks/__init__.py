"""Guesses, exercises, and laws that a trained world model must obey, whatever its weights.

`dreams` holds laws of dreams; `nb01`, `nb02`, ... hold the exercises of one notebook each and are
imported when `check` first needs them.
"""

from wmlib.checks.exercises import Wrong, array, check, exercise, number, require
from wmlib.checks.guesses import guess, guesses, reveal, score

__all__ = [
    "Wrong",
    "array",
    "check",
    "exercise",
    "guess",
    "guesses",
    "number",
    "require",
    "reveal",
    "score",
]
