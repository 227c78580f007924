"""What all widgets share: a pure `compute`, a picture, and a thin layer of controls.

A widget shows itself in three ways. A live front end gets the controls and the picture. Where
nothing is live (a stored notebook, a site) the same output is a PNG. Where no picture can be shown,
and wherever outputs are compared, it is one constant sentence.
"""

import html
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import ipywidgets
import numpy as np
from PIL import Image, ImageDraw

from wmlib.figures import INK, PAPER, SOFT, picture
from wmlib.figures.base import SCALE, bundle, font, png

__all__ = ["Canvas", "Widget"]

LINE = "#CBD5E1"  # rules
TINT = "#F8FAFC"  # ground of the numbers
ALERT = "#C2410C"
Point = tuple[float, float]
BUTTONS = ("◀ left", "stay", "right ▶")  # actions 0, 1, 2 of Curtain
# What every widget brings to the page. Once on screen, it keeps plain keys that are typed at it
# from the notebook, where they would add, move and delete cells. Controls get their keys first;
# Ctrl+S and the like pass. Pictures, whenever they appear, get the sentence of their widget as
# alternative text, for which ipywidgets has no trait. A widget that has lost its kernel says so.
ON_PAGE = """<style>
@keyframes wmlib-shown { from { opacity: 0 } }
.wmlib-widget.jupyter-widgets-disconnected::before {
  content: "Not connected to Python. Run this cell again to use the controls.";
  font: inherit; color: var(--jp-error-color1, #B91C1C);
}
.wmlib-widget .jupyter-widgets-disconnected::before { display: none }
.wmlib-page.wmlib-busy::after { display: none !important }
.wmlib-page.jupyter-widgets-disconnected::before {
  color: inherit;
  content: "Not connected to Python. The dream goes on in this page, and reports to nobody.";
}
.wmlib-busy > .widget-hbox { opacity: 0.5; pointer-events: none }
.wmlib-busy:not(.jupyter-widgets-disconnected)::after {
  content: "Busy: the controls work again when the running cell has finished.";
}
.wmlib-busy .wmlib-busy::after { display: none }
.wmlib-widget img { animation: wmlib-shown 1ms }
.wmlib-widget :focus-visible { outline: 2px solid var(--jp-ui-font-color1, #1E293B) }
</style>
<i style="animation: wmlib-shown 1ms" data-alt="ALT" onanimationstart="
  const root = this.closest('.wmlib-widget'), alt = this.dataset.alt;
  root.onkeydown = event => event.ctrlKey || event.metaKey || event.altKey ||
    event.stopPropagation();
  root.onanimationstart = () => root.querySelectorAll('img').forEach(image => {
    if (image.closest('.wmlib-widget') === root) image.alt = alt; });
  root.onanimationstart()"></i>"""


class Canvas:
    """Opaque paper with a thin border, the same in a light and a dark theme, to draw on.

    All places and sizes are in pixels of the page; `image` has `SCALE` pixels for each of them.
    """

    def __init__(self, width: int, height: int):
        self.image = Image.new("RGB", (SCALE * width, SCALE * height), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.box(0, 0, width, height, None, LINE)

    def box(
        self, x: float, y: float, width: float, height: float, fill: str | None, edge: str = ""
    ) -> None:
        """Rectangle of whole pixels, upper left corner at (x, y); an empty one is skipped."""
        left, top = scaled((x, y))
        right, low = scaled((x + width, y + height))
        if right > left and low > top:
            self.pen.rectangle((left, top, right - 1, low - 1), fill, edge or None, SCALE)

    def line(self, points: Sequence[Point], color: str, width: float = 1) -> None:
        """A line through the points."""
        self.pen.line([scaled(point) for point in points], color, round(SCALE * width), "curve")

    def disc(
        self, x: float, y: float, radius: float, fill: str, edge: str = "", width: int = 1
    ) -> None:
        """A disc around (x, y), with an edge if it has a colour."""
        ends = (*scaled((x - radius, y - radius)), *scaled((x + radius, y + radius)))
        self.pen.ellipse(ends, fill, edge or None, SCALE * width)

    def polygon(self, points: Sequence[Point], fill: str) -> None:
        """A filled polygon."""
        self.pen.polygon([scaled(point) for point in points], fill)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        color: str = INK,
        size: int = 13,
        bold: bool = False,
        anchor: str = "ls",
    ) -> None:
        """Words with their base line at y, from x on; anchors as in Pillow ("ms" is centred)."""
        self.pen.text(scaled((x, y)), words, color, font(SCALE * size, bold), anchor)

    def fact(self, x: float, y: float, label: str, number: str, color: str = INK) -> None:
        """A soft label with a large number below it."""
        self.text(x, y, label, SOFT)
        self.text(x, y + 24, number, color, 18, bold=True)

    def scale(self, x: float, floor: float, width: float, tall: float) -> None:
        """Rules at 0, 0.5 and 1 above `floor`, `tall` high at 1, with their numbers at the left."""
        for share in (0, 0.5, 1):
            y = floor - tall * share
            self.box(x, y, width, 1, LINE)
            self.text(x - 6, y + 4, f"{share:g}", SOFT, 11, anchor="rs")

    def paste(self, x: float, y: float, image: Image.Image) -> None:
        """A picture of `SCALE` pixels per pixel of the page, upper left corner at (x, y)."""
        self.image.paste(image, scaled((x, y)))

    def frame(
        self, x: float, y: float, frame: np.ndarray, side: int, edge: str, rim: int = 3
    ) -> None:
        """An image observation, enlarged without blur to `side` pixels, inside a coloured rim."""
        self.box(x - rim, y - rim, side + 2 * rim, side + 2 * rim, edge)
        self.paste(x, y, picture(frame, SCALE * side))


