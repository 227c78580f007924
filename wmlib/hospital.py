"""The experiment `hospital`: healthy agents and six ill ones, trained alike and examined alike.

    python -m wmlib experiment hospital

Every run trains a small world model on random play in Curtain (two episodes per window), then an
actor and a critic in its dreams, and takes the charts below. An ill agent is ill while it is
examined, too: charts are drawn by the code that has the bug. One line a run in `hospital.jsonl`; a
run that is stored is not repeated. A run takes about half a minute on one core.

Shapes: N windows or episodes, T rows, D size of h.
"""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import wmlib
from wmlib import dream_policy
from wmlib.agent import Dreamer
from wmlib.checks.dreams import ball_lanes, dream_laws
from wmlib.checks.patients import PATIENTS
from wmlib.distributions import kl_divergence
from wmlib.experiments import prepare, stored, where
from wmlib.model_runs import cool
from wmlib.rssm import State

__all__ = ["CHARTS", "NAME", "examine", "run", "train", "windows"]

NAME = "hospital"
HEALTHY, ILL, LATE = range(6), range(3), (3,)  # seeds; the last ones train longer, too
WINDOWS, ROWS, BATCH = 1500, 16, 8  # of replay; rows of a window; windows per update
UPDATES, DREAM_UPDATES, DREAMS, EVERY = 900, 150, 256, 30
EXAM = 500  # windows or episodes per chart
CHANGES = {"lr": 4e-3, "lr_decay": 0, "rep_scale": 0.3}  # as for `world_model`

# chart: what it costs to order it, and the least difference that can mean anything
CHARTS: dict[str, tuple[int, float]] = {
    "total loss": (5, 0.05),  # nats per row, mean of the last 90 updates
    "reconstruction": (5, 0.05),  # nats per row, held out
    "KL, calm frames": (5, 0.05),  # nats, frames without news
    "KL, coin": (5, 0.1),  # nats, frame 4
    "obedience": (10, 0.02),  # dreamt moves that are the commanded ones
    "impossible exits": (10, 0.05),  # of the ball, in dreams
    "memory": (15, 0.05),  # hidden lane read from h at frame 3, share
    "ending": (10, 0.05),  # chance to go on, at the last frame
    "reset": (10, 0.01),  # what an earlier episode changes in h, relative
    "value": (15, 0.05),  # critic against what is then earned in dreams, mean over frames
}


# ---------------------------------------------------------------- training


def windows(agent: Dreamer, seed: int, count: int = WINDOWS) -> dict[str, Tensor]:
    """Random play as windows of two whole episodes each, (count, 16, ...)."""
    novice = Dreamer(agent.obs_space, agent.act_space, agent.config)  # its first actor is random
    env = wmlib.make_env("wmlib/Curtain-v0", count, seed)
    return agent.tensors(wmlib.play(novice, env, ROWS, seed=seed))[0]


def train(
    agent: Dreamer,
    seed: int,
    on_update: Callable[[int, dict[str, float]], None] = lambda *_: None,
    updates: int | None = None,
) -> list[float]:
    """Train model, then actor and critic in dreams; the total loss of the model on the way."""
    replay, curve, recent = windows(agent, seed), [], []
    updates = updates or UPDATES
    for update in range(updates):
        agent.optimizer.lr = cool(agent.config.lr, update, updates)
        pick = torch.randint(WINDOWS, (BATCH,))
        batch = {name: rows[pick] for name, rows in replay.items()}
        metrics, _ = agent.update(batch, behaviour=False)
        parts = {name: float(value) for name, value in metrics.items()}
        scales = agent.scales(behaviour=False)
        recent.append(sum(scale * parts[name] for name, scale in scales.items()))
        on_update(update, parts)
        if (update + 1) % EVERY == 0:
            curve.append(float(np.mean(recent[-EVERY:])))
    learn_to_act(agent, replay)
    return curve


def learn_to_act(agent: Dreamer, replay: dict[str, Tensor]) -> None:
    """Give the agent a fresh actor and critic that learn in dreams from its posterior states."""
    with torch.no_grad():
        state = agent.world.observe({name: rows[:500] for name, rows in replay.items()}).state
    begin = [t for t in range(ROWS) if t % 8 != 7]  # last frames have no future
    starts = State(*(part[:, begin].flatten(0, 1) for part in state))
    config = agent.config.replace(**dream_policy.CHANGES)
    me = dream_policy.Behaviour(starts.feature.shape[-1], agent.act_space, config)
    for _ in range(DREAM_UPDATES):
        pick = torch.randint(len(starts.h), (DREAMS,))
        start = State(starts.h[pick], starts.z[pick])
        dream_policy.improve(me, dream_policy.dream_losses(agent.world, me, start)[0])
    agent.actor, agent.critic = me.actor, me.critic


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
    half, ridge = len(x) // 2, 1e-2 * torch.eye(x.shape[1], dtype=x.dtype)
    wanted = torch.nn.functional.one_hot(lane[:half], 4).to(x.dtype)
    weight = torch.linalg.solve(x[:half].T @ x[:half] + ridge, x[:half].T @ wanted)
    return float(((x[half:] @ weight).argmax(-1) == lane[half:]).double().mean())


