"""World models under other objectives: what each part of the loss is for (notebook 06).

    python -m wmlib experiment losses

Every run trains a world model of preset `tiny` on the same whole episodes of random play in Curtain
and measures, in nats per episode, what it pays for what it draws (NLL) and for what it learns from
looking (KL). The exact entropy of the world, 4.159 nats, is the least that both can come to.
"""

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

import wmlib
from wmlib.agent import Dreamer
from wmlib.experiments import prepare, stored, where
from wmlib.losses import total
from wmlib.world_model import WorldModel

__all__ = ["NAME", "OBJECTIVES", "Objective", "curves", "episodes", "fit", "nats", "run"]

NAME = "losses"
COLUMNS = ("objective", "seed", "update", "nll", "kl")
SEEDS = (0, 1, 2)
UPDATES, EVERY, BATCH = 500, 50, 32  # gradient steps, between measurements, episodes per step
PIXELS = 256


@dataclass(frozen=True)
class Objective:
    """One change to the weights of the world model's losses."""

    about: str
    scales: dict[str, float] = field(default_factory=dict)
    free_nats: float = 0.0


OBJECTIVES = {
    "recipe": Objective("sum over pixels, dyn 1, rep 0.1"),
    "mean over pixels": Objective("the image loss divided by 256", {"rec": 1 / PIXELS}),
    "beta 10": Objective("both KL weights times 10", {"dyn": 10.0, "rep": 1.0}),
    "no rep": Objective("only the prior pays", {"rep": 0.0}),
    "no dyn": Objective("only the posterior pays", {"dyn": 0.0}),
    "free 1 nat": Objective("free bits as in the paper", free_nats=1.0),
}


def episodes(seed: int, count: int = 500) -> dict[str, torch.Tensor]:
    """Whole episodes of random play as a batch of tensors (count, 8, ...)."""
    env = wmlib.make_env("wmlib/Curtain-v0", num_envs=count, seed=seed)
    novice = Dreamer(env.single_observation_space, env.single_action_space, wmlib.preset("tiny"))
    return novice.tensors(wmlib.play(novice, env, length=8, seed=seed))[0]


@torch.no_grad()
def nats(world: WorldModel, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
    """NLL and plain KL per episode: no weights, no free nats."""
    seen = world.observe(batch)
    nll = world.losses(batch, seen)["rec"]
    return float(nll.sum(1).mean()), float(Dreamer.exact_kl(seen)) * nll.shape[1]


def fit(
    agent: Dreamer,
    batch: dict[str, torch.Tensor],
    scales: dict[str, float],
    updates: int,
    on_step: Callable[[int], None] = lambda done: None,
) -> None:
    """Train the agent's world model on random windows of a batch, with these loss weights."""
    for done in range(1, updates + 1):
        index = torch.randint(len(batch["obs"]), (BATCH,))
        some = {name: value[index] for name, value in batch.items()}
        seen = agent.world.observe(some)
        total(agent.world.losses(some, seen), scales).backward()
        agent.optimizer.step()
        on_step(done)


def one(objective: Objective, seed: int) -> list[tuple[int, float, float]]:
    """Train one seed; returns (update, NLL, KL) on the way."""
    wmlib.seed_everything(seed)
    batch = episodes(seed)
    env = wmlib.make_env("wmlib/Curtain-v0")
    config = wmlib.preset("tiny", free_nats=objective.free_nats)
    agent = Dreamer(env.single_observation_space, env.single_action_space, config)
    curve = [(0, *nats(agent.world, batch))]

    def measure(done: int) -> None:
        if done % EVERY == 0:
            curve.append((done, *nats(agent.world, batch)))

    fit(agent, batch, agent.scales(behaviour=False) | objective.scales, UPDATES, measure)
    return curve


def run(out: Path, threads: int | None = None, seeds: tuple[int, ...] = ()) -> list[dict]:
    """Run what is not stored yet; returns all stored lines.

    Raises:
        BadInput: a directory that cannot be written.
    """
    used = prepare(out, threads)
    for seed in seeds or SEEDS:
        for name, objective in OBJECTIVES.items():
            if (name, seed) in {(line["objective"], line["seed"]) for line in stored(NAME, out)}:
                continue
            began = time.monotonic()
            curve = one(objective, seed)
            line = {"objective": name, "about": objective.about, "seed": seed}
            line |= {"nll": round(curve[-1][1], 3), "kl": round(curve[-1][2], 3)}
            line |= {"seconds": round(time.monotonic() - began, 1), **where(NAME, used)}
            append(out, line, curve)
    return stored(NAME, out)


def append(out: Path, line: dict, curve: list[tuple[int, float, float]]) -> None:
    """Add one run to the two files of results."""
    path = out / f"{NAME}.csv"
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for update, nll, kl in curve:
            writer.writerow([line["objective"], line["seed"], update, f"{nll:.5g}", f"{kl:.5g}"])
    with open(out / f"{NAME}.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


def curves(out: Path) -> dict[tuple[str, int], list[tuple[int, float, float]]]:
    """Stored curves by (objective, seed): (update, NLL, KL)."""
    found: dict[tuple[str, int], list[tuple[int, float, float]]] = {}
    with open(out / f"{NAME}.csv", newline="") as file:
        for line in csv.DictReader(file):
            point = int(line["update"]), float(line["nll"]), float(line["kl"])
            found.setdefault((line["objective"], int(line["seed"])), []).append(point)
    return found


def draw(out: Path, picture: Path) -> None:
    """Draw NLL and KL over the updates, one colour an objective, one line a seed, to a PNG."""
    from matplotlib.figure import Figure

    from wmlib.figures.base import CYCLE

    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2)
    names, colors = list(OBJECTIVES), dict(zip(OBJECTIVES, CYCLE, strict=False))
    for (name, _), curve in curves(out).items():
        steps, *values = zip(*curve, strict=True)
        for ax, y in zip(axes, values, strict=True):
            ax.plot(steps, y, color=colors[name], lw=1.2)
    for ax, title in zip(axes, ("NLL, nats per episode", "KL, nats per episode"), strict=True):
        ax.set(title=title, xlabel="updates", yscale="symlog")
    axes[1].legend([axes[1].plot([], [], color=colors[n])[0] for n in names], names, fontsize=8)
    figure.savefig(picture)
