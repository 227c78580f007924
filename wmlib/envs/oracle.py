"""What can be known exactly about Curtain: entropies, beliefs, values, and the price of a dream.

Everything follows from one backward sweep over a table of all situations

    t (R)  ×  start lane s (4)  ×  what is known of the coin (K + 1)  ×  paddle lane (L)

where "known" k < K means that the ball was seen with offset k, and k = K that it was not yet seen.
Every function takes the `Rules` of a world: `make_rules(p=0.7)`, or those of an environment,
`env.unwrapped.rules`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wmlib.envs.curtain import (
    FIRST_HIDDEN,
    LANES,
    START_LANES,
    Rules,
    Scene,
    draw_frames,
    move,
    need,
    payoff,
)

__all__ = [
    "belief",
    "camping_return",
    "cheat_curve",
    "entropy_per_step",
    "memoryless_return",
    "optimal_action",
    "optimal_policy",
    "optimal_return",
    "random_return",
    "sweep",
    "value",
]

NEXT, COST = move(np.arange(LANES)[:, None], np.arange(3))  # (L, 3) lanes reached; (3,) prices
TIE_BREAK = 1e-9 * np.array([1, 2, 0])  # among equally good actions: stay, then left


def coin_table(rules: Rules) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every (start lane, offset, paddle) as three tables (4, K, L)."""
    s, d, x = np.meshgrid(START_LANES, rules.offsets, np.arange(LANES), indexing="ij")
    return s, d, x


