"""What a model without chance still draws when its memory is wiped at a chosen step."""

from dataclasses import dataclass
from typing import Protocol

import ipywidgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wmlib.distributions import bernoulli_nats
from wmlib.errors import BadInput
from wmlib.figures import AMBER, INK, SLATE, SOFT
from wmlib.widgets.base import ALERT, LINE, TINT, Canvas, Widget

__all__ = ["MemoryProbe", "ProbeResult"]

CROP = 20.0  # nats; taller bars are cut and get an arrow


class SequenceModel(Protocol):
    """A deterministic model: h_0 = initial, h_{t+1} = step(h_t, o_t, a_t), picture = draw(h_t)."""

    def initial(self, count: int) -> Tensor:
        """Empty memories (count, D)."""
        ...

    def step(self, h: Tensor, frame: Tensor, action: Tensor) -> Tensor:
        """Take in frames (N, H*W*C) in [0, 1] and one-hot actions (N, A); next h (N, D)."""
        ...

    def draw(self, h: Tensor) -> Tensor:
        """Pixel logits (N, H*W*C) of the frames that h expects."""
        ...


@dataclass(frozen=True)
class ProbeResult:
    """Everything the memory probe shows; T frames of one episode."""

    episode: int
    wiped: int | None  # the step before which h was emptied; None: never
    frames: np.ndarray  # (T, H, W, C) in [0, 1], what happened
    drawn: np.ndarray  # (T, H, W, C) in [0, 1], drawn from h_t before frame t was seen
    nats: np.ndarray  # (T,) of each frame under its drawing
    kept: np.ndarray  # (T,) the same with h left alone
    total: float
    price: float  # nats that the wiping cost, over all frames


@torch.no_grad()
def follow(
    model: SequenceModel, frames: np.ndarray, actions: np.ndarray, wiped: int | None, choices: int
) -> tuple[np.ndarray, np.ndarray]:
    """Drawings (T, H, W, C) and nats (T,) of one episode; h is emptied before it takes in `wiped`.

    frames (T, H, W, C) in [0, 1], actions (T - 1,) integers.
    """
    flat = torch.tensor(frames, dtype=torch.float32).flatten(1)  # (T, H*W*C)
    onehot = torch.eye(choices)[torch.as_tensor(actions)]  # (T - 1, A)
    h = model.initial(1)
    logits = [model.draw(h)]
    for t in range(len(flat) - 1):
        h = model.step(h * (t != wiped), flat[t : t + 1], onehot[t : t + 1])
        logits.append(model.draw(h))
    logits = torch.cat(logits)
    nats = bernoulli_nats(logits, flat).sum(-1)
    return torch.sigmoid(logits).reshape(frames.shape).numpy(), nats.numpy()


def compute(
    model: SequenceModel,
    frames: np.ndarray,
    actions: np.ndarray,
    episode: int = 0,
    wiped: int | None = None,
    choices: int = 3,
) -> ProbeResult:
    """One of N episodes, with h wiped before it takes in frame `wiped`, and with h kept.

    frames (N, T, H, W, C) uint8, actions (N, T - 1) integers from 0 to choices - 1.

    Raises:
        BadInput: there is no such episode or step, or frames and actions do not fit.
    """
    if np.ndim(frames) != 5 or np.shape(actions) != (len(frames), np.shape(frames)[1] - 1):
        raise BadInput(
            f"Frames (N, T, H, W, C) and actions (N, T - 1) are needed, not "
            f"{np.shape(frames)} and {np.shape(actions)}."
        )
    if not 0 <= episode < len(frames):
        raise BadInput(f"The episode must be 0 to {len(frames) - 1}, not {episode}.")
    last = frames.shape[1] - 2
    if wiped is not None and not 0 <= wiped <= last:
        raise BadInput(f"h can be wiped at steps 0 to {last}, not {wiped}.")
    real = np.asarray(frames[episode]) / 255
    drawn, nats = follow(model, real, actions[episode], wiped, choices)
    kept = nats if wiped is None else follow(model, real, actions[episode], None, choices)[1]
    return ProbeResult(
        episode=episode,
        wiped=wiped,
        frames=real,
        drawn=drawn,
        nats=nats,
        kept=kept,
        total=float(nats.sum()),
        price=float((nats - kept).sum()),
    )


