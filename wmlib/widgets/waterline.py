"""Free bits as a water line: which frames still pull on prior and posterior, and which drown."""

from dataclasses import dataclass

import ipywidgets
import numpy as np
from PIL import Image

from wmlib.errors import BadInput
from wmlib.figures import FAINT, INK, SLATE, SOFT
from wmlib.figures.base import BLUE
from wmlib.widgets.base import LINE, TINT, Canvas, Widget

__all__ = ["Waterline", "WaterResult"]


@dataclass(frozen=True)
class WaterResult:
    """Everything the widget shows. Arrays (T,) hold one number per frame of the episode."""

    beta_dyn: float
    beta_rep: float
    free: float  # nats
    kl: np.ndarray  # (T,) mean KL, unclipped
    entropy: np.ndarray  # (T,) exact, of the world
    awake: np.ndarray  # (T,) share of episodes whose KL is above the line: only they give gradient
    dyn: np.ndarray  # (T,) mean of max(free, KL): what a log shows as the dyn (and rep) loss
    loss: float  # beta_dyn * dyn + beta_rep * rep, mean over frames
    floor: float  # the least that `loss` can be with these settings
    top: float  # nats at the upper end of the scale


def compute(
    kl: np.ndarray, entropy: np.ndarray, beta_dyn: float, beta_rep: float, free: float
) -> WaterResult:
    """Clip the KL of N episodes, frame by frame, as `wmlib.losses.kl_balance` does.

    kl (N, T) in nats, entropy (T,) in nats.

    Raises:
        BadInput: shapes that do not fit, or a negative weight or number of nats.
    """
    kl, entropy = np.asarray(kl, float), np.asarray(entropy, float)
    if kl.ndim != 2 or entropy.shape != kl.shape[1:]:
        raise BadInput(f"KL must be (N, T) and the entropy (T,), not {kl.shape}, {entropy.shape}.")
    if min(beta_dyn, beta_rep, free) < 0:
        raise BadInput("The weights and the free nats must not be negative.")
    dyn = np.maximum(kl, free).mean(0)
    weight = beta_dyn + beta_rep
    mean = kl.mean(0)
    return WaterResult(
        beta_dyn=beta_dyn,
        beta_rep=beta_rep,
        free=free,
        kl=mean,
        entropy=entropy,
        awake=(kl > free).mean(0),
        dyn=dyn,
        loss=float(weight * dyn.mean()),
        floor=float(weight * free),
        top=max(1.0, float(mean.max()), free),
    )


def draw(result: WaterResult) -> Image.Image:
    """Bars of KL with the water line, the numbers beside them."""
    canvas = Canvas(720, 340)
    left, floor, tall = 52, 236, 190
    pitch = 48
    scale = tall / result.top
    canvas.text(left - 30, 26, "KL per frame, nats", bold=True)
    for step in range(int(result.top) + 1):
        canvas.box(left, floor - step * scale, 8 * pitch, 1, LINE)
        canvas.text(left - 8, floor - step * scale + 4, str(step), SOFT, 12, anchor="rs")
    frames = zip(result.kl, result.entropy, result.awake, strict=True)
    for t, (height, exact, share) in enumerate(frames):
        x = left + t * pitch + 10
        wet = min(height, result.free)
        canvas.box(x, floor - height * scale, 28, (height - wet) * scale, SLATE)
        canvas.box(x, floor - wet * scale, 28, wet * scale, FAINT)
        canvas.box(x - 5, floor - exact * scale - 1, 38, 3, INK)
        canvas.text(x + 14, floor + 18, str(t), SOFT, anchor="ms")
        canvas.text(x + 14, floor + 42, f"{100 * share:.0f} %", size=12, anchor="ms")
    if result.free:
        canvas.box(left, floor - result.free * scale - 1, 8 * pitch, 2, BLUE)
    canvas.text(left, floor + 64, "% of episodes in which this frame still pulls", SOFT, 12)
    canvas.text(left, floor + 86, "black: exact entropy.  grey: under water.", SOFT, 12)
    canvas.box(468, 1, 251, 338, TINT)
    coin = f"{100 * result.awake[4]:.0f} %" if len(result.awake) > 4 else "none"
    facts = (
        ("dyn loss in the log, per frame", f"{result.dyn.mean():.2f} nats"),
        ("KL itself, per frame", f"{result.kl.mean():.2f} nats"),
        ("weighted sum of dyn and rep", f"{result.loss:.2f}"),
        ("which can never go below", f"{result.floor:.2f}"),
        ("pull at the coin, frame 4", coin),
    )
    for k, (label, value) in enumerate(facts):
        canvas.fact(492, 36 + 62 * k, label, value)
    return canvas.image


class Waterline(Widget):
    """The KL of a trained model, frame by frame, above and below the free bits.

    kl (N, T): KL of N episodes in nats; entropy (T,): the exact one. The other arguments set the
    sliders.
    """

    alt = (
        "Waterline: bars of KL per frame with the exact entropy, and the free bits as a line under "
        "which nothing pulls."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self,
        kl: np.ndarray,
        entropy: np.ndarray,
        beta_dyn: float = 1.0,
        beta_rep: float = 0.1,
        free: float = 1.0,
    ) -> None:
        self.kl = kl
        self.entropy = entropy
        style = {"style": {"description_width": "70px"}, "layout": {"width": "300px"}}
        self.beta_dyn, self.beta_rep, self.free = (
            ipywidgets.FloatSlider(value, min=0, max=top, step=0.1, description=name, **style)
            for value, top, name in (
                (beta_dyn, 2, "β dyn"),
                (beta_rep, 2, "β rep"),
                (free, 3, "free nats"),
            )
        )
        controls = (self.free, self.beta_dyn, self.beta_rep)
        rows = [[self.free], [self.beta_dyn, self.beta_rep]]
        self.assemble(rows, self.evaluate(), refreshed_by=controls)

    def evaluate(self) -> WaterResult:
        """The result of the current controls."""
        return compute(
            self.kl, self.entropy, self.beta_dyn.value, self.beta_rep.value, self.free.value
        )
