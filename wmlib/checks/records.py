"""What a reader has done so far: guesses and solved exercises, in one file for the whole course.

The file is `progress.json` beside the notebooks, from whatever directory Python was started. The
environment variable WMLIB_PROGRESS names another file; if it is empty, or the file cannot be
written, progress is kept until the kernel stops.

A write is atomic and leaves the version before it as `progress.json.bak`. A file that cannot be
read is never overwritten: it is set aside, and the `.bak` takes its place.
"""

import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wmlib.course import home, notebooks
from wmlib.errors import BadInput

__all__ = ["Progress", "Tally", "note_guess", "note_solved", "progress", "read", "tally"]


@dataclass
class Progress:
    """Everything that is kept."""

    guesses: dict[str, dict] = field(default_factory=dict)
    """By name: "guess" and, once revealed, "measured", "unit" and "close"."""
    solved: set[str] = field(default_factory=set)
    """Exercises that were checked and correct, such as "01.2"."""


@dataclass(frozen=True)
class Tally:
    """How much of a notebook, or of the course, is done."""

    solved: int
    exercises: int
    guessed: int
    guesses: int


_session = Progress()  # of this kernel; it wins over what the file holds


def note_guess(key: str, record: dict) -> None:
    """Keep a guess under its name."""
    _session.guesses[key] = record
    _write()


def note_solved(key: str) -> None:
    """Keep that an exercise is solved."""
    if key not in read().solved:
        _session.solved.add(key)
        _write()


def read() -> Progress:
    """What is kept, in the file and in this kernel."""
    stored = _stored(_path())
    guesses = dict(sorted({**stored.guesses, **_session.guesses}.items()))
    return Progress(guesses, stored.solved | _session.solved)


def tally(number: str = "") -> Tally:
    """Count what is done in the notebook with this number, such as "05", or in all of them.

    Raises:
        BadInput: there is no such notebook.
    """
    chosen = {n: book for n, book in notebooks().items() if n == number or not number}
    if not chosen:
        raise BadInput(f"There is no notebook '{number}'; write two digits, as in \"05\".")
    kept = read()
    return Tally(
        solved=sum(key[:2] in chosen for key in kept.solved),
        exercises=sum(len(book.exercises) for book in chosen.values()),
        guessed=sum(key[:2] in chosen for key in kept.guesses),
        guesses=sum(len(book.guesses) for book in chosen.values()),
    )


def progress(number: str = "") -> None:
    """Print one line on a notebook such as "05", or on the course."""
    done = tally(number)
    print(
        f"{f'Notebook {number}' if number else 'The course'}: "
        f"{done.solved} of {done.exercises} exercises solved, "
        f"{done.guessed} of {done.guesses} guesses made."
    )


# ---------------------------------------------------------------- the file


def _path() -> Path | None:
    """Where progress is kept, or None if only in memory."""
    place = os.environ.get("WMLIB_PROGRESS")
    if place is not None:
        return Path(place) if place and not Path(place).is_dir() else None
    try:
        return home() / "notebooks" / "progress.json"
    except BadInput:
        return Path("progress.json").absolute()


def _stored(path: Path | None) -> Progress:
    """What the file holds; else its backup; else the guesses of an older version of the course."""
    if path is None:
        return Progress()
    for place in (path, _backup(path)):
        with contextlib.suppress(OSError, ValueError):
            return _load(place)
    with contextlib.suppress(OSError, ValueError):
        return Progress(_guesses(_json(path.with_name("guesses.json"))))
    return Progress()


def _load(path: Path) -> Progress:
    """Read a progress file; ValueError if it is damaged."""
    kept = _json(path)
    if not isinstance(kept, dict) or not isinstance(kept.get("solved"), list):
        raise ValueError("not a progress file")
    if not all(isinstance(key, str) for key in kept["solved"]):
        raise ValueError("an exercise that is not a word")
    return Progress(_guesses(kept.get("guesses")), set(kept["solved"]))


def _guesses(found: object) -> dict[str, dict]:
    """Check the form of stored guesses."""
    if not isinstance(found, dict):
        raise ValueError("guesses have names")
    if not all(isinstance(record, dict) and "guess" in record for record in found.values()):
        raise ValueError("a record without a guess")
    return found


def _json(path: Path) -> Any:
    text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _backup(path: Path) -> Path:
    return path.with_name(path.name + ".bak")


def _write() -> None:
    path = _path()
    if path is None:
        return
    with contextlib.suppress(OSError):
        now = read()
        kept = {"guesses": now.guesses, "solved": sorted(now.solved)}
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with open(draft, "w", encoding="utf-8") as stream:
            json.dump(kept, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            try:
                _load(path)
                path.replace(_backup(path))
            except ValueError:
                aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
                path.replace(aside)
                print(f"The file {path.name} could not be read; it is kept as {aside.name}.")
        draft.replace(path)
