"""Guess first, look later: what the reader expected, kept beside what was measured.

Guesses live in `guesses.json` in the working directory, which is the notebook's. The environment
variable WMLIB_GUESSES names another file; if it is empty, or the file cannot be written, they are
kept until the kernel stops.
"""

import contextlib
import json
import math
import os
from pathlib import Path

import numpy as np
import torch

__all__ = ["guess", "guesses", "reveal", "score"]

_session: dict[str, dict] = {}  # guesses of this kernel; they win over those in the file


def guess(key: str, value: object = None) -> object:
    """Note a guess (a number, a word, or a list of them) under a name such as "01.entropy".

    None, the untouched value, notes nothing. Returns the value, for instance to plot it.
    """
    if value is None or value is ...:
        print(f"Guess {key}: none yet. Put yours in the place of None, or read on without.")
        return None
    try:
        plain = _plain(value)
    except TypeError:
        print(f"Guess {key}: this cannot be kept. Give a number, a word, or a list of them.")
        return value
    _session[key] = {"guess": plain}
    _write()
    print(f"Guess {key}: {_show(plain)}, noted.")
    return value


def reveal(
    key: str,
    measured: object,
    unit: str = "",
    digits: int | None = None,
    close: float | None = None,
) -> None:
    """Print what was measured beside the guess, and keep it for `score`.

    `digits` are the decimals shown (default: about four figures). A guess counts as close within
    `close` of the measured number, in its unit (default: a quarter of the number).
    """
    measured, unit = _plain(measured), f" {unit}" if unit else ""
    record = guesses().get(key)
    if record is None:
        print(f"{key}: measured {_show(measured, digits)}{unit} (no guess recorded).")
        return
    record = {"guess": record["guess"], "measured": measured, "unit": unit.strip(), "close": close}
    _session[key] = record
    _write()
    print(
        f"{key}: you guessed {_show(record['guess'])}{unit}, "
        f"measured {_show(measured, digits)}{unit}{': close' if _is_close(record) else ''}."
    )


def guesses() -> dict[str, dict]:
    """All guesses by name: "guess" and, once revealed, "measured", "unit" and "close"."""
    found = {}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stored = json.loads(_path().read_text(encoding="utf-8"))
        found = {k: v for k, v in stored.items() if isinstance(v, dict) and "guess" in v}
    return dict(sorted({**found, **_session}.items()))


def score() -> None:
    """Print every guess of the course beside the measured value, and how many were close."""
    records = guesses()
    known = {key: record for key, record in records.items() if "measured" in record}
    if not known:
        print("No guess has been recorded and revealed yet.")
        return
    wide = max(map(len, known))
    print(f"{'':{wide}}  {'guessed':>12}  {'measured':>12}")
    for key, record in known.items():
        row = f"{_show(record['guess']):>12}  {_show(record['measured']):>12} {record['unit']}"
        print(f"{key:{wide}}  {row}{'  close' if _is_close(record) else ''}".rstrip())
    hits = sum(map(_is_close, known.values()))
    print(f"{hits} of {len(known)} guesses were close.")


def _path() -> Path:
    """Where guesses are kept; an impossible path if they are not."""
    return Path(os.environ.get("WMLIB_GUESSES", "guesses.json") or os.devnull)


def _write() -> None:
    path = _path()
    if str(path) == os.devnull or path.is_dir():
        return
    with contextlib.suppress(OSError):
        draft = path.with_name(path.name + ".tmp")
        draft.write_text(json.dumps(guesses(), indent=1), encoding="utf-8")
        draft.replace(path)


def _plain(value: object) -> object:
    """A number, word, or list of them as plain Python; TypeError for anything else."""
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise TypeError(f"{value!r} is no finite number, word, or list of them")


def _show(value: object, digits: int | None = None) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_show(v, digits) for v in value) + "]"
    if isinstance(value, (bool, str)):
        return str(value)
    if digits is not None:
        return f"{value:,.{digits}f}"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def _is_close(record: dict) -> bool:
    """Is the guess close? Words must be equal, and of a list all numbers close."""
    guessed, measured = record["guess"], record["measured"]
    if isinstance(measured, list):
        if not isinstance(guessed, list) or len(guessed) != len(measured):
            return False
        pairs = zip(guessed, measured, strict=True)
        return all(_is_close({**record, "guess": g, "measured": m}) for g, m in pairs)
    if isinstance(measured, (bool, str)) or isinstance(guessed, (bool, str, list)):
        return str(guessed).strip().casefold() == str(measured).strip().casefold()
    allowed = record.get("close")
    allowed = abs(measured) / 4 if allowed is None else allowed
    return abs(guessed - measured) <= allowed + 1e-9
