"""Named experiments whose results the notebooks and the README quote.

    python -m wmlib experiment NAME

Every run adds its learning curve to `<out>/NAME.csv` and one line to `<out>/NAME.jsonl`, with the
command, the machine class, date and versions. A seed that is already there is not run again.
"""

import csv
import datetime
import importlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import torch

import wmlib
from wmlib.errors import BadInput
from wmlib.trainer import read_metrics

__all__ = ["EXPERIMENTS", "Spec", "draw", "run", "stored"]


@dataclass(frozen=True)
class Spec:
    """A training run to repeat over seeds."""

    env: str
    seeds: tuple[int, ...]
    preset: str = "tiny"
    steps: int | None = None
    minutes: float | None = None
    episodes: int = 20  # of the evaluation at the end
    eval_every: int = 1000  # steps
    curve_episodes: int = 20  # of the evaluations on the way
    env_args: dict = field(default_factory=dict)
    changes: dict = field(default_factory=dict)  # of the config


EXPERIMENTS: dict[str, Spec] = {
    "curtain": Spec(
        "wmlib/Curtain-v0", (0, 1, 2, 3, 4), "curtain", steps=24_000, episodes=1000,
        eval_every=1000, curve_episodes=200,
    ),
    "curtain_short": Spec(
        "wmlib/Curtain-v0", (0, 1, 2, 3, 4), "curtain", steps=16_000, episodes=1000,
    ),
    "cartpole": Spec("CartPole-v1", (0, 1, 2, 3, 4), "cartpole", steps=12_000, episodes=100),
    "cartpole_long": Spec("CartPole-v1", (0,), "cartpole", steps=36_000, episodes=100),
    "pendulum": Spec("Pendulum-v1", (0, 1), minutes=8, eval_every=2000, changes={"horizon": 15}),
    "cartpole_pixels": Spec(
        "CartPole-v1", (0,), minutes=20, eval_every=2000, env_args={"pixels": True, "size": 32},
    ),
}  # fmt: skip

# Experiments that are no plain training runs, by module; each has a function `run` like ours.
ELSEWHERE = {
    "dream_policy": "dream_policy",
    "hospital": "hospital",
    "losses": "objectives",
    "model_free": "baselines",
    "world_model": "model_runs",
}


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"wmlib.{ELSEWHERE[name]}")


def run(
    name: str, out: Path, threads: int | None = None, seeds: tuple[int, ...] = ()
) -> list[dict]:
    """Run the seeds of an experiment (default: its own) that are not stored yet.

    Returns all stored lines.

    Raises:
        BadInput: no experiment of that name, or a directory that cannot be written.
        KeyboardInterrupt: a run was interrupted; it is not stored.
    """
    if name in ELSEWHERE:
        return _module(name).run(out, threads, seeds)
    if name not in EXPERIMENTS:
        allowed = ", ".join([*EXPERIMENTS, *sorted([*ELSEWHERE, "ablations"])])
        raise BadInput(f"Unknown experiment '{name}'; allowed are {allowed}.")
    used = prepare(out, threads)
    for seed in seeds or EXPERIMENTS[name].seeds:
        if seed not in {line["seed"] for line in stored(name, out)}:
            with tempfile.TemporaryDirectory() as folder:
                line = {**one(EXPERIMENTS[name], seed, Path(folder) / "run"), **where(name, used)}
                _append_curve(out / f"{name}.csv", seed, Path(folder) / "run" / "metrics.csv")
            with open(out / f"{name}.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
    return stored(name, out)


def prepare(out: Path, threads: int | None) -> int:
    """Make the directory of results and fix the number of threads, which is returned.

    Raises:
        BadInput: a directory that cannot be written.
    """
    used = wmlib.set_threads(threads)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"Cannot write to {out} ({error}).") from error
    return used


def stored(name: str, out: Path) -> list[dict]:
    """Lines of an experiment's results that exist already."""
    path = out / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def one(
    spec: Spec, seed: int, folder: Path, operation: Callable[[wmlib.Dreamer], None] | None = None
) -> dict:
    """Train and evaluate one seed; `operation` changes the fresh agent first."""
    began = time.monotonic()
    config = wmlib.preset(spec.preset, **spec.changes)
    wmlib.seed_everything(seed)
    env = wmlib.make_env(spec.env, config.num_envs, seed, **spec.env_args)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    if operation is not None:
        operation(agent)
    result = wmlib.train(
        agent, env, spec.steps, folder, spec.minutes, seed, eval_every=spec.eval_every,
        eval_episodes=spec.episodes, curve_episodes=spec.curve_episodes,
    )  # fmt: skip
    test = wmlib.make_env(spec.env, min(spec.episodes, 100), **spec.env_args)
    mode = wmlib.evaluate(agent, test, spec.episodes, mode=True)
    env.close(), test.close()
    short = spec.steps is None or result.steps < spec.steps
    if short and (spec.minutes is None or result.seconds < 60 * spec.minutes):
        raise KeyboardInterrupt
    line = json.loads(result.json())
    del line["run"]
    line["eval_return_mode"] = round(float(mode.mean()), 4)
    return {**line, "wall_seconds": round(time.monotonic() - began, 1)}


def draw(name: str, out: Path, picture: Path) -> None:
    """Draw the stored learning curves of an experiment, one line a seed, to a PNG.

    Raises:
        BadInput: this experiment has curves of its own, and no picture of them.
    """
    if name in ELSEWHERE:
        if not hasattr(_module(name), "draw"):
            raise BadInput(f"Experiment '{name}' draws no picture; drop --plot.")
        return _module(name).draw(out, picture)
    from matplotlib.figure import Figure

    from wmlib.figures import SLATE, learning_curve

    columns, lines = read_metrics(out / f"{name}.csv"), stored(name, out)
    figure = Figure(figsize=(7, 3.6), dpi=110, layout="constrained")
    ax = figure.subplots()
    for line in lines:
        run_of = columns["seed"] == line["seed"]
        x, y = columns["steps"][run_of], columns["eval_return"][run_of]
        learning_curve(ax, x, y, "", color=SLATE, alpha=0.8, lw=1.5)
    many = "s" if len(lines) > 1 else ""
    ax.set_title(f"{EXPERIMENTS[name].env}: {len(lines)} seed{many}, actions sampled")
    figure.savefig(picture)


def where(name: str, threads: int) -> dict:
    """How and on what kind of machine a result was measured."""
    return {
        "command": f"python -m wmlib experiment {name}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {threads} torch threads",
        "torch": torch.__version__,
    }


def _append_curve(path: Path, seed: int, metrics: Path) -> None:
    """Add one run's metrics, with its seed, to the experiment's CSV."""
    columns = read_metrics(metrics)
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["seed", *columns])
        for line in zip(*columns.values(), strict=True):
            writer.writerow([seed, *("" if v != v else f"{v:.6g}" for v in line)])
