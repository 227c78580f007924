"""Small trained agents that ship with the package; `make pretrained` trains such agents anew."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from wmlib.agent import Dreamer
from wmlib.checkpoint import load_agent
from wmlib.errors import BadInput

__all__ = ["load_pretrained", "pretrained_card", "pretrained_file", "pretrained_names"]


def pretrained_names() -> list[str]:
    """Names of all shipped agents."""
    return sorted(f.name[:-5] for f in files(__name__).iterdir() if f.name.endswith(".json"))


def pretrained_card(name: str) -> dict:
    """How a shipped agent was made: command, seed, steps, machine, metrics.

    Raises:
        BadInput: there is no agent of that name.
    """
    if name not in pretrained_names():
        raise BadInput(
            f"There is no pretrained agent '{name}'; allowed are {', '.join(pretrained_names())}."
        )
    return json.loads((files(__name__) / f"{name}.json").read_text())


@contextmanager
def pretrained_file(name: str) -> Iterator[Path]:
    """The weights file of a shipped agent, unpacked for as long as the block runs.

    Raises:
        BadInput: there is no agent of that name.
    """
    pretrained_card(name)
    with as_file(files(__name__) / f"{name}.safetensors") as path:
        yield path


def load_pretrained(name: str = "curtain", device: str = "cpu") -> Dreamer:
    """Load a shipped agent, ready to act, dream or learn on.

    Raises:
        BadInput: there is no agent of that name.
    """
    with pretrained_file(name) as path:
        return load_agent(path, device)[0]