def sweep(
    rules: Rules, gamma: float = 1.0, policy: np.ndarray | None = None, sees_reveal: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Dynamic programming from the last frame back to the first.

    Args:
        rules: the world.
        gamma: discount per step.
        policy: action probabilities (R - 1, 4, K + 1, L, 3) to evaluate; None finds the best.
        sees_reveal: False for somebody who never looks at the ball again once it was hidden.

    Returns:
        Values (R, 4, K + 1, L) and the policy. The last row of values is the final reward, which
        is paid on arrival and therefore not discounted.
    """
    values = np.zeros((rules.rows, len(START_LANES), len(rules.offsets) + 1, LANES))
    values[-1, :, :-1] = payoff(rules, *coin_table(rules))
    values[-1, :, -1] = mix(rules, values[-1])
    best = np.zeros((*values[:-1].shape, 3))
    for t in reversed(range(rules.last)):
        ahead = values[t + 1] * (1.0 if t + 1 == rules.last else gamma)  # (4, K + 1, L)
        if sees_reveal and t + 1 == rules.reveal:
            ahead[:, -1] = mix(rules, ahead)  # the next frame will show the coin
        q = ahead[..., NEXT] - COST  # (4, K + 1, L, 3)
        best[t] = np.eye(3)[(q + TIE_BREAK).argmax(-1)] if policy is None else policy[t]
        values[t] = (best[t] * q).sum(-1)
    return values, best


def mix(rules: Rules, values: np.ndarray) -> np.ndarray:
    """Average values (4, K + 1, L) over the K sides of the coin, to (4, L)."""
    return np.einsum("k,skx->sx", rules.probs, values[:, :-1])


# ---- what can be predicted ----------------------------------------------------------------------


def entropy_per_step(rules: Rules) -> np.ndarray:
    """Entropy of each frame given all earlier frames and actions, in nats, (R,)."""
    nats = np.full(rules.rows, rules.static * np.log(2))
    nats[0] += np.log(len(START_LANES)) + np.log(LANES)
    nats[rules.reveal] += sum(-q * np.log(q) for q in rules.probs if q > 0)
    return nats


def belief(rules: Rules, history: np.ndarray) -> np.ndarray:
    """Law of the lane the ball lands in, (L,), given the frames seen so far.

    Args:
        rules: the world.
        history: the frames (T, 2R, 2L, 1) of one episode from its reset on, T = 0 … R.

    Raises:
        BadInput: frames of another shape, or frames that no episode of this world can show.
    """
    history = np.asarray(history)
    shape = (2 * rules.rows, 2 * LANES, 1)
    need(
        len(history) <= rules.rows and (len(history) == 0 or history.shape[1:] == shape),
        f"history must be at most {rules.rows} frames of shape {shape}, not {history.shape}.",
    )
    s, d, _ = (v[..., 0].ravel() for v in coin_table(rules))  # (4K,) every ball there can be
    weight = np.tile(rules.probs, len(START_LANES)) / len(START_LANES)  # (4K,)
    for t, frame in enumerate(history):
        guess = Scene(np.full_like(s, t), s, d, np.zeros_like(s))
        guess = draw_frames(replace(rules, static=0), guess)  # (4K, 2R, 2L, 1)
        agree = ball_rows(rules, guess) == ball_rows(rules, frame[None])
        weight = weight * agree.all((1, 2, 3))
    need(weight.sum() > 0, "history must be the frames of an episode of this world from t = 0.")
    return np.bincount(s + d, weight / weight.sum(), minlength=LANES)


def ball_rows(rules: Rules, frames: np.ndarray) -> np.ndarray:
    """Rows of frames (N, 2R, 2L, 1) where only the ball can be: no curtain, not the bottom line."""
    return np.concatenate([frames[:, : 2 * FIRST_HIDDEN], frames[:, 2 * rules.reveal : -1]], axis=1)


# ---- what can be earned, on average over all starts ---------------------------------------------


def at_start(values: np.ndarray) -> float:
    """Average the values of a sweep over start lanes and paddles at t = 0."""
    return float(values[0, :, -1].mean())


def optimal_return(rules: Rules, gamma: float = 1.0) -> float:
    """Return of the best policy: it remembers the start lane and looks at the reveal.

    The reward that arrives with the frame at t is weighted by gamma^(t - 1).
    """
    return at_start(sweep(rules, gamma)[0])


def camping_return(rules: Rules) -> float:
    """Return of the best policy that ignores the reveal: walk to one lane and wait there."""
    return at_start(sweep(rules, sees_reveal=False)[0])


def random_return(rules: Rules) -> float:
    """Return of three equally likely actions."""
    thirds = np.full_like(sweep(rules)[1], 1 / 3)
    return at_start(sweep(rules, policy=thirds)[0])


def memoryless_return(rules: Rules) -> float:
    """Return of the best deterministic policy that sees only the current frame.

    Behind the curtain all it sees is its own paddle, so it has one action per paddle lane there,
    the same in every row: all 3^8 such plans are tried. Every other frame tells all that matters.
    """
    plans = np.array(list(itertools.product(range(3), repeat=LANES)))  # (P, L), P = 6561
    there = NEXT[np.arange(LANES), plans]  # (P, L) lane reached in one step of each plan
    value = mix(rules, sweep(rules)[0][rules.reveal])  # (4, L)
    value = np.tile(value, (len(plans), 1, 1))  # (P, 4, L)
    for _ in range(FIRST_HIDDEN, rules.reveal):
        value = np.take_along_axis(value, there[:, None], axis=2) - COST[plans][:, None]
    for _ in range(FIRST_HIDDEN):
        value = (value[..., NEXT] - COST).max(-1)
    return float(value.mean((1, 2)).max())


def cheat_curve(rules: Rules, taus: Sequence[float]) -> np.ndarray:
    """What a policy earns in the dream it was made for, and what it then earns really.

    In a dream of temperature tau the coin has the law p^(1/tau), normalised: a cold dream believes
    in the likelier side only.

    Args:
        rules: the real world; the late one has the steepest cliff.
        taus: temperatures, each above 0.

    Returns:
        (len(taus), 2): return in the dream, return in the real world.
    """
    curve = []
    for tau in taus:
        need(tau > 0, f"tau must be above 0, not {tau!r}.")
        odds = (np.array(rules.probs) / max(rules.probs)) ** (1 / tau)
        dreamt, policy = sweep(replace(rules, probs=tuple(odds / odds.sum())))
        curve.append((at_start(dreamt), at_start(sweep(rules, policy=policy)[0])))
    return np.array(curve)


# ---- what to do in one situation ----------------------------------------------------------------


Situation = tuple[int, int, int | None, int]  # t, lane, offset (None: not seen yet), paddle


def optimal_policy(rules: Rules, gamma: float = 1.0) -> np.ndarray:
    """Best actions (R - 1, 4, K + 1, L) by t, lane - 2, index of the offset, paddle.

    Index K stands for an offset not seen yet. Of equally good actions it takes stay, then left.
    """
    return sweep(rules, gamma)[1].argmax(-1)


def value(rules: Rules, situation: Situation, gamma: float = 1.0) -> float:
    """Best expected return from (t, lane, offset, paddle) on; 0 on the terminal frame.

    The offset is None as long as the ball was not seen again; a number before that asks for the
    value to somebody who was told.
    """
    t, *rest = locate(rules, situation)
    return 0.0 if t == rules.last else float(sweep(rules, gamma)[0][t, *rest])


def optimal_action(rules: Rules, situation: Situation, gamma: float = 1.0) -> int:
    """Best action in (t, lane, offset, paddle); on the terminal frame there is none (BadInput)."""
    t, *rest = locate(rules, situation)
    need(t < rules.last, f"t must be below {rules.last} to act, not {t}.")
    return int(optimal_policy(rules, gamma)[t, *rest])


def locate(rules: Rules, situation: Situation) -> tuple[int, int, int, int]:
    """Index of (t, lane, offset, paddle) in the tables of `sweep` (BadInput if there is none)."""
    t, lane, offset, paddle = situation
    need(t in range(rules.rows), f"t must be 0 to {rules.last}, not {t!r}.")
    need(lane in START_LANES, f"lane must be among {START_LANES.tolist()}, not {lane!r}.")
    need(paddle in range(LANES), f"paddle must be 0 to {LANES - 1}, not {paddle!r}.")
    seen = list(rules.offsets) + [None] * (t < rules.reveal)
    need(offset in seen, f"offset at t = {t} must be among {seen}, not {offset!r}.")
    known = len(rules.offsets) if offset is None else rules.offsets.index(offset)
    return int(t), int(lane - START_LANES[0]), known, int(paddle)
