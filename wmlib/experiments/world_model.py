"""The experiment `world_model`: what makes a model of Curtain good, with controls that are not.

    python -m wmlib experiment world_model

Every run trains a world model, and nothing else, on a replay of random play, and measures it on
episodes it never saw: KL and reconstruction of every frame, and the laws of its dreams. One run
takes about a minute on one core ("three times longer": three).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.config import preset
from wmlib.diagnostics import DreamLaws, dream_laws
from wmlib.distributions import kl_divergence
from wmlib.envs.make import make_env
from wmlib.experiments.store import Curve, Size, Store, run_missing
from wmlib.play import play
from wmlib.runtime import seed_everything
from wmlib.trainer import Trainer

__all__ = [
    "RUNS",
    "SIZE",
    "ModelRun",
    "Snapshot",
    "cool",
    "held_out",
    "measure",
    "results",
    "run",
    "run_seed",
    "train",
]

ROWS = 8  # of an episode
SIZE = Size(updates=1000, batch=32, episodes=8000, exam=500)
# shares of the training after which a snapshot is taken
KEEP = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
# of the preset `tiny`: large steps (`cool` shrinks them), and codes that are easier to predict
CHANGES = {"lr": 4e-3, "lr_decay": 0, "rep_scale": 0.3}
LAWS = {  # column: field of DreamLaws
    "left": "left",
    "right": "right",
    "impossible": "impossible",
    "fidelity": "action_fidelity",
}


def no_memory(batch: dict[str, Tensor]) -> None:
    """Every row counts as the first of an episode: nothing is carried over."""
    batch["is_first"] = torch.ones_like(batch["is_first"])


def shuffled_actions(batch: dict[str, Tensor]) -> None:
    """Every window gets the actions of another one."""
    batch["prev_action"] = batch["prev_action"].roll(1, 0)


@dataclass(frozen=True)
class ModelRun:
    """One kind of training, repeated over seeds."""

    seeds: tuple[int, ...] = (0, 1, 2)
    p: float = 0.5  # of the world it is trained and measured in
    changes: dict = field(default_factory=dict)  # of the config
    spoil: Callable[[dict[str, Tensor]], None] | None = None  # done to every training batch
    cut: bool = False  # windows begin anywhere, not where episodes begin
    longer: int = 1  # times the usual number of updates


RUNS: dict[str, ModelRun] = {
    "full": ModelRun(),
    "three times longer": ModelRun(longer=3),
    "no memory": ModelRun(spoil=no_memory),
    "shuffled actions": ModelRun(spoil=shuffled_actions),
    "untrained prior": ModelRun(changes={"dyn_scale": 0.0}),
    "mid-episode, zero": ModelRun(changes={"stored_latents": False}, cut=True),
    "mid-episode, stored": ModelRun(cut=True),
    "p 0.7": ModelRun((0,), 0.7),
    "p 0.9": ModelRun((0,), 0.9),
    "free 1": ModelRun((0,), changes={"free_nats": 1.0}),
    "p 0.7, free 1": ModelRun((0,), 0.7, {"free_nats": 1.0}),
    "p 0.9, free 1": ModelRun((0,), 0.9, {"free_nats": 1.0}),
}


@dataclass(frozen=True)
class Snapshot:
    """A world model after some updates, measured on held-out episodes; arrays (8,) per frame."""

    updates: int
    kl: np.ndarray  # mean KL[q || p] in nats
    rec: np.ndarray  # mean reconstruction loss in nats
    laws: DreamLaws


def cool(lr: float, update: int, updates: int) -> float:
    """Learning rate of an update: constant in the first half, then falling to zero on a line."""
    return lr * min(1.0, 2 - 2 * update / updates)


def held_out(agent: Dreamer, count: int = 500, p: float = 0.5) -> dict[str, Tensor]:
    """Whole episodes of random play that no training sees, (count, 8, ...)."""
    untrained = Dreamer(agent.obs_space, agent.act_space, agent.config).to(agent.device)
    env = make_env("wmlib/Curtain-v0", count, p=p)
    return agent.tensors(play(untrained, env, ROWS, seed=12_345))[0]


@torch.no_grad()
def measure(agent: Dreamer, batch: dict[str, Tensor], updates: int, p: float = 0.5) -> Snapshot:
    """KL and reconstruction per frame, averaged over episodes (B, 8, ...); laws of the dreams."""
    seen = agent.world.observe(batch)
    rec = agent.world.losses(batch, seen)["rec"].mean(0)
    kl = kl_divergence(seen.posterior, seen.prior).mean(0)
    return Snapshot(updates, kl.cpu().numpy(), rec.cpu().numpy(), dream_laws(agent, p=p))


def train(kind: ModelRun, seed: int, size: Size = SIZE) -> list[Snapshot]:
    """Play at random, then update the world model; returns what was measured on the way."""
    updates = size.updates * kind.longer
    changes = CHANGES | size.config | {"batch_size": size.batch, "batch_length": ROWS}
    config = preset("tiny", **changes)
    config = config.replace(random_steps=size.episodes * (ROWS - 1), **kind.changes)
    seed_everything(seed)
    count = size.episodes // 40 if kind.cut else size.episodes
    env = make_env("wmlib/Curtain-v0", count, seed, p=kind.p)
    agent = Dreamer(env.single_observation_space, env.single_action_space, config)
    test = held_out(agent, size.exam, kind.p)
    if kind.spoil is not None:  # it is judged by the loss that its own training reports
        kind.spoil(test)
    if kind.cut:
        trainer = Trainer(agent, env, seed)
        while not trainer.ready:
            trainer.collect()
    else:
        replay = agent.tensors(play(agent, env, ROWS, seed=seed))[0]
    shots = []
    for update in range(updates + 1):
        if update in {round(share * updates) for share in KEEP}:
            shots.append(measure(agent, test, update, kind.p))
        if update == updates:
            break
        for group in agent.optimizer.param_groups:
            group["lr"] = cool(config.lr, update, updates)
        if kind.cut:
            trainer.learn(behaviour=False)
            continue
        pick = torch.randint(size.episodes, (size.batch,))
        batch = {name: rows[pick] for name, rows in replay.items()}
        if kind.spoil is not None:
            kind.spoil(batch)
        agent.update(batch, behaviour=False)
    return shots


def run_seed(name: str, seed: int, size: Size = SIZE) -> tuple[dict[str, Any], Curve]:
    """Train one model; what to store of it: a point for each snapshot."""
    began = time.monotonic()
    kind = RUNS[name]
    shots = train(kind, seed, size)
    curve: dict[str, list[float]] = {"updates": [shot.updates for shot in shots]}
    curve |= {f"kl{t}": [shot.kl[t] for shot in shots] for t in range(ROWS)}
    curve |= {f"rec{t}": [shot.rec[t] for shot in shots] for t in range(ROWS)}
    curve |= {name: [getattr(shot.laws, key) for shot in shots] for name, key in LAWS.items()}
    free = kind.changes.get("free_nats", preset("tiny").free_nats)
    line = {"p": kind.p, "free_nats": free, "updates": shots[-1].updates}
    return line | {"seconds": round(time.monotonic() - began, 3)}, curve


def results(out: Path) -> Store:
    """Where the results are: curves by (run, seed)."""
    return Store("world_model", out, ("run", "seed"))


def run(
    out: Path, threads: int | None = None, seeds: tuple[int, ...] = (), size: Size = SIZE
) -> list[dict]:
    """Run what is not stored yet; returns all stored lines.

    Raises:
        BadInput: a directory that cannot be written.
    """
    keys = [(name, seed) for name, kind in RUNS.items() for seed in seeds or kind.seeds]
    return run_missing(results(out), threads, keys, partial(run_seed, size=size))
