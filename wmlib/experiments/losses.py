"""World models under other objectives: what each part of the loss is for (notebook 06).

    python -m wmlib experiment losses

Every run trains a world model of preset `tiny` on the same whole episodes of random play in Curtain
and measures, in nats per episode, what it pays for what it draws (NLL) and for what it learns from
looking (KL). The exact entropy of the world, 4.159 nats, is the least that both can come to.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.config import preset
from wmlib.distributions import kl_divergence
from wmlib.envs.make import make_env
from wmlib.experiments.store import Curve, Size, Store, run_missing
from wmlib.losses import total
from wmlib.play import play
from wmlib.runtime import seed_everything
from wmlib.world_model import WorldModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "OBJECTIVES",
    "SEEDS",
    "SIZE",
    "Objective",
    "draw",
    "fit",
    "nats",
    "random_episodes",
    "results",
    "run",
    "run_seed",
]

SEEDS = (0, 1, 2)
SIZE = Size(updates=500, every=50, batch=32, episodes=500)
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


def random_episodes(seed: int, count: int) -> dict[str, Tensor]:
    """Whole episodes of random play as a batch of tensors (count, 8, ...)."""
    env = make_env("wmlib/Curtain-v0", num_envs=count, seed=seed)
    untrained = Dreamer(env.single_observation_space, env.single_action_space, preset("tiny"))
    return untrained.tensors(play(untrained, env, length=8, seed=seed))[0]


@torch.no_grad()
def nats(world: WorldModel, batch: dict[str, Tensor]) -> tuple[float, float]:
    """NLL and plain KL per episode: no weights, no free nats."""
    seen = world.observe(batch)
    nll = world.losses(batch, seen)["rec"]
    kl = kl_divergence(seen.posterior, seen.prior).mean()
    return float(nll.sum(1).mean()), float(kl) * nll.shape[1]


def fit(
    agent: Dreamer,
    batch: dict[str, Tensor],
    scales: dict[str, float],
    size: Size = SIZE,
    on_step: Callable[[int], None] = lambda done: None,
) -> None:
    """Train the agent's world model on random episodes of a batch, with these loss weights."""
    for done in range(1, size.updates + 1):
        index = torch.randint(len(batch["obs"]), (size.batch,))
        some = {name: value[index] for name, value in batch.items()}
        seen = agent.world.observe(some)
        total(agent.world.losses(some, seen), scales).backward()
        agent.optimizer.step()
        agent.optimizer.zero_grad()
        on_step(done)


def run_seed(name: str, seed: int, size: Size = SIZE) -> tuple[dict, Curve]:
    """Train one objective; what to store of it."""
    began = time.monotonic()
    objective = OBJECTIVES[name]
    seed_everything(seed)
    batch = random_episodes(seed, size.episodes)
    env = make_env("wmlib/Curtain-v0")
    config = preset("tiny", free_nats=objective.free_nats)
    agent = Dreamer(env.single_observation_space, env.single_action_space, config)
    points = [(0, *nats(agent.world, batch))]

    def measure(done: int) -> None:
        if done % size.every == 0:
            points.append((done, *nats(agent.world, batch)))

    fit(agent, batch, agent.scales(behaviour=False) | objective.scales, size, measure)
    line = {"about": objective.about}
    line |= {"nll": round(points[-1][1], 3), "kl": round(points[-1][2], 3)}
    line |= {"seconds": round(time.monotonic() - began, 1)}
    return line, dict(zip(("update", "nll", "kl"), zip(*points, strict=True), strict=True))


def results(out: Path) -> Store:
    """Where the results are: curves by (objective, seed), with the columns update, nll and kl."""
    return Store("losses", out, ("objective", "seed"))


def run(
    out: Path, threads: int | None = None, seeds: tuple[int, ...] = (), size: Size = SIZE
) -> list[dict]:
    """Run what is not stored yet; returns all stored lines.

    Raises:
        BadInput: a directory that cannot be written.
    """
    keys = [(name, seed) for seed in seeds or SEEDS for name in OBJECTIVES]
    return run_missing(results(out), threads, keys, partial(run_seed, size=size))


def draw(out: Path) -> "Figure":
    """NLL and KL over the updates: one colour an objective, one line a seed."""
    from matplotlib.figure import Figure

    from wmlib.figures.base import CYCLE

    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2)
    names = list(OBJECTIVES)
    colors = dict(zip(names, CYCLE, strict=False))
    for (name, _), curve in results(out).curves().items():
        for ax, column in zip(axes, ("nll", "kl"), strict=True):
            ax.plot(curve["update"], curve[column], color=colors[name], lw=1.2)
    for ax, title in zip(axes, ("NLL, nats per episode", "KL, nats per episode"), strict=True):
        ax.set(title=title, xlabel="updates", yscale="symlog")
    axes[1].legend([axes[1].plot([], [], color=colors[n])[0] for n in names], names, fontsize=8)
    return figure
