"""Checks of notebook 00: why dream."""

from collections.abc import Callable

import numpy as np

from wmlib.checks.exercises import array, exercise, number, require

__all__: list[str] = []

ASK = {
    "A": "In which lanes can the ball be when it leaves the curtain?",
    "B": "Look for a fall of the coin that explains ball and paddle together.",
    "C": "Compare the paddle with the action, which is stay in every step.",
}


@exercise("00.1")
def error_or_luck(answers: list[str]) -> str:
    """Each film is luck if one fall of the coin explains all of it, else an error."""
    said = [str(a).strip().casefold() for a in answers]
    words = all(word in ("error", "luck") for word in said)
    require(words, "Each of the three answers is one of the words 'error' and 'luck'.")
    for name, word, right in zip("ABC", said, ("error", "luck", "error"), strict=True):
        require(word == right, f"Dream {name} is not {word}. {ASK[name]}")
    return "Luck is what the world allows; an error is what it does not."


@exercise("00.2")
def coin_of_the_dream(coin: Callable) -> str:
    """Mean and standard error of coin tosses; both divisors n and n - 1 are right."""
    rng = np.random.default_rng(0)
    for n, p in ((1000, 0.5), (250, 0.2), (4000, 0.9)):
        exits = (rng.random(n) < p).astype(int)
        answer = coin(exits.copy())
        pair = isinstance(answer, (tuple, list, np.ndarray)) and len(answer) == 2
        require(pair, "Return two numbers: the estimate and its standard error.")
        found = number(answer[0], "the estimate")
        error = number(answer[1], "the standard error")
        require(abs(found - exits.mean()) < 1e-6, "The estimate is the share of ones, their mean.")
        spread = exits.std()
        require(
            abs(error - spread) > spread / 100,
            "This is the spread of one toss and does not shrink with n; that of a mean does.",
        )
        require(
            abs(error - spread**2 / n) > error / 100,
            "This is the variance of the mean; its root is the standard error.",
        )
        require(
            abs(error - spread / n**0.5) < 0.005 * error,
            "The standard error is the root of p (1 - p) / n, with p as estimated.",
        )
    return "Four times as many dreams make it half as large."


@exercise("00.3")
def kl_by_hand(kl: Callable) -> str:
    """Zero for equal laws, never negative, the closed form, and in this order."""
    rng = np.random.default_rng(0)
    q, p = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    exact, swapped = (float((a * np.log(a / b)).sum()) for a, b in ((q, p), (p, q)))
    same = number(kl(q, q), "kl(q, q)")
    found = number(kl(q, p), "kl(q, p)")
    require(abs(same) < 1e-6, "A law has no divergence from itself: kl(q, q) should be 0.")
    require(abs(found - swapped) > 1e-6, "This is KL(p || q); the mean is taken over q.")
    require(abs(found + exact) > 1e-6, "The sign is wrong: the ratio is q / p, not p / q.")
    require(abs(found - exact / np.log(2)) > 1e-6, "This is in bits; nats need the natural log.")
    require(abs(found - exact / 2) > 1e-6, "This is half of it: add the terms up, no mean.")
    require(abs(found - exact) < 1e-5, "Sum over k: q[k] times the log of q[k] / p[k].")
    for size in (2, 3, 8):
        a, b = rng.dirichlet(np.ones(size), 2) * 0.99 + 0.01 / size
        found = number(kl(a, b), "kl(q, p)")
        require(
            abs(found - (a * np.log(a / b)).sum()) < 1e-5,
            f"Right for two classes, but not for {size}: sum over all of them.",
        )
    return "It is 0 only for equal laws, and never negative."


@exercise("00.4")
def reached_or_held(held: Callable) -> str:
    """From the answer on nothing is below the goal, and just before it something is."""

    def ask(returns: list[float], goal: float = 0.5) -> float:
        steps = 100 * np.arange(1, len(returns) + 1)
        found = held(steps, np.array(returns), goal)
        if isinstance(found, (float, np.floating)) and np.isposinf(found):
            return np.inf
        return number(found, "held(steps, returns, goal)")

    found = ask([0.1, 0.6, 0.2, 0.7, 0.8])
    require(found != 200, "The run falls back below the goal after that; it is reached, not held.")
    require(found != 3, "Return the step count of that evaluation, not its place in the list.")
    require(found == 400, "Find the last evaluation below the goal; the answer is the next one.")
    require(ask([0.1, 0.6, 0.7, 0.2]) == np.inf, "A run that ends below its goal gets np.inf.")
    require(ask([0.1, 0.2]) == np.inf, "A run that never gets there should get np.inf.")
    require(ask([0.6, 0.7]) == 100, "If no evaluation is below the goal, the first one counts.")
    require(ask([0.1, 0.5, 0.5]) == 200, "An evaluation exactly at the goal is not below it.")
    return "One lucky evaluation no longer counts."


@exercise("00.5")
def reinforce_with_baseline(reinforce: Callable) -> str:
    """Its mean is the exact gradient for any baseline; each draw is (r - b) (onehot - pi)."""
    rng = np.random.default_rng(0)
    pi, worth = np.array([0.2, 0.5, 0.3]), np.array([1.0, -2.0, 4.0])
    exact = pi * (worth - pi @ worth)
    n = 50_000
    actions = rng.choice(3, size=n, p=pi)
    spread = []
    for baseline in (0.0, float(pi @ worth)):
        found = reinforce(pi.copy(), actions.copy(), worth[actions], baseline)
        found = array(found, (n, 3), "the array of gradients")
        require(
            abs(found.sum(1)).max() < 1e-6,
            "Raising all logits alike changes no probability, so each row must sum to 0: "
            "the score is a one-hot vector minus pi.",
        )
        bound = 5 * found.std(0) / n**0.5 + 1e-9
        require(
            (abs(found.mean(0) + exact) > bound).any(),
            "The sign is wrong: the gradient points to where the reward rises.",
        )
        require(
            (abs(found.mean(0) - exact) <= bound).all(),
            "The mean over draws is not the exact gradient pi (r - E[r]).",
        )
        draw = (worth[actions] - baseline)[:, None] * (np.eye(3)[actions] - pi)
        require(
            abs(found - draw).max() < 1e-4,
            "The mean is right, but single draws are not (r - baseline) times the score; "
            "is the baseline used?",
        )
        spread.append(found.var(0).sum())
    return f"With the mean as baseline the spread falls to {spread[1] / spread[0]:.0%}."