@torch.no_grad()
def value_gap(agent: Dreamer, rows: dict[str, Tensor]) -> float:
    """Critic against what its policy then earns in dreams, mean over frames 0 to 6. Truth: 0."""
    seen, gaps = agent.world.observe(rows).state, []
    for t in range(7):
        start = State(seen.h[:, t], seen.z[:, t])
        film = agent.world.imagine(lambda x: agent.actor(x).sample(), start, 7)
        going = agent.world.continues(film.feature)
        weight = going.cumprod(1)[:, :-1] / going[:, :1]  # in play when the reward arrives
        earned = (weight * agent.world.reward(film.feature)[:, 1:]).sum(1)
        gaps.append((agent.critic.mean(agent.critic(start.feature)) - earned).mean().abs())
    return float(torch.stack(gaps).mean())


@torch.no_grad()
def score(agent: Dreamer, seed: int = 77) -> float:
    """Mean return in the world."""
    env = wmlib.make_env("wmlib/Curtain-v0", EXAM, seed)
    return float(wmlib.play(agent, env, 8, seed=seed)["reward"].sum(1).mean())


@torch.no_grad()
def examine(agent: Dreamer, curve: list[float]) -> dict[str, float]:
    """All charts of a trained agent, and its mean return in the world."""
    rows = windows(agent, seed=54_321, count=EXAM)
    seen = agent.world.observe(rows)
    kl = kl_divergence(seen.posterior, seen.prior).mean(0)  # (16,)
    rec = agent.world.losses(rows, seen)["rec"].mean()
    laws = dream_laws(agent, n=2 * EXAM)
    values = (
        np.mean(curve[-3:]), rec, kl[[1, 2, 3, 5, 6, 7]].mean(), kl[4], laws.action_fidelity,
        laws.impossible, memory_share(agent, rows), ending(agent, rows), reset_gap(agent, rows),
        value_gap(agent, rows),
    )  # fmt: skip
    charts = {name: round(float(value), 4) for name, value in zip(CHARTS, values, strict=True)}
    return charts | {"return": round(score(agent), 4)}


# ---------------------------------------------------------------- runs


def newborn(seed: int) -> Dreamer:
    """A fresh agent of the size that the hospital treats."""
    wmlib.seed_everything(seed)
    env = wmlib.make_env("wmlib/Curtain-v0")
    config = wmlib.preset("tiny", **CHANGES)
    return Dreamer(env.single_observation_space, env.single_action_space, config)


def one(patient: str, seed: int) -> dict:
    """Train and examine one agent: ill, "healthy", or "healthy, twice as long"."""
    agent, began = newborn(seed), time.monotonic()
    updates = 2 * UPDATES if patient.endswith("twice as long") else UPDATES
    with PATIENTS[patient](agent) if patient in PATIENTS else contextlib.nullcontext():
        curve = train(agent, seed, updates=updates)
        charts = examine(agent, curve)
    seconds = round(time.monotonic() - began, 1)
    curve = [round(value, 3) for value in curve]
    return {"patient": patient, "seed": seed, **charts, "curve": curve, "seconds": seconds}


def run(out: Path, threads: int | None = None, seeds: tuple[int, ...] = ()) -> list[dict]:
    """Run what is not stored yet; returns all stored lines.

    Raises:
        BadInput: a directory that cannot be written.
    """
    used, done = prepare(out, threads), {(li["patient"], li["seed"]) for li in stored(NAME, out)}
    plan = {"healthy": HEALTHY} | dict.fromkeys(PATIENTS, ILL) | {"healthy, twice as long": LATE}
    for patient, usual in plan.items():
        for seed in seeds or usual:
            if (patient, seed) not in done:
                line = one(patient, seed) | where(NAME, used)
                with open(out / f"{NAME}.jsonl", "a") as file:
                    file.write(json.dumps(line) + "\n")
    return stored(NAME, out)
