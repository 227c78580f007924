"""Checks of notebook 08: imagination."""

import math
from collections.abc import Callable

import numpy as np

from wmlib.checks.exercises import array, exercise, number, require


@exercise("08.1")
def excuse(answer: Callable) -> str:
    """Wrong pixels that no single possible future explains."""
    hops = np.array([[[0, 8]], [[8, 0]]])  # another future in every frame
    many = np.random.default_rng(0).integers(0, 9, (2, 50, 4))
    three = np.random.default_rng(1).integers(0, 9, (3, 7, 5))
    for wrong in (hops, many, three):
        found = array(answer(wrong), (wrong.shape[1],), "the errors")
        switching = wrong.min(0).sum(-1)
        want = wrong.sum(-1).min(0)
        require(
            np.allclose(found, want) or not np.allclose(found, switching),
            "That excuses a dream that changes sides; it must keep to one future in all frames.",
        )
        require(
            np.allclose(found, want) or not np.allclose(found, want / wrong.shape[-1]),
            "Nearly: the number of wrong pixels of the whole dream is wanted, not the mean.",
        )
        require(
            np.allclose(found, want),
            "Count the pixels of the whole dream against each future, and take the nearer future.",
        )
    return "One future for the whole film: no ball is excused twice."


@exercise("08.2")
def cross(surprise: Callable, excess: Callable) -> str:
    """Cross-entropy of two coins, and their KL divergence."""
    for p, q in ((0.7, 0.5), (0.3, 0.8), (0.9, 0.6), (0.5, 0.5), (0.2, 0.2)):
        total = number(surprise(p, q), "surprise")
        more = number(excess(p, q), "excess")
        want = -p * math.log(q) - (1 - p) * math.log(1 - q)
        least = -p * math.log(p) - (1 - p) * math.log(1 - p)
        require(abs(total + want) > 1e-6, "Surprise is never negative; mind the sign.")
        require(
            p == q or abs(total - (-q * math.log(p) - (1 - q) * math.log(1 - p))) > 1e-6,
            "The roles are swapped: the world draws with p, the model is surprised by q.",
        )
        require(
            p == q or abs(total - least) > 1e-6,
            "That is the entropy of the world's coin; the model does not know p.",
        )
        require(abs(total - want) < 1e-6, f"For p = {p}, q = {q} it should be {want:.3f} nats.")
        require(
            abs(more - (want - least)) < 1e-6,
            "The excess is what remains after subtracting what a model that knows p would pay.",
        )
    return "The total is entropy plus excess, and the total alone does not tell which."


@exercise("08.3")
def undo(answer: Callable) -> str:
    """The temperature that turned p into q."""
    for p, tau in ((0.7, 0.5), (0.7, 2.0), (0.2, 0.25), (0.9, 1.0), (0.4, 3.0)):
        a, b = p ** (1 / tau), (1 - p) ** (1 / tau)
        found = number(answer(p, a / (a + b)), "the temperature")
        require(found > 0, "A temperature is positive: p and q lie on the same side of one half.")
        require(
            tau == 1 or abs(found - 1 / tau) > 1e-6,
            "Upside down: a dream that is too sure of itself was dreamt at a temperature below 1.",
        )
        require(
            abs(found - tau) < 1e-6,
            f"For p = {p} and q = {a / (a + b):.3f} it should be {tau}. Look at the log-odds.",
        )
    return "Log-odds are divided by the temperature, and nothing else happens."


@exercise("08.4")
def paired(answer: Callable) -> str:
    """Difference of two means and its standard error, with common or separate luck."""
    rng = np.random.default_rng(0)
    luck = rng.choice([-1.0, 1.0], 400)
    a = luck + 0.1 * rng.normal(size=400) + 0.2
    b = luck + 0.1 * rng.normal(size=400)
    for same in (True, False):
        found = answer(a, b, same)
        pair = isinstance(found, (tuple, list)) and len(found) == 2
        require(pair, "Return two numbers, the difference and its standard error.")
        difference, error = (number(x, "a result") for x in found)
        require(
            abs(difference - (a.mean() - b.mean())) < 1e-9,
            "The difference of the means is the mean of a minus the mean of b.",
        )
        spread = (a - b).std() if same else math.sqrt(a.var() + b.var())
        require(
            abs(error / spread - 1) > 1e-2,
            "That is the spread of one dream; the mean of N of them spreads less.",
        )
        other = math.sqrt(a.var() + b.var()) if same else (a - b).std()
        require(
            abs(error / (other / 20) - 1) > 1e-2,
            "With the same luck the dreams come in pairs: look at their differences."
            if same
            else "Without the same luck there are no pairs; the two variances add up.",
        )
        require(
            abs(error / (spread / 20) - 1) < 1e-2,
            f"With same={same} the standard error should be about {spread / 20:.3f}.",
        )
    return "What luck does to both drops out of the difference."
