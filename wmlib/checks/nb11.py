"""Exercises of notebook 11: updates owed, moves or balls, exact resume, a core of one's own."""

import copy
import functools
import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

from wmlib.agent import Dreamer
from wmlib.checkpoint import load_tree, save_tree
from wmlib.checks.exercises import Wrong, array, exercise, number, require
from wmlib.config import Config, preset
from wmlib.envs.make import make_env
from wmlib.errors import BadInput
from wmlib.trainer import Trainer

__all__ = ["differs_without"]

MOVE = 0.02  # what a move costs in Curtain
SMALL = dict(deter=16, hidden=8, units=8, depth=8, batch_size=2, batch_length=4, horizon=2)
PARTS = ("weights", "moments", "replay", "dice", "worlds", "memory", "scores", "seconds")


# ---------------------------------------------------------------- 11.1


@exercise("11.1")
def updates_owed(updates):
    """The law of the trainer, for several configurations, a few updates either way."""
    base = preset("tiny")
    cases = [
        (base, 10_000),
        (base, 24_000),
        (base.replace(ratio=64.0), 9_000),
        (base.replace(batch_size=8, batch_length=64), 20_000),
        (base.replace(random_steps=0, model_updates=0), 5_000),
        (base.replace(random_steps=8_000, model_updates=100), 12_000),
    ]
    for config, steps in cases:
        found = number(updates(steps, config), f"updates({steps}, ...)")
        rows = (steps - config.random_steps) * config.ratio
        size = config.batch_size * config.batch_length
        wanted = config.model_updates + rows / size
        if abs(found - wanted) <= 2:
            continue
        known = {
            wanted - config.model_updates: "The model alone gets model_updates first; add them.",
            config.model_updates + steps * config.ratio / size: "Steps of random play owe nothing.",
            config.model_updates + rows: "The ratio counts rows, and one update replays B * T of "
            "them.",
            config.model_updates + rows / config.batch_size: "One update replays B windows of T "
            "rows each: divide by both.",
        }
        for slip, sentence in known.items():
            require(slip == wanted or abs(found - slip) > 2, sentence)
        raise Wrong(
            f"After {steps:,} steps there should be about {wanted:,.0f} updates, not "
            f"{found:,.0f}; the rows replayed so far are (steps - random_steps) * ratio."
        )
    early = number(updates(1_000, base), "updates during random play")
    require(abs(early) <= 2, "During random play there are no updates; the answer should be 0.")
    return "Credit grows by ratio / (B * T) with every step."


# ---------------------------------------------------------------- 11.2


@exercise("11.2")
def moves_or_balls(why):
    """Made-up episodes whose balls and moves are known."""
    rng = np.random.default_rng(0)
    for chance in (0.9, 0.3, 1.0, 0.0):
        caught = rng.random(400) < chance
        moves = rng.integers(0, 8, 400)
        returns = np.where(caught, 1.0, -1.0) - MOVE * moves
        answer = why(returns.copy())
        require(
            isinstance(answer, (tuple, list, np.ndarray)) and len(answer) == 2,
            "The function why should return two numbers: the share caught and the mean moves.",
        )
        share = number(answer[0], "the share caught")
        mean = number(answer[1], "the number of moves")
        require(
            abs(share - (1 + returns.mean()) / 2) > 1e-6 or not moves.any(),
            "The mean return also holds the cost of moves: count the caught episodes.",
        )
        require(
            abs(share - caught.mean()) < 1e-6,
            f"Of these episodes {100 * caught.mean():.0f} % were caught, not {100 * share:.0f} "
            "%; a caught ball leaves a positive return, a missed one never does.",
        )
        require(
            abs(mean - (1 - returns.mean()) / MOVE) > 1e-3 or not (~caught).any(),
            "A missed episode starts from -1: its moves are (-1 - return) / 0.02.",
        )
        require(
            abs(mean - moves.mean()) < 1e-3,
            f"These episodes have {moves.mean():.2f} moves on average, not {mean:.2f}; what is "
            "missing to +1 or to -1 was spent on moves of 0.02.",
        )
    return "What long-trained agents lack are moves, not balls."


# ---------------------------------------------------------------- 11.3


def _run(seed: int) -> Trainer:
    torch.manual_seed(seed)
    config = preset("tiny", **SMALL, num_envs=2, random_steps=24, model_updates=2, ratio=4.0)
    env = make_env("wmlib/Curtain-v0", num_envs=2, seed=seed)
    return Trainer(
        Dreamer(env.single_observation_space, env.single_action_space, config), env, seed
    )


def _weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.agent.parameters()])


def _resume(weights: dict, state: dict, without: str) -> Trainer:
    """A new trainer from everything stored but one part, which stays as in a new one."""
    new = _run(seed=5)
    moments = copy.deepcopy(new.agent.optimizer.state_dict())
    replay = copy.deepcopy(new.replay.state_dict())
    worlds = copy.deepcopy(new.env.state_dict())
    dice = copy.deepcopy(new.rng.bit_generator.state)
    memory, row = new.memory, new.row
    if without != "weights":
        new.agent.load_state_dict(weights)
    new.load_state_dict(copy.deepcopy(state))
    if without == "moments":
        new.agent.optimizer.load_state_dict(moments)
    elif without == "replay":
        new.replay.load_state_dict(replay)
    elif without == "dice":
        new.rng.bit_generator.state = dice
        torch.manual_seed(5)
    elif without == "worlds":
        new.env.load_state_dict(worlds)
        new.row = row
    elif without == "memory":
        new.memory = memory
    elif without == "scores":
        new.scores.clear()
    elif without == "seconds":
        new.seconds = 0.0
    return new


