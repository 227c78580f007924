"""h of one episode, z of another: what does the decoder draw, and where is the memory?"""

from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.diagnostics import STEPS, Probes, fit_probes, watch
from wmlib.envs.curtain import START_LANES
from wmlib.errors import BadInput
from wmlib.figures import AMBER, FAINT, INK, SLATE, SOFT
from wmlib.rssm import State
from wmlib.widgets.base import LINE, TINT, Canvas, Widget

__all__ = ["LatentMixer", "MixResult"]

REVEAL = 4  # the frame that shows the coin
LANES = len(START_LANES)


@dataclass(frozen=True)
class MixResult:
    """Everything the mixer shows, at step t; lanes are the start lanes 2 .. 5."""

    t: int
    frames: np.ndarray  # (2, H, W, C) in [0, 1]: what episodes A and B show
    grid: np.ndarray  # (2, 2, H, W, C): decoded from h of the row and z of the column
    chosen: tuple[int, int]  # row and column of the mix that is read out
    h_zeroed: bool
    lanes: tuple[int, int]  # where the ball of A and of B began
    read_h: np.ndarray  # (4,) probabilities of the lanes, read from h of the chosen mix
    read_z: np.ndarray  # (4,) the same from z
    accuracy_h: float  # of these read-outs, over many episodes
    accuracy_z: float


@torch.no_grad()
def compute(
    agent: Dreamer,
    states: State,
    frames: np.ndarray,
    lanes: np.ndarray,
    probes: Probes,
    t: int,
    swap_h: bool = False,
    swap_z: bool = False,
    zero_h: bool = False,
) -> MixResult:
    """Mix the states of episodes A and B, both (2, T, ...), at step t, and read the mix out.

    The mix begins as A; swapping takes the part from B instead.

    Raises:
        BadInput: there is no such step.
    """
    if not 0 <= t < STEPS:
        raise BadInput(f"The step must be 0 to {STEPS - 1}, not {t}.")
    h, z = states.h[:, t], states.z[:, t]
    h = torch.zeros_like(h) if zero_h else h
    grid = agent.world.decode(State(h.repeat_interleave(2, 0), z.repeat(2, 1, 1)))

    def read(x: Tensor, probe: tuple[Tensor, Tensor]) -> np.ndarray:
        weight, bias = probe
        return torch.softmax(x.flatten() @ weight[t] + bias[t], -1).cpu().numpy()

    return MixResult(
        t=t,
        frames=frames[:, t],
        grid=grid.reshape(2, 2, *grid.shape[1:]).float().cpu().numpy(),
        chosen=(int(swap_h), int(swap_z)),
        h_zeroed=zero_h,
        lanes=(int(lanes[0]), int(lanes[1])),
        read_h=read(h[int(swap_h)], probes.from_h),
        read_z=read(z[int(swap_z)], probes.from_z),
        accuracy_h=float((probes.accuracy_blank if zero_h else probes.accuracy_h)[t]),
        accuracy_z=float(probes.accuracy_z[t]),
    )


# ---------------------------------------------------------------- the picture


def readout(canvas: Canvas, x: int, y: int, title: str, probs: np.ndarray, hits: float) -> None:
    """Four bars, one per lane, with the share of episodes this read-out gets right."""
    canvas.text(x, y, title, bold=True)
    canvas.text(x, y + 17, f"right in {100 * hits:.0f} % of episodes", SOFT, 12)
    floor = y + 82
    for k, p in enumerate(probs):
        left = x + 50 * k
        canvas.box(left, floor - 52 * p, 34, 52 * p, INK)
        canvas.text(left + 17, floor + 14, str(START_LANES[k]), SOFT, 11, anchor="ms")
    canvas.box(x, floor, 184, 1, LINE)


