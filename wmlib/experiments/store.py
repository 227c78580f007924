"""Where experiments keep their results: a line of JSON for every run, a CSV for all their curves.

A run that is stored is not run again, so an interrupted experiment goes on where it stopped.
"""

import datetime
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wmlib.checkpoint import read_table, try_writing, write_metrics
from wmlib.errors import BadInput
from wmlib.runtime import say, set_threads

__all__ = ["Curve", "Size", "Store", "prepare", "provenance", "run_missing"]

Curve = Mapping[str, Sequence[float] | np.ndarray]  # column: its values, one for each point


@dataclass(frozen=True)
class Size:
    """How large the runs of an experiment are; tests use small ones."""

    updates: int = 0  # gradient steps of a run
    every: int = 1  # updates between two points of its curve
    batch: int = 0  # episodes, windows or dreams for each update
    episodes: int = 0  # of random play to learn from
    exam: int = 0  # episodes of an evaluation
    dream_updates: int = 0  # gradient steps of actor and critic, where they come later
    dreams: int = 0  # for each of them
    config: dict[str, Any] = field(default_factory=dict)  # changes that make the networks small


@dataclass(frozen=True)
class Store:
    """Results of the experiment `name` in the folder `out`: `NAME.jsonl` and `NAME.csv`.

    `keys` are the fields that tell runs apart. They are in every line of both files.
    """

    name: str
    out: Path
    keys: tuple[str, ...] = ("seed",)

    def runs(self) -> list[dict[str, Any]]:
        """What is stored of every run. Damaged lines are skipped, and one sentence says so."""
        path = self.out / f"{self.name}.jsonl"
        text = path.read_text("utf-8-sig", "replace") if path.exists() else ""
        found = [self._run(line) for line in text.splitlines() if line.strip()]
        good = [line for line in found if line is not None]
        if len(good) < len(found):
            say(f"{path} is damaged: {len(found) - len(good)} of its lines are skipped.")
        return good

    def _run(self, text: str) -> dict[str, Any] | None:
        """The run of a stored line, or None if that is damaged."""
        try:
            line = json.loads(text)
            return line if {line[key] for key in self.keys} else None
        except (ValueError, LookupError, TypeError, RecursionError):
            return None

    def done(self) -> set[tuple]:
        """The keys of all runs that are stored."""
        return {tuple(line[key] for key in self.keys) for line in self.runs()}

    def add(self, line: dict[str, Any], curve: Curve | None = None) -> None:
        """Store one run. The curve comes first, so that a line never lacks its curve."""
        if curve:
            about = {key: line[key] for key in self.keys}
            points = zip(*curve.values(), strict=True)
            rows = [about | dict(zip(curve, map(float, point), strict=True)) for point in points]
            write_metrics(self.out / f"{self.name}.csv", rows, (*self.keys, *curve))
        with open(self.out / f"{self.name}.jsonl", "ab+") as file:
            file.seek(0)
            *_, last = file.read().split(b"\n")
            if last and self._run(last.decode("utf-8", "replace")) is None:
                file.truncate(file.tell() - len(last))  # it was being written when all ended
            elif last:
                file.write(b"\n")
            file.write(json.dumps(line).encode() + b"\n")

    def curves(self) -> dict[Any, dict[str, np.ndarray]]:
        """The curve of every run by the values of its keys: columns as arrays, NaN for a gap.

        Where there is a single key, its value stands for the tuple.
        """
        words = [key for key in self.keys if key != "seed"]
        _, lines = read_table(self.out / f"{self.name}.csv", words)
        found: dict[Any, list[dict[str, str]]] = {}
        for line in (line for line in lines if line.keys() >= set(self.keys)):
            values = {name: line.pop(name) for name in self.keys}
            parts = [int(float(v or -1)) if name == "seed" else v for name, v in values.items()]
            found.setdefault(tuple(parts) if len(parts) > 1 else parts[0], []).append(line)
        return {
            key: {name: np.array([float(p[name] or "nan") for p in points]) for name in points[0]}
            for key, points in found.items()
        }


def run_missing(
    store: Store,
    threads: int | None,
    keys: Iterable[tuple],
    run_one: Callable[..., tuple[dict[str, Any], Curve | None]],
) -> list[dict[str, Any]]:
    """Run what is not stored yet, in this order; returns all stored lines.

    `run_one` is called with the values of the store's keys, and returns what to store of the run
    besides these: its line and its curve.

    Raises:
        BadInput: a directory that cannot be written.
        KeyboardInterrupt: a run was interrupted; it is not stored.
    """
    used = prepare(store.out, threads, store.name)
    for key in keys:
        if key not in store.done():
            line, curve = run_one(*key)
            about = dict(zip(store.keys, key, strict=True))
            store.add(about | line | provenance(store.name, used), curve)
    return store.runs()


def prepare(out: Path, threads: int | None, name: str = "") -> int:
    """Make the directory of results and fix the number of threads, which is returned.

    Raises:
        BadInput: a directory, or results of the experiment `name` in it, that cannot be written.
        OSError: the disk is full or broken.
    """
    used = set_threads(threads)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"Cannot write to {out} ({error}).") from error
    try_writing(out, out / f"{name}.csv", out / f"{name}.jsonl")
    return used


def provenance(name: str, threads: int) -> dict[str, str]:
    """How and on what kind of machine a result was measured."""
    return {
        "command": f"python -m wmlib experiment {name}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {threads} torch threads",
        "torch": torch.__version__,
    }
