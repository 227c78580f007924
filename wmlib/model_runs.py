"""The experiment `world_model`: what makes a model of Curtain good, with controls that are not.

    python -m wmlib experiment world_model

Every run trains a world model, and nothing else, on a replay of random play, and measures it on
episodes it never saw: KL and reconstruction of every frame, and the laws of its dreams. Results go
to `world_model.csv`, one line per run and snapshot; a run that is stored is not repeated. One run
takes about a minute on one core ("three times longer": three).
"""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import wmlib
from wmlib import experiments
from wmlib.checks.dreams import DreamLaws, dream_laws
from wmlib.distributions import kl_divergence

__all__ = ["RUNS", "ModelRun", "Snapshot", "held_out", "measure", "read", "run"]

ROWS = 8  # of an episode
EPISODES = 8000  # of random play, the replay
UPDATES = 1000
BATCH = 32  # whole episodes, B
# shares of the training after which a snapshot is taken
KEEP = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
# of the preset `tiny`: large steps (`cool` shrinks them), and codes that are easier to predict
CHANGES = {"lr": 4e-3, "lr_decay": 0, "rep_scale": 0.3}
LAWS = {  # column: field of DreamLaws
    "left": "left", "right": "right", "impossible": "impossible", "fidelity": "action_fidelity",
}  # fmt: skip


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


def held_out(agent: wmlib.Dreamer, count: int = 500, p: float = 0.5) -> dict[str, Tensor]:
    """Whole episodes of random play that no training sees, (count, 8, ...)."""
    novice = wmlib.Dreamer(agent.obs_space, agent.act_space, agent.config).to(agent.device)
    env = wmlib.make_env("wmlib/Curtain-v0", count, p=p)
    return agent.tensors(wmlib.play(novice, env, ROWS, seed=12_345))[0]


@torch.no_grad()
def measure(
    agent: wmlib.Dreamer, batch: dict[str, Tensor], updates: int, p: float = 0.5
) -> Snapshot:
    """KL and reconstruction per frame, averaged over episodes (B, 8, ...); laws of the dreams."""
    seen = agent.world.observe(batch)
    rec = agent.world.losses(batch, seen)["rec"].mean(0)
    kl = kl_divergence(seen.posterior, seen.prior).mean(0)
    return Snapshot(updates, kl.cpu().numpy(), rec.cpu().numpy(), dream_laws(agent, p=p))


def train(kind: ModelRun, seed: int) -> list[Snapshot]:
    """Play at random, then update the world model; returns what was measured on the way."""
    updates = UPDATES * kind.longer
    config = wmlib.preset("tiny", **CHANGES, batch_size=BATCH, batch_length=ROWS)
    config = config.replace(random_steps=EPISODES * (ROWS - 1), **kind.changes)
    wmlib.seed_everything(seed)
    env = wmlib.make_env(
        "wmlib/Curtain-v0", EPISODES // 40 if kind.cut else EPISODES, seed, p=kind.p
    )
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    test, shots = held_out(agent, p=kind.p), []
    if kind.spoil is not None:  # it is judged by the loss that its own training reports
        kind.spoil(test)
    if kind.cut:
        trainer = wmlib.Trainer(agent, env, seed)
        while not trainer.ready:
            trainer.collect()
    else:
        replay = agent.tensors(wmlib.play(agent, env, ROWS, seed=seed))[0]
    for update in range(updates + 1):
        if update in [round(share * updates) for share in KEEP]:
            shots.append(measure(agent, test, update, kind.p))
        if update == updates:
            break
        agent.optimizer.lr = cool(config.lr, update, updates)
        if kind.cut:
            trainer.learn(behaviour=False)
            continue
        pick = torch.randint(EPISODES, (BATCH,))
        batch = {name: rows[pick] for name, rows in replay.items()}
        if kind.spoil is not None:
            kind.spoil(batch)
        agent.update(batch, behaviour=False)
    return shots


def run(out: Path, threads: int | None = None, seeds: tuple[int, ...] = ()) -> list[dict]:
    """Run what is not stored yet; returns all stored lines.

    Raises:
        BadInput: a directory that cannot be written.
    """
    used = experiments.prepare(out, threads)
    path = out / "world_model.csv"
    for name, kind in RUNS.items():
        for seed in seeds or kind.seeds:
            if (name, str(seed)) in {(line["run"], line["seed"]) for line in read(path)}:
                continue
            began = time.monotonic()
            shots = train(kind, seed)
            facts = {"seconds": time.monotonic() - began}
            _append(path, name, seed, kind, shots, facts, used)
    return read(path)


def read(path: Path) -> list[dict]:
    """Stored lines as dicts of strings; empty if there are none."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _append(
    path: Path, name: str, seed: int, kind: ModelRun, shots: list[Snapshot], facts: dict, used: int
) -> None:
    """Write one run: a line per snapshot, the facts about the whole run with the last one."""
    about = experiments.where("world_model", used)
    free = kind.changes.get("free_nats", wmlib.preset("tiny").free_nats)
    columns = ["run", "seed", "p", "free_nats", "updates", *(f"kl{t}" for t in range(ROWS))]
    columns += [*(f"rec{t}" for t in range(ROWS)), *LAWS, *facts, *about]
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        if new:
            writer.writeheader()
        for shot in shots:
            line = {"run": name, "seed": seed, "p": kind.p, "free_nats": free}
            line |= {"updates": shot.updates, **about}
            line |= {f"kl{t}": f"{v:.4f}" for t, v in enumerate(shot.kl)}
            line |= {f"rec{t}": f"{v:.4f}" for t, v in enumerate(shot.rec)}
            line |= {name: f"{getattr(shot.laws, field):.4f}" for name, field in LAWS.items()}
            if shot is shots[-1]:
                line |= {k: f"{v:.3f}" for k, v in facts.items()}
            writer.writerow(line)
