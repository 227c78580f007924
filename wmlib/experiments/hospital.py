"""The experiment `hospital`: healthy agents and six ill ones, trained alike and examined alike.

    python -m wmlib experiment hospital

Every run trains a small world model on random play in Curtain (two episodes per window), then an
actor and a critic in its dreams, and takes the charts below. An ill agent is ill while it is
examined, too: charts are drawn by the code that has the bug. One line a run in `hospital.jsonl`; a
run that is stored is not repeated. A run takes about half a minute on one core.

Shapes: N windows or episodes, T rows, D size of h.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.config import preset
from wmlib.diagnostics import dream_laws, ending, memory_share, reset_gap, value_gap
from wmlib.distributions import kl_divergence
from wmlib.envs.make import make_env
from wmlib.experiments import dream_policy
from wmlib.experiments.bugs import BUGS
from wmlib.experiments.store import Size, Store, run_missing
from wmlib.experiments.world_model import cool
from wmlib.play import play
from wmlib.rssm import State
from wmlib.runtime import seed_everything

__all__ = ["CHARTS", "SIZE", "examine", "newborn", "results", "run", "run_seed", "train", "windows"]

ROWS = 16  # of a window: two episodes
# episodes: windows of replay; exam: windows or episodes for each chart
SIZE = Size(updates=900, every=30, batch=8, episodes=1500, exam=500, dream_updates=150, dreams=256)
CHANGES = {"lr": 4e-3, "lr_decay": 0, "rep_scale": 0.3}  # as for `world_model`
LONGER = "healthy, twice as long"
# who is trained, and with which seeds
PLAN = {"healthy": range(6)} | dict.fromkeys(BUGS, range(3)) | {LONGER: (3,)}

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


def windows(agent: Dreamer, seed: int, count: int) -> dict[str, Tensor]:
    """Random play as windows of two whole episodes each, (count, 16, ...)."""
    untrained = Dreamer(agent.obs_space, agent.act_space, agent.config)  # plays at random
    env = make_env("wmlib/Curtain-v0", count, seed)
    return agent.tensors(play(untrained, env, ROWS, seed=seed))[0]


def train(
    agent: Dreamer,
    seed: int,
    size: Size = SIZE,
    on_update: Callable[[int, dict[str, float]], None] = lambda *_: None,
) -> list[float]:
    """Train model, then actor and critic in dreams; the total loss of the model on the way."""
    replay = windows(agent, seed, size.episodes)
    curve: list[float] = []
    recent: list[float] = []
    for update in range(size.updates):
        for group in agent.optimizer.param_groups:
            group["lr"] = cool(agent.config.lr, update, size.updates)
        pick = torch.randint(size.episodes, (size.batch,))
        batch = {name: rows[pick] for name, rows in replay.items()}
        metrics, _ = agent.update(batch, behaviour=False)
        parts = {name: float(value) for name, value in metrics.items()}
        scales = agent.scales(behaviour=False)
        recent.append(sum(scale * parts[name] for name, scale in scales.items()))
        on_update(update, parts)
        if (update + 1) % size.every == 0:
            curve.append(float(np.mean(recent[-size.every :])))
    learn_to_act(agent, replay, size)
    return curve


def learn_to_act(agent: Dreamer, replay: dict[str, Tensor], size: Size = SIZE) -> None:
    """Give the agent a fresh actor and critic that learn in dreams from its posterior states."""
    with torch.no_grad():
        state = agent.world.observe({name: rows[:500] for name, rows in replay.items()}).state
    begin = [t for t in range(ROWS) if t % 8 != 7]  # last frames have no future
    starts = State(*(part[:, begin].flatten(0, 1) for part in state))
    config = agent.config.replace(**dream_policy.CHANGES)
    behaviour = dream_policy.Behaviour(starts.feature.shape[-1], agent.act_space, config)
    for _ in range(size.dream_updates):
        pick = torch.randint(len(starts.h), (size.dreams,))
        start = State(starts.h[pick], starts.z[pick])
        learnt = dream_policy.losses_in_dreams(agent.world, behaviour, start)
        dream_policy.improve(behaviour, {"policy": learnt.policy, "value": learnt.value})
    agent.actor = behaviour.actor
    agent.critic = behaviour.critic


# ---------------------------------------------------------------- examination


@torch.no_grad()
def score(agent: Dreamer, episodes: int, seed: int = 77) -> float:
    """Mean return in the world."""
    env = make_env("wmlib/Curtain-v0", episodes, seed)
    return float(play(agent, env, 8, seed=seed)["reward"].sum(1).mean())


@torch.no_grad()
def examine(agent: Dreamer, curve: list[float], size: Size = SIZE) -> dict[str, float]:
    """All charts of a trained agent, and its mean return in the world."""
    rows = windows(agent, seed=54_321, count=size.exam)
    seen = agent.world.observe(rows)
    kl = kl_divergence(seen.posterior, seen.prior).mean(0)  # (16,)
    rec = agent.world.losses(rows, seen)["rec"].mean()
    laws = dream_laws(agent, n=2 * size.exam)
    charts = {
        "total loss": np.mean(curve[-3:]),
        "reconstruction": rec,
        "KL, calm frames": kl[[1, 2, 3, 5, 6, 7]].mean(),
        "KL, coin": kl[4],
        "obedience": laws.action_fidelity,
        "impossible exits": laws.impossible,
        "memory": memory_share(agent, rows),
        "ending": ending(agent, rows),
        "reset": reset_gap(agent, rows),
        "value": value_gap(agent, rows),
    }
    charts |= {"return": score(agent, size.exam)}
    return {name: round(float(value), 4) for name, value in charts.items()}


# ---------------------------------------------------------------- runs


def newborn(seed: int, **changes: Any) -> Dreamer:
    """A fresh agent of the size that the hospital treats; `changes` are of the config."""
    seed_everything(seed)
    env = make_env("wmlib/Curtain-v0")
    config = preset("tiny", **CHANGES | changes)
    return Dreamer(env.single_observation_space, env.single_action_space, config)


def run_seed(patient: str, seed: int, size: Size = SIZE) -> tuple[dict[str, Any], None]:
    """Train and examine one agent: with a bug, "healthy", or "healthy, twice as long"."""
    agent = newborn(seed, **size.config)
    began = time.monotonic()
    if patient == LONGER:
        size = replace(size, updates=2 * size.updates)
    with BUGS[patient](agent) if patient in BUGS else contextlib.nullcontext():
        curve = train(agent, seed, size)
        charts = examine(agent, curve, size)
    seconds = round(time.monotonic() - began, 1)
    return charts | {"curve": [round(value, 3) for value in curve], "seconds": seconds}, None


def results(out: Path) -> Store:
    """Where the results are; the curve of a run is in its line."""
    return Store("hospital", out, ("patient", "seed"))


def run(
    out: Path, threads: int | None = None, seeds: tuple[int, ...] = (), size: Size = SIZE
) -> list[dict]:
    """Run what is not stored yet; returns all stored lines.

    Raises:
        BadInput: a directory that cannot be written.
    """
    keys = [(patient, seed) for patient, usual in PLAN.items() for seed in seeds or usual]
    return run_missing(results(out), threads, keys, partial(run_seed, size=size))
