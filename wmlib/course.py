"""Where the files of the course are, whatever directory a notebook runs in."""

import tempfile
from pathlib import Path

from wmlib.agent import Dreamer
from wmlib.checkpoint import load_agent
from wmlib.errors import BadInput

__all__ = ["home", "own_agent", "results", "writable"]


def home() -> Path:
    """The folder of the course: the working directory, one above it, or that of the package.

    Raises:
        BadInput: none of them holds `notebooks/results`.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "notebooks" / "results").is_dir():
            return folder
    raise BadInput("There is no folder notebooks/results here or beside the package")


def results() -> Path:
    """The folder of the stored results that came with the course."""
    return home() / "notebooks" / "results"


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

    If there is none, or it cannot be loaded, the result is None; the latter is also reported.
    """
    try:
        folder = home() / "notebooks" / "mine" / name
        return load_agent(folder, "cpu")[0] if folder.exists() else None
    except BadInput as error:
        print(f"Your own agent cannot be used: {error}")
        return None
