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
# What every widget brings to the page. Once on screen, it keeps plain keys that are typed at it
# from the notebook, where they would add, move and delete cells. Controls get their keys first;
# Ctrl+S and the like pass. A widget that has lost its kernel says so, once.
ON_PAGE = """<style>
@keyframes wmlib-shown { from { opacity: 0 } }
.wmlib-widget.jupyter-widgets-disconnected::before {
  content: "Not connected to Python. Run this cell again to use the controls.";
  font: inherit; color: var(--jp-error-color1, #B91C1C);
}
.wmlib-widget .jupyter-widgets-disconnected::before { display: none }
.wmlib-busy > .widget-hbox { opacity: 0.5; pointer-events: none }
.wmlib-busy:not(.jupyter-widgets-disconnected)::after {
  content: "Busy: the controls work again when the running cell has finished.";
}
.wmlib-busy .wmlib-busy::after { display: none }
</style>
<i style="animation: wmlib-shown 1ms" onanimationstart="this.closest('.wmlib-widget').onkeydown =
  event => event.ctrlKey || event.metaKey || event.altKey || event.stopPropagation()"></i>"""


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
    busy = False  # Python is at work elsewhere: what is clicked now would come too late
    displayed = False  # whether some cell shows it

    def draw(self, result: Any) -> Image.Image:
        """Paint a result."""
        raise NotImplementedError

    def assemble(self, rows: list[list[ipywidgets.Widget]], result: Any) -> None:
        """Stack rows of controls, the picture, and the line for errors; show the first result."""
        self.image = ipywidgets.Image(format="png")
        self.image.layout = {"max_width": "100%", "margin": "4px 0 0 2px"}
        self.message = ipywidgets.HTML()
        bars = [ipywidgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        self.players = [c for row in rows for c in row if isinstance(c, ipywidgets.Play)]
        self.view = framed([*bars, self.image, self.message])
        self.show(result)

    def show(self, result: Any) -> None:
        """Keep a result and push its picture."""
        picture = self.draw(result)
        self.result, self.image.value = result, png(picture)

    def on(self, control: ipywidgets.Widget, callback: Callable[[Any], Any]) -> None:
        """Call back with the new value of a control (None for a button) and show what returns."""

        def guarded(change: Any) -> None:
            if not self.busy:
                self.attempt(lambda: callback(change["new"] if isinstance(change, dict) else None))

        if isinstance(control, ipywidgets.Button):
            control.on_click(guarded)
        else:
            control.observe(guarded, names="value")

    def attempt(self, job: Callable[[], Any]) -> None:
        """Show what a job returns, or its error: a traceback of a callback would be lost."""
        try:
            result = job()
            if result is not None:
                self.show(result)
            self.failure, self.message.value = None, ""
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Keep an error and show it as one line below the picture."""
        self.failure = error
        line = html.escape(" ".join(f"{type(error).__name__}: {error}".split()))
        self.message.value = f'<span style="color:var(--jp-error-color1, {ALERT})">{line}</span>'

    def hold(self, busy: bool) -> None:
        """Drop what is clicked while Python is busy with a longer job, and say so."""
        self.busy = busy
        (self.view.add_class if busy else self.view.remove_class)("wmlib-busy")
        for player in self.players if busy else ():
            player.playing = False

    def move(self) -> None:
        """Leave the picture where the widget was shown, and take the controls elsewhere.

        A play button that is on screen twice would stop itself.
        """
        left, self.view = self.view, framed(self.view.children[:-1])
        note = ipywidgets.HTML("The controls are where this widget was shown last.")
        left.children = (self.image, note, left.children[-1])
        left.remove_class("wmlib-busy")
        self.hold(self.busy)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if self.displayed:
            self.move()
        self.displayed = True
        live = self.view._repr_mimebundle_() or {}
        return {**live, "image/png": bytes(self.image.value), "text/plain": self.alt}


def framed(parts: list[ipywidgets.Widget]) -> ipywidgets.VBox:
    """Stack the parts of a widget and what it brings to the page."""
    page = ipywidgets.HTML(ON_PAGE, layout={"height": "0", "margin": "0"})
    view = ipywidgets.VBox([*parts, page], layout={"align_items": "flex-start"})
    return view.add_class("wmlib-widget")


def button(label: str, width: int = 76) -> ipywidgets.Button:
    """A button of fixed width, so that rows align."""
    return ipywidgets.Button(description=label, layout={"width": f"{width}px"})


def signed(number: float) -> str:
    """Two decimals with a sign; the minus is as wide as the plus, and zero has none."""
    return "0.00" if abs(number) < 0.005 else f"{number:+.2f}".replace("-", "−")
