"""The colour contract, the look of plots, and pictures that say what they show."""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFont

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "AMBER",
    "BLUE",
    "FAINT",
    "GREEN",
    "GRID",
    "INK",
    "PAPER",
    "Picture",
    "SCALE",
    "SLATE",
    "SOFT",
    "bundle",
    "font",
    "plotted",
    "png",
    "style",
]

SLATE, AMBER, INK, PAPER = "#475569", "#C28300", "#1E293B", "#FFFFFF"
SOFT, FAINT = "#566479", "#7F8DA3"  # words and marks in the background; FAINT is for marks only
BLUE, GREEN, GRID = "#0072B2", "#009E73", "#E2E8F0"
CYCLE = [SLATE, AMBER, BLUE, GREEN, "#CC79A7", "#3B94C9"]  # after Okabe and Ito, darker
SHIFTS = np.array([1, 1 << 8, 1 << 16])  # (red, green, blue) -> one number
SCALE = 2  # pixels of a picture per pixel of the page, so that it is sharp on every screen


def png(image: Image.Image) -> bytes:
    """Picture -> PNG file with a palette: small, quick to write, frequent colours kept exactly."""
    image = image.convert("RGB")
    few = image.quantize(192, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    counts = image.getcolors(8192)
    if counts:  # else it is a photograph, and no colour is special
        colors = np.array([color for _, color in sorted(counts, reverse=True)], np.int16)
        rest = np.array(few.getpalette(), np.int16).reshape(-1, 3)
        palette = np.concatenate([colors[:64], rest])
        apart = np.sum([abs(colors[:, None, k] - palette[:, k]) for k in range(3)], axis=0)
        index = np.zeros(1 << 24, np.uint8)  # colour -> its nearest neighbour in the palette
        index[colors @ SHIFTS] = apart.argmin(1)
        pixels = np.asarray(image.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF
        few = Image.fromarray(index[pixels])
        few.putpalette(palette.astype(np.uint8).tobytes())
    stream = io.BytesIO()
    few.save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def bundle(file: bytes, width: int, alt: str) -> tuple[dict[str, object], dict[str, object]]:
    """What IPython shows of a PNG file: the picture, its sentence, and the width on the page."""
    return {"image/png": file, "text/plain": alt}, {"image/png": {"width": width, "alt": alt}}


@dataclass
class Picture:
    """An image with the sentence that stands in for it where it cannot be seen.

    The image has `SCALE` pixels for each pixel of the page, in both directions.
    """

    image: Image.Image
    alt: str

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, object], dict[str, object]]:
        return bundle(png(self.image), round(self.image.width / SCALE), self.alt)


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
    figure.savefig(stream, format="png", dpi=SCALE * figure.dpi)
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
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "lines.linewidth": 2,
            "legend.frameon": False,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )
