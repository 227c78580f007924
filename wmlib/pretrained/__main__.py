"""Make the shipped agents again: python -m wmlib.pretrained [NAME ...]."""

import dataclasses
import json
import sys
from pathlib import Path

import torch

import wmlib
from wmlib.checkpoint import describe_agent, save_tree
from wmlib.experiments import where


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a shipped agent is trained."""

    env: str
    steps: int
    episodes: int  # of the final evaluation
    settings: dict = dataclasses.field(default_factory=dict)  # of the environment
    seed: int = 0


RECIPES = {
    "curtain": Recipe("wmlib/Curtain-v0", 20_000, 1000, {"p": 0.5}),
    "curtain_p70": Recipe("wmlib/Curtain-v0", 20_000, 1000, {"p": 0.7}),
    "curtain_p90": Recipe("wmlib/Curtain-v0", 20_000, 1000, {"p": 0.9}),
    "cartpole": Recipe("CartPole-v1", 20_000, 100),
}


def make(name: str, folder: Path) -> dict:
    """Train one agent, store its weights as float16 and its card as JSON; returns the card."""
    recipe, threads = RECIPES[name], wmlib.set_threads()
    wmlib.seed_everything(recipe.seed)
    config = wmlib.preset("tiny")
    env = wmlib.make_env(recipe.env, config.num_envs, recipe.seed, **recipe.settings)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    result = wmlib.train(agent, env, recipe.steps, seed=recipe.seed, eval_episodes=recipe.episodes)
    weights = {key: value.to(torch.float16) for key, value in agent.state_dict().items()}
    save_tree(folder / f"{name}.safetensors", weights, describe_agent(agent, env.spec, recipe.seed))
    card = {**dataclasses.asdict(result), **where("", threads)}
    card |= {"command": "make pretrained", "settings": recipe.settings}
    del card["run"]
    (folder / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


if __name__ == "__main__":
    for asked in sys.argv[1:] or RECIPES:
        print(json.dumps(make(asked, Path(__file__).parent)))
