"""Are dreams of Curtain possible, and as frequent as they should be?

Shapes: N episodes, T frames of (16, 16, 1), real uint8 or dreamt in [0, 1]; frame t has the ball in
row t. Lanes are 0 .. 7.
"""

from dataclasses import dataclass

import numpy as np

from wmlib.agent import Dreamer
from wmlib.envs.make import make_env

__all__ = ["DreamLaws", "ball_lanes", "dream_laws", "paddle_lanes"]

REVEAL = 4  # first frame below the curtain


def ball_lanes(frames: np.ndarray, t: int) -> np.ndarray:
    """Lane of the brightest cell in row t. frames (N, 16, 16, 1) -> (N,)."""
    cells = frames[:, 2 * t : 2 * t + 2, :, 0].astype(float).reshape(len(frames), 2, 8, 2)
    return cells.mean((1, 3)).argmax(-1)


def paddle_lanes(frames: np.ndarray) -> np.ndarray:
    """Lane of the brightest pair on the bottom line, for t < 7. (..., 16, 16, 1) -> (...)."""
    line = frames[..., 15, :, 0].astype(float)
    return line.reshape(*line.shape[:-1], 8, 2).mean(-1).argmax(-1)


@dataclass(frozen=True)
class DreamLaws:
    """Frequencies over n dreams whose eyes closed before the coin was shown."""

    left: float  # exits two lanes left of the start: the coin's p
    right: float  # exits two lanes right
    impossible: float  # exits anywhere else
    action_fidelity: float  # dreamt paddle moves that are what the action commands
    n: int


def dream_laws(agent: Dreamer, n: int = 1000, seed: int = 0, p: float = 0.5) -> DreamLaws:
    """Show the agent n starts (frames 0 .. 3, random play), then let it dream frames 4 .. 6.

    The actions are random throughout, so the law is the model's and not the policy's.
    """
    env = make_env("wmlib/Curtain-v0", num_envs=n, seed=seed, p=p)
    rng = np.random.default_rng(seed)
    actions = rng.integers(3, size=(n, REVEAL + 2))
    row, frames = env.reset(seed=seed), []
    for t in range(REVEAL):
        frames.append(row.obs)
        row = env.step(actions[:, t])
    env.close()
    first = np.zeros((n, REVEAL), bool)
    first[:, 0] = True
    before = np.concatenate([np.zeros((n, 1), int), actions[:, : REVEAL - 1]], 1)
    context = {"obs": np.stack(frames, 1), "prev_action": before, "is_first": first}
    dream = agent.imagine(context, horizon=3, actions=actions[:, REVEAL - 1 :])
    start = ball_lanes(frames[0], 0)
    moved = ball_lanes(dream.observation[:, 1], REVEAL) - start
    paddle = paddle_lanes(dream.observation)  # (N, 4): frame 3 with eyes open, 4 .. 6 dreamt
    paddle[:, 0] = paddle_lanes(frames[-1])
    wanted = np.clip(paddle[:, :-1] + actions[:, REVEAL - 1 :] - 1, 0, 7)
    left, right = (moved == -2).mean(), (moved == 2).mean()
    fidelity = (paddle[:, 1:] == wanted).mean()
    return DreamLaws(float(left), float(right), float(1 - left - right), float(fidelity), n)
