"""Make the shipped agents again: python -m wmlib.pretrained."""

import dataclasses
import json
import sys
import time
from pathlib import Path

import wmlib
from wmlib.checkpoint import describe_agent, save_tree
from wmlib.experiments import where

COINS = {"curtain": 0.5, "curtain_p70": 0.7, "curtain_p90": 0.9}  # name -> probability of left
SEED, STEPS, EPISODES = 0, 24_000, 1000


def make(name: str, p: float, folder: Path) -> dict:
    """Train one agent on Curtain with coin p and store it with its card; returns the card."""
    threads = wmlib.set_threads()
    wmlib.seed_everything(SEED)
    config = wmlib.preset("tiny")
    env = wmlib.make_env("wmlib/Curtain-v0", config.num_envs, SEED, p=p)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    result = wmlib.train(agent, env, STEPS, seed=SEED, eval_episodes=EPISODES)
    about = describe_agent(agent, env.spec, SEED)
    save_tree(folder / f"{name}.safetensors", agent.state_dict(), about)
    card = {**dataclasses.asdict(result), **where("", threads), "p": p}
    card["command"] = "make pretrained"
    del card["run"]
    (folder / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


if __name__ == "__main__":
    began = time.monotonic()
    for agent_name, coin in COINS.items():
        print(json.dumps(make(agent_name, coin, Path(__file__).parent)))
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
