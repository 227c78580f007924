"""Simpler forms in notebooks that compute the same as `wmlib`: how both are run side by side.

`nb03.py` holds, for every `equiv:` tag of notebook 03, a function of the notebook's object and of
the package's. It runs both on the same seeded inputs and returns what each gives:

    @equivalent("wmlib.losses.kl_balance")
    def kl(ours, theirs):
        q, p = torch.rand(2, 4, 3, 5).softmax(-1)
        return ours(q, p), theirs(q, p, free_nats=0)

The outputs may be tensors, arrays, numbers, or tuples, lists and dictionaries of them.
"""

import importlib
from collections.abc import Callable

__all__ = ["equivalent", "pairs_of"]

PAIRS: dict[tuple[str, str], Callable] = {}


def equivalent(name: str) -> Callable[[Callable], Callable]:
    """Register the comparison for a tag of the notebook after which this module is called."""

    def register(function: Callable) -> Callable:
        PAIRS[function.__module__.rpartition(".nb")[2], name] = function
        return function

    return register


def pairs_of(number: str) -> dict[str, Callable]:
    """The comparisons of a notebook, by dotted name."""
    try:
        importlib.import_module(f"equivalents.nb{number}")
    except ModuleNotFoundError as error:
        if error.name != f"equivalents.nb{number}":
            raise
    return {name: pair for (owner, name), pair in PAIRS.items() if owner == number}
