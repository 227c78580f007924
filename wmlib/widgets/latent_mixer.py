"""h of one episode, z of another: what does the decoder draw, and where is the memory?"""

from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.envs.curtain import START_LANES
from wmlib.envs.make import make_env
from wmlib.errors import BadInput
from wmlib.figures import AMBER, FAINT, INK, SLATE, SOFT
from wmlib.rssm import State
from wmlib.trainer import own_randomness, play
from wmlib.widgets.base import LINE, TINT, Sheet, Widget

__all__ = ["LatentMixer", "MixResult", "Probes", "fit_probes", "watch"]

STEPS = 7  # frames 0 .. 6; the terminal one shows nothing new
REVEAL = 4  # the frame that shows the coin
LANES = len(START_LANES)


@dataclass(frozen=True)
class Probes:
    """Linear read-outs of the start lane, one per step t, fitted on many episodes."""

    from_h: tuple[Tensor, Tensor]  # weight (T, D, 4), bias (T, 4)
    from_z: tuple[Tensor, Tensor]  # weight (T, S*K, 4), bias (T, 4)
    accuracy_h: np.ndarray  # (T,) on episodes that were not fitted
    accuracy_z: np.ndarray  # (T,)
    accuracy_blank: np.ndarray  # (T,) of the read-out from h where h is zero: a constant guess


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
def watch(agent: Dreamer, episodes: int, seed: int = 0) -> tuple[State, np.ndarray, np.ndarray]:
    """Posterior states (N, T), frames (N, T, H, W, C) and start lanes (N,) of the agent's play."""
    env = make_env("wmlib/Curtain-v0", num_envs=episodes)
    agent.check_spaces(env.single_observation_space, env.single_action_space)
    rows = play(agent, env, STEPS, seed)
    batch, start = agent.tensors(rows)
    with own_randomness(agent, seed):
        state = agent.world.observe(batch, start).state
    first = rows["obs"][:, 0, :2, :, 0].reshape(episodes, 2, -1, 2)  # row 0 of the board
    return state, rows["obs"] / 255, first.mean((1, 3)).argmax(-1)


def fit(x: Tensor, y: Tensor, rounds: int = 150) -> tuple[Tensor, Tensor]:
    """Softmax regression per step: x (N, T, F), y (N,) classes -> weight (T, F, 4), bias (T, 4)."""
    x = x.transpose(0, 1)  # (T, N, F)
    weight = torch.zeros(len(x), x.shape[-1], LANES, device=x.device, requires_grad=True)
    bias = torch.zeros(len(x), 1, LANES, device=x.device, requires_grad=True)
    adam = torch.optim.Adam([weight, bias], lr=0.05)
    target = y.expand(len(x), -1).flatten()
    with torch.enable_grad():
        for _ in range(rounds):
            logits = torch.baddbmm(bias, x, weight).flatten(0, 1)
            nll = torch.nn.functional.cross_entropy(logits, target) * len(x)
            (nll + 1e-3 * weight.square().sum()).backward()
            adam.step()
            adam.zero_grad()
    return weight.detach(), bias.detach().squeeze(1)


def fit_probes(agent: Dreamer, episodes: int = 1024, seed: int = 1000) -> Probes:
    """Fit read-outs of the start lane on half of the episodes and score them on the other half."""
    state, _, lanes = watch(agent, episodes, seed)
    y = torch.as_tensor(lanes - START_LANES[0], device=state.h.device)
    half = episodes // 2

    def hits(x: Tensor, probe: tuple[Tensor, Tensor]) -> np.ndarray:  # (T,)
        guess = (torch.einsum("ntf,tfk->ntk", x[half:], probe[0]) + probe[1]).argmax(-1)
        return (guess == y[half:, None]).float().mean(0).cpu().numpy()

    h, z = state.h, state.z.flatten(-2)
    from_h, from_z = (fit(x[:half], y[:half]) for x in (h, z))
    blank = hits(torch.zeros_like(h), from_h)
    return Probes(from_h, from_z, hits(h, from_h), hits(z, from_z), blank)


@torch.no_grad()
def compute(
    agent: Dreamer, states: State, frames: np.ndarray, lanes: np.ndarray, probes: Probes,
    t: int, swap_h: bool = False, swap_z: bool = False, zero_h: bool = False,
) -> MixResult:  # fmt: skip
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
    reads = []
    for x, (weight, bias) in ((h[int(swap_h)], probes.from_h), (z[int(swap_z)], probes.from_z)):
        reads.append(torch.softmax(x.flatten() @ weight[t] + bias[t], -1).cpu().numpy())
    return MixResult(
        t, frames[:, t], grid.reshape(2, 2, *grid.shape[1:]).float().cpu().numpy(),
        (int(swap_h), int(swap_z)), zero_h, (int(lanes[0]), int(lanes[1])), *reads,
        float((probes.accuracy_blank if zero_h else probes.accuracy_h)[t]),
        float(probes.accuracy_z[t]),
    )  # fmt: skip