def scaled(point: Point) -> tuple[int, int]:
    """A point of the page -> the nearest pixel of the picture."""
    return round(SCALE * point[0]), round(SCALE * point[1])


class Widget:
    """Base of all widgets: keeps `.result`, redraws the picture, turns errors into one line.

    A subclass brings four things:

    - `compute`, a pure function from plain values to a result, which is a frozen dataclass;
    - `draw`, a pure function from a result to its picture;
    - `alt`, the sentence that stands in for the picture;
    - `evaluate()`, the result of the current controls.

    Its constructor builds the controls and ends with `assemble`. A control of which nothing but its
    value counts is named in `refreshed_by`; what else happens is bound with `on`. Where an agent is
    on screen that goes on learning, `refresh()` looks at it afresh, too.
    """

    compute: ClassVar[Callable[..., Any]]
    draw: ClassVar[Callable[..., Image.Image]]
    alt: ClassVar[str]  # constant: it is compared when notebooks are tested
    result: Any
    failure: Exception | None = None  # what the last callback raised; `raise w.failure` shows all
    busy = False  # Python is at work elsewhere: what is clicked now would come too late
    displayed = False  # whether some cell shows it

    def evaluate(self) -> Any:
        """The result of the current controls."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Show the result of the current controls."""
        self.show(self.evaluate())

    def assemble(
        self,
        rows: Sequence[Sequence[ipywidgets.Widget]],
        result: Any,
        refreshed_by: Sequence[ipywidgets.Widget] = (),
    ) -> None:
        """Stack rows of controls, the picture, and the line for errors; show the first result.

        Whenever a control in `refreshed_by` changes, the widget is evaluated and shown again.
        """
        self.image = ipywidgets.Image(format="png")
        self.image.layout = {"max_width": "100%", "margin": "4px 0 0 2px"}
        self.message = ipywidgets.HTML()
        bars = [ipywidgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        self.view = framed([*bars, self.image, self.message], self.alt)
        self.show(result)
        for control in refreshed_by:
            self.on(control, lambda _: self.evaluate())

    def show(self, result: Any) -> None:
        """Keep a result and push its picture."""
        picture = self.draw(result)
        self.result = result
        self.image.value = png(picture)
        self.image.width = str(picture.width // SCALE)

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
            self.failure = None
            self.message.value = ""
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
        if busy:
            self.view.add_class("wmlib-busy")
        else:
            self.view.remove_class("wmlib-busy")

    def move(self) -> None:
        """Leave the picture where the widget was shown, and take the controls elsewhere.

        A play button that is on screen twice would stop itself.
        """
        left = self.view
        self.view = framed(left.children[:-1], self.alt)
        note = ipywidgets.HTML("The controls are where this widget was shown last.")
        left.children = (self.image, note, left.children[-1])
        left.remove_class("wmlib-busy")
        self.hold(self.busy)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.displayed:
            self.move()
        self.displayed = True
        live = self.view._repr_mimebundle_() or {}
        still, metadata = bundle(bytes(self.image.value), int(self.image.width), self.alt)
        return {**live, **still}, metadata


def framed(parts: Sequence[ipywidgets.Widget], alt: str = "") -> ipywidgets.VBox:
    """Stack the parts of a widget and what it brings to the page; `alt` describes its picture."""
    page = ipywidgets.HTML(
        ON_PAGE.replace("ALT", html.escape(alt)), layout={"height": "0", "margin": "0"}
    )
    view = ipywidgets.VBox([*parts, page], layout={"align_items": "flex-start"})
    return view.add_class("wmlib-widget")


def button(label: str, width: int = 76) -> ipywidgets.Button:
    """A button of fixed width, so that rows align."""
    return ipywidgets.Button(description=label, layout={"width": f"{width}px"})


def signed(number: float) -> str:
    """Two decimals with a sign; the minus is as wide as the plus, and zero has none."""
    return "0.00" if abs(number) < 0.005 else f"{number:+.2f}".replace("-", "−")
