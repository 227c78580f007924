"""Save and load without pickle: arrays in safetensors, everything else as JSON beside them.

A run directory holds `run.json` (what was asked for), `metrics.csv` and `checkpoints/step-.../`.
A checkpoint is written next to its final place and renamed, so a crash leaves the previous one.
"""

import csv
import dataclasses
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.config import Config
from wmlib.errors import BadInput
from wmlib.runtime import pick_device
from wmlib.spaces import from_json, to_json

__all__ = [
    "build_agent",
    "checkpoints",
    "describe_agent",
    "forget_after",
    "latest",
    "load_agent",
    "load_tree",
    "load_weights",
    "open_run",
    "read_checkpoint",
    "read_metrics",
    "read_table",
    "save_tree",
    "write_checkpoint",
    "write_metrics",
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
    arrays: dict[str, Tensor] = {}
    rest: dict[str, object] = {}
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
    folder = Path(run) / "checkpoints"
    name = f"step-{steps:010d}"
    taken = [c.name for c in checkpoints(run) if c.name.startswith(name)]
    if taken:  # at this step: keep it until the new one, which sorts after it, is complete
        name += f"-{int((taken[-1] + '-0').split('-')[2]) + 1:06d}"
    draft = folder / "draft.tmp"
    final = folder / name
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


def describe_agent(agent: Dreamer, env_spec: dict, seed: int) -> dict:
    """All that is needed to build the same agent again, as JSON-able values."""
    return {
        "obs_space": to_json(agent.obs_space),
        "act_space": to_json(agent.act_space),
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
        spaces = from_json(about["obs_space"]), from_json(about["act_space"])
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


# ---------------------------------------------------------------- run folder and metrics

COLUMNS = ("steps", "updates", "seconds", "episodes", "score", "eval_return")  # then the losses


def open_run(out: str | Path, about: dict) -> Path:
    """Create a run directory and write run.json.

    Raises:
        BadInput: it already holds something, or cannot be written.
    """
    out = Path(out)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise BadInput(f"{out} already exists; choose another --out, or --resume {out}.")
        out.mkdir(parents=True, exist_ok=True)
        (out / "run.json").write_text(json.dumps(about, indent=2) + "\n")
    except OSError as error:
        raise BadInput(f"Cannot write to {out} ({error}).") from error
    return out


def write_metrics(path: Path, lines: list[dict], columns: tuple[str, ...] = COLUMNS) -> None:
    """Append lines to a CSV file, which begins with these columns.

    A name that the file does not know yet becomes a new column.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    known, old = read_table(path)
    names = list(dict.fromkeys([*(known or columns), *(name for line in lines for name in line)]))
    written = [
        {name: f"{v:.6g}" if isinstance(v, float) else v for name, v in line.items()}
        for line in lines
    ]
    if names != known:
        _write_table(path, names, old + written)
        return
    with open(path, "a", newline="") as file:
        csv.DictWriter(file, names).writerows(written)


def read_metrics(path: str | Path) -> dict[str, np.ndarray]:
    """Columns of a metrics file as float arrays, NaN where a line has no value."""
    names, lines = read_table(Path(path))
    return {n: np.array([float(line[n] or "nan") for line in lines]) for n in names or COLUMNS}


def forget_after(path: Path, steps: int) -> None:
    """Drop the lines of a metrics file that come after a checkpoint."""
    names, lines = read_table(path)
    if names:
        _write_table(path, names, [line for line in lines if int(line["steps"] or 0) <= steps])


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The column names and the complete lines of a metrics file; nothing if there is none."""
    if not path.exists():
        return [], []
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        lines = [line for line in reader if None not in line and None not in line.values()]
        return list(reader.fieldnames or []), lines


def _write_table(path: Path, names: list[str], lines: list[dict]) -> None:
    """Replace a metrics file."""
    draft = path.with_suffix(".tmp")
    with open(draft, "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(lines)
    os.replace(draft, path)
