"""The colour contract, the look of plots, and pictures that say what they show."""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageFont

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["AMBER", "INK", "PAPER", "Picture", "SLATE", "font", "plotted", "style"]

SLATE, AMBER, INK, PAPER = "#475569", "#E69F00", "#1E293B", "#FFFFFF"
CYCLE = [SLATE, AMBER, "#0072B2", "#009E73", "#CC79A7", "#56B4E9"]  # after Okabe and Ito


@dataclass
class Picture:
    """An image with the sentence that stands in for it where it cannot be seen."""

    image: Image.Image
    alt: str

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        stream = io.BytesIO()
        self.image.save(stream, "PNG")
        return {"image/png": stream.getvalue(), "text/plain": self.alt}


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of all pictures, in pixels."""
    from matplotlib import get_data_path

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", name)), size)


def plotted(figure: "Figure", alt: str) -> Picture:
    """A finished matplotlib figure as a picture with its sentence; the figure is closed.

    The last line of a cell, in the place of `plt.show()`.
    """
    from matplotlib import pyplot as plt

    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    plt.close(figure)
    return Picture(Image.open(stream).convert("RGB"), alt)


def style() -> None:
    """Set matplotlib's defaults for the whole notebook: sizes, grid, colours, mathematics."""
    import matplotlib
    from cycler import cycler

    matplotlib.rcParams.update(
        {
            "figure.figsize": (8, 4),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "mathtext.fontset": "cm",
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=CYCLE),
            "grid.color": "#E2E8F0",
            "grid.linewidth": 0.8,
            "lines.linewidth": 2,
            "legend.frameon": False,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )
