"""A policy from dreams only: a fresh actor and critic in the dreams of a frozen world model.

    python -m wmlib experiment dream_policy

The shipped Curtain agent lends its world model. Start states are posterior states of random play.
No step of the real world is taken but to evaluate. Every variant changes one thing; curves go to
`<out>/dream_policy.csv`, one line a run to `<out>/dream_policy.jsonl`; what is there is not run
again. Shapes: N dreams, H horizon, F features.
"""

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

import wmlib
from wmlib.ablations import Adam, NoScale
from wmlib.actor_critic import Actor, Critic, ReturnScale, actor_loss, dream_weights
from wmlib.agent import Dreamer
from wmlib.config import Config
from wmlib.experiments import prepare, stored, where
from wmlib.losses import lambda_return, total
from wmlib.optim import LaProp
from wmlib.rssm import State
from wmlib.world_model import WorldModel

__all__ = ["CHANGES", "NAME", "VARIANTS", "Behaviour", "curves", "dream_losses", "draw", "improve",
           "random_rows", "run"]  # fmt: skip

NAME, SEEDS, UPDATES, EVERY, EPISODES = "dream_policy", (0, 1, 2), 300, 30, 500
REPLAY, DREAMS = 1000, 288  # episodes of random play; dreams per update

# What changes in the config. A run of ten seconds wants large steps, a critic that learns faster
# than the actor, and short dreams; with the paper's lambda and longer dreams some seeds camp.
CHANGES = dict(
    horizon=5, lam=0.8, lr=4e-3, warmup=50, lr_decay=0, actor_lr=0.25, entropy_scale=1e-2
)


# ---------------------------------------------------------------- learning from dreams


class Behaviour:
    """A fresh actor and critic, the scale of returns, and the optimiser of both."""

    def __init__(self, feature: int, act_space: gym.Space, config: Config):
        self.actor = Actor(feature, act_space, config)
        self.critic = Critic(feature, config)
        self.scale, self.config = ReturnScale(), config
        self.optimizer = LaProp(
            [*self.actor.parameters(), *self.critic.parameters()], config.lr, config.warmup,
            config.agc, slower=self.actor.parameters(), slowdown=config.actor_lr,
        )  # fmt: skip


def dream_losses(
    world: WorldModel,
    me: Behaviour,
    start: State,
    reward_of: Callable[[Tensor], Tensor] | None = None,
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Dream from N starts; losses of actor and critic, returns (N, H), entropy of the policy."""
    dream = world.imagine(lambda x: me.actor(x).sample(), start, me.config.horizon)
    feature = dream.feature  # (N, H+1, F), without gradient
    logits = me.critic(feature)  # (N, H+1, bins)
    with torch.no_grad():
        reward, continues = (reward_of or world.reward)(feature), world.continues(feature)
        value = me.critic.mean(logits)  # (N, H+1)
        never = torch.zeros_like(continues)
        returns = lambda_return(reward, value, 1 - continues, never, 1.0, me.config.lam)
        weight = dream_weights(continues)
        advantage = (returns - value[:, :-1]) / me.scale(returns)
    policy = me.actor(feature[:, :-1].contiguous())
    losses = {
        "policy": actor_loss(policy, dream.action, advantage, weight, me.config.entropy_scale),
        "value": weight * me.critic.loss(logits, feature, returns),
    }
    return losses, returns, (weight * policy.entropy()).detach().sum() / weight.sum()


def improve(me: Behaviour, losses: dict[str, Tensor]) -> None:
    """One step of the optimiser, then one of the slow critic."""
    total(losses, dict.fromkeys(losses, 1.0)).backward()
    me.optimizer.step()
    me.critic.update_slow()


def random_rows(agent: Dreamer, count: int, seed: int) -> tuple[dict[str, Tensor], State]:
    """`count` episodes of random play, and the world model's posterior states (count, 8, ...)."""
    env, rng = wmlib.make_env("wmlib/Curtain-v0", count, seed), np.random.default_rng([seed, 1])
    row, rows, actions = env.reset(seed=seed), [], [np.zeros(count, np.int64)]
    for _ in range(8):
        rows.append(row), actions.append(rng.integers(3, size=count))
        row = env.step(actions[-1])
    env.close()
    names = ("obs", "reward", "is_first", "is_last", "is_terminal")
    told = {name: np.stack([getattr(row, name) for row in rows], 1) for name in names}
    told |= {"action": np.stack(actions[1:], 1), "prev_action": np.stack(actions[:-1], 1)}
    batch, _ = agent.tensors(told)
    with torch.no_grad():
        return batch, agent.world.observe(batch).state


def replay_value(
    me: Behaviour, rows: dict[str, Tensor], state: State, returns: Tensor, gamma: float
) -> Tensor:
    """Critic loss on B real windows of T rows, bootstrapped with the dreams from them. (B, T-1)."""
    boot = returns[:, 0].view(state.h.shape[:2])
    flags = rows["is_terminal"].float(), rows["is_last"].float()
    real = lambda_return(rows["reward"], boot, *flags, gamma, me.config.lam)
    loss = me.critic.loss(me.critic(state.feature), state.feature, real)
    return 0.3 * (1 - flags[1][:, :-1]) * loss


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
    dreams: int = DREAMS
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
    "dreams of 8 steps": Variant("192 of them, as many steps in all", {"horizon": 8}, dreams=192),
    "from first frames only": Variant(
        "8 steps, to the end", {"horizon": 8}, first=True, dreams=192
    ),
    "64 dreams": Variant("per update, not 288", dreams=64),
    "whole episodes": Variant("dream from all rows of 36 episodes", windows=True),
    "episodes + replay value": Variant(
        "the critic learns from these rows too", windows=True, replay=True
    ),
    "actor as fast as critic": Variant("", {"actor_lr": 1.0}),
    "critic first": Variant("50 updates without the actor", critic_first=50),
    "no slow critic": Variant("the slow copy follows at once", {"slow_rate": 1.0}),
    "Adam": Variant("instead of LaProp", optimizer=Adam),
}