def draw(result: ProbeResult) -> Image.Image:
    """Real frames above the drawings, and under each its nats; a line where h was wiped."""
    steps = len(result.frames)
    left = 96
    pitch = (720 - left - 16) / steps
    side = int(min(72, pitch - 8))
    canvas = Canvas(720, 398)
    floor, tall = 322, 92
    rows = (("what happened", result.frames, 36, SLATE), ("drawn from h", result.drawn, 122, AMBER))
    for t in range(steps):
        x = round(left + t * pitch)
        canvas.text(x + side / 2, 22, f"t = {t}", SOFT, 11, anchor="ms")
        for _, row, y, color in rows:
            canvas.frame(x, y, row[t], side, color, 2)
        high = tall * min(1, result.nats[t] / CROP)
        canvas.box(x + 8, floor - high, side - 16, high, AMBER)
        over = "↑ " if result.nats[t] > CROP else ""
        top = floor - max(high, tall * min(1, result.kept[t] / CROP))
        canvas.text(x + side / 2, top - 6, f"{over}{result.nats[t]:.2f}", size=11, anchor="ms")
        canvas.box(x + 2, floor - tall * min(1, result.kept[t] / CROP) - 1, side - 4, 3, INK)
    for words, _, y, _ in rows:
        first, _, second = words.partition(" ")
        canvas.text(12, y + side / 2 - 2, first, bold=True, size=12)
        canvas.text(12, y + side / 2 + 14, second, bold=True, size=12)
    canvas.text(12, floor - 20, "nats", bold=True, size=12)
    canvas.box(left, floor, 720 - left - 16, 1, LINE)
    if result.wiped is not None:
        x = left + (result.wiped + 1) * pitch - (pitch - side) / 2
        canvas.box(x - 1, 28, 2, floor - 28, ALERT)

    canvas.box(1, 338, 718, 59, TINT)
    if result.wiped is None:
        canvas.text(16, 362, "h is kept", bold=True)
    else:
        words = f"h wiped before it takes in frame {result.wiped}"
        canvas.text(16, 362, words, ALERT, bold=True)
    canvas.text(16, 384, "black line: nats with h kept", SOFT, 12)
    canvas.text(400, 362, "all frames", SOFT, 12)
    canvas.text(400, 386, f"{result.total:.2f} nats", size=17, bold=True)
    canvas.text(560, 362, "price of forgetting", SOFT, 12)
    canvas.text(560, 386, f"{result.price:.2f} nats", size=17, bold=True)
    return canvas.image


class MemoryProbe(Widget):
    """Wipe the memory of a deterministic sequence model at a chosen step, and see what it draws.

    model: has `initial(count)`, `step(h, frame, action)` and `draw(h)`, as in `SequenceModel`.
    frames (N, T, H, W, C) uint8 and actions (N, T - 1): the episodes to choose from. wiped: the
    step at which h is wiped first, None to begin with a kept memory.
    """

    alt = (
        "Memory probe: the frames of an episode above what the model draws from its memory, the "
        "nats of each, and what wiping the memory at a chosen step costs."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self,
        model: SequenceModel,
        frames: np.ndarray,
        actions: np.ndarray,
        episode: int = 0,
        wiped: int | None = None,
        choices: int = 3,
    ) -> None:
        self.model = model
        self.choices = choices
        self.frames = np.asarray(frames)
        self.actions = np.asarray(actions)
        first = compute(model, self.frames, self.actions, episode, wiped, choices)
        style = {"style": {"description_width": "56px"}, "layout": {"width": "240px"}}
        self.mode = ipywidgets.ToggleButtons(
            options=["keep h", "wipe h"],
            value="keep h" if wiped is None else "wipe h",
            style={"button_width": "72px"},
        )
        last = self.frames.shape[1] - 2
        at = min(3, last) if wiped is None else wiped
        self.step = ipywidgets.IntSlider(at, min=0, max=last, description="at step", **style)
        self.ball = ipywidgets.IntSlider(
            episode, min=0, max=len(self.frames) - 1, description="episode", **style
        )
        shown = [self.mode, self.step] + [self.ball] * (len(self.frames) > 1)
        self.assemble([shown], first, refreshed_by=(self.mode, self.step, self.ball))

    def evaluate(self) -> ProbeResult:
        """The result of the current controls."""
        return compute(
            self.model,
            self.frames,
            self.actions,
            episode=self.ball.value,
            wiped=self.step.value if self.mode.value == "wipe h" else None,
            choices=self.choices,
        )
