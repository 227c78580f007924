"""Prior and posterior of one latent pull at each other: who moves, and how far?

The picture is put together from parts, each a function of the canvas, the result and a place, so
that another notebook can show them beside something else.
"""

from dataclasses import dataclass

import ipywidgets
import numpy as np
from PIL import Image

from wmlib.errors import BadInput
from wmlib.figures import AMBER, INK, SLATE, SOFT
from wmlib.widgets.base import TINT, Canvas, Widget

__all__ = ["TugOfWar", "TugResult"]

MIX = 0.01  # unimix
LR = 0.5  # of the plain gradient steps on the logits
POSTERIOR = (3.0, 1.0, 0.0, -1.0, -1.0, -2.0)  # logits before the first step
PRIOR = (-2.0, -1.0, 0.0, 1.0, 2.5, 0.0)


@dataclass(frozen=True)
class TugResult:
    """Everything the widget shows. Arrays (K,) hold one number per class."""

    beta_dyn: float
    beta_rep: float
    free: float  # nats
    steps: int  # gradient steps taken
    posterior_start: np.ndarray  # (K,) before the first step
    prior_start: np.ndarray
    posterior: np.ndarray  # (K,) after the steps
    prior: np.ndarray
    posterior_pull: np.ndarray  # (K,) minus the loss gradient on the logits, after the steps
    prior_pull: np.ndarray
    kl: np.ndarray  # (steps + 1,) KL[posterior || prior] in nats
    clipped: bool  # the KL is below the free nats: nobody pulls
    posterior_moved: float  # total variation from the start, 0 to 1
    prior_moved: float


