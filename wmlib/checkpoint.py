"""Save and load without pickle: arrays in safetensors, everything else as JSON beside them.

A run directory holds `run.json` (what was asked for), `metrics.csv` and `checkpoints/step-.../`.
A checkpoint is written next to its final place and renamed, so a crash leaves the previous one.
While a process writes to a run, `lock` names it.
"""

import contextlib
import csv
import dataclasses
import errno
import json
import math
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.config import Config
from wmlib.distributed import rank, together
from wmlib.errors import BadInput
from wmlib.runtime import pick_device, say, uninterrupted
from wmlib.spaces import from_json, to_json

__all__ = [
    "build_agent",
    "checkpoints",
    "describe_agent",
    "env_spec",
    "forget_after",
    "latest",
    "load_agent",
    "load_tree",
    "load_weights",
    "lock_run",
    "open_run",
    "part_names",
    "read_checkpoint",
    "read_metrics",
    "read_table",
    "run_folder",
    "save_tree",
    "try_writing",
    "vacant",
    "write_checkpoint",
    "write_metrics",
]

KEEP = 2  # checkpoints per run
CHECKPOINT = re.compile(r"step-(\d{10,})(?:-(\d{6}))?")  # steps, and which of those at this step


# ---------------------------------------------------------------- what disks refuse

REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP}
REFUSED |= {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


def _cannot_write(sentence: str, error: Exception) -> Exception:
    """BadInput if another place would do, OSError (such as a full disk) if this is a failure."""
    refused = isinstance(error, RecursionError) or getattr(error, "errno", None) in REFUSED
    return BadInput(sentence) if refused else OSError(sentence)


def _short(error: Exception) -> str:
    """What went wrong, in a few words."""
    return getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Tell what may not be read apart from what is missing or damaged."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise BadInput(f"Cannot read {error.filename} ({error.strerror}).") from error


def try_writing(folder: Path, *files: Path) -> None:
    """Find out before hours of work whether its results can be written, and leave no trace.

    Raises:
        BadInput: the folder takes no new file, or one of the files is there and takes no more.
        OSError: the disk is full or broken.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
        for path in files:
            if path.exists():
                open(path, "ab").close()
    except OSError as error:
        sentence = f"Cannot write to {error.filename or folder} ({_short(error)})."
        raise _cannot_write(sentence, error) from error


def _sync(path: Path) -> None:
    """Have a file or a folder on the disk before going on, in case the power fails."""
    if path.is_dir():
        with contextlib.suppress(OSError):  # not every system opens folders
            _sync_opened(path, os.O_RDONLY)
    else:
        _sync_opened(path, os.O_RDWR)


def _sync_opened(path: Path, flags: int) -> None:
    number = os.open(path, flags)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# ---------------------------------------------------------------- trees and checkpoints


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
    path.touch()
    mode = path.stat().st_mode  # as the umask has it; safetensors lets nobody else read
    save_file(arrays, path, metadata)
    path.chmod(mode)


def load_tree(path: Path) -> tuple[dict, dict]:
    """Read what `save_tree` wrote: the tree (tensors and JSON values) and `about`.

    Raises:
        BadInput: the file is missing, truncated, or not ours, or may not be read.
    """
    path = Path(path)
    with _reading():
        if not path.is_file():
            raise BadInput(f"There is no file {path}.")
        open(path, "rb").close()
    tree: dict = {}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            leaves = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        leaves |= json.loads(metadata["rest"])
        about = json.loads(metadata["about"])
        if not isinstance(about, dict):
            raise TypeError(f"its description is a {type(about).__name__}")
        for key, value in leaves.items():
            *parents, last = key.split("/")
            branch = tree
            for parent in parents:
                branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict) or last in branch:
                raise ValueError(f"'{key}' is there twice")
            branch[last] = value
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} is damaged or was not written by wmlib ({error}).") from error
    except RecursionError as error:
        raise BadInput(f"{path} was not written by wmlib (its metadata is too deep).") from error
    return tree, about


def checkpoints(run: Path) -> list[Path]:
    """All complete checkpoints of a run, oldest first; what has another name is none of ours.

    Raises:
        BadInput: the directory may not be read.
    """
    return [path for *_, path in _numbered(run)]


def _numbered(run: Path) -> list[tuple[int, int, Path]]:
    """Steps, number among those of these steps, and path of every checkpoint, in order."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), _reading():
        for path in (Path(run) / "checkpoints").iterdir():
            if (name := CHECKPOINT.fullmatch(path.name)) and path.is_dir():
                found.append((int(name[1]), int(name[2] or 0), path))
    return sorted(found)


def write_checkpoint(
    run: Path,
    steps: int,
    parts: dict[str, tuple[dict, dict]],
    links: Mapping[str, Path] | None = None,
) -> Path:
    """Write a checkpoint from {part: (tree, about)}; only then remove the oldest ones.

    `links`, {part: an earlier checkpoint}, are parts that have not changed since: they become
    another name of the same file, where the file system has such links, else copies. Processes that
    learn together write one checkpoint with the parts of all of them, or none.

    Raises:
        BadInput: the directory cannot be written; earlier checkpoints stay.
        OSError: the disk is full or broken; earlier checkpoints stay.
    """
    folder = Path(run) / "checkpoints"
    name = f"step-{steps:010d}"
    taken = [serial for at, serial, _ in _numbered(run) if at == steps]
    if taken:  # keep it until the new one, which sorts after it, is complete
        name += f"-{taken[-1] + 1:06d}"
    draft = folder / "draft.tmp"
    final = folder / name

    def begin() -> None:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)

    def write() -> dict[str, int]:
        sums = {}
        for part, (tree, about) in parts.items():
            save_tree(draft / f"{part}.safetensors", tree, about)
            sums[part] = _checksum(draft / f"{part}.safetensors")
        earlier = {folder: _sums(folder) for folder in set((links or {}).values())}
        for part, source in (links or {}).items():
            _link(source / f"{part}.safetensors", draft / f"{part}.safetensors")
            sums[part] = earlier[source][part]
        for part in parts:
            _sync(draft / f"{part}.safetensors")
        return sums

    def finish() -> None:
        (draft / "checksums.json").write_text(json.dumps(sums))
        for path in (draft / "checksums.json", draft):
            _sync(path)
        os.replace(draft, final)
        for path in (folder, folder.parent):
            _sync(path)
        for old in checkpoints(run)[:-KEEP]:
            shutil.rmtree(old, ignore_errors=True)

    try:
        with uninterrupted():
            together(begin, alone=True)
            sums = {part: number for part_of in together(write) for part, number in part_of.items()}
            together(finish, alone=True)
    except (OSError, SafetensorError, ValueError, LookupError) as error:
        if rank() == 0:
            shutil.rmtree(draft, ignore_errors=True)
        good = checkpoints(run)
        keep = f"the last good checkpoint is {good[-1]}" if good else "no checkpoint exists yet"
        sentence = f"Cannot write checkpoint {final} ({error}); {keep}."
        raise _cannot_write(sentence, error) from error
    return final


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except (OSError, NotImplementedError):  # no such links here, or too many of this file
        shutil.copyfile(source, target)
        _sync(target)


