"""Expectations: statements about what was sampled or trained, which vary with seed and processor.

`assert` is for what arithmetic guarantees. `expect` is for everything else: it prints one line and
goes on, so that *Run All* never stops at a number that is merely unlucky.
"""

import json
import math
import os

import numpy as np
import torch

from wmlib.errors import BadInput

__all__ = ["Unexpected", "expect"]


class Unexpected(AssertionError):
    """A value is outside its bounds while WMLIB_STRICT is 1."""


def expect(what: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
    """Say whether a measured value is between `low` and `high`, bounds included.

    The bounds belong at least four standard deviations from the mean over other seeds, instruction
    sets and thread counts; `make shake` measures how far they are. The line that is printed for a
    value inside does not hold the value, so it is the same on every machine.

    Two environment variables, both for tests: WMLIB_STRICT=1 raises outside the bounds, and
    WMLIB_EXPECTATIONS names a file to which a line of JSON is added: what, value, low, high.

    Args:
        what: what was measured, as a noun with its unit: "the share of balls redrawn".
        value: one number, or an array or tensor that holds one.
        low: the smallest value expected.
        high: the largest value expected.

    Raises:
        BadInput: not one number, or bounds that leave no room.
        Unexpected: outside the bounds, or NaN, and WMLIB_STRICT is 1.
    """
    plain = value.detach().cpu().numpy() if torch.is_tensor(value) else np.asarray(value)
    if plain.size != 1 or plain.dtype.kind not in "biuf":
        raise BadInput(f"The value of '{what}' must be one number, and is {value!r}.")
    if not low < high or math.isinf(low) and math.isinf(high):
        raise BadInput(f"The bounds of '{what}' must leave room: {low:g} to {high:g} do not.")
    number = float(plain.reshape(()))
    if place := os.environ.get("WMLIB_EXPECTATIONS"):
        finite = [bound if math.isfinite(bound) else None for bound in (low, high)]
        entry = {"what": what, "value": number, "low": finite[0], "high": finite[1]}
        with open(place, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
    if low <= number <= high:
        print(f"As expected: {what} is {_range(low, high)}.")
        return
    sentence = f"{what} is {number:.4g}; we expected {_range(low, high)}."
    if os.environ.get("WMLIB_STRICT") == "1":
        raise Unexpected(sentence)
    print(f"Not as expected: {sentence} Seeds and processors differ; you can read on.")


def _range(low: float, high: float) -> str:
    """The bounds in words: "at least 0.9", "at most 0.1", "between 0.1 and 0.9"."""
    if math.isinf(high):
        return f"at least {low:g}"
    if math.isinf(low):
        return f"at most {high:g}"
    return f"between {low:g} and {high:g}"