def unimix(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of one latent with and without the uniform part. (K,) -> (K,), (K,)."""
    odds = np.exp(logits - logits.max())
    plain = odds / odds.sum()
    return (1 - MIX) * plain + MIX / len(logits), plain


def pulls(
    q_logits: np.ndarray, p_logits: np.ndarray, beta_dyn: float, beta_rep: float, free: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """KL[q || p] and minus its gradients on both logits, as `wmlib.losses.kl_balance` gives them.

    dyn = beta_dyn * max(free, KL[sg(q) || p]) moves p, rep = beta_rep * max(free, KL[q || sg(p)])
    moves q.
    """
    (q, q_plain), (p, p_plain) = unimix(q_logits), unimix(p_logits)
    kl = float((q * np.log(q / p)).sum())
    if kl < free:
        return kl, np.zeros_like(q), np.zeros_like(p)
    by_q, by_p = np.log(q / p) + 1, -q / p  # gradients on the probabilities
    q_grad = (1 - MIX) * q_plain * (by_q - (q_plain * by_q).sum())
    p_grad = (1 - MIX) * p_plain * (by_p - (p_plain * by_p).sum())
    return kl, -beta_rep * q_grad, -beta_dyn * p_grad


def compute(
    beta_dyn: float,
    beta_rep: float,
    free: float,
    steps: int,
    posterior: tuple[float, ...] = POSTERIOR,
    prior: tuple[float, ...] = PRIOR,
) -> TugResult:
    """Take plain gradient steps on both logits, from the given ones.

    Raises:
        BadInput: a negative weight, free nats or number of steps, or logits of different lengths.
    """
    if min(beta_dyn, beta_rep, free, steps) < 0:
        raise BadInput("The weights, the free nats and the number of steps must not be negative.")
    q, p = np.array(posterior, float), np.array(prior, float)
    if q.shape != p.shape or q.ndim != 1:
        raise BadInput(f"Posterior {q.shape} and prior {p.shape} must have the same K classes.")
    q_start, p_start = unimix(q)[0], unimix(p)[0]
    nats = []
    for _ in range(steps):
        kl, q_pull, p_pull = pulls(q, p, beta_dyn, beta_rep, free)
        nats.append(kl)
        q = q + LR * q_pull
        p = p + LR * p_pull
    kl, q_pull, p_pull = pulls(q, p, beta_dyn, beta_rep, free)
    q_end, p_end = unimix(q)[0], unimix(p)[0]
    return TugResult(
        beta_dyn=beta_dyn,
        beta_rep=beta_rep,
        free=free,
        steps=steps,
        posterior_start=q_start,
        prior_start=p_start,
        posterior=q_end,
        prior=p_end,
        posterior_pull=q_pull,
        prior_pull=p_pull,
        kl=np.array([*nats, kl]),
        clipped=kl < free,
        posterior_moved=float(abs(q_end - q_start).sum() / 2),
        prior_moved=float(abs(p_end - p_start).sum() / 2),
    )


# ---------------------------------------------------------------- parts of the picture


def histogram(
    canvas: Canvas,
    now: np.ndarray,
    start: np.ndarray,
    pull: np.ndarray,
    color: str,
    x: int,
    floor: int,
    width: int = 384,
    tall: int = 92,
) -> None:
    """Bars of probability above `floor`, an outline where each began, an arrow where it is pulled.

    The arrow grows with the root of the pull on that logit; below 0.001 there is none.
    """
    pitch = width / len(now)
    canvas.scale(x, floor, width, tall)
    for k, (height, before, force) in enumerate(zip(now, start, pull, strict=True)):
        left = x + (k + 0.2) * pitch
        middle = x + (k + 0.5) * pitch
        wide = 0.6 * pitch
        canvas.box(left, floor - tall * height, wide, tall * height, color)
        canvas.box(left - 3, floor - tall * before - 1, wide + 6, 2, INK)
        length = min(24.0, 4 + 30 * abs(force) ** 0.5)
        if abs(force) > 1e-3:
            sign = 1 if force > 0 else -1
            end = floor + 22 - sign * length / 2
            arrow(canvas, middle, floor + 22 + sign * length / 2, end, sign)


def arrow(canvas: Canvas, x: float, begin: float, end: float, sign: int) -> None:
    """A vertical arrow from one height to another; sign 1 points up."""
    head = min(5.0, abs(end - begin))
    canvas.box(x - 1, min(begin, end), 2, abs(end - begin), INK)
    canvas.polygon([(x - 5, end + sign * head), (x + 5, end + sign * head), (x, end)], INK)


def numbers(canvas: Canvas, result: TugResult, x: int, y: int) -> None:
    """KL, its limit, and how far each side has moved."""
    canvas.fact(x, y, "KL of posterior from prior", f"{result.kl[-1]:.2f} nats")
    canvas.text(x, y + 44, f"{result.kl[0]:.2f} nats before the first step", SOFT, 12)
    if result.clipped:
        words = "below the free nats: nobody pulls"
    elif result.beta_dyn and result.beta_rep:
        words = "above the free nats: both pull"
    else:
        words = "above the free nats"
    canvas.text(x, y + 64, words, bold=True, size=12)
    sides = (
        ("posterior moved", result.posterior_moved, SLATE),
        ("prior moved", result.prior_moved, AMBER),
    )
    for k, (label, moved, color) in enumerate(sides):
        canvas.box(x, y + 100 + 54 * k - 10, 10, 10, color)
        canvas.text(x + 18, y + 100 + 54 * k, label, SOFT)
        canvas.text(x, y + 124 + 54 * k, f"{100 * moved:.0f} %", size=18, bold=True)


def draw(result: TugResult) -> Image.Image:
    """Posterior above prior, the numbers beside them."""
    canvas = Canvas(720, 386)
    left, right = 24, 478
    canvas.text(left, 28, "posterior q: what was seen", bold=True)
    seen = (result.posterior, result.posterior_start, result.posterior_pull)
    histogram(canvas, *seen, SLATE, left + 24, 138)
    canvas.text(left, 204, "prior p: what was expected", bold=True)
    expected = (result.prior, result.prior_start, result.prior_pull)
    histogram(canvas, *expected, AMBER, left + 24, 314)
    canvas.text(left, 372, "black lines: before the first step. arrows: the pull now", SOFT, 12)
    canvas.box(452, 1, 267, 384, TINT)
    plural = "" if result.steps == 1 else "s"
    canvas.text(right, 30, f"after {result.steps} gradient step{plural}", bold=True)
    weights = f"dyn {result.beta_dyn:.1f}, rep {result.beta_rep:.1f}, free {result.free:.1f}"
    canvas.text(right, 52, weights, SOFT)
    numbers(canvas, result, right, 90)
    return canvas.image


class TugOfWar(Widget):
    """Prior and posterior of one latent under the KL loss, for any weights and free nats.

    beta_dyn, beta_rep, free and steps set the sliders. posterior and prior are the logits (K,) that
    the two begin with.
    """

    alt = (
        "Tug-of-war: histograms of the posterior and the prior of one latent, with arrows where "
        "the KL loss pulls each of them."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self,
        beta_dyn: float = 1.0,
        beta_rep: float = 0.1,
        free: float = 0.0,
        steps: int = 3,
        posterior: tuple[float, ...] = POSTERIOR,
        prior: tuple[float, ...] = PRIOR,
    ) -> None:
        self.logits = posterior, prior
        style = {"style": {"description_width": "70px"}, "layout": {"width": "300px"}}
        self.beta_dyn, self.beta_rep, self.free = (
            ipywidgets.FloatSlider(value, min=0, max=top, step=0.1, description=name, **style)
            for value, top, name in (
                (beta_dyn, 2, "β dyn"),
                (beta_rep, 2, "β rep"),
                (free, 3, "free nats"),
            )
        )
        self.steps = ipywidgets.IntSlider(steps, min=0, max=200, description="steps", **style)
        rows = [[self.beta_dyn, self.beta_rep], [self.free, self.steps]]
        self.assemble(rows, self.evaluate(), refreshed_by=[*rows[0], *rows[1]])

    def evaluate(self) -> TugResult:
        """The result of the current controls."""
        posterior, prior = self.logits
        return compute(
            self.beta_dyn.value,
            self.beta_rep.value,
            self.free.value,
            self.steps.value,
            posterior=posterior,
            prior=prior,
        )
