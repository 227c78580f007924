"""A policy from dreams only: a fresh actor and critic in the dreams of a frozen world model.

    python -m wmlib experiment dream_policy

The shipped Curtain agent lends its world model. Start states are posterior states of random play.
No step of the real world is taken but to evaluate. Every variant changes one thing; curves go to
`<out>/dream_policy.csv`, one line a run to `<out>/dream_policy.jsonl`; what is there is not run
again. Shapes: N dreams, H horizon, F features.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wmlib.actor_critic import (
    Actor,
    Critic,
    DreamLosses,
    ReturnScale,
    dream_losses,
    replay_value_loss,
)
from wmlib.agent import Dreamer
from wmlib.config import Config
from wmlib.envs.make import make_env
from wmlib.experiments.ablations import Adam, NoScale
from wmlib.experiments.store import Curve, Size, Store, run_missing
from wmlib.losses import total
from wmlib.optim import LaProp
from wmlib.play import evaluate
from wmlib.pretrained import load_pretrained
from wmlib.rssm import State
from wmlib.runtime import seed_everything
from wmlib.spaces import Space
from wmlib.world_model import WorldModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "CHANGES",
    "SEEDS",
    "SIZE",
    "VARIANTS",
    "Behaviour",
    "Variant",
    "losses_in_dreams",
    "draw",
    "improve",
    "random_rows",
    "results",
    "run",
    "run_seed",
]

SEEDS = (0, 1, 2)
SIZE = Size(updates=300, every=30, batch=288, episodes=1000, exam=500)  # batch: dreams

# What changes in the config. A run of ten seconds wants large steps, a critic that learns faster
# than the actor, and short dreams; with the paper's lambda and longer dreams some seeds camp.
CHANGES = dict(
    horizon=5, lam=0.8, lr=4e-3, warmup=50, lr_decay=0, actor_lr=0.25, entropy_scale=1e-2
)


# ---------------------------------------------------------------- learning from dreams


class Behaviour:
    """A fresh actor and critic, the scale of returns, and the optimiser of both."""

    def __init__(
        self,
        feature: int,
        act_space: Space,
        config: Config,
        optimizer: type[LaProp] = LaProp,
    ):
        self.config = config
        self.actor = Actor(feature, act_space, config)
        self.critic = Critic(feature, config)
        self.return_scale = ReturnScale()
        groups = [
            {"params": self.critic.fast.parameters()},
            {"params": self.actor.parameters(), "lr": config.lr * config.actor_lr},
        ]
        self.optimizer = optimizer(groups, config.lr, config.warmup, config.agc)


def losses_in_dreams(
    world: WorldModel,
    behaviour: Behaviour,
    start: State,
    reward_of: Callable[[Tensor], Tensor] | None = None,
) -> DreamLosses:
    """Dream from N starts, and what actor and critic learn from it.

    `reward_of` replaces the world model's rewards. (N, H+1, F) -> (N, H+1).
    """
    actor = behaviour.actor
    dream = world.imagine(lambda x: actor(x).sample(), start, behaviour.config.horizon)
    with torch.no_grad():
        reward = (reward_of or world.reward)(dream.feature)
        continues = world.continues(dream.feature)
    scale = behaviour.return_scale
    return dream_losses(actor, behaviour.critic, scale, dream, reward, continues, behaviour.config)


def improve(behaviour: Behaviour, losses: dict[str, Tensor]) -> None:
    """One step of the optimiser, then one of the slow critic."""
    total(losses, dict.fromkeys(losses, 1.0)).backward()
    behaviour.optimizer.step()
    behaviour.optimizer.zero_grad()
    behaviour.critic.update_slow()


def random_rows(agent: Dreamer, count: int, seed: int) -> tuple[dict[str, Tensor], State]:
    """`count` episodes of random play, and the world model's posterior states (count, 8, ...)."""
    env = make_env("wmlib/Curtain-v0", count, seed)
    rng = np.random.default_rng([seed, 1])
    row = env.reset(seed=seed)
    rows = []
    actions = [np.zeros(count, np.int64)]
    for _ in range(8):
        rows.append(row)
        actions.append(rng.integers(3, size=count))
        row = env.step(actions[-1])
    env.close()
    names = ("obs", "reward", "is_first", "is_last", "is_terminal")
    sample = {name: np.stack([getattr(row, name) for row in rows], 1) for name in names}
    sample |= {"action": np.stack(actions[1:], 1), "prev_action": np.stack(actions[:-1], 1)}
    batch, _ = agent.tensors(sample)
    with torch.no_grad():
        return batch, agent.world.observe(batch).state


# ---------------------------------------------------------------- one thing changed at a time


@dataclass(frozen=True)
class Variant:
    """One change."""

    about: str
    changes: dict = field(default_factory=dict)  # of the config
    pay: float = 1.0  # every dreamt reward times this
    shuffled: bool = False  # rewards of another dream: the negative control
    scaled: bool = True  # by the range of returns
    windows: bool = False  # dream from all rows of 36 episodes, not from 288 scattered rows
    first: bool = False  # dream from first frames only
    replay: bool = False  # the critic learns from the real rows of those episodes too
    critic_first: int = 0  # updates without the actor
    share: float = 1.0  # of the usual number of dreams per update
    optimizer: type[LaProp] = LaProp


