"""The mathematics of `wmlib` a second time: float64, one number at a time, slow and obvious.

Written from the specification of DreamerV3 and not from `wmlib`, of which it reads nothing but
the names of parameters. `sg` marks what a gradient must not see; `gradient` respects it.
"""

from collections.abc import Callable

import numpy as np


def no_stop(x):
    """Stand-in for `sg` where only values matter."""
    return x


def gradient(f: Callable, x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of f(x, sg) -> number. What passes through `sg` keeps its first value."""
    held = []

    def record(value):
        held.append(value)
        return value

    def moved(index, distance):
        y = x.copy()
        y[index] += distance
        values = iter(held)
        return f(y, lambda _: next(values))

    f(x, record)
    slope = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        slope[index] = (moved(index, step) - moved(index, -step)) / (2 * step)
    return slope
