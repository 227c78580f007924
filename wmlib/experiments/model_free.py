"""Model-free agents beside ours: PPO and DQN of Stable-Baselines3, in the same worlds.

    python -m wmlib experiment model_free

The library is needed for this comparison only (`pip install stable-baselines3`). Every run adds its
learning curve to `<out>/model_free.csv` and one line to `<out>/model_free.jsonl`; a run that is
already there is not run again. Seconds are those of playing and learning, without evaluations.
"""

import importlib
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch

from wmlib.errors import BadInput
from wmlib.experiments.store import Curve, Store, run_missing
from wmlib.runtime import seed_everything

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BASELINES", "SEEDS", "Baseline", "draw", "results", "run", "run_seed", "steps_to"]

Points = list[tuple[int, float, float]]  # steps, seconds and mean return of every evaluation
SEEDS = (0, 1, 2)
EVAL_SEED = 10_000


@dataclass(frozen=True)
class Baseline:
    """A run to repeat over seeds. It stops when two evaluations in a row reach the threshold."""

    algorithm: str  # PPO, whose actions are drawn in evaluations too, or DQN, evaluated greedily
    env: str
    threshold: float
    steps: int  # at most
    minutes: float  # at most
    eval_every: int  # steps
    episodes: int  # of every evaluation
    num_envs: int = 1
    stack: int = 1  # frames in one observation
    settings: dict[str, Any] = field(default_factory=dict)  # by the library's names


# CartPole: the tuned settings of the RL Baselines3 Zoo. Curtain: found by hand on these very seeds,
# six settings of PPO and three of DQN; four frames hold all that was seen of the ball before it
# comes out. "linear_x" falls from x to 0 over `steps`.
BASELINES = (
    Baseline(
        "PPO",
        "CartPole-v1",
        threshold=475,
        steps=100_000,
        minutes=4,
        eval_every=2000,
        episodes=20,
        num_envs=8,
        settings=dict(
            policy="MlpPolicy",
            n_steps=32,
            batch_size=256,
            n_epochs=20,
            gae_lambda=0.8,
            gamma=0.98,
            ent_coef=0.0,
            learning_rate="linear_0.001",
            clip_range="linear_0.2",
        ),
    ),
    Baseline(
        "DQN",
        "CartPole-v1",
        threshold=475,
        steps=100_000,
        minutes=4,
        eval_every=2000,
        episodes=20,
        settings=dict(
            policy="MlpPolicy",
            learning_rate=2.3e-3,
            batch_size=64,
            buffer_size=100_000,
            learning_starts=1000,
            gamma=0.99,
            target_update_interval=10,
            train_freq=256,
            gradient_steps=128,
            exploration_final_eps=0.04,
            policy_kwargs=dict(net_arch=[256, 256]),
            exploration_fraction=0.08,  # 8,000 steps, as .16 of the Zoo's 50,000
        ),
    ),
    Baseline(
        "DQN",
        "wmlib/Curtain-v0",
        threshold=0.85,
        steps=200_000,
        minutes=3.5,
        eval_every=1000,
        episodes=200,
        num_envs=8,
        stack=4,
        settings=dict(
            policy="MlpPolicy",
            learning_rate=5e-4,
            batch_size=128,
            buffer_size=50_000,
            learning_starts=1000,
            gamma=0.99,
            target_update_interval=200,
            train_freq=1,
            gradient_steps=4,
            exploration_fraction=0.05,
            exploration_final_eps=0.02,
            policy_kwargs=dict(net_arch=[128, 128]),
        ),
    ),
    Baseline(
        "PPO",
        "wmlib/Curtain-v0",
        threshold=0.85,
        steps=300_000,
        minutes=2.5,
        eval_every=2048,
        episodes=200,
        num_envs=32,
        stack=4,
        settings=dict(
            policy="MlpPolicy",
            n_steps=28,
            batch_size=128,
            n_epochs=8,
            gae_lambda=0.95,
            gamma=0.99,
            ent_coef=0.01,
            learning_rate=3e-4,
            policy_kwargs=dict(net_arch=[128, 128]),
        ),
    ),
)


def results(out: Path) -> Store:
    """Where the results are: curves by (algorithm, env, seed)."""
    return Store("model_free", out, ("algorithm", "env", "seed"))


def run(out: Path, threads: int | None = None, seeds: tuple[int, ...] = ()) -> list[dict]:
    """Run what is not stored yet; returns all stored lines.

    Raises:
        BadInput: the library is missing, a seed is negative, or a directory cannot be written.
    """
    baselines = {(b.algorithm, b.env): b for b in BASELINES}
    keys = [(*key, seed) for key in baselines for seed in seeds or SEEDS]
    if set(keys) - results(out).done():
        library()

    def store_seed(algorithm: str, env: str, seed: int) -> tuple[dict[str, Any], Curve]:
        line, points = run_seed(baselines[algorithm, env], seed)
        columns = ("steps", "seconds", "eval_return")
        curve: Curve = dict(zip(columns, zip(*points, strict=True), strict=True))
        return line | versions(), curve

    return run_missing(results(out), threads, keys, store_seed)