# ---------------------------------------------------------------- the picture


def readout(sheet: Sheet, x: int, y: int, title: str, probs: np.ndarray, hits: float) -> None:
    """Four bars, one per lane, with the share of episodes this read-out gets right."""
    sheet.text(x, y, title, bold=True)
    sheet.text(x, y + 17, f"right in {100 * hits:.0f} % of episodes", SOFT, 12)
    floor = y + 82
    for k, p in enumerate(probs):
        left = x + 50 * k
        sheet.box(left, floor - 52 * p, 34, 52 * p, INK)
        sheet.text(left + 17, floor + 14, str(START_LANES[k]), SOFT, 11, anchor="ms")
    sheet.box(x, floor, 184, 1, LINE)


def draw(r: MixResult) -> Image.Image:
    """The two episodes, the grid of mixes, and what can be read from the chosen one."""
    sheet, side = Sheet(720, 372), 104
    sheet.text(24, 28, "the world", bold=True)
    for k, name in enumerate("AB"):
        y = 68 + 146 * k
        sheet.text(24, y - 8, f"episode {name}: ball from lane {r.lanes[k]}", SOFT, 12)
        sheet.frame(27, y + 3, r.frames[k], side, SLATE)
    sheet.text(214, 28, "decoded from", bold=True)
    for k, name in enumerate("AB"):
        sheet.text(240 + 116 * k + side / 2, 58, f"z of {name}", SOFT, 12, anchor="ms")
        label = "h = 0" if r.h_zeroed else f"h of {name}"
        sheet.text(230, 71 + 146 * k + side / 2, label, SOFT, 12, anchor="rs")
    for i in range(2):
        for j in range(2):
            on = (i, j) == r.chosen
            sheet.frame(240 + 116 * j, 71 + 146 * i, r.grid[i, j], side, AMBER if on else FAINT)
    sheet.text(240, 352, "amber: the mix that is read out", SOFT, 12)
    sheet.box(480, 1, 239, 370, TINT)
    parts = [f"z of {'AB'[r.chosen[1]]}"]
    parts.insert(0, "h = 0" if r.h_zeroed else f"h of {'AB'[r.chosen[0]]}")
    sheet.text(504, 28, f"step {r.t}: {', '.join(parts)}", bold=True)
    sheet.text(504, 48, "start lane of the ball, by a linear", SOFT, 12)
    sheet.text(504, 64, "read-out of one part of the state", SOFT, 12)
    readout(sheet, 504, 100, "from h", r.read_h, r.accuracy_h)
    readout(sheet, 504, 236, "from z", r.read_z, r.accuracy_z)
    return sheet.image


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
    compute, draw = staticmethod(compute), staticmethod(draw)

    def __init__(
        self, agent: Dreamer, seed: int = 0, t: int = 4, swap_h: bool = False,
        swap_z: bool = True, zero_h: bool = False, probes: Probes | None = None,
        episodes: int = 1024,
    ) -> None:  # fmt: skip
        self.agent, self.seed, self.episodes, self.pair = agent, seed, episodes, None
        self.observe(probes)
        self.t = ipywidgets.IntSlider(
            t, min=0, max=STEPS - 1, description="step t",
            style={"description_width": "50px"}, layout={"width": "280px"},
        )  # fmt: skip
        look = {"layout": {"width": "100px"}}
        self.swap_h = ipywidgets.ToggleButton(swap_h, description="swap h", **look)
        self.swap_z = ipywidgets.ToggleButton(swap_z, description="swap z", **look)
        self.zero_h = ipywidgets.ToggleButton(zero_h, description="zero h", **look)
        controls = self.swap_h, self.swap_z, self.zero_h, self.t
        self.assemble([list(controls)], self.evaluate())
        for control in controls:
            self.on(control, lambda _: self.evaluate())

    def observe(self, probes: Probes | None = None) -> None:
        """Look at the two episodes with the agent as it is, and fit the read-outs."""
        self.probes = probes or fit_probes(self.agent, self.episodes)
        state, frames, lanes = watch(self.agent, 32, self.seed)
        self.pair = self.pair or pick(self.agent, state, frames, lanes)
        self.states = State(*(part[self.pair] for part in state))
        self.frames, self.lanes = frames[self.pair], lanes[self.pair]

    def refresh(self) -> None:
        """The agent has learnt something: the same mix once more."""
        self.observe()
        self.show(self.evaluate())

    def evaluate(self) -> MixResult:
        """The result of the current controls."""
        return compute(
            self.agent, self.states, self.frames, self.lanes, self.probes, self.t.value,
            self.swap_h.value, self.swap_z.value, self.zero_h.value,
        )  # fmt: skip


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