VARIANTS: dict[str, Variant] = {
    "as it is": Variant("the notebook's settings"),
    "rewards of another dream": Variant("negative control", shuffled=True),
    "no entropy bonus": Variant("", {"entropy_scale": 0.0}),
    "entropy bonus 0.1": Variant("ten times as much", {"entropy_scale": 0.1}),
    "rewards x 100": Variant("with the return scale", pay=100.0),
    "rewards x 100, no scale": Variant("without it", pay=100.0, scaled=False),
    "rewards / 100": Variant("returns within 1 are not blown up", pay=0.01),
    "no scale": Variant("advantages as they are", scaled=False),
    "lambda 0.95": Variant("as in the paper", {"lam": 0.95}),
    "dreams of 8 steps": Variant("192 of them, as many steps in all", {"horizon": 8}, share=2 / 3),
    "from first frames only": Variant(
        "8 steps, to the end", {"horizon": 8}, first=True, share=2 / 3
    ),
    "64 dreams": Variant("per update, not 288", share=2 / 9),
    "whole episodes": Variant("dream from all rows of 36 episodes", windows=True),
    "episodes + replay value": Variant(
        "the critic learns from these rows too", windows=True, replay=True
    ),
    "actor as fast as critic": Variant("", {"actor_lr": 1.0}),
    "critic first": Variant("50 updates without the actor", critic_first=50),
    "no slow critic": Variant("the slow copy follows at once", {"slow_rate": 1.0}),
    "Adam": Variant("instead of LaProp", optimizer=Adam),
}


def run_seed(name: str, seed: int, size: Size = SIZE) -> tuple[dict[str, Any], Curve]:
    """Train one variant; what to store of it."""
    variant = VARIANTS[name]
    agent = load_pretrained("curtain")
    config = agent.config.replace(**(CHANGES | variant.changes))
    dreams = round(size.batch * variant.share)
    rows, seen = random_rows(agent, size.episodes, seed=100)
    used = slice(1) if variant.first else slice(-1)  # no dream begins in a last row
    stock = State(*(part[:, used].flatten(0, 1) for part in seen))
    test = make_env("wmlib/Curtain-v0", num_envs=size.exam)
    seed_everything(seed)
    behaviour = Behaviour(seen.feature.shape[-1], agent.act_space, config, variant.optimizer)
    agent.actor = behaviour.actor
    agent.critic = behaviour.critic
    if not variant.scaled:
        behaviour.return_scale = NoScale()

    def reward_of(feature: Tensor) -> Tensor:
        reward = variant.pay * agent.world.reward(feature)
        return reward[torch.randperm(len(reward))] if variant.shuffled else reward

    points = []
    seconds = 0.0
    entropy = float("nan")
    for update in range(size.updates + 1):
        if update % size.every == 0:
            returns = evaluate(agent, test, size.exam)
            points.append((update, seconds, float(returns.mean()), entropy))
        began = time.perf_counter()
        if variant.windows:
            pick = torch.randint(size.episodes, (dreams // 8,))
            start = State(*(part[pick].flatten(0, 1) for part in seen))
        else:
            pick = torch.randint(len(stock.h), (dreams,))
            start = State(*(part[pick] for part in stock))
        learnt = losses_in_dreams(agent.world, behaviour, start, reward_of)
        losses = {"policy": learnt.policy, "value": learnt.value}
        if variant.replay:
            chosen = {k: rows[k][pick] for k in ("reward", "is_terminal", "is_last")}
            feature = State(*(part[pick] for part in seen)).feature
            bootstrap = learnt.returns[:, 0].view(feature.shape[:2])
            loss = replay_value_loss(behaviour.critic, chosen, feature, bootstrap, config)
            losses["repval"] = config.replay_value_scale * loss
        if update < variant.critic_first:
            del losses["policy"]
        improve(behaviour, losses)
        entropy = float((learnt.weight * learnt.entropy).sum() / learnt.weight.sum())
        seconds += time.perf_counter() - began
    test.close()
    update, seconds, final, _ = points[-1]
    line = {"about": variant.about, "updates": update, "seconds": round(seconds, 1)}
    line |= {"eval_return": round(final, 4), "episodes": size.exam}
    columns = ("updates", "seconds", "eval_return", "entropy")
    return line, dict(zip(columns, zip(*points, strict=True), strict=True))


# ---------------------------------------------------------------- store and draw


def results(out: Path) -> Store:
    """Where the results are: curves by (variant, seed)."""
    return Store("dream_policy", out, ("variant", "seed"))


def run(
    out: Path, threads: int | None = None, seeds: tuple[int, ...] = (), size: Size = SIZE
) -> list[dict]:
    """Run what is not stored yet; returns all stored lines.

    Raises:
        BadInput: a directory that cannot be written.
    """
    keys = [(name, seed) for seed in seeds or SEEDS for name in VARIANTS]
    return run_missing(results(out), threads, keys, partial(run_seed, size=size))


def draw(out: Path) -> "Figure":
    """Final real returns: a row a variant, one dot a seed."""
    from matplotlib.figure import Figure

    from wmlib.figures import SLATE

    figure = Figure(figsize=(7, 4.4), dpi=100, layout="constrained")
    ax = figure.subplots()
    curves = results(out).curves()
    for i, name in enumerate(VARIANTS):
        values = [c["eval_return"][-1] for (variant, _), c in curves.items() if variant == name]
        ax.plot(values, [i] * len(values), "o", color=SLATE, alpha=0.7)
    ax.set_yticks(range(len(VARIANTS)), list(VARIANTS))
    ax.invert_yaxis()
    ax.set(title=f"Curtain, {SIZE.updates} updates in dreams only", xlabel="real return")
    return figure