@functools.cache
def differs_without(ticks: int = 20) -> dict[str, bool]:
    """Find out by experiment without which parts a resumed run goes on differently."""
    trainer = _run(seed=3)
    while trainer.updates < 8 or trainer.row.is_first.any():  # in the middle of the episodes
        trainer.tick()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stop.safetensors"
        save_tree(path, {"agent": trainer.agent.state_dict(), "rest": trainer.state_dict()})
        stored, _ = load_tree(path)
    weights = {k: v.clone() for k, v in trainer.agent.state_dict().items()}
    after: dict[str, bool] = {}
    for _ in range(ticks):
        trainer.tick()
    straight = _weights(trainer)
    for part in ("", *PARTS):
        again = _resume(weights, stored["rest"], part)
        try:
            for _ in range(ticks):
                again.tick()
            after[part] = not torch.equal(_weights(again), straight)
        except BadInput:  # an update is owed, and there are no rows to learn from
            after[part] = True
    if after.pop(""):
        raise RuntimeError("A run that was resumed with everything should go on as before.")
    return after


@exercise("11.3")
def power_cut(answer):
    """Leave each part out, go on, compare."""
    require(
        isinstance(answer, dict) and set(PARTS) == set(answer),
        f"Your answer should be a dictionary with the keys {', '.join(PARTS)}.",
    )
    for part, changed in answer.items():
        require(isinstance(changed, (bool, np.bool_)), f"'{part}' should be True or False.")
    truth = differs_without()
    wrong = [part for part in PARTS if bool(answer[part]) != truth[part]]
    if wrong:
        part = wrong[0]
        more = f" ({len(wrong)} of the eight are not right yet.)" if len(wrong) > 1 else ""
        if truth[part]:
            raise Wrong(
                f"Resumed without '{part}', the run went on differently: the weights after "
                f"twenty more ticks were others.{more}"
            )
        raise Wrong(
            f"Resumed without '{part}', the run went on exactly as before: nothing that "
            f"makes a row or a weight reads it.{more}"
        )
    return "Each was left out once, and the runs were compared bit by bit."


# ---------------------------------------------------------------- 11.4


@exercise("11.4")
def own_core(kind):
    """Two methods, shapes, what depends on what, and a few updates in a real agent."""
    require(
        isinstance(kind, type), "Core should be a class, not an object; leave out the brackets."
    )
    config: Config = preset("tiny", **SMALL, stored_latents=False)
    deter = config.deter
    latent = config.stoch * config.classes
    actions = 3
    core = kind(deter, latent, actions)
    require(isinstance(core, torch.nn.Module), "Core should inherit from nn.Module.")
    h, z = torch.randn(5, deter), torch.rand(5, latent)
    a = torch.eye(actions)[torch.tensor([0, 1, 2, 0, 1])]

    def step(h: torch.Tensor, z: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return core(h, z, core.embed_action(a))

    new = step(h, z, a)
    array(new, (5, deter), "the next h")
    require(
        torch.equal(new, step(h, z, a)),
        "The same input gave two different results; chance belongs into z, not into h.",
    )
    for name, changed in (
        ("h", step(h + 1, z, a)),
        ("z", step(h, z.flip(1) + 1, a)),
        ("the action", step(h, z, a.roll(1, 1))),
    ):
        require(
            (changed - new).abs().amax() > 1e-6,
            f"The next h does not depend on {name}: use all three inputs.",
        )
    alone = step(h[:1], z[:1], a[:1])
    require(
        torch.allclose(alone, new[:1], atol=1e-5),
        "Rows of the batch change each other: each one is a world of its own.",
    )
    tokens = core.embed_action(a.expand(4, 5, actions))
    require(
        tokens.shape[:2] == (4, 5),
        f"Your embed_action gave {tuple(tokens.shape)} for actions (4, 5, 3); "
        "keep the axes in front.",
    )
    _train(core, config)
    return "The agent was built around it, and it learns."


def _train(core: torch.nn.Module, config: Config) -> None:
    """Three updates of an agent with this core; every parameter must have moved."""
    image = gym.spaces.Box(0, 255, (16, 16, 1), np.uint8)
    agent = Dreamer(image, gym.spaces.Discrete(3), config.replace(warmup=0))
    agent.world.rssm.core = core  # pyright: ignore[reportAttributeAccessIssue]
    agent.optimizer = agent.build_optimizer()
    before = {name: p.detach().clone() for name, p in core.named_parameters()}
    require(before, "The core has no parameters, so it cannot learn.")
    rng = np.random.default_rng(0)
    for _ in range(3):
        obs = torch.as_tensor(255 * rng.integers(0, 2, (2, 4, 16, 16, 1)), dtype=torch.uint8)
        action = torch.eye(3)[torch.as_tensor(rng.integers(0, 3, (2, 4)))]
        flags = {name: torch.zeros(2, 4, dtype=torch.bool) for name in ("is_last", "is_terminal")}
        first = torch.zeros(2, 4, dtype=torch.bool)
        first[:, 0] = True
        agent.update(
            {
                "obs": obs,
                "action": action,
                "prev_action": action.roll(1, 1),
                "reward": torch.zeros(2, 4),
                "is_first": first,
                **flags,
            }
        )
    still = [name for name, p in core.named_parameters() if torch.equal(p, before[name])]
    require(
        not still,
        f"After three updates {', '.join(still[:3])} had not moved; is it used, and "
        "does a gradient reach it?",
    )
