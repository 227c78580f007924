"""What a trained agent knows and dreams, measured: laws of its dreams, charts, read-outs.

Everything here is about Curtain. Shapes: N episodes, T frames of (16, 16, 1), real uint8 or dreamt
in [0, 1]; frame t has the ball in row t; lanes are 0 .. 7. D size of h, F features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.envs.curtain import START_LANES
from wmlib.envs.make import make_env
from wmlib.play import play
from wmlib.rssm import State
from wmlib.runtime import own_randomness

__all__ = [
    "DreamLaws",
    "Probes",
    "ball_lanes",
    "dream_laws",
    "ending",
    "fit_probes",
    "laws_of",
    "memory_share",
    "paddle_lanes",
    "reset_gap",
    "value_gap",
    "watch",
]

REVEAL = 4  # first frame below the curtain
STEPS = 7  # frames 0 .. 6; the terminal one shows nothing new
LANES = len(START_LANES)


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

    The actions are random throughout, so the frequencies are the model's and not the policy's.
    """
    env = make_env("wmlib/Curtain-v0", num_envs=n, seed=seed, p=p)
    rng = np.random.default_rng(seed)
    actions = rng.integers(3, size=(n, REVEAL + 2))
    row = env.reset(seed=seed)
    frames = []
    for t in range(REVEAL):
        frames.append(row.obs)
        row = env.step(actions[:, t])
    env.close()
    first = np.zeros((n, REVEAL), bool)
    first[:, 0] = True
    before = np.concatenate([np.zeros((n, 1), int), actions[:, : REVEAL - 1]], 1)
    context = {"obs": np.stack(frames, 1), "prev_action": before, "is_first": first}
    dream = agent.imagine(context, horizon=3, actions=actions[:, REVEAL - 1 :])
    return laws_of(frames[0], frames[-1], dream.observation[:, 1:], actions[:, REVEAL - 1 :])


def laws_of(
    first: np.ndarray, last: np.ndarray, dreamt: np.ndarray, actions: np.ndarray
) -> DreamLaws:
    """Laws of n dreams of frames 4 .. 6.

    first, last: the real frames 0 and 3, (N, 16, 16, 1). dreamt (N, 3, 16, 16, 1). actions (N, 3):
    those that lead to the dreamt frames.
    """
    moved = ball_lanes(dreamt[:, 0], REVEAL) - ball_lanes(first, 0)
    paddle = np.concatenate([paddle_lanes(last)[:, None], paddle_lanes(dreamt)], 1)  # (N, 4)
    wanted = np.clip(paddle[:, :-1] + actions - 1, 0, 7)
    left, right = (moved == -2).mean(), (moved == 2).mean()
    return DreamLaws(
        left=float(left),
        right=float(right),
        impossible=float(1 - left - right),
        action_fidelity=float((paddle[:, 1:] == wanted).mean()),
        n=len(first),
    )


# ---------------------------------------------------------------- charts


@torch.no_grad()
def ending(agent: Dreamer, rows: dict[str, Tensor]) -> float:
    """Predicted chance to go on, at the last frame of an episode. Truth: 0."""
    goes_on = agent.world.continues(agent.world.observe(rows).state.feature)
    return float(goes_on[rows["is_terminal"]].mean())


@torch.no_grad()
def reset_gap(agent: Dreamer, rows: dict[str, Tensor]) -> float:
    """What another first episode changes in h where the second begins, relative. Truth: 0."""
    mixed = {
        name: torch.cat([part.roll(1, 0)[:, :8], part[:, 8:]], 1) for name, part in rows.items()
    }
    h, other = (agent.world.observe(batch).state.h[:, 8] for batch in (rows, mixed))
    return float((h - other).norm(dim=-1).mean() / h.norm(dim=-1).mean().clamp(min=1e-6))


@torch.no_grad()
def memory_share(agent: Dreamer, rows: dict[str, Tensor]) -> float:
    """Share of hidden start lanes that a linear read-out finds in h at frame 3. Chance: 1/4."""
    h = agent.world.observe(rows).state.h[:, 3].double()
    lane = torch.as_tensor(ball_lanes(rows["obs"][:, 0].numpy(), 0) - 2)
    x = torch.cat([h, torch.ones(len(h), 1, dtype=h.dtype)], 1)
    half = len(x) // 2
    ridge = 1e-2 * torch.eye(x.shape[1], dtype=x.dtype)
    wanted = torch.nn.functional.one_hot(lane[:half], 4).to(x.dtype)
    weight = torch.linalg.solve(x[:half].T @ x[:half] + ridge, x[:half].T @ wanted)
    return float(((x[half:] @ weight).argmax(-1) == lane[half:]).double().mean())


