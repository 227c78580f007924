"""Two rulers: the bins that a return is written on, and the rewards that a return is made of."""

from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from PIL import Image

from wmlib.distributions import symexp, symexp_bins, symlog, twohot, twohot_mean
from wmlib.errors import BadInput
from wmlib.figures import AMBER, FAINT, INK, SLATE, SOFT
from wmlib.figures.base import BLUE
from wmlib.widgets.base import TINT, Canvas, Widget

__all__ = ["CreditResult", "CreditRuler", "Ruler", "RulerResult"]

RETURNS = (-1000, -300, -100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300, 1000)
BINS = (15, 31, 63, 127, 255)


# ---------------------------------------------------------------- two-hot


@dataclass(frozen=True)
class RulerResult:
    """Everything the two-hot ruler shows; N bins."""

    first: float
    second: float
    share: float  # of the second return
    bins: np.ndarray  # (N,) their values
    weights: np.ndarray  # (N,) the best prediction: the mixture of both two-hot targets
    mean: float  # of the predicted bins
    truth: float  # (1 - share) * first + share * second
    squashed: float  # symexp of the mean of symlogs: what a squared error on symlog settles at
    mode: float  # value of the heaviest bin


def compute(first: float, second: float, share: float, count: int) -> RulerResult:
    """The prediction that fits a coin between two returns best, on `count` bins.

    Raises:
        BadInput: a share outside 0 to 1, or a number of bins that is not odd and at least 3.
    """
    if not 0 <= share <= 1:
        raise BadInput(f"The share must be from 0 to 1, not {share}.")
    if count < 3 or count % 2 == 0:
        raise BadInput(f"The number of bins must be odd and at least 3, not {count}.")
    bins = symexp_bins(count)
    weights = torch.zeros(count)
    for value, part in ((first, 1 - share), (second, share)):
        lower, right = twohot(torch.tensor(float(value)), bins)
        weights[lower] += part * (1 - right)
        weights[lower + 1] += part * right
    logs = symlog(torch.tensor([float(first), float(second)]))
    return RulerResult(
        first=first,
        second=second,
        share=share,
        bins=bins.numpy(),
        weights=weights.numpy(),
        mean=float(twohot_mean(weights.clamp(min=1e-30).log(), bins)),
        truth=(1 - share) * first + share * second,
        squashed=float(symexp((1 - share) * logs[0] + share * logs[1])),
        mode=float(bins[weights.argmax()]),
    )


def place(value: float, left: int, width: int) -> float:
    """Where a return lies on the drawn axis, even in symlog from -1000 to 1000."""
    end = float(symlog(torch.tensor(1100.0)))
    return left + width * (float(symlog(torch.tensor(float(value)))) / end + 1) / 2


def draw(result: RulerResult) -> Image.Image:
    """Bins as ticks, weights as bars, three opinions about the return below them."""
    canvas = Canvas(720, 300)
    left, width, floor = 48, 412, 176
    canvas.text(24, 28, "weight on each bin", bold=True)
    canvas.scale(left, floor, width, 120)
    canvas.box(left, floor, width, 1, INK)
    for value, weight in zip(result.bins, result.weights, strict=True):
        x = place(value, left, width)
        if not left <= x <= left + width:
            continue
        canvas.box(x, floor, 1, 6, FAINT)
        canvas.box(x - 2, floor - 120 * weight, 5, 120 * weight, SLATE)
    for value in (-1000, -100, -10, -1, 1, 10, 100, 1000):
        x = place(value, left, width)
        canvas.text(x, floor + 22, f"{value:,}".replace("-", "−"), SOFT, 11, anchor="ms")
    marks = (
        ("mean of the bins", result.mean, SLATE),
        ("true mean", result.truth, INK),
        ("symexp of the mean symlog", result.squashed, BLUE),
    )
    for k, (label, value, color) in enumerate(marks):
        y = floor + 46 + 24 * k
        x = place(max(-1000, min(1000, value)), left, width)
        canvas.polygon([(x - 5, y + 8), (x + 5, y + 8), (x, y - 2)], color)
        side, at = ("rs", x - 12) if x > left + width / 2 else ("ls", x + 12)
        canvas.text(at, y + 8, label, color, 12, anchor=side)
    canvas.box(478, 1, 241, 298, TINT)
    facts = (
        ("mean of the bins", f"{result.mean:,.1f}", SLATE),
        ("true mean return", f"{result.truth:,.1f}", INK),
        ("symexp of the mean symlog", f"{result.squashed:,.1f}", BLUE),
        ("heaviest bin (the mode)", f"{result.mode:,.1f}", INK),
    )
    for k, (label, value, color) in enumerate(facts):
        canvas.fact(500, 36 + 66 * k, label, value.replace("-", "−"), color)
    return canvas.image


