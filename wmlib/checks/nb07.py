"""Checks of notebook 07: train the world model."""

import math
from collections.abc import Callable

import numpy as np

from wmlib.checks.exercises import Wrong, exercise, number, require


@exercise("07.1")
def bounds(answer: Callable) -> str:
    """Share of lefts within k standard deviations."""
    for n, p, k in ((200, 0.5, 2.6), (50, 0.9, 1.0), (1000, 0.2, 3.0)):
        found = answer(n, p, k)
        pair = isinstance(found, (tuple, list)) and len(found) == 2
        require(pair, "Return two numbers, the lowest share and the highest.")
        low, high = (number(x, "a bound") for x in found)
        middle, half = (low + high) / 2, (high - low) / 2
        require(
            abs(middle - n * p) > 1e-6 or n * p == p,
            "These are numbers of lefts; a share is a number divided by n.",
        )
        require(abs(middle - p) < 1e-6, f"The mean share of lefts is p = {p}, not {middle:.3g}.")
        spread = half / k
        require(spread > 0, "The highest share should be above the lowest.")
        require(abs(spread - p * (1 - p) / n) > 1e-9, "That is the variance; take its square root.")
        require(
            abs(spread - math.sqrt(p * (1 - p))) > 1e-9,
            "That is the spread of one toss; the mean of n tosses spreads less.",
        )
        want = math.sqrt(p * (1 - p) / n)
        require(abs(spread - want) < 1e-6, "The spread of a share is the root of p(1 - p) / n.")
    return "Four times as many dreams halve the width."


@exercise("07.2")
def spike(answer: Callable) -> str:
    """KL of a coin that is written into m latents."""
    for m, p in ((1, 0.5), (3, 0.5), (2, 0.9), (4, 0.3)):
        found = number(answer(m, p), "the KL")
        entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
        want = m * entropy
        require(found > -1e-9, "A KL divergence is never negative; mind the sign of the logarithm.")
        require(
            abs(found * math.log(2) - want) > 1e-6, "That is in bits; use the natural logarithm."
        )
        require(
            m == 1 or abs(found - entropy) > 1e-6,
            "That is the entropy of one coin; the KLs of m independent latents add up.",
        )
        require(
            p == 0.5 or abs(found - m * math.log(2)) > 1e-6,
            "That holds for a fair coin; average over both sides, with weights p and 1 - p.",
        )
        require(abs(found - want) < 1e-4, f"For m = {m}, p = {p} it should be {want:.3f} nats.")
    return "A factorised prior pays once for every copy of the coin."


@exercise("07.3")
def obedience(answer: Callable) -> str:
    """Share of steps in which the paddle moved as told."""
    rng = np.random.default_rng(0)
    actions = rng.integers(3, size=(400, 6))
    lanes = np.zeros((400, 7), int)
    lanes[:, 0] = rng.integers(8, size=400)
    for t in range(6):
        lanes[:, t + 1] = np.clip(lanes[:, t] + actions[:, t] - 1, 0, 7)
    found = number(answer(lanes.copy(), actions.copy()), "the share")
    if found < 1 - 1e-9:
        inner = np.where(
            (lanes[:, :-1] + actions - 1 < 0) | (lanes[:, :-1] + actions - 1 > 7), 0, 1
        )
        require(
            abs(found - inner.mean()) > 1e-6,
            "At a wall the paddle stays where it is: clip the wanted lane to 0 .. 7.",
        )
        raise Wrong("A paddle that always obeys should get 1: lane + action - 1, clipped.")
    slip = lanes.copy()
    slip[:, 3:] = np.clip(slip[:, 3:] + 1, 0, 7)  # one slip, later steps obey
    want = (slip[:, 1:] == np.clip(slip[:, :-1] + actions - 1, 0, 7)).mean()
    found = number(answer(slip.copy(), actions.copy()), "the share")
    require(
        found > want - 1e-6,
        "A slip is counted again at later steps: start each step from where the paddle is.",
    )
    require(abs(found - want) < 1e-6, "A paddle that slips once should not get the full share.")
    return "Each step is judged by itself."


@exercise("07.4")
def diagnose(answer: Callable) -> str:
    """Blind, without memory, or healthy."""
    healthy = [4.6, 0.3, 0.1, 0.1, 1.8, 0.2, 0.2, 0.4]
    cases = [
        ("healthy", healthy, [0.5] * 8),
        ("healthy", [3.5, 0.05, 0.03, 0.03, 0.7, 0.05, 0.05, 0.05], [0.02] * 8),
        ("healthy", [5.0, 0.6, 0.3, 0.3, 2.6, 0.5, 0.4, 0.7], [0.4] * 8),
        ("no memory", [4.6, 4.5, 2.6, 2.6, 4.7, 4.6, 4.5, 4.2], [0.2] * 8),
        ("no memory", [5.3, 0.9, 1.2, 1.1, 6.8, 2.9, 3.6, 3.6], [0.4] * 8),
        ("blind", [0.01] * 8, [20.0] * 8),
        ("blind", [0.2] * 8, [130.0] * 8),
    ]
    for want, kl, rec in cases:
        found = answer(np.array(kl), np.array(rec))
        require(isinstance(found, str), "Return one of the three words.")
        require(
            found in ("blind", "no memory", "healthy"), f"'{found}' is none of the three words."
        )
        require(
            not (want == "blind" and found == "healthy"),
            "With KL near 0 at t = 0 it knows the first frame before it sees it; is that likely?",
        )
        require(
            not (want == "healthy" and found == "blind"),
            "A healthy model was called blind: its KL at t = 0 is large.",
        )
        require(
            not (want == "no memory" and found == "healthy"),
            "A model surprised by every frame was called healthy: look at t = 2, 3, 5, 6.",
        )
        require(
            not (want == "healthy" and found == "no memory"),
            "A healthy model was denied its memory; leave the coin at t = 4 out of the mean.",
        )
        require(found == want, f"A model that is '{want}' was called '{found}'.")
    return "The truth belongs into the chart: a KL can be too small as well as too large."
