"""Make the shipped agents again: python -m wmlib.pretrained [NAME ...]."""

import dataclasses
import json
import sys
from pathlib import Path

import torch

import wmlib
from wmlib.checkpoint import describe_agent, save_tree
from wmlib.experiments import where

# The shipped agents are of a time when `tiny` had these values.
CHANGES = {"entropy_scale": 1e-3, "lr_decay": 1000, "imagine_last": 8, "horizon": 10}
POLISH = {"lr": 2e-4}  # small steps at the end: the dreamt coin settles at its odds


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a shipped agent is trained."""

    env: str
    steps: int
    episodes: int  # of the final evaluation
    settings: dict = dataclasses.field(default_factory=dict)  # of the environment
    start: str | None = None  # the shipped agent it goes on from
    changes: dict = dataclasses.field(default_factory=dict)  # of the config
    seed: int = 0


# Made in this order; a name that comes twice is first trained, then polished.
RECIPES = [
    ("curtain", Recipe("wmlib/Curtain-v0", 40_000, 1000, {"p": 0.5})),
    ("curtain", Recipe("wmlib/Curtain-v0", 10_000, 1000, {"p": 0.5}, "curtain", POLISH)),
    # From scratch with an unfair coin the actor tends to camp under the likelier exit; the agent of
    # the fair coin only has to learn the new odds.
    ("curtain_p70", Recipe("wmlib/Curtain-v0", 10_000, 1000, {"p": 0.7}, "curtain")),
    ("curtain_p90", Recipe("wmlib/Curtain-v0", 20_000, 1000, {"p": 0.9}, "curtain_p70")),
    ("cartpole", Recipe("CartPole-v1", 20_000, 100)),
]


def make(name: str, recipe: Recipe, folder: Path) -> dict:
    """Train one agent, store its weights as float16 and its card as JSON; returns the card."""
    threads, changes = wmlib.set_threads(), CHANGES | recipe.changes
    wmlib.seed_everything(recipe.seed)
    config = wmlib.preset("tiny", **changes)
    env = wmlib.make_env(recipe.env, config.num_envs, recipe.seed, **recipe.settings)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    if recipe.start:
        agent.load_state_dict(wmlib.load_pretrained(recipe.start).state_dict())
    result = wmlib.train(agent, env, recipe.steps, seed=recipe.seed, eval_episodes=recipe.episodes)
    test = wmlib.make_env(recipe.env, 100, **recipe.settings)
    mode = wmlib.evaluate(agent, test, recipe.episodes, mode=True).mean()
    weights = {key: value.to(torch.float16) for key, value in agent.state_dict().items()}
    save_tree(folder / f"{name}.safetensors", weights, describe_agent(agent, env.spec, recipe.seed))
    card = {**dataclasses.asdict(result), **where("", threads)}
    card |= {
        "eval_return_mode": round(float(mode), 4),
        "command": "make pretrained",
        "settings": recipe.settings,
        "changes": changes,
        "start": recipe.start,
    }
    del card["run"]
    (folder / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


if __name__ == "__main__":
    for name, recipe in RECIPES:
        if name in sys.argv[1:] or not sys.argv[1:]:
            print(json.dumps(make(name, recipe, Path(__file__).parent)))