class Ruler(Widget):
    """Two returns and a coin between them, written on the bins of a two-hot head."""

    alt = (
        "Ruler: weights on bins for a coin between two returns, with the mean of the bins, the "
        "true mean and the mean taken through symlog."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self, first: float = 0, second: float = 1000, share: float = 0.5, bins: int = 255
    ) -> None:
        style = {"style": {"description_width": "90px"}, "layout": {"width": "320px"}}
        self.first, self.second, self.bins = (
            ipywidgets.SelectionSlider(options=options, value=value, description=name, **style)
            for options, value, name in (
                (RETURNS, first, "one return"),
                (RETURNS, second, "the other"),
                (BINS, bins, "bins"),
            )
        )
        self.share = ipywidgets.FloatSlider(
            share, min=0, max=1, step=0.05, description="its share", **style
        )
        rows = [[self.first, self.second], [self.share, self.bins]]
        self.assemble(rows, self.evaluate(), refreshed_by=[*rows[0], *rows[1]])

    def evaluate(self) -> RulerResult:
        """The result of the current controls."""
        return compute(self.first.value, self.second.value, self.share.value, self.bins.value)


# ---------------------------------------------------------------- lambda-returns


@dataclass(frozen=True)
class CreditResult:
    """Everything the credit ruler shows: R_0 = sum of reward[k] r_{k+1} + value[k] v_{k+1}."""

    lam: float
    gamma: float
    horizon: int
    reward: np.ndarray  # (H,) weight of the reward that arrives at step k + 1
    value: np.ndarray  # (H,) weight of the critic's value of that state
    bootstrap: float  # share of the critic in all weights on what lies beyond the first reward
    reach: float  # mean distance, in steps, of what the return is made of


def credit(lam: float, gamma: float, horizon: int) -> CreditResult:
    """Weights of rewards and values in the lambda-return at step 0.

    Raises:
        BadInput: lambda or gamma outside 0 to 1, or no step.
    """
    if not (0 <= lam <= 1 and 0 < gamma <= 1 and horizon >= 1):
        raise BadInput("Lambda must be 0 to 1, gamma above 0 and at most 1, the horizon 1 or more.")
    steps = np.arange(horizon)
    reward = (gamma * lam) ** steps
    value = gamma * (1 - lam) * reward
    value[-1] = gamma * reward[-1]  # at the end nothing but the critic is left
    weights = reward + value
    return CreditResult(
        lam=lam,
        gamma=gamma,
        horizon=horizon,
        reward=reward,
        value=value,
        bootstrap=float(value.sum() / (reward[1:].sum() + value.sum())),
        reach=float((weights * (steps + 1)).sum() / weights.sum()),
    )


def draw_credit(result: CreditResult) -> Image.Image:
    """Weights of rewards above weights of values, step by step."""
    canvas = Canvas(720, 300)
    left, width = 48, 404
    pitch = width / result.horizon
    rows = (
        ("weight of each reward", result.reward, AMBER, 126),
        ("weight of each value", result.value, SLATE, 252),
    )
    for label, weights, color, floor in rows:
        canvas.text(24, floor - 94, label, bold=True)
        canvas.scale(left, floor, width, 84)
        for k, weight in enumerate(weights):
            canvas.box(
                left + (k + 0.15) * pitch, floor - 84 * weight, 0.7 * pitch, 84 * weight, color
            )
    for k in range(result.horizon):
        if result.horizon <= 16 or k % 5 == 4:
            canvas.text(left + (k + 0.5) * pitch, 274, str(k + 1), SOFT, 12, anchor="ms")
    canvas.text(24, 292, "steps ahead", SOFT, 12)
    canvas.box(478, 1, 241, 298, TINT)
    facts = (
        ("share of the critic", f"{100 * result.bootstrap:.0f} %"),
        ("mean look ahead", f"{result.reach:.1f} steps"),
        ("weight of the last reward", f"{result.reward[-1]:.2f}"),
    )
    for k, (label, value) in enumerate(facts):
        canvas.fact(500, 40 + 74 * k, label, value)
    return canvas.image


class CreditRuler(Widget):
    """What a lambda-return is made of: rewards near and far, and the critic's opinion."""

    alt = "Credit ruler: the weights of rewards and of critic values in one lambda-return."
    compute = staticmethod(credit)
    draw = staticmethod(draw_credit)

    def __init__(self, lam: float = 0.95, gamma: float = 0.997, horizon: int = 15) -> None:
        style = {"style": {"description_width": "60px"}, "layout": {"width": "300px"}}
        self.lam = ipywidgets.FloatSlider(lam, min=0, max=1, step=0.05, description="λ", **style)
        self.gamma = ipywidgets.FloatSlider(
            gamma, min=0.8, max=1, step=0.001, description="γ", readout_format=".3f", **style
        )
        self.horizon = ipywidgets.IntSlider(horizon, min=1, max=30, description="H", **style)
        rows = [[self.lam, self.horizon], [self.gamma]]
        self.assemble(rows, self.evaluate(), refreshed_by=[*rows[0], *rows[1]])

    def evaluate(self) -> CreditResult:
        """The result of the current controls."""
        return credit(self.lam.value, self.gamma.value, self.horizon.value)
