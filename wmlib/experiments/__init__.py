"""Named experiments whose results the notebooks and the README quote.

    python -m wmlib experiment NAME

A module has the name of its experiment; `training` holds several, and `store` keeps the results.
"""

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from wmlib.errors import BadInput
from wmlib.experiments import training

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MODULES", "drawing", "names", "run"]

# Experiments that are not plain training runs. Each module has `run(out, threads, seeds)`, and
# `draw(out)`, which returns a matplotlib figure, where there is something to draw.
MODULES = ("ablations", "dream_policy", "hospital", "losses", "model_free", "world_model")


def names() -> list[str]:
    """The experiments there are."""
    return [*training.RUNS, *MODULES]


def run(
    name: str, out: Path, threads: int | None = None, seeds: tuple[int, ...] = (), jobs: int = 1
) -> list[dict]:
    """Run the seeds of an experiment (default: its own) that are not stored yet.

    Returns all stored lines. `jobs` is for `ablations`: so many runs at a time, a thread each.

    Raises:
        BadInput: no experiment of that name, or a directory that cannot be written.
        KeyboardInterrupt: a run was interrupted; it is not stored.
    """
    if name in training.RUNS:
        return training.run(name, out, threads, seeds)
    if name == "ablations":
        return _module(name).run(out, jobs, seeds)
    return _module(name).run(out, threads, seeds)


def drawing(name: str) -> Callable[[Path], "Figure"]:
    """The function that draws what is stored of an experiment: directory -> matplotlib figure.

    Raises:
        BadInput: no experiment of that name, or none that draws.
    """
    if name in training.RUNS:
        return partial(training.draw, name)
    if not hasattr(_module(name), "draw"):
        raise BadInput(f"Experiment '{name}' draws no picture; drop --plot.")
    return _module(name).draw


def _module(name: str) -> ModuleType:
    if name not in MODULES:
        raise BadInput(f"Unknown experiment '{name}'; allowed are {', '.join(names())}.")
    return importlib.import_module(f"wmlib.experiments.{name}")