def one(name: str, seed: int) -> list[tuple[int, float, float, float]]:
    """Train one variant: (updates, seconds, real return, entropy) on the way."""
    v, agent = VARIANTS[name], wmlib.load_pretrained("curtain")
    config = agent.config.replace(**(CHANGES | v.changes))
    rows, seen = random_rows(agent, REPLAY, seed=100)
    stock = State(*(part[:, : 1 if v.first else -1].flatten(0, 1) for part in seen))  # no last rows
    test = wmlib.make_env("wmlib/Curtain-v0", num_envs=EPISODES)
    wmlib.seed_everything(seed)
    me = Behaviour(seen.feature.shape[-1], agent.act_space, config)
    agent.actor, agent.critic = me.actor, me.critic
    if not v.scaled:
        me.scale = NoScale()
    if v.optimizer is not LaProp:
        me.optimizer = v.optimizer(
            me.optimizer.params, config.lr, config.warmup, config.agc,
            slower=me.actor.parameters(), slowdown=config.actor_lr,
        )  # fmt: skip

    def reward_of(feature: Tensor) -> Tensor:
        reward = v.pay * agent.world.reward(feature)
        return reward[torch.randperm(len(reward))] if v.shuffled else reward

    curve, seconds, entropy = [], 0.0, float("nan")
    for update in range(UPDATES + 1):
        if update % EVERY == 0:
            returns = wmlib.evaluate(agent, test, EPISODES)
            curve.append((update, seconds, float(returns.mean()), entropy))
        began = time.perf_counter()
        if v.windows:
            pick = torch.randint(REPLAY, (v.dreams // 8,))
            start = State(*(part[pick].flatten(0, 1) for part in seen))
        else:
            pick = torch.randint(len(stock.h), (v.dreams,))
            start = State(*(part[pick] for part in stock))
        losses, returns, spread = dream_losses(agent.world, me, start, reward_of)
        if v.replay:
            chosen = {k: rows[k][pick] for k in ("reward", "is_terminal", "is_last")}
            state = State(*(part[pick] for part in seen))
            losses["repval"] = replay_value(me, chosen, state, returns, config.gamma)
        if update < v.critic_first:
            del losses["policy"]
        improve(me, losses)
        entropy, seconds = float(spread), seconds + time.perf_counter() - began
    test.close()
    return curve


# ---------------------------------------------------------------- store and draw


def run(out: Path, threads: int | None = None, seeds: tuple[int, ...] = ()) -> list[dict]:
    """Run what is not stored yet; returns all stored lines.

    Raises:
        BadInput: a directory that cannot be written.
    """
    used, done = prepare(out, threads), {(li["variant"], li["seed"]) for li in stored(NAME, out)}
    for seed in seeds or SEEDS:
        for name in VARIANTS:
            if (name, seed) not in done:
                curve = one(name, seed)
                line = {"variant": name, "about": VARIANTS[name].about, "seed": seed}
                line |= {"updates": curve[-1][0], "seconds": round(curve[-1][1], 1)}
                line |= {"eval_return": round(curve[-1][2], 4), "episodes": EPISODES}
                append(out, line | where(NAME, used), curve)
    return stored(NAME, out)


def append(out: Path, line: dict, curve: list[tuple[int, float, float, float]]) -> None:
    """Add one run to the CSV and to the JSON lines."""
    new = not (out / f"{NAME}.csv").exists()
    with open(out / f"{NAME}.csv", "a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["variant", "seed", "updates", "seconds", "eval_return", "entropy"])
        for values in curve:
            writer.writerow([line["variant"], line["seed"], *(f"{v:.6g}" for v in values)])
    with open(out / f"{NAME}.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


def curves(out: Path) -> dict[tuple[str, int], np.ndarray]:
    """Stored curves by (variant, seed): columns updates, seconds, real return, entropy."""
    found: dict[tuple[str, int], list[list[float]]] = {}
    with open(out / f"{NAME}.csv", newline="") as file:
        for line in csv.DictReader(file):
            point = [float(line[k]) for k in ("updates", "seconds", "eval_return", "entropy")]
            found.setdefault((line["variant"], int(line["seed"])), []).append(point)
    return {key: np.array(points) for key, points in found.items()}


def draw(out: Path, picture: Path) -> None:
    """Final real returns of every variant, one dot a seed, to a PNG."""
    from matplotlib.figure import Figure

    from wmlib.figures import SLATE

    figure = Figure(figsize=(7, 4.4), dpi=100, layout="constrained")
    ax, found = figure.subplots(), curves(out)
    for i, name in enumerate(VARIANTS):
        values = [curve[-1, 2] for (variant, _), curve in found.items() if variant == name]
        ax.plot(values, [i] * len(values), "o", color=SLATE, alpha=0.7)
    ax.set_yticks(range(len(VARIANTS)), list(VARIANTS))
    ax.invert_yaxis()
    ax.set(title=f"Curtain, {UPDATES} updates in dreams only", xlabel="real return")
    figure.savefig(picture)
