"""Save and load without pickle: arrays in safetensors, everything else as JSON beside them.

A run directory holds `run.json` (what was asked for), `metrics.csv` and `checkpoints/step-.../`.
A checkpoint is written next to its final place and renamed, so a crash leaves the previous one.
"""

import dataclasses
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.config import Config
from wmlib.errors import BadInput
from wmlib.runtime import pick_device

__all__ = [
    "build_agent",
    "checkpoints",
    "describe_agent",
    "latest",
    "load_agent",
    "load_tree",
    "load_weights",
    "read_checkpoint",
    "save_tree",
    "write_checkpoint",
]

KEEP = 2  # checkpoints per run


def _leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield prefix + str(key), value


def save_tree(path: Path, tree: dict, about: dict | None = None) -> None:
    """Write nested dicts of tensors, arrays and JSON values to one safetensors file.

    `about` is a JSON-able dict that can be read without the tensors.
    """
    arrays, rest = {}, {}
    for key, value in _leaves(tree):
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
        if isinstance(value, Tensor):
            arrays[key] = value.detach().cpu().contiguous()
        else:
            rest[key] = value
    metadata = {"format": "wmlib-1", "rest": json.dumps(rest), "about": json.dumps(about or {})}
    save_file(arrays, path, metadata)


def load_tree(path: Path) -> tuple[dict, dict]:
    """Read what `save_tree` wrote: the tree (tensors and JSON values) and `about`.

    Raises:
        BadInput: the file is missing, truncated, or not ours.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    tree: dict = {}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            leaves = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        leaves |= json.loads(metadata["rest"])
        about = json.loads(metadata["about"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is damaged or was not written by wmlib ({error}).") from error
    for key, value in leaves.items():
        *parents, last = key.split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = value
    return tree, about


def checkpoints(run: Path) -> list[Path]:
    """All complete checkpoints of a run, oldest first."""
    return sorted((Path(run) / "checkpoints").glob("step-*[0-9]"))


def write_checkpoint(run: Path, steps: int, parts: dict[str, tuple[dict, dict]]) -> Path:
    """Write a checkpoint from {file name: (tree, about)}; only then remove the oldest ones.

    Raises:
        BadInput: the directory cannot be written or the disk is full; earlier checkpoints stay.
    """
    folder, name = Path(run) / "checkpoints", f"step-{steps:010d}"
    taken = [c.name for c in checkpoints(run) if c.name.startswith(name)]
    if taken:  # at this step: keep it until the new one, which sorts after it, is complete
        name += f"-{int((taken[-1] + '-0').split('-')[2]) + 1:06d}"
    draft, final = folder / "draft.tmp", folder / name
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        sums = {}
        for part, (tree, about) in parts.items():
            save_tree(draft / f"{part}.safetensors", tree, about)
            sums[part] = _checksum(draft / f"{part}.safetensors")
        (draft / "checksums.json").write_text(json.dumps(sums))
        os.replace(draft, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        good = checkpoints(run)
        keep = f"the last good checkpoint is {good[-1]}" if good else "no checkpoint exists yet"
        raise BadInput(f"Cannot write checkpoint {final} ({error}); {keep}.") from error
    for old in checkpoints(run)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _checksum(path: Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while block := file.read(2**20):
            total = zlib.crc32(block, total)
    return total


def latest(run: Path) -> Path:
    """Newest checkpoint of a run directory.

    Raises:
        BadInput: there is none.
    """
    found = checkpoints(run)
    if not found:
        raise BadInput(f"There is no checkpoint in {run}.")
    return found[-1]


def read_checkpoint(folder: Path, *names: str) -> list[tuple[dict, dict]]:
    """Read parts of a checkpoint after verifying their checksums.

    Raises:
        BadInput: a part is missing or damaged; the sentence names an older good checkpoint if any.
    """
    folder = Path(folder)
    try:
        sums = json.loads((folder / "checksums.json").read_text())
        for name in names:
            if _checksum(folder / f"{name}.safetensors") != sums[name]:
                raise ValueError(f"{name}.safetensors fails its checksum")
        return [load_tree(folder / f"{name}.safetensors") for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        older = [c for c in checkpoints(folder.parent.parent) if c < folder]
        hint = f"; an older one is {older[-1]}, delete the damaged one to use it" if older else ""
        raise BadInput(f"Checkpoint {folder} is damaged ({error}){hint}.") from error


# ---------------------------------------------------------------- agents


def _describe(space: gym.Space) -> dict:
    if isinstance(space, gym.spaces.Discrete):
        return {"n": int(space.n)}
    return {"shape": list(space.shape), "dtype": str(space.dtype)}


def _space(about: dict) -> gym.Space:
    if "n" in about:
        return gym.spaces.Discrete(about["n"])
    low, high = (0, 255) if about["dtype"] == "uint8" else (-np.inf, np.inf)
    return gym.spaces.Box(low, high, tuple(about["shape"]), np.dtype(about["dtype"]).type)


def describe_agent(agent: Dreamer, env_spec: dict, seed: int) -> dict:
    """All that is needed to build the same agent again, as JSON-able values."""
    return {
        "obs_space": _describe(agent.obs_space),
        "act_space": _describe(agent.act_space),
        "config": dataclasses.asdict(agent.config),
        "env": env_spec,
        "seed": seed,
    }


def build_agent(weights: dict[str, Tensor], about: dict) -> Dreamer:
    """Rebuild an agent from a file's weights and description.

    Raises:
        BadInput: there is no description, or the weights do not fit it.
    """
    try:
        config = Config().replace(**about["config"])
        spaces = _space(about["obs_space"]), _space(about["act_space"])
    except (KeyError, TypeError) as error:
        raise BadInput(f"The file does not describe an agent ({error!r}).") from error
    agent = Dreamer(*spaces, config)
    load_weights(agent, weights)
    return agent


def load_weights(agent: Dreamer, weights: dict[str, Tensor]) -> None:
    """Copy weights into an agent, or raise BadInput and leave it untouched if they do not fit."""
    mine = agent.state_dict()
    for name in sorted(mine.keys() | weights.keys()):
        have = tuple(mine[name].shape) if name in mine else "nothing"
        given = tuple(weights[name].shape) if name in weights else "nothing"
        if have != given:
            raise BadInput(
                f"The weights are of another architecture: '{name}' is {given} in the file and "
                f"{have} in this agent."
            )
    agent.load_state_dict(weights)


def load_agent(path: str | Path, device: str = "auto") -> tuple[Dreamer, dict]:
    """Load an agent from a run directory, a checkpoint or an agent file; also its description."""
    path = Path(path)
    if path.is_file():
        weights, about = load_tree(path)
    else:
        folder = path if (path / "checksums.json").exists() else latest(path)
        weights, about = read_checkpoint(folder, "agent")[0]
    try:
        agent = build_agent(weights, about)
    except BadInput as error:
        raise BadInput(f"Cannot load {path}: {error}") from error
    return agent.to(pick_device(device)), about
