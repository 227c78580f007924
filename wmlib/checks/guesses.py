"""Guess first, look later: what the reader expects, kept beside what is measured."""

import contextlib
import math
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from wmlib.checks import records

__all__ = ["guess", "guesses", "reveal", "score"]

BUTTON = (
    "display: inline-block; cursor: pointer; padding: 2px 12px; "
    "border: 1px solid #64748B; border-radius: 3px; list-style: none"
)
_shown: set[str] = set()  # revealed in this kernel


def guess(
    key: str,
    value: object = None,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float = 1,
    unit: str = "",
    choices: Iterable[object] = (),
) -> None:
    """Ask for a guess, and keep it under a name such as "01.entropy".

    In a live notebook there is a slider from `low` to `high`, a row of buttons for `choices`, or,
    without either, a field for a number. Where nothing is live, `value` can be given instead: a
    number, a word, or a list of them. A guess that was made before its `reveal` stays as it is.
    """
    choices = [_plain(choice) for choice in choices]
    if value is not None and value is not ...:
        print(f"Guess {key}: {_note(key, value)}")
        return
    asked = f"from {_show(low)} to {_show(high)}" if low is not None else "any number"
    if choices:
        asked = ", ".join(map(_show, choices))
    asked = f"Guess {key}: {asked}{f' ({unit})' if unit else ''}. Run this cell to make it."
    if not _in_notebook():
        print(asked)
        return
    from IPython.display import display

    from wmlib.widgets.base import framed

    if choices:
        control = _buttons(choices)
    elif low is not None and high is not None:
        control = _slider(low, high, step)
    else:
        control = _field()
    view = framed([_panel(key, control, unit)])
    display({**(view._repr_mimebundle_() or {}), "text/plain": asked}, raw=True)


def reveal(
    key: str,
    measured: object,
    unit: str = "",
    digits: int | None = None,
    close: float | None = None,
) -> None:
    """Show what was measured beside the guess, behind a button, and keep it for `score`.

    `digits` are the decimals shown (default: about four figures). A guess counts as close within
    `close` of the measured number, in its unit (default: a quarter of the number).
    """
    measured = _plain(measured)
    space = " " if unit else ""
    seen = f"measured {_show(measured, digits)}{space}{unit}"
    record = guesses().get(key)
    _shown.add(key)
    if record is None:
        line = f"{key}: {seen} (no guess recorded)."
    else:
        record = {"guess": record["guess"], "measured": measured, "unit": unit, "close": close}
        records.note_guess(key, record)
        hit = ": close" if _is_close(record) else ""
        line = f"{key}: you guessed {_show(record['guess'])}{space}{unit}, {seen}{hit}."
    if not _in_notebook():
        print(line)
        return
    import html

    from IPython.display import display

    button = f'<summary style="{BUTTON}">Reveal {html.escape(key)}</summary>'
    folded = f"<details>{button}<p>{html.escape(line)}</p></details>"
    display({"text/html": folded, "text/plain": line}, raw=True)


def guesses() -> dict[str, dict]:
    """All guesses by name: "guess" and, once revealed, "measured", "unit" and "close"."""
    return records.read().guesses


def score() -> None:
    """Print every guess of the course beside the measured value, and how many were close."""
    known = {key: record for key, record in guesses().items() if "measured" in record}
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


# ---------------------------------------------------------------- asking


def _in_notebook() -> bool:
    """Tell whether there is a front end that shows more than text."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _note(key: str, value: object) -> str:
    """Keep a guess unless its measured value is out; one sentence on what happened."""
    record = guesses().get(key)
    if record is not None and "measured" in record:
        return f"the measured value is out, and your guess of {_show(record['guess'])} stays."
    if key in _shown:
        return "the measured value is out, so this guess does not count."
    try:
        plain = _plain(value)
    except TypeError:
        return "this cannot be kept; a number, a word, or a list of them can."
    records.note_guess(key, {"guess": plain})
    return f"{_show(plain)}, noted."


def _slider(low: float, high: float, step: float) -> Any:
    import ipywidgets

    whole = all(float(number).is_integer() for number in (low, high, step))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    digits = 0 if whole else max(0, math.ceil(-math.log10(step)))
    control = kind(value=low, min=low, max=high, step=step, continuous_update=False)
    control.readout_format = f".{digits}f"
    control.layout.width = "360px"
    return control


def _buttons(choices: list[object]) -> Any:
    import ipywidgets

    named = [(_show(choice), choice) for choice in choices]
    control = ipywidgets.ToggleButtons(options=named, value=None)
    control.style.button_width = "auto"
    return control


def _field() -> Any:
    import ipywidgets

    return ipywidgets.Text(
        placeholder="a number, then Enter", continuous_update=False, layout={"width": "180px"}
    )


def _panel(key: str, control: Any, unit: str) -> Any:
    """A control between its name and what became of the guess; calls `_note` when it is moved."""
    import ipywidgets
    from traitlets import TraitError

    record = guesses().get(key)
    state = ipywidgets.Label("move it to guess" if hasattr(control, "min") else "")
    if record is not None:
        kept = record["guess"]
        is_field = isinstance(control, ipywidgets.Text)
        with contextlib.suppress(TraitError):  # what another control could not show
            control.value = str(kept) if is_field else kept
        control.disabled = "measured" in record
        state.value = f"your guess: {_show(kept)}"

    def moved(change: dict) -> None:
        value = change["new"]
        if isinstance(control, ipywidgets.Text):
            try:
                value = float(value.replace("−", "-"))
            except ValueError:
                state.value = "please write a number, such as 1000 or 0.5"
                return
        state.value = _note(key, value)

    control.observe(moved, names="value")
    after = ipywidgets.Label(f"{unit} ·" if unit else "·")
    row = [ipywidgets.Label(key), control, after, state]
    return ipywidgets.HBox(row, layout={"flex_flow": "row wrap"})


# ---------------------------------------------------------------- values


def _plain(value: Any) -> Any:
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


def _show(value: Any, digits: int | None = None) -> str:
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
    """Tell whether the guess is close: words must be equal, and of a list all numbers close."""
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
