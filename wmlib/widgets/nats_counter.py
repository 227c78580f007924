"""What a model pays for its frames, in nats, against what the world costs at least."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
import torch
from PIL import Image

from wmlib.agent import Dreamer
from wmlib.distributions import kl_divergence
from wmlib.errors import BadInput
from wmlib.figures import FAINT, INK, SLATE, SOFT
from wmlib.figures.base import BLUE, GREEN  # NLL and KL
from wmlib.widgets.base import LINE, TINT, Canvas, Widget

__all__ = ["NatsCounter", "NatsEntry", "NatsResult", "model_entry"]

CROP = 3  # bars end at this many times the largest entropy

Setting = tuple[int, int, float]  # latents L, classes K, beta


@dataclass(frozen=True)
class NatsEntry:
    """What one model does with one frame, or with the T frames of an episode.

    The nats are averages over many episodes, of the plain NLL and KL: without beta, without free
    nats. `frame` and `reconstruction` are one example, uint8 or in [0, 1].
    """

    frame: np.ndarray  # (H, W, C) or (T, H, W, C)
    reconstruction: np.ndarray  # the same shape
    nll: float | np.ndarray  # nats, one number or (T,)
    kl: float | np.ndarray
    entropy: float | np.ndarray  # exact, of the world


@dataclass(frozen=True)
class NatsResult:
    """Everything the counter shows. Arrays (T,) hold one number per step, T = 1 for one frame."""

    latents: int
    classes: int
    beta: float
    t: int  # the step that is drawn
    frame: np.ndarray  # (H, W, C) in [0, 1], like the next two
    reconstruction: np.ndarray
    error: np.ndarray  # absolute difference
    nll: np.ndarray
    kl: np.ndarray
    entropy: np.ndarray
    total: float  # NLL + KL, summed over steps
    gap: float  # total minus summed entropy: at least 0, up to the noise of an average
    top: float  # nats at the upper end of the scale


def compute(entries: Mapping[Setting, NatsEntry], setting: Setting, t: int = 0) -> NatsResult:
    """Read one entry; the scale is common to all, so that bars can be compared.

    Raises:
        BadInput: there is no such entry or step, or its parts do not fit each other.
    """
    if setting not in entries:
        known = ", ".join(words(*key) for key in sorted(entries))
        raise BadInput(f"There is no model with {words(*setting)}; there is {known or 'none'}.")
    entry = entries[setting]
    nll, kl, entropy = (np.atleast_1d(v) for v in (entry.nll, entry.kl, entry.entropy))
    frames, drawn = (
        unit(v)[None] if np.ndim(v) == 3 else unit(v) for v in (entry.frame, entry.reconstruction)
    )
    if not len(nll) == len(kl) == len(entropy) == len(frames) or frames.shape != drawn.shape:
        shapes = [np.shape(v) for v in (frames, drawn, nll, kl, entropy)]
        raise BadInput(f"Frames, reconstructions, NLL, KL and entropy do not fit: {shapes}.")
    if not 0 <= t < len(frames):
        raise BadInput(f"The step must be 0 to {len(frames) - 1}, not {t}.")
    tallest = max(float(np.max(np.add(e.nll, e.kl))) for e in entries.values())
    exact = max(float(np.max(e.entropy)) for e in entries.values())
    total = float((nll + kl).sum())
    latents, classes, beta = setting
    return NatsResult(
        latents=latents,
        classes=classes,
        beta=beta,
        t=t,
        frame=frames[t],
        reconstruction=drawn[t],
        error=abs(frames[t] - drawn[t]),
        nll=nll,
        kl=kl,
        entropy=entropy,
        total=total,
        gap=total - float(entropy.sum()),
        top=min(max(tallest, exact), max(CROP * exact, 1.0)),
    )


def unit(frames: np.ndarray) -> np.ndarray:
    """Frames as floats in [0, 1]."""
    frames = np.asarray(frames)
    return frames / 255 if frames.dtype == np.uint8 else frames.astype(float)


def words(latents: int, classes: int, beta: float) -> str:
    """A setting as it is written everywhere."""
    return f"L = {latents}, K = {classes}, β = {beta:g}"


@torch.no_grad()
def model_entry(agent: Dreamer, rows: dict[str, np.ndarray], entropy: np.ndarray) -> NatsEntry:
    """Nats per step of a whole model on N episodes, one per row, as `wmlib.play` gives them.

    Raises:
        BadInput: the decoder's loss is a squared error, which is not measured in nats.
    """
    if not getattr(agent.world.decoder, "bernoulli", False):
        raise BadInput(
            "Nats need a Bernoulli decoder, as Curtain has; this one has squared errors."
        )
    batch, start = agent.tensors(rows)
    seen = agent.world.observe(batch, start)
    drawn = agent.world.decoder(seen.state.h, seen.state.z.flatten(-2))
    nll = agent.world.decoder.loss(drawn, batch["obs"])  # (N, T)
    kl = kl_divergence(seen.posterior, seen.prior)  # (N, T), unclipped and unweighted
    example = agent.world.decoder.mean(drawn)[0]  # (T, H, W, C)
    example, nll, kl = (v.float().cpu().numpy() for v in (example, nll.mean(0), kl.mean(0)))
    return NatsEntry(rows["obs"][0], example, nll, kl, entropy)


def draw(result: NatsResult) -> Image.Image:
    """Frame, reconstruction and error above the bars; the numbers beside them."""
    canvas = Canvas(720, 398)
    side = 128
    left, right, top, floor, tall = 24, 488, 44, 356, 116
    parts = (
        ("frame", result.frame),
        ("reconstruction", result.reconstruction),
        ("error", result.error),
    )
    for k, (title, frame) in enumerate(parts):
        canvas.text(left + 146 * k, 30, title, bold=True)
        canvas.frame(left + 146 * k, top, frame, side, FAINT if title == "error" else SLATE)

    steps = len(result.nll)
    span = 420
    pitch = span / steps
    wide = min(96, pitch - 10)
    canvas.text(left, 206, "nats per step" if steps > 1 else "nats", bold=True)
    for k, (nll, kl, exact) in enumerate(zip(result.nll, result.kl, result.entropy, strict=True)):
        middle = left + (k + 0.5) * pitch
        x = middle - wide / 2
        low, high, line = (tall * min(1, v / result.top) for v in (nll, nll + kl, exact))
        canvas.box(x, floor - low, wide, low, BLUE)
        canvas.box(x, floor - high, wide, high - low, GREEN)
        over = "↑ " if nll + kl > result.top else ""
        canvas.text(middle, floor - high - 6, f"{over}{nll + kl:.2f}", size=11, anchor="ms")
        reach = wide + 4 if steps > 1 else span  # one frame: a line across
        canvas.box(middle - reach / 2, floor - line - 1, reach, 3, INK)
        if steps > 1:
            now = k == result.t
            canvas.text(middle, floor + 16, str(k), INK if now else SOFT, 11, bold=now, anchor="ms")
    if steps > 1:
        canvas.text(left + span / 2, floor + 32, "step t", SOFT, 11, anchor="ms")
    canvas.box(left, floor, span, 1, LINE)

    canvas.box(464, 1, 255, 396, TINT)
    canvas.text(right, 30, words(result.latents, result.classes, result.beta), bold=True)
    step = f"step {result.t} of 0 to {steps - 1}" if steps > 1 else "one frame"
    canvas.text(right, 50, step, SOFT)
    numbers = (
        ("NLL: what the picture misses", result.nll[result.t], BLUE),
        ("KL: what z had to tell", result.kl[result.t], GREEN),
        ("exact entropy of the world", result.entropy[result.t], INK),
    )
    for k, (label, number, color) in enumerate(numbers):
        y = 86 + 58 * k
        canvas.box(right, *((y - 6, 10, 3) if color == INK else (y - 10, 10, 10)), color)
        canvas.text(right + 18, y, label, SOFT)
        canvas.text(right, y + 24, f"{number:.2f} nats", size=18, bold=True)
    canvas.text(right, 268, "NLL + KL" + " of all steps" * (steps > 1), SOFT)
    canvas.text(right, 292, f"{result.total:.2f} nats", size=18, bold=True)
    side_of = "above" if result.gap >= 0 else "below"
    canvas.text(right, 326, f"{abs(result.gap):.2f} nats {side_of} the entropy", bold=True)
    canvas.text(right, 346, "(at least 0, up to sampling)", SOFT)
    return canvas.image


class NatsCounter(Widget):
    """NLL + KL against the exact entropy, for every setting of latents L, classes K and beta.

    entries: {(L, K, beta): NatsEntry}; or a function of (L, K, beta) that makes one, asked once per
    setting, with the values to choose from in latents, classes and betas. start: the setting that
    is shown first, by default the first one.
    """

    alt = (
        "Nats counter: a frame, its reconstruction and the error; NLL and KL as stacked bars "
        "against the exact entropy of the world."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self,
        entries: Mapping[Setting, NatsEntry] | Callable[..., NatsEntry],
        latents: Iterable[int] = (),
        classes: Iterable[int] = (),
        betas: Iterable[float] = (),
        start: Setting | None = None,
        t: int = 0,
    ) -> None:
        self.make = entries if callable(entries) else None
        self.entries: dict[Any, NatsEntry] = {} if callable(entries) else dict(entries)
        given = [sorted(set(axis)) for axis in (latents, classes, betas)]
        known = [sorted(set(axis)) for axis in zip(*self.entries, strict=True)] or [[], [], []]
        choices = [mine or theirs for mine, theirs in zip(given, known, strict=True)]
        if not all(choices):
            raise BadInput("Give entries, or a function with latents, classes and betas.")
        smallest: Any = min(self.entries, default=tuple(axis[0] for axis in choices))
        start = start or smallest
        style = {"style": {"description_width": "24px"}, "layout": {"width": "220px"}}
        self.knobs = [
            ipywidgets.SelectionSlider(options=axis, value=value, description=name, **style)
            for axis, value, name in zip(choices, start or smallest, "LKβ", strict=True)
        ]
        self.step = ipywidgets.IntSlider(t, min=0, max=max(t, 0), description="t", **style)
        first = self.evaluate()
        self.step.max = len(first.nll) - 1
        shown = [knob for knob in self.knobs if len(knob.options) > 1]
        rows = [shown, [self.step] if self.step.max else []]
        self.assemble(rows, first, refreshed_by=[*self.knobs, self.step])

    def evaluate(self) -> NatsResult:
        """The result of the current controls; a setting not seen yet is made first."""
        setting: Any = tuple(knob.value for knob in self.knobs)
        if self.make and setting not in self.entries:
            self.entries[setting] = self.make(*setting)
        return compute(self.entries, setting, self.step.value)
