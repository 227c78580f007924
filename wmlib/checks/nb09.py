"""Exercises of notebook 09: actor and critic."""

import math

import numpy as np
import torch

from wmlib.checks.exercises import Wrong, array, exercise, number, require
from wmlib.envs.curtain import MOVE_COST, advance, draw_start, make_rules

INDEX = {
    "the action whose log-probability is raised": (2, "The loss at t = 2 is about a choice at 2."),
    "the first reward in its return": (
        3,
        "The first reward that action 2 can earn arrives with the state it leads to.",
    ),
    "the state whose value is subtracted": (
        2,
        "The baseline must not know the action: it is the value where the choice is made.",
    ),
    "the first value that may enter its return": (
        3,
        "The return may believe the critic from the first arrival on, not before.",
    ),
    "the last continuation in its weight": (
        2,
        "The weight asks whether state 2 is still in play; what comes later is in the return.",
    ),
    "the last reward in its return": (
        5,
        "A dream of 5 steps has states 0 to 5, and each arrival brings a reward.",
    ),
}


@exercise("09.1")
def index(answer):
    """Consequences carry the index of the state of arrival."""
    require(isinstance(answer, dict), "The answer should stay a dictionary with its six keys.")
    for key, (right, hint) in INDEX.items():
        require(key in answer, f"The key '{key}' is missing.")
        require(number(answer[key], key) == right, hint)
    return "Choices carry the index of the state that is left, consequences that of arrival."


@exercise("09.2")
def reach(answer):
    """The mean of n under the mixture, 1 at lambda = 0, H at lambda = 1."""
    found = number(answer(0.5, 3), "reach(0.5, 3)")
    require(abs(found - 2) > 1e-3, "Close: 1/(1 - λ) is for a dream without end; yours has H.")
    require(
        abs(found - 1.25) > 1e-3,
        "Yours leaves out the weight at n = H: all that is left goes there, λ^(H-1).",
    )
    require(
        abs(number(answer(0.0, 7), "reach(0, 7)") - 1) < 1e-6,
        "With λ = 0 the return adds one reward and then believes the critic: the reach is 1.",
    )
    require(
        abs(number(answer(1 - 1e-9, 7), "reach(1, 7)") - 7) < 1e-3,
        "As λ approaches 1 all H rewards are added: the reach approaches H.",
    )
    for lam, H in ((0.5, 3), (0.8, 5), (0.95, 15), (0.3, 1), (0.99, 40)):
        weights = [(1 - lam) * lam ** (n - 1) for n in range(1, H)] + [lam ** (H - 1)]
        wanted = sum(n * w for n, w in zip(range(1, H + 1), weights, strict=True))
        found = number(answer(lam, H), f"reach({lam}, {H})")
        require(
            abs(found - wanted) < 1e-6,
            f"For λ = {lam} and H = {H} the mixture looks at {wanted:.3f} rewards on average, "
            f"and yours gives {found:.3f}.",
        )
    return "The paper's 0.95 over 15 steps looks at 10.7 rewards, this notebook's at 3.4."


@exercise("09.3")
def dear_moves(answer):
    """Rows of Curtain as they would be if a move cost five times as much."""
    rules = make_rules()
    rng = np.random.default_rng(0)
    now = draw_start(rules, rng, 200)
    rewards = [np.zeros(200)]
    wanted = [np.zeros(200)]
    for _ in range(7):
        action = rng.integers(3, size=200)
        now, gain = advance(rules, now, action)
        rewards.append(gain)
        wanted.append(gain - 4 * MOVE_COST * (action != 1))
    reward, wanted = (torch.tensor(np.stack(x, 1)).float() for x in (rewards, wanted))
    terminal = torch.zeros(200, 8, dtype=torch.bool)
    terminal[:, 7] = True
    kept = reward.clone()
    found = torch.as_tensor(array(answer(reward, terminal), (200, 8), "the new rewards")).float()
    require(torch.equal(reward, kept), "Your function changed its input; return a new tensor.")
    off = (found - wanted).abs()
    require(
        not torch.allclose(found, 5 * reward, atol=1e-5),
        "That multiplies the ±1 for the ball as well; only the cost of moves should grow.",
    )
    require(
        off[:, 1:7].max() < 1e-5,
        "Before the end a reward is minus the cost of a move: 0.02 should become 0.10.",
    )
    require(off[:, 0].max() < 1e-5, "The first row has no move before it: its reward stays 0.")
    if not off[:, 7].max() < 1e-5:
        same = torch.allclose(found[:, 7], reward[:, 7], atol=1e-5)
        raise Wrong(
            "The last move costs as well: terminal rows hold the payoff and a cost."
            if same
            else "On terminal rows take the reward apart: its sign is the payoff, what is missing "
            "to ±1 is the cost."
        )
    return "The same rows tell of another world, because only its rewards are another."


@exercise("09.4")
def tipping(answer):
    """At that temperature the dream holds both for equally good."""
    odds = math.log(0.77 / 0.23)
    found = number(answer(0.6), "tipping(0.6)")
    right = math.log(0.6 / 0.4) / odds
    require(
        abs(found - 1 / right) > 1e-3, "That is the inverse: log-odds are divided by τ, not by 1/τ."
    )
    require(
        abs(found - math.log(1.5) / math.log(3)) > 1e-3,
        "You let the gamble travel for free: two moves cost 0.04.",
    )
    require(
        abs(found - 0.77) > 1e-3,
        "0.77 is the probability at which both are equal; at which temperature is it reached?",
    )
    for p in (0.55, 0.6, 0.7, 0.77, 0.9):
        tau = number(answer(p), f"tipping({p})")
        require(tau > 0, "A temperature is positive.")
        q = 1 / (1 + ((1 - p) / p) ** (1 / tau))
        require(
            abs(2 * q - 1.04 - 0.5) < 1e-4,
            f"At your temperature {tau:.3f} a coin of {p} is dreamt as {q:.3f}, so the gamble "
            f"earns {2 * q - 1.04:.3f}, not the 0.5 of staying.",
        )
    return "For p = 0.6 it is 0.34: the step of the slate line in the cheat meter."
