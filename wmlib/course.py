"""The course on disk: where its files are, whatever the working directory, and its notebooks."""

import contextlib
import functools
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from wmlib.agent import Dreamer
from wmlib.checkpoint import load_agent
from wmlib.envs.make import make_env
from wmlib.errors import BadInput

__all__ = ["Notebook", "home", "notebooks", "own_agent", "results", "writable"]

SECONDS = {"second": 1, "minute": 60}


@dataclass(frozen=True)
class Notebook:
    """What a notebook says of itself."""

    path: Path
    seconds: int | None  # "Time to run": on the reference machine, with two threads
    exercises: tuple[str, ...]  # such as "05.1"
    guesses: tuple[str, ...]  # such as "05.reach"


def home() -> Path:
    """The folder of the course: the working directory, one above it, or that of the package.

    Raises:
        BadInput: none of them holds `notebooks/results` beside the first notebook.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        books = folder / "notebooks"  # others have folders of that name, too
        if os.path.isdir(books / "results") and any(books.glob("00_*.ipynb")):
            return folder
    raise BadInput("There is no folder notebooks/results here or beside the package")


def results() -> Path:
    """The folder of the stored results that came with the course."""
    return home() / "notebooks" / "results"


def notebooks() -> dict[str, Notebook]:
    """The notebooks of the course by number ("00", "01", ...), in order.

    A file that is no notebook counts as an empty one.

    Raises:
        BadInput: there is no course here.
    """
    paths = sorted((home() / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return {path.name[:2]: _notebook(path, path.stat().st_mtime_ns) for path in paths}


@functools.lru_cache
def _notebook(path: Path, changed: int) -> Notebook:
    texts = {"code": "", "markdown": "", "raw": ""}
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            texts[cell["cell_type"]] += "".join(cell["source"]) + "\n"
    number = path.name[:2]
    time = re.search(r"Time to run: about (\d+) (second|minute)s?\b", texts["markdown"])
    exercises = re.findall(rf"^### ({number}\.\d+) .* · exercise ", texts["markdown"], re.M)
    guesses = dict.fromkeys(re.findall(r'\bguess\("([^"]+)"', texts["code"]))
    seconds = int(time[1]) * SECONDS[time[2]] if time else None
    return Notebook(path, seconds, tuple(exercises), tuple(guesses))


def writable(name: str) -> Path:
    """A folder of the course to write to, made if need be.

    If the course cannot be written, it is a temporary folder, and one sentence says so.
    """
    try:
        folder = home() / name
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (BadInput, OSError) as error:
        folder = Path(tempfile.mkdtemp(prefix="wmlib-"))
        print(f"The course's folder {name} cannot be written ({error}); {folder} is used instead.")
    return folder


def own_agent(name: str) -> Dreamer | None:
    """The agent that an earlier notebook of yours has left in `notebooks/mine`, on the CPU.

    None if there is none. Where it cannot be loaded, or comes from a world other than Curtain, one
    sentence says so, and the result is None as well.
    """
    try:
        folder = home() / "notebooks" / "mine" / name
        if not folder.exists():
            return None
        agent = load_agent(folder, "cpu")[0]
        world = make_env("wmlib/Curtain-v0")
        agent.check_spaces(world.single_observation_space, world.single_action_space)
        return agent
    except (BadInput, OSError) as error:
        print(f"Your own agent in {name} cannot be used: {error}")
        return None
