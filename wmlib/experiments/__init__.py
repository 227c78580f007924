"""Named experiments whose results the notebooks and the README quote.

    python -m wmlib experiment NAME

A module has the name of its experiment; `training` holds several, and `store` keeps the results.
"""

import importlib
from pathlib import Path
from types import ModuleType

from wmlib.errors import BadInput
from wmlib.experiments import training

__all__ = ["MODULES", "draw", "names", "run"]

# Experiments that are not plain training runs. Each module has `run(out, threads, seeds)`, and
# `draw(out, picture)` where there is something to draw.
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


def draw(name: str, out: Path, picture: Path) -> None:
    """Draw what is stored of an experiment to a PNG.

    Raises:
        BadInput: no experiment of that name, or none that draws.
    """
    if name in training.RUNS:
        training.draw(name, out, picture)
    elif hasattr(_module(name), "draw"):
        _module(name).draw(out, picture)
    else:
        raise BadInput(f"Experiment '{name}' draws no picture; drop --plot.")


def _module(name: str) -> ModuleType:
    if name not in MODULES:
        raise BadInput(f"Unknown experiment '{name}'; allowed are {', '.join(names())}.")
    return importlib.import_module(f"wmlib.experiments.{name}")