def _sums(folder: Path) -> dict[str, int]:
    """The checksum of every part of a checkpoint."""
    return json.loads((Path(folder) / "checksums.json").read_text())


def part_names(folder: Path) -> list[str]:
    """The parts of a checkpoint that `read_checkpoint` has read before, in order."""
    return sorted(_sums(folder))


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
        begun = (Path(run) / "run.json").exists()
        hint = ": the run there never saved and can be started anew" if begun else ""
        raise BadInput(f"There is no checkpoint in {run}{hint}.")
    return found[-1]


def read_checkpoint(folder: Path, *names: str) -> list[tuple[dict, dict]]:
    """Read parts of a checkpoint after verifying their checksums.

    Raises:
        BadInput: a part is missing, damaged or may not be read; the sentence names an older good
            checkpoint if any.
    """
    folder = Path(folder)
    with _reading():
        try:
            sums = _sums(folder)
            for name in names:
                if _checksum(folder / f"{name}.safetensors") != sums[name]:
                    raise ValueError(f"{name}.safetensors fails its checksum")
            return [load_tree(folder / f"{name}.safetensors") for name in names]
        except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError) as error:
            why = str(error)
        except RecursionError:
            why = "its checksums are too deep"
    older = [c for c in checkpoints(folder.parent.parent) if c < folder]
    hint = f"; an older one is {older[-1]}, delete the damaged one to use it" if older else ""
    raise BadInput(f"Checkpoint {folder} is damaged ({why}){hint}.")


