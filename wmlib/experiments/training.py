"""Plain training runs, repeated over seeds: curtain, cartpole, pendulum and others."""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wmlib.agent import Dreamer
from wmlib.checkpoint import read_metrics
from wmlib.config import preset
from wmlib.envs.make import make_env
from wmlib.experiments.store import Curve, Store, run_missing
from wmlib.play import evaluate
from wmlib.runtime import seed_everything
from wmlib.trainer import train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RUNS", "TrainingRun", "draw", "run", "run_seed"]


@dataclass(frozen=True)
class TrainingRun:
    """A training run to repeat over seeds."""

    env: str
    seeds: tuple[int, ...]
    preset: str = "tiny"
    steps: int | None = None
    minutes: float | None = None
    episodes: int = 20  # of the evaluation at the end
    eval_every: int = 1000  # steps
    curve_episodes: int = 20  # of the evaluations on the way
    env_args: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)  # of the config


RUNS = {
    "curtain": TrainingRun(
        "wmlib/Curtain-v0",
        seeds=(0, 1, 2, 3, 4),
        preset="curtain",
        steps=24_000,
        episodes=1000,
        curve_episodes=200,
    ),
    "curtain_short": TrainingRun(
        "wmlib/Curtain-v0", (0, 1, 2, 3, 4), "curtain", steps=16_000, episodes=1000
    ),
    "cartpole": TrainingRun("CartPole-v1", (0, 1, 2, 3, 4), "cartpole", steps=12_000, episodes=100),
    "cartpole_long": TrainingRun("CartPole-v1", (0,), "cartpole", steps=36_000, episodes=100),
    "pendulum": TrainingRun(
        "Pendulum-v1", (0, 1), minutes=8, eval_every=2000, changes={"horizon": 15}
    ),
    "cartpole_pixels": TrainingRun(
        "CartPole-v1", (0,), minutes=20, eval_every=2000, env_args={"pixels": True, "size": 32}
    ),
}


def run(
    name: str, out: Path, threads: int | None = None, seeds: tuple[int, ...] = ()
) -> list[dict]:
    """Run the seeds (default: its own) that are not stored yet; returns all stored lines.

    Raises:
        BadInput: a directory that cannot be written.
        KeyboardInterrupt: a run was interrupted; it is not stored.
    """

    def store_seed(seed: int) -> tuple[dict, Curve]:
        with tempfile.TemporaryDirectory() as folder:
            line = run_seed(RUNS[name], seed, Path(folder) / "run")
            return line, read_metrics(Path(folder) / "run" / "metrics.csv")

    return run_missing(
        Store(name, out), threads, [(s,) for s in seeds or RUNS[name].seeds], store_seed
    )


def run_seed(
    spec: TrainingRun,
    seed: int,
    folder: Path | None,
    operation: Callable[[Dreamer], None] | None = None,
) -> dict[str, Any]:
    """Train and evaluate one seed; `operation` changes the fresh agent first.

    The run is kept in `folder`, or nowhere.

    Raises:
        KeyboardInterrupt: the training was interrupted.
    """
    began = time.monotonic()
    config = preset(spec.preset, **spec.changes)
    seed_everything(seed)
    env = make_env(spec.env, config.num_envs, seed, **spec.env_args)
    agent = Dreamer(env.single_observation_space, env.single_action_space, config)
    if operation is not None:
        operation(agent)
    result = train(
        agent,
        env,
        steps=spec.steps,
        out=folder,
        minutes=spec.minutes,
        seed=seed,
        eval_every=spec.eval_every,
        eval_episodes=spec.episodes,
        curve_episodes=spec.curve_episodes,
    )
    if result.interrupted:
        raise KeyboardInterrupt
    test = make_env(spec.env, min(spec.episodes, 100), **spec.env_args)
    mode = evaluate(agent, test, spec.episodes, mode=True)
    env.close()
    test.close()
    line = json.loads(result.json())
    del line["run"]
    line["eval_return_mode"] = round(float(mode.mean()), 4)
    return line | {"wall_seconds": round(time.monotonic() - began, 1)}


def draw(name: str, out: Path) -> "Figure":
    """The stored learning curves of an experiment, one line a seed."""
    from matplotlib.figure import Figure

    from wmlib.figures import SLATE, learning_curve

    curves = Store(name, out).curves()
    figure = Figure(figsize=(7, 3.6), dpi=110, layout="constrained")
    ax = figure.subplots()
    for curve in curves.values():
        steps = np.asarray(curve["steps"])
        returns = np.asarray(curve["eval_return"])
        learning_curve(ax, steps, returns, "", color=SLATE, alpha=0.8, lw=1.5)
    many = "s" if len(curves) > 1 else ""
    ax.set_title(f"{RUNS[name].env}: {len(curves)} seed{many}, actions sampled")
    return figure