@torch.no_grad()
def value_gap(agent: Dreamer, rows: dict[str, Tensor]) -> float:
    """Critic against what its policy then earns in dreams, mean over frames 0 to 6. Truth: 0."""
    seen = agent.world.observe(rows).state
    gaps = []
    for t in range(7):
        start = State(seen.h[:, t], seen.z[:, t])
        film = agent.world.imagine(lambda x: agent.actor(x).sample(), start, 7)
        going = agent.world.continues(film.feature)
        weight = going.cumprod(1)[:, :-1] / going[:, :1]  # in play when the reward arrives
        earned = (weight * agent.world.reward(film.feature)[:, 1:]).sum(1)
        gaps.append((agent.critic.mean(agent.critic(start.feature)) - earned).mean().abs())
    return float(torch.stack(gaps).mean())


# ---------------------------------------------------------------- probes


@dataclass(frozen=True)
class Probes:
    """Linear read-outs of the start lane, one per step t, fitted on many episodes."""

    from_h: tuple[Tensor, Tensor]  # weight (T, D, 4), bias (T, 4)
    from_z: tuple[Tensor, Tensor]  # weight (T, S*K, 4), bias (T, 4)
    accuracy_h: np.ndarray  # (T,) on episodes that were not fitted
    accuracy_z: np.ndarray  # (T,)
    accuracy_blank: np.ndarray  # (T,) of the read-out from h where h is zero: a constant guess


@torch.no_grad()
def watch(agent: Dreamer, episodes: int, seed: int = 0) -> tuple[State, np.ndarray, np.ndarray]:
    """Posterior states (N, T), frames (N, T, H, W, C) and start lanes (N,) of the agent's play."""
    env = make_env("wmlib/Curtain-v0", num_envs=episodes)
    agent.check_spaces(env.single_observation_space, env.single_action_space)
    rows = play(agent, env, STEPS, seed)
    batch, start = agent.tensors(rows)
    with own_randomness(agent.device, seed):
        state = agent.world.observe(batch, start).state
    first = rows["obs"][:, 0, :2, :, 0].reshape(episodes, 2, -1, 2)  # row 0 of the board
    return state, rows["obs"] / 255, first.mean((1, 3)).argmax(-1)


def fit_read_out(x: Tensor, y: Tensor, rounds: int = 150) -> tuple[Tensor, Tensor]:
    """Softmax regression per step: x (N, T, F), y (N,) classes -> weight (T, F, 4), bias (T, 4)."""
    x = x.transpose(0, 1)  # (T, N, F)
    weight = torch.zeros(len(x), x.shape[-1], LANES, device=x.device, requires_grad=True)
    bias = torch.zeros(len(x), 1, LANES, device=x.device, requires_grad=True)
    adam = torch.optim.Adam([weight, bias], lr=0.05)
    target = y.expand(len(x), -1).flatten()
    with torch.enable_grad():
        for _ in range(rounds):
            logits = torch.baddbmm(bias, x, weight).flatten(0, 1)
            nll = torch.nn.functional.cross_entropy(logits, target) * len(x)
            (nll + 1e-3 * weight.square().sum()).backward()
            adam.step()
            adam.zero_grad()
    return weight.detach(), bias.detach().squeeze(1)


def fit_probes(agent: Dreamer, episodes: int = 1024, seed: int = 1000) -> Probes:
    """Fit read-outs of the start lane on half of the episodes and score them on the other half."""
    state, _, lanes = watch(agent, episodes, seed)
    y = torch.as_tensor(lanes - START_LANES[0], device=state.h.device)
    half = episodes // 2

    def hits(x: Tensor, probe: tuple[Tensor, Tensor]) -> np.ndarray:  # (T,)
        guess = (torch.einsum("ntf,tfk->ntk", x[half:], probe[0]) + probe[1]).argmax(-1)
        return (guess == y[half:, None]).float().mean(0).cpu().numpy()

    h, z = state.h, state.z.flatten(-2)
    from_h, from_z = (fit_read_out(x[:half], y[:half]) for x in (h, z))
    return Probes(
        from_h=from_h,
        from_z=from_z,
        accuracy_h=hits(h, from_h),
        accuracy_z=hits(z, from_z),
        accuracy_blank=hits(torch.zeros_like(h), from_h),
    )
