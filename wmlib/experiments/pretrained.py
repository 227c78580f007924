"""Train agents like the shipped ones: `make pretrained`.

python -m wmlib.experiments.pretrained [--out FOLDER] [NAME ...]
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import torch

from wmlib.agent import Dreamer
from wmlib.checkpoint import describe_agent, load_agent, save_tree
from wmlib.config import preset
from wmlib.envs.make import make_env
from wmlib.errors import BadInput
from wmlib.experiments.store import prepare, provenance
from wmlib.play import evaluate
from wmlib.pretrained import load_pretrained, pretrained_card
from wmlib.runtime import seed_everything
from wmlib.trainer import train

# To go on from a trained agent: less to find out, and options need no longer be kept open.
GO_ON = {"random_steps": 3000, "model_updates": 800, "entropy_scale": 3e-3}
POLISH = GO_ON | {"lr": 2e-4}  # small steps at the end: the dreamt coin settles at its odds


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an agent is trained."""

    env: str
    preset: str
    steps: int
    episodes: int  # of the final evaluation
    settings: dict = dataclasses.field(default_factory=dict)  # of the environment
    start: str | None = None  # the agent it goes on from
    changes: dict = dataclasses.field(default_factory=dict)  # of the config
    seed: int = 0


# Made in this order; a name that comes twice is first trained, then polished.
CURTAIN = ("wmlib/Curtain-v0", "curtain")
RECIPES = [
    ("curtain", Recipe(*CURTAIN, 24_000, 1000, {"p": 0.5})),
    ("curtain", Recipe(*CURTAIN, 10_000, 1000, {"p": 0.5}, start="curtain", changes=POLISH)),
    # From scratch with an unfair coin the actor tends to camp under the likelier exit; the agent of
    # the fair coin only has to learn the new odds.
    ("curtain_p70", Recipe(*CURTAIN, 10_000, 1000, {"p": 0.7}, start="curtain", changes=GO_ON)),
    (
        "curtain_p70",
        Recipe(*CURTAIN, 10_000, 1000, {"p": 0.7}, start="curtain_p70", changes=POLISH),
    ),
    ("curtain_p90", Recipe(*CURTAIN, 20_000, 1000, {"p": 0.9}, start="curtain_p70", changes=GO_ON)),
    ("cartpole", Recipe("CartPole-v1", "cartpole", 12_000, 100)),
]


def make(name: str, recipe: Recipe, folder: Path, threads: int) -> dict:
    """Train one agent, store its weights as float16 and its card as JSON; returns the card."""
    seed_everything(recipe.seed)
    config = preset(recipe.preset, **recipe.changes)
    env = make_env(recipe.env, config.num_envs, recipe.seed, **recipe.settings)
    agent = Dreamer(env.single_observation_space, env.single_action_space, config)
    if recipe.start:
        made = folder / f"{recipe.start}.safetensors"
        start = load_agent(made)[0] if made.exists() else load_pretrained(recipe.start)
        agent.load_state_dict(start.state_dict())
    result = train(agent, env, recipe.steps, seed=recipe.seed, eval_episodes=recipe.episodes)
    test = make_env(recipe.env, 100, **recipe.settings)
    mode = evaluate(agent, test, recipe.episodes, mode=True).mean()
    weights = {key: value.to(torch.float16) for key, value in agent.state_dict().items()}
    save_tree(folder / f"{name}.safetensors", weights, describe_agent(agent, env.spec, recipe.seed))
    card = {**dataclasses.asdict(result), **provenance("", threads)}
    card |= {
        "eval_return_mode": round(float(mode), 4),
        "command": "make pretrained",
        "settings": recipe.settings,
        "changes": recipe.changes,
        "start": recipe.start,
    }
    del card["run"]
    (folder / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


def main(args: list[str] | None = None) -> None:
    """Train the named agents (default: all) and print each beside the shipped one.

    Raises:
        BadInput: there is no agent of that name, or the folder cannot be written.
    """
    parser = argparse.ArgumentParser("python -m wmlib.experiments.pretrained", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/pretrained"), metavar="FOLDER")
    given = parser.parse_args(args)
    for name in given.names:
        pretrained_card(name)
    threads = prepare(given.out, None)
    for name, recipe in RECIPES:
        if name in given.names or not given.names:
            card = make(name, recipe, given.out, threads)
            old = pretrained_card(name)
            sampled = "eval_return_mean"
            mode = "eval_return_mode"
            print(
                f"{name}: {card[sampled]:.3f} sampled, {card[mode]:.3f} mode after "
                f"{card['seconds']:.0f} s (shipped: {old[sampled]:.3f}, {old[mode]:.3f})",
                flush=True,
            )
    print(f"The agents are in {given.out}; the shipped ones are as they were.")


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        sys.exit(str(error))
