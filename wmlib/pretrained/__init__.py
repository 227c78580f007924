"""Small trained agents that ship with the package; `make pretrained` trains such agents anew."""

import json
from importlib.resources import as_file, files

from wmlib.agent import Dreamer
from wmlib.checkpoint import build_agent, load_tree
from wmlib.errors import BadInput
from wmlib.runtime import pick_device

__all__ = ["load_pretrained", "pretrained_card"]


def _names() -> list[str]:
    return sorted(f.name[:-5] for f in files(__name__).iterdir() if f.name.endswith(".json"))


def pretrained_card(name: str) -> dict:
    """How a shipped agent was made: command, seed, steps, machine, metrics.

    Raises:
        BadInput: there is no agent of that name.
    """
    if name not in _names():
        raise BadInput(f"There is no pretrained agent '{name}'; allowed are {', '.join(_names())}.")
    return json.loads((files(__name__) / f"{name}.json").read_text())


def load_pretrained(name: str = "curtain", device: str = "cpu") -> Dreamer:
    """Load a shipped agent, ready to act, dream or learn on.

    Raises:
        BadInput: there is no agent of that name.
    """
    pretrained_card(name)
    with as_file(files(__name__) / f"{name}.safetensors") as path:
        weights, about = load_tree(path)
    return build_agent(weights, about).to(pick_device(device))
