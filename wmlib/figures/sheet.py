"""A page of boxes, circles and arrows, on which the diagrams of the course are drawn.

Coordinates are in units from the lower left corner; one unit is a pixel of the page.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from wmlib.figures.base import AMBER, FAINT, INK, PAPER, SCALE, SLATE, SOFT, Picture

if TYPE_CHECKING:
    from matplotlib.path import Path as Curve

__all__ = ["Page", "Point", "default_look"]

LINE, MUTED = SOFT, FAINT  # words and lines that stay in the background
SLATE_TINT, AMBER_TINT = "#F1F5F9", "#FFFBF0"
AMBER_SOFT, AMBER_LINE = "#B98A2B", "#9A6A00"
Point = tuple[float, float]
REAL = (SLATE, SLATE, PAPER)  # face, edge and ink of a box
DREAMT = (AMBER, AMBER_LINE, INK)


class Page:
    """A blank page to draw on."""

    def __init__(self, width: int, height: int):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        size = (width / 100, height / 100)
        self.figure = Figure(figsize=size, dpi=100 * SCALE, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(self.figure)
        self.ax = self.figure.add_axes((0, 0, 1, 1))
        self.ax.set(xlim=(0, width), ylim=(0, height))
        self.ax.axis("off")

    def box(
        self,
        at: Point,
        size: Point,
        text: str = "",
        face: str = PAPER,
        edge: str = MUTED,
        ink: str = INK,
        radius: float = 6,
        points: float = 9.5,
        zorder: float = 3,
        dashed: bool = False,
        bold: bool = False,
    ) -> None:
        """A rounded rectangle of this size around `at`, with text in the middle."""
        from matplotlib.patches import FancyBboxPatch

        x, y = at
        width, height = size
        self.ax.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2),
                width,
                height,
                boxstyle=f"round,pad=0,rounding_size={radius}",
                facecolor=face,
                edgecolor=edge,
                linewidth=1.2,
                linestyle=(0, (4, 3)) if dashed else "solid",
                zorder=zorder,
            )
        )
        if text:
            self.text(at, text, ink, points, bold=bold)

    def text(
        self,
        at: Point,
        text: str,
        ink: str = INK,
        points: float = 9.5,
        ha: str = "center",
        va: str = "center_baseline",
        bold: bool = False,
    ) -> None:
        """Words or, between dollars, mathematics."""
        self.ax.text(
            at[0],
            at[1] + (1 if va == "center_baseline" else 0),
            text,
            color=ink,
            fontsize=points,
            ha=ha,
            va=va,
            zorder=6,
            fontweight="bold" if bold else "normal",
            linespacing=1.35,
            family="DejaVu Sans",
            math_fontfamily="stix",
        )

    def arrow(
        self,
        points: Sequence[Point],
        ink: str = LINE,
        dashed: bool = False,
        ends: str = "-|>",
        strong: bool = False,
    ) -> None:
        """A line through the points, corners rounded, with a head at its end."""
        from matplotlib.patches import FancyArrowPatch

        self.ax.add_patch(
            FancyArrowPatch(
                path=_rounded(points),
                arrowstyle=f"{ends},head_length=5,head_width=2.8" if ">" in ends else ends,
                mutation_scale=1,
                color=ink,
                linewidth=1.44,  # two pixels: crisp, also where lines lie on top of each other
                linestyle=(0, (3, 2.5)) if dashed else "solid",
                joinstyle="miter",
                capstyle="butt",
                shrinkA=0,
                shrinkB=0,
                zorder=2.1 if strong else 2,
            )
        )

    def dot(self, at: Point, ink: str) -> None:
        """A small disc where lines part."""
        self.ax.plot(*at, "o", color=ink, ms=4, mew=0, zorder=2.2)

    def image(self, at: Point, side: float, picture: Image.Image, edge: str) -> None:
        """A square picture around `at` in a frame."""
        x, y = at
        self.box(at, (side + 6, side + 6), face=edge, edge=edge, radius=3)
        self.ax.imshow(
            np.asarray(picture.convert("RGB")),
            extent=(x - side / 2, x + side / 2, y - side / 2, y + side / 2),
            interpolation="nearest",
            aspect="auto",
            zorder=4,
        )

    def picture(self, alt: str) -> Picture:
        """The page as it is now."""
        self.canvas.draw()
        return Picture(Image.fromarray(np.array(self.canvas.buffer_rgba())).convert("RGB"), alt)


def default_look() -> AbstractContextManager:
    """Matplotlib as it is out of the box: drawings must not depend on what a notebook has set."""
    import matplotlib.style

    return matplotlib.style.context("default")


def _rounded(points: Sequence[Point], radius: float = 7) -> "Curve":
    """A polyline whose corners are rounded."""
    from matplotlib.path import Path as Curve

    dots = [np.array(point, float) for point in points]
    vertices = [dots[0]]
    codes = [Curve.MOVETO]
    for before, corner, after in zip(dots, dots[1:], dots[2:], strict=False):
        entry, leave = before - corner, after - corner
        cut = min(radius, np.hypot(*entry) / 2, np.hypot(*leave) / 2)
        vertices += [
            corner + cut * entry / np.hypot(*entry),
            corner,
            corner + cut * leave / np.hypot(*leave),
        ]
        codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
    return Curve([*vertices, dots[-1]], [*codes, Curve.LINETO])