# ---------------------------------------------------------------- agents

LARGE = 3000  # sum of an agent's sizes; beyond it, what a file claims is checked before it is made


def describe_agent(agent: Dreamer, env_spec: dict, seed: int) -> dict:
    """All that is needed to build the same agent again, as JSON-able values."""
    return {
        "obs_space": to_json(agent.obs_space),
        "act_space": to_json(agent.act_space),
        "config": dataclasses.asdict(agent.config),
        "env": env_spec,
        "seed": seed,
    }


def _numbers(about: dict) -> int:
    """How many numbers and classes a space has that `to_json` has described."""
    if "parts" in about:
        return sum(map(_numbers, about["parts"].values()))
    if "classes" in about:
        return int(np.sum(about["classes"]))
    return about["n"] if "n" in about else math.prod(about["shape"])


def build_agent(weights: dict[str, Tensor], about: dict) -> Dreamer:
    """Rebuild an agent from a file's weights and description.

    Raises:
        BadInput: there is no description, or the weights do not fit it.
    """
    try:
        given = dict(about["config"])
        unknown = given.keys() - {field.name for field in dataclasses.fields(Config)}
        if unknown:
            names = ", ".join(f"'{name}'" for name in sorted(unknown)[:3])
            raise BadInput(f"Its config has unknown keys ({names}): written by a newer wmlib?")
        config = c = Config(**given)
        most = 2**20 + sum(w.numel() for w in weights.values())  # 2**20: a picture needs none
        spaces = [about["obs_space"], about["act_space"]]
        numbers = [_numbers(space) for space in spaces]
        if max(numbers) > most:
            raise BadInput("Its weights are too few for spaces of these shapes.")
        obs_space, act_space = (from_json(space) for space in spaces)
        sizes = [c.deter, c.hidden, c.stoch * c.classes, c.units, 64 * c.depth, c.bins]
        if sum(sizes) + sum(numbers) > LARGE:
            with torch.device("meta"):  # shapes without memory
                check_weights(Dreamer(obs_space, act_space, config), weights)
        agent = Dreamer(obs_space, act_space, config)
    except BadInput:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise BadInput(f"The file does not describe an agent ({error!r}).") from error
    except (ArithmeticError, RuntimeError, MemoryError) as error:
        raise BadInput(f"No agent can have these sizes ({_short(error)}).") from error
    load_weights(agent, weights)
    return agent


def check_weights(agent: Dreamer, weights: dict[str, Tensor]) -> None:
    """Raise BadInput unless these are finite numbers in the shapes of the agent's own."""
    mine = agent.state_dict()

    def form(weights: dict[str, Tensor], name: str) -> str:
        value = weights.get(name)
        if not isinstance(value, Tensor):
            return "nothing"
        kind = "" if value.is_floating_point() else f" {value.dtype}"  # half precision will do
        return f"{tuple(value.shape)}{kind}"

    for name in sorted(mine.keys() | weights.keys()):
        have, given = form(mine, name), form(weights, name)
        if have != given:
            raise BadInput(
                f"The weights are of another architecture: '{name}' is {given} in the file and "
                f"{have} in this agent."
            )
        if not weights[name].float().isfinite().all():
            raise BadInput(f"The weights are spoilt: '{name}' holds what is not a finite number.")


def load_weights(agent: Dreamer, weights: dict[str, Tensor]) -> None:
    """Copy weights into an agent, or raise BadInput and leave it untouched if they do not fit."""
    check_weights(agent, weights)
    agent.load_state_dict(weights)


def load_agent(
    path: str | Path, device: str = "auto", agent: Dreamer | None = None
) -> tuple[Dreamer, dict]:
    """Load an agent from a run directory, a checkpoint or an agent file; also its description.

    An agent that was changed in code is built the same way again and given as `agent`: it gets the
    weights. Without it the standard parts are built.

    Raises:
        BadInput: it is missing, damaged, may not be read, or does not fit.
    """
    path = Path(path)
    with _reading():
        if path.is_file():
            weights, about = load_tree(path)
        else:
            folder = path if (path / "checksums.json").exists() else latest(path)
            weights, about = read_checkpoint(folder, "agent")[0]
    try:
        if agent is None:
            agent = build_agent(weights, about)
        else:
            load_weights(agent, weights)
        for name in ("steps", "updates", "seed"):
            if not isinstance(about.get(name, 0), int):
                raise BadInput(f"Its '{name}' is {about[name]!r}, which is no whole number.")
    except BadInput as error:
        raise BadInput(f"Cannot load {path}: {error}") from error
    return agent.to(pick_device(device)), about


