"""Where a world model is surprised, frame by frame, while it learns.

The surprise is KL[q || p] in nats; the black ticks are what the world really tosses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
from PIL import Image

from wmlib.envs import oracle
from wmlib.envs.curtain import Scene, draw_frames, make_rules
from wmlib.errors import BadInput
from wmlib.figures import INK, SLATE, SOFT
from wmlib.widgets.base import ALERT, LINE, TINT, Canvas, Widget

__all__ = ["KLSeismograph", "SeismographResult"]

ROWS = 8  # frames of an episode
TOP = 6.0  # nats at the upper end of the scale
Recording = Sequence[tuple[int, Sequence[float]]]  # (updates, KL of every frame) at each snapshot


@dataclass(frozen=True)
class SeismographResult:
    """Everything the widget shows; arrays (8,) hold one number per frame."""

    p: float
    free: float  # nats
    updates: int
    kl: np.ndarray  # nats
    truth: np.ndarray  # exact entropy of the frame, given what was seen before
    coin: float  # KL above the truth at the frame that shows the coin
    elsewhere: float  # KL above the truth, summed over all other frames


def compute(p: float, free: float, updates: int, kl: Any) -> SeismographResult:
    """Compare the KL of every frame with the entropy of a world whose coin is p.

    Raises:
        BadInput: not one number per frame, or not finite.
    """
    kl = np.asarray(kl, float)
    if kl.shape != (ROWS,) or not np.isfinite(kl).all():
        raise BadInput(f"The KL must be {ROWS} finite numbers, one per frame, not {kl.shape}.")
    rules = make_rules(p=p)
    truth = oracle.entropy_per_step(rules)
    above = kl - truth
    coin = float(above[rules.reveal])
    return SeismographResult(
        p=p,
        free=free,
        updates=updates,
        kl=kl,
        truth=truth,
        coin=coin,
        elsewhere=float(above.sum() - coin),
    )


def film(p: float = 0.5) -> np.ndarray:
    """The eight frames of one episode. -> (8, 16, 16, 1)."""
    rules = make_rules(p=p)
    frames = []
    for t in range(ROWS):
        paddle = np.array([(5, 5, 4, 4, 3, 2, 2, 2)[t]])
        state = Scene(np.array([t]), np.array([4]), np.array([-2]), paddle)
        frames.append(draw_frames(rules, state)[0])
    return np.stack(frames)


def draw(result: SeismographResult) -> Image.Image:
    """Film strip over bars, the numbers beside them."""
    canvas = Canvas(760, 356)
    left, floor, tall = 56, 316, 190
    pitch = 58
    for nats in range(0, int(TOP) + 1, 2):
        y = floor - tall * nats / TOP
        canvas.box(left, y, 8 * pitch, 1, LINE)
        canvas.text(left - 10, y + 4, str(nats), SOFT, 12, anchor="rs")
    canvas.text(14, 100, "nats", SOFT, 12)
    for t, frame in enumerate(film()):
        middle = left + (t + 0.5) * pitch
        canvas.frame(round(middle) - 24, 30, frame, 48, SLATE, 2)
        height = tall * min(result.kl[t], TOP) / TOP
        canvas.box(middle - 17, floor - height, 34, height, SLATE)
        if result.kl[t] > TOP:
            canvas.text(middle, floor - tall - 4, f"{result.kl[t]:.1f}", ALERT, 12, anchor="ms")
        y = floor - tall * result.truth[t] / TOP
        canvas.box(middle - 24, y - 2, 48, 4, INK)
        canvas.text(middle, floor + 18, f"t = {t}", SOFT, 12, anchor="ms")
    canvas.text(left, floor + 34, "bars: KL of the model. black: entropy of the world", SOFT, 12)
    canvas.box(540, 1, 219, 354, TINT)
    canvas.text(562, 32, f"after {result.updates} updates", bold=True)
    canvas.text(562, 54, f"coin p = {result.p:g}, free nats {result.free:g}", SOFT)
    canvas.fact(562, 92, "KL at t = 4", f"{result.kl[4]:.2f} nats")
    canvas.fact(562, 146, "entropy of the coin", f"{result.truth[4]:.2f} nats")
    canvas.fact(562, 200, "above the truth, t = 4", f"{result.coin:.2f} nats".replace("-", "−"))
    elsewhere = f"{result.elsewhere:.2f} nats".replace("-", "−")
    canvas.fact(562, 254, "above it, other frames", elsewhere)
    low = result.kl[0] < 0.5 * result.truth[0]
    words = "it does not look yet" if low else "it writes down what it sees"
    canvas.text(562, 322, words, SOFT, 12)
    return canvas.image


class KLSeismograph(Widget):
    """KL of every frame over training, for every coin and every setting of the free nats.

    recordings: {(p, free nats): [(updates, KL (8,)), ...]}, snapshots in the order of training.
    """

    alt = (
        "KL seismograph: eight frames of an episode over bars of the model's surprise at each, "
        "with black ticks where the true entropy is."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(self, recordings: dict[tuple[float, float], Recording]) -> None:
        if not recordings or not all(len(shots) for shots in recordings.values()):
            raise BadInput("The seismograph needs at least one recording with a snapshot.")
        self.recordings = recordings
        style = {"style": {"description_width": "72px"}, "layout": {"width": "300px"}}
        first = next(iter(recordings))
        choices = [sorted({key[k] for key in recordings}) for k in (0, 1)]
        self.p, self.free = (
            ipywidgets.ToggleButtons(
                options=[(f"{value:g}", value) for value in values],
                value=first[k],
                style={"button_width": "56px"},
                layout={"margin": "2px 24px 2px 0"},
            )
            for k, values in enumerate(choices)
        )
        named = [ipywidgets.Label("coin p"), self.p, ipywidgets.Label("free nats"), self.free]
        last = max(len(shots) for shots in recordings.values()) - 1
        self.snapshot = ipywidgets.IntSlider(last, min=0, max=last, description="snapshot", **style)
        controls = (self.p, self.free, self.snapshot)
        self.assemble([named, [self.snapshot]], self.evaluate(), refreshed_by=controls)

    def evaluate(self) -> SeismographResult:
        """The result of the current controls."""
        key: Any = (self.p.value, self.free.value)
        if key not in self.recordings:
            raise BadInput(f"There is no recording of p = {key[0]:g} with {key[1]:g} free nats.")
        shots = self.recordings[key]
        updates, kl = shots[min(self.snapshot.value, len(shots) - 1)]
        p, free = key
        return compute(p, free, int(updates), kl)
