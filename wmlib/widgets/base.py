"""What all widgets share: a pure `compute`, a picture, and a thin layer of controls.

A widget shows itself in three ways. A live front end gets the controls and the picture. Where
nothing is live (a stored notebook, a site) the same output is a PNG. Where no picture can be shown,
and wherever outputs are compared, it is one constant sentence.
"""

import html
import io
from collections.abc import Callable
from typing import Any

import ipywidgets
import numpy as np
from PIL import Image, ImageDraw

from wmlib.figures import INK, PAPER, picture
from wmlib.figures.base import font

__all__ = ["Sheet", "Widget", "png"]

SOFT, LINE, TINT = "#64748B", "#CBD5E1", "#F1F5F9"  # labels, rules, ground of the numbers
ALERT = "#C2410C"
BUTTONS = ("◀ left", "stay", "right ▶")  # actions 0, 1, 2 of Curtain


def png(image: Image.Image) -> bytes:
    """Picture -> PNG file; fast rather than small."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


class Sheet:
    """Opaque paper with a thin border, the same in a light and a dark theme, to draw on."""

    def __init__(self, width: int, height: int):
        self.image = Image.new("RGB", (width, height), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.box(0, 0, width, height, None, LINE)

    def box(
        self, x: float, y: float, width: float, height: float, fill: str | None, edge: str = ""
    ) -> None:
        """Rectangle of whole pixels, upper left corner at (x, y); an empty one is skipped."""
        x, y, right, low = round(x), round(y), round(x + width) - 1, round(y + height) - 1
        if right >= x and low >= y:
            self.pen.rectangle((x, y, right, low), fill, edge or None)

    def text(
        self, x: float, y: float, words: str, color: str = INK, size: int = 13, bold: bool = False,
        anchor: str = "ls",
    ) -> None:  # fmt: skip
        """Words with their base line at y, from x on; anchors as in Pillow ("ms" is centred)."""
        self.pen.text((round(x), round(y)), words, color, font(size, bold), anchor)

    def fact(self, x: float, y: float, label: str, number: str, color: str = INK) -> None:
        """A soft label with a large number below it."""
        self.text(x, y, label, SOFT)
        self.text(x, y + 24, number, color, 18, bold=True)

    def frame(self, x: int, y: int, frame: np.ndarray, side: int, edge: str, rim: int = 3) -> None:
        """An image observation, enlarged without blur to `side` pixels, inside a coloured rim."""
        self.box(x - rim, y - rim, side + 2 * rim, side + 2 * rim, edge)
        self.image.paste(picture(frame, side), (x, y))


class Widget:
    """Base of all widgets: keeps `.result`, redraws the picture, turns errors into one line.

    A subclass sets `alt`, and `draw(result)`, which returns the picture. Its constructor builds the
    controls and ends with `assemble(rows, result)`; callbacks are bound with `on` and return the
    new result, or None if nothing is to be drawn.
    """

    alt = "An interactive picture."  # constant: it is compared when notebooks are tested
    result: Any
    failure: Exception | None = None  # what the last callback raised; `raise w.failure` shows all

    def draw(self, result: Any) -> Image.Image:
        """Paint a result."""
        raise NotImplementedError

    def assemble(self, rows: list[list[ipywidgets.Widget]], result: Any) -> None:
        """Stack rows of controls, the picture, and the line for errors; show the first result."""
        self.image = ipywidgets.Image(format="png")
        self.image.layout = {"max_width": "100%", "margin": "4px 0 0 2px"}
        self.message = ipywidgets.HTML()
        bars = [ipywidgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        parts = [*bars, self.image, self.message]
        self.view = ipywidgets.VBox(parts, layout={"align_items": "flex-start"})
        self.show(result)

    def show(self, result: Any) -> None:
        """Keep a result and push its picture."""
        picture = self.draw(result)
        self.result, self.image.value = result, png(picture)

    def on(self, control: ipywidgets.Widget, callback: Callable[[Any], Any]) -> None:
        """Call back with the new value of a control (None for a button) and show what returns."""

        def guarded(change: Any) -> None:
            try:
                result = callback(change["new"] if isinstance(change, dict) else None)
                if result is not None:
                    self.show(result)
                self.failure, self.message.value = None, ""
            except Exception as error:  # a traceback of a callback would be lost in a log
                self.fail(error)

        if isinstance(control, ipywidgets.Button):
            control.on_click(guarded)
        else:
            control.observe(guarded, names="value")

    def fail(self, error: Exception) -> None:
        """Keep an error and show it as one line below the picture."""
        self.failure = error
        line = html.escape(" ".join(f"{type(error).__name__}: {error}".split()))
        self.message.value = f'<span style="color:var(--jp-error-color1, {ALERT})">{line}</span>'

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        live = self.view._repr_mimebundle_() or {}
        return {**live, "image/png": bytes(self.image.value), "text/plain": self.alt}


def button(label: str, width: int = 76) -> ipywidgets.Button:
    """A button of fixed width, so that rows align."""
    return ipywidgets.Button(description=label, layout={"width": f"{width}px"})


def signed(number: float) -> str:
    """Two decimals with a sign; the minus is as wide as the plus, and zero has none."""
    return "0.00" if abs(number) < 0.005 else f"{number:+.2f}".replace("-", "−")