def env_spec(about: dict, trusted: bool = False) -> dict:
    """What `make_env` needs to make the world again that an agent was trained in.

    A file may come from anybody, so it never makes Python import a module that is not there yet,
    unless it is `trusted`.

    Raises:
        BadInput: the description does not tell, or the world needs a module to be imported.
    """
    spec = about.get("env")
    keys = {"id", "num_envs", "pixels", "size", "kwargs", "keys", "symbolic"}
    if isinstance(spec, dict) and isinstance(spec.get("id"), str) and spec.keys() <= keys:
        module = spec["id"].rpartition(":")[0]
        if module and module not in sys.modules and not trusted:
            raise BadInput(
                f"The world of this agent is {spec['id']!r}, and no module is imported because a "
                f"file says so. If you trust the module {module}, add --import {module}, or import "
                "it in Python first."
            )
        return spec
    raise BadInput(f"The agent comes from {spec!r}, which is no environment that can be made.")


# ---------------------------------------------------------------- run folder

LOCK = "lock"
LEFT = {LOCK, "run.json", "metrics.csv", "metrics.tmp", "checkpoints"}  # by a run that never saved
_mine: set[Path] = set()  # runs that this process has locked


def run_folder(path: str | Path) -> Path:
    """The run directory, given itself or its newest checkpoint.

    Raises:
        BadInput: an older checkpoint.
    """
    path = Path(path)
    place = path.resolve()
    if place.parent.name != "checkpoints" or not (place / "checksums.json").exists():
        return path
    run = path.parent.parent if path.parent.name == "checkpoints" else place.parent.parent
    newest = latest(run)
    if newest.name != place.name:
        raise BadInput(f"A run goes on from its newest checkpoint, {newest}, not from {path}.")
    return run


@contextlib.contextmanager
def lock_run(run: str | Path) -> Iterator[None]:
    """Make a run directory if need be, and keep other processes from writing to it.

    The system frees the lock of a process that ends, however it ends. Within a process it may be
    taken again; of processes that learn together, one takes it.

    Raises:
        BadInput: another process uses it, or it cannot be written.
        OSError: the disk is full or broken.
    """
    run = Path(run)
    place = run.resolve()
    if place in _mine or rank():
        yield
        return
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = _locked(run / LOCK)
    except FileExistsError as error:
        raise BadInput(f"{run} already exists and is no directory.") from error
    except (OSError, RecursionError) as error:
        raise _cannot_write(f"Cannot write to {run} ({_short(error)}).", error) from error
    if isinstance(file, str):
        raise BadInput(f"{run} is in use by process {file}.")
    _mine.add(place)
    try:
        yield
    finally:
        _mine.discard(place)
        steps = [(run / LOCK).unlink, file.close]  # in this order nobody can lock it in between
        for step in reversed(steps) if sys.platform == "win32" else steps:  # must be closed there
            with contextlib.suppress(OSError):
                step()