def run_seed(baseline: Baseline, seed: int) -> tuple[dict[str, Any], Points]:
    """Train one seed: a line of results and the learning curve."""
    seed_everything(seed)
    evaluate_policy = library("common.evaluation").evaluate_policy
    sampled = baseline.algorithm == "PPO"
    env = worlds(baseline, baseline.num_envs)
    test = worlds(baseline, min(baseline.episodes, 100))
    settings = {name: schedule(value) for name, value in baseline.settings.items()}
    agent = getattr(library(), baseline.algorithm)(env=env, seed=seed, device="cpu", **settings)
    points: Points = []
    began = time.perf_counter()
    testing = 0.0

    def go_on(_locals: dict, _globals: dict) -> bool:
        """Evaluate when it is time to; False ends the training."""
        nonlocal testing
        steps = agent.num_timesteps
        seconds = time.perf_counter() - began - testing
        over = steps >= baseline.steps or seconds >= 60 * baseline.minutes
        if over or steps >= (len(points) + 1) * baseline.eval_every:
            with torch.random.fork_rng([]):
                torch.manual_seed(EVAL_SEED)
                test.seed(EVAL_SEED)
                mean, _ = evaluate_policy(agent, test, baseline.episodes, not sampled, warn=False)
            points.append((steps, seconds, float(mean)))
            testing = time.perf_counter() - began - seconds
        return not over and steps_to(points, baseline.threshold)[0] is None

    agent.learn(baseline.steps, callback=go_on)
    env.close()
    test.close()
    steps, seconds, last = points[-1]
    first, when = steps_to(points, baseline.threshold)
    return {
        "steps": steps,
        "seconds": round(seconds, 2),
        "threshold": baseline.threshold,
        "steps_to_threshold": first,
        "seconds_to_threshold": when and round(when, 2),
        "eval_return": round(last, 4),
        "eval_episodes": baseline.episodes,
        "actions": "sampled" if sampled else "greedy",
        "num_envs": baseline.num_envs,
        "stack": baseline.stack,
        "settings": baseline.settings,
    }, points


def steps_to(points: Points, threshold: float) -> tuple[int | None, float | None]:
    """Steps and seconds of the first evaluation that reaches the threshold twice in a row.

    The second in a row confirms the first, since a single mean over few episodes may be luck; a
    curve without two has (None, None).
    """
    for (steps, seconds, value), (*_, following) in pairwise(points):
        if min(value, following) >= threshold:
            return steps, seconds
    return None, None


def draw(out: Path) -> "Figure":
    """The stored learning curves: a panel an environment, one line a seed."""
    from matplotlib.figure import Figure

    from wmlib.figures import learning_curve

    curves = results(out).curves()
    ids = sorted({env for _, env, _ in curves})
    figure = Figure(figsize=(4.5 * len(ids), 3.6), dpi=110, layout="constrained")
    panels = dict(zip(ids, figure.subplots(1, len(ids), squeeze=False)[0], strict=True))
    for (algorithm, env, seed), curve in curves.items():
        learning_curve(
            panels[env],
            curve["steps"],
            curve["eval_return"],
            f"{algorithm}, seed {seed}",
            ls={"PPO": "-"}.get(algorithm, ":"),
        )
        panels[env].set_title(env)
        panels[env].legend(fontsize=8)
    return figure


def worlds(baseline: Baseline, count: int) -> Any:
    """Copies of the environment as the library wants them, with the last frames stacked."""
    vec = library("common.vec_env")
    make = partial(gymnasium.make, baseline.env, disable_env_checker=True)
    env = vec.DummyVecEnv([make] * count)
    return vec.VecFrameStack(env, baseline.stack) if baseline.stack > 1 else env


def schedule(value: Any) -> Any:
    """Turn "linear_x" into a line from x to 0 over the whole training."""
    if isinstance(value, str) and value.startswith("linear_"):
        return library("common.utils").LinearSchedule(float(value[7:]), 0.0, 1.0)
    return value


def library(module: str = "") -> Any:
    """Import the library, or a module of it.

    Raises:
        BadInput: it is not installed.
    """
    try:
        return importlib.import_module("stable_baselines3" + f".{module}" * bool(module))
    except ImportError as error:
        raise BadInput(
            f"The experiment 'model_free' needs a package that nothing else here needs ({error}); "
            "install it with pip install stable-baselines3."
        ) from error


def versions() -> dict[str, str]:
    """Versions of everything a result depends on, torch aside."""
    modules = (library(), gymnasium, np)
    return {module.__name__: module.__version__ for module in modules}