def draw(result: MixResult) -> Image.Image:
    """The two episodes, the grid of mixes, and what can be read from the chosen one."""
    canvas = Canvas(720, 372)
    side = 104
    canvas.text(24, 28, "the world", bold=True)
    for k, name in enumerate("AB"):
        y = 68 + 146 * k
        canvas.text(24, y - 8, f"episode {name}: ball from lane {result.lanes[k]}", SOFT, 12)
        canvas.frame(27, y + 3, result.frames[k], side, SLATE)
    canvas.text(214, 28, "decoded from", bold=True)
    for k, name in enumerate("AB"):
        canvas.text(240 + 116 * k + side / 2, 58, f"z of {name}", SOFT, 12, anchor="ms")
        label = "h = 0" if result.h_zeroed else f"h of {name}"
        canvas.text(230, 71 + 146 * k + side / 2, label, SOFT, 12, anchor="rs")
    for i in range(2):
        for j in range(2):
            edge = AMBER if (i, j) == result.chosen else FAINT
            canvas.frame(240 + 116 * j, 71 + 146 * i, result.grid[i, j], side, edge)
    canvas.text(240, 352, "amber: the mix that is read out", SOFT, 12)
    canvas.box(480, 1, 239, 370, TINT)
    parts = [f"z of {'AB'[result.chosen[1]]}"]
    parts.insert(0, "h = 0" if result.h_zeroed else f"h of {'AB'[result.chosen[0]]}")
    canvas.text(504, 28, f"step {result.t}: {', '.join(parts)}", bold=True)
    canvas.text(504, 48, "start lane of the ball, by a linear", SOFT, 12)
    canvas.text(504, 64, "read-out of one part of the state", SOFT, 12)
    readout(canvas, 504, 100, "from h", result.read_h, result.accuracy_h)
    readout(canvas, 504, 236, "from z", result.read_z, result.accuracy_z)
    return canvas.image


class LatentMixer(Widget):
    """Swap or erase the parts of the model state between two episodes of Curtain.

    agent: a trained agent for Curtain. seed: of 32 episodes, from which two are chosen that differ
    in start lane and coin. t: the step shown first. probes: read-outs from `fit_probes`; by default
    they are fitted here on `episodes` (about a second).
    """

    alt = (
        "Latent mixer: frames of two episodes, what the decoder draws from h of one and z of the "
        "other, and the hidden lane as a linear read-out finds it in h and in z."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self,
        agent: Dreamer,
        seed: int = 0,
        t: int = 4,
        swap_h: bool = False,
        swap_z: bool = True,
        zero_h: bool = False,
        probes: Probes | None = None,
        episodes: int = 1024,
    ) -> None:
        self.agent = agent
        self.seed = seed
        self.episodes = episodes
        self.pair: list[int] | None = None
        self.observe(probes)
        self.t = ipywidgets.IntSlider(
            t,
            min=0,
            max=STEPS - 1,
            description="step t",
            style={"description_width": "50px"},
            layout={"width": "280px"},
        )
        style = {"layout": {"width": "100px"}}
        self.swap_h = ipywidgets.ToggleButton(swap_h, description="swap h", **style)
        self.swap_z = ipywidgets.ToggleButton(swap_z, description="swap z", **style)
        self.zero_h = ipywidgets.ToggleButton(zero_h, description="zero h", **style)
        controls = [self.swap_h, self.swap_z, self.zero_h, self.t]
        self.assemble([controls], self.evaluate(), refreshed_by=controls)

    def observe(self, probes: Probes | None = None) -> None:
        """Look at the two episodes with the agent as it is, and fit the read-outs."""
        self.probes = probes or fit_probes(self.agent, self.episodes)
        state, frames, lanes = watch(self.agent, 32, self.seed)
        self.pair = self.pair or pick(self.agent, state, frames, lanes)
        self.states = State(*(part[self.pair] for part in state))
        self.frames = frames[self.pair]
        self.lanes = lanes[self.pair]

    def refresh(self) -> None:
        """The agent has learnt something: the same mix once more."""
        self.observe()
        super().refresh()

    def evaluate(self) -> MixResult:
        """The result of the current controls."""
        return compute(
            self.agent,
            self.states,
            self.frames,
            self.lanes,
            self.probes,
            t=self.t.value,
            swap_h=self.swap_h.value,
            swap_z=self.swap_z.value,
            zero_h=self.zero_h.value,
        )


@torch.no_grad()
def pick(agent: Dreamer, state: State, frames: np.ndarray, lanes: np.ndarray) -> list[int]:
    """Two episodes that differ in start lane and in the side of the coin, A going left.

    Of all such pairs, the one whose mixes the decoder draws most sharply when the coin is shown.
    """
    board = frames[:, REVEAL, 2 * REVEAL : 2 * REVEAL + 2, :, 0].reshape(len(frames), 2, -1, 2)
    right = board.mean((1, 3)).argmax(-1) > lanes
    a, b = np.nonzero(~right[:, None] & right & (lanes[:, None] != lanes))
    h, z = state.h[:, REVEAL], state.z[:, REVEAL]
    blur = 0
    for x, y in ((a, b), (b, a)):
        drawn = agent.world.decode(State(h[x], z[y]))
        blur = blur + (drawn * (1 - drawn)).sum((-3, -2, -1))
    best = int(blur.argmin())
    return [int(a[best]), int(b[best])]