def _locked(path: Path) -> IO[str] | str:
    """The file, opened and locked, with the number of this process in it; or whose it is."""
    while True:
        file = open(path, "a+")  # noqa: SIM115 - it stays open for as long as it is locked
        if not _lock(file.fileno()):
            file.seek(0)
            owner = file.read().strip()
            file.close()
            return owner or "unknown"
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # who had it before has just removed it
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _lock(number: int) -> bool:
    """Lock an open file for this process; False if another one has it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(number, 2**20, os.SEEK_SET)  # not where others read the number of the process
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def vacant(out: str | Path) -> bool:
    """Whether a run can begin here: there is nothing but what a run left that never saved."""
    out = Path(out)
    saved = out / "checkpoints"
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    inside = {path.name for path in saved.iterdir()} if saved.exists() else set()
    return names <= LEFT and inside <= {"draft.tmp"}


def open_run(out: str | Path, about: dict) -> Path:
    """Create a run directory and write run.json; what a run left that never saved is removed.

    Raises:
        BadInput: it already holds something, or cannot be written.
        OSError: the disk is full or broken.
    """
    out = Path(out)
    if checkpoints(out):
        raise BadInput(
            f"{out} holds a run already; choose another --out, or continue with --resume."
        )
    try:
        if not vacant(out):
            raise BadInput(f"{out} already exists and is not empty; choose another --out.")
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        (out / "metrics.csv").unlink(missing_ok=True)
        (out / "run.json").write_text(json.dumps(about, indent=2) + "\n")
    except (OSError, RecursionError) as error:
        raise _cannot_write(f"Cannot write to {out} ({_short(error)}).", error) from error
    return out


# ---------------------------------------------------------------- metrics

COLUMNS = ("steps", "updates", "seconds", "episodes", "score", "eval_return")  # then the losses


def write_metrics(path: Path, lines: list[dict], columns: tuple[str, ...] = COLUMNS) -> None:
    """Append lines to a CSV file, which begins with these columns.

    A name that the file does not know yet becomes a new column. Half lines are dropped; a file
    without names for its columns is kept as `.damaged`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    known, old, damaged = _scan(path)
    names = list(dict.fromkeys([*(known or columns), *(name for line in lines for name in line)]))
    written = [{name: _cell(value) for name, value in line.items()} for line in lines]
    if names != known or damaged:
        if damaged and not known:
            os.replace(path, path.with_suffix(".damaged"))
        _write_table(path, names, old + written)
        return
    with open(path, "a", newline="") as file:
        csv.DictWriter(file, names).writerows(written)


def _cell(value: Any) -> Any:
    """A number as it is written: six digits, and nothing for NaN, which is how gaps are read."""
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def read_metrics(path: str | Path) -> dict[str, np.ndarray]:
    """Columns of a metrics file as float arrays, NaN where a line has no value."""
    names, lines = read_table(path)
    return {n: np.array([float(line[n] or "nan") for line in lines]) for n in names or COLUMNS}


def forget_after(path: Path, steps: int) -> None:
    """Drop the lines of a metrics file that come after a checkpoint."""
    names, lines = read_table(path)
    if names:
        kept = [line for line in lines if float(line.get("steps") or 0) <= steps]
        _write_table(path, names, kept)


def read_table(
    path: str | Path, words: Container[str] = ()
) -> tuple[list[str], list[dict[str, str]]]:
    """The column names and the lines of a metrics file; nothing if there is none.

    Only the columns `words` may hold anything but numbers. Damaged lines are skipped, and one
    sentence says so.
    """
    names, lines, damaged = _scan(Path(path))
    good = [line for line in lines if all(k in words or _is_number(v) for k, v in line.items())]
    damaged += len(lines) - len(good)
    if damaged:
        say(f"{path} is damaged: {damaged} of its lines are skipped.")
    return names, good


def _scan(path: Path) -> tuple[list[str], list[dict[str, str]], int]:
    """The column names, the lines that have all columns, and how many others there are.

    A last line without an end was being written when something went wrong.
    """
    if not path.exists():
        return [], [], 0
    text = path.read_bytes().decode("utf-8-sig", "replace")  # some editors begin with a mark
    *whole, half = text.split("\n")
    rows = [_cells(line) for line in whole if line.strip()]
    names = rows[0] if rows else []
    if not names or len(set(names)) < len(names) or not all(n.isidentifier() for n in names):
        return [], [], len(rows) + bool(half)
    lines = [dict(zip(names, row, strict=True)) for row in rows[1:] if len(row) == len(names)]
    return names, lines, len(rows) - 1 - len(lines) + bool(half)


def _cells(line: str) -> list[str]:
    """The cells of one line; none if it is garbage."""
    try:
        return [] if {"\0", "\ufffd"} & set(line) else next(csv.reader([line.rstrip("\r")]))
    except (csv.Error, StopIteration):
        return []


def _is_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True


def _write_table(path: Path, names: list[str], lines: list[dict]) -> None:
    """Replace a metrics file."""
    draft = path.with_suffix(".tmp")
    try:
        with open(draft, "w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(lines)
        _sync(draft)
        os.replace(draft, path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    _sync(path.parent)
