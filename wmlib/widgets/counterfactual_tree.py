"""What if: all actions from one moment, each with its own dream, as a tree."""

from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from wmlib.agent import Dreamer
from wmlib.envs.make import make_env
from wmlib.errors import BadInput
from wmlib.figures import AMBER, INK, SLATE, SOFT
from wmlib.play import play
from wmlib.rssm import State
from wmlib.runtime import autocast, own_randomness
from wmlib.spaces import is_image
from wmlib.widgets.base import BUTTONS, LINE, TINT, Canvas, Widget, button, signed
from wmlib.widgets.dream_session import CURTAIN

__all__ = ["CounterfactualTree", "TreeResult"]

FILM = 8  # frames of an episode at most
DEEPEST = 3  # levels of the tree at most
SIDES = (72, 72, 56, 24)  # pixels of a frame, by level
BAD, NEUTRAL, GOOD = (178, 24, 43), (127, 141, 163), (33, 102, 172)  # promised -1, 0, 1


@dataclass(frozen=True)
class TreeResult:
    """Everything the tree shows. Tuples hold one array per level d, with A**d entries each.

    Entry i of level d comes from entry i // A of level d - 1 by action i % A.
    """

    root: int  # frame of the episode
    real: np.ndarray  # (H, W, C) uint8, the frame at the root
    frames: tuple[np.ndarray, ...]  # (A**d, H, W, C) in [0, 1]; level 0 is the reconstruction
    probs: tuple[np.ndarray, ...]  # of the last action, as the actor would choose
    promises: tuple[
        np.ndarray, ...
    ]  # dreamt rewards so far, and, if it goes on, the critic's value
    best: tuple[int, ...]  # the actions that lead to the highest promise of the last level
    same: bool  # all branches of a level share their random numbers
    temperature: float
    sample: int


def step(agent: Dreamer, state: State, action: Tensor, temperature: float, same: bool) -> State:
    """One step with eyes closed. With `same` every row of a batch draws with the same numbers."""
    rssm = agent.world.rssm
    if not same:
        return rssm.step(state, action, temperature)
    h = rssm.core(state.h, state.z.flatten(-2), rssm.core.embed_action(action))
    prior = rssm.prior(h, temperature)  # (N, S, K)
    luck = torch.rand_like(prior[:1, :, :1])  # (1, S, 1)
    index = (prior.cumsum(-1)[..., :-1] < luck).sum(-1)
    return State(h, F.one_hot(index, prior.shape[-1]).to(prior.dtype))


@torch.no_grad()
def compute(
    agent: Dreamer,
    rows: dict[str, np.ndarray],
    root: int = 3,
    depth: int = 2,
    temperature: float = 1.0,
    same: bool = True,
    sample: int = 0,
) -> TreeResult:
    """Watch one episode up to frame `root`, then dream every sequence of `depth` actions.

    rows: (1, T, ...), as `wmlib.play` gives them, of a world with A discrete actions.

    Raises:
        BadInput: a root outside the episode, a depth below 1, a temperature that is not positive.
    """
    frames = len(rows["obs"][0])
    if not 0 <= root < frames - 1:
        raise BadInput(f"The root must be a frame from 0 to {frames - 2}, not {root}.")
    if not 1 <= depth <= DEEPEST:
        raise BadInput(f"The depth must be 1 to {DEEPEST}, not {depth}.")
    if not temperature > 0:
        raise BadInput(f"The temperature is {temperature}; it must be positive.")
    if not agent.actor.discrete:
        raise BadInput("A tree of actions needs actions that can be counted.")
    world = agent.world
    count = agent.actor.out.out_features
    batch, _ = agent.tensors({name: value[:, : root + 1] for name, value in rows.items()})
    with own_randomness(agent.device, sample), autocast(agent.device):
        seen = world.observe(batch).state
        state = State(seen.h[:, -1], seen.z[:, -1])
        earned = torch.zeros(1, device=agent.device)
        alive = torch.ones(1, device=agent.device)
        value = agent.critic.mean(agent.critic(state.feature))
        levels = [(world.decode(state), torch.ones(1), value)]
        for _ in range(min(depth, frames - 1 - root)):
            probs = agent.actor(state.feature).probs.flatten()  # (N * A,)
            every = torch.eye(count, device=agent.device).repeat(len(state.h), 1)
            parent = State(*(part.repeat_interleave(count, 0) for part in state))
            state = step(agent, parent, every, temperature, same)
            earned, alive = (part.repeat_interleave(count) for part in (earned, alive))
            earned = earned + alive * world.reward(state.feature)
            alive = alive * world.continues(state.feature)
            value = agent.critic.mean(agent.critic(state.feature))
            levels.append((world.decode(state), probs, earned + alive * value))
    drawn, probs, promises = zip(*(map(as_array, level) for level in levels), strict=True)
    leaf = int(promises[-1].argmax())
    best = []
    for _ in levels[1:]:
        leaf, action = divmod(leaf, count)
        best.insert(0, action)
    return TreeResult(
        root=root,
        real=rows["obs"][0, root],
        frames=drawn,
        probs=probs,
        promises=promises,
        best=tuple(best),
        same=same,
        temperature=temperature,
        sample=sample,
    )


def as_array(tensor: Tensor) -> np.ndarray:
    """Tensor -> float32 array."""
    return tensor.float().cpu().numpy()


def shade(promise: float) -> str:
    """Colour of a promised return: red for -1 and below, grey for 0, blue for 1 and above."""
    share = min(abs(promise), 1.0)
    end = GOOD if promise > 0 else BAD
    mixed = (round(n + share * (e - n)) for n, e in zip(NEUTRAL, end, strict=True))
    return "#" + "".join(f"{part:02X}" for part in mixed)


def draw(result: TreeResult) -> Image.Image:
    """The tree from the top down: frames as nodes, actions as edges."""
    depth = len(result.frames) - 1
    left, width = 12, 696
    branches = len(result.probs[1]) if depth else 3
    tops = [34]
    for level in range(depth):
        tops.append(tops[-1] + SIDES[level] + 62)
    low = tops[-1] + SIDES[depth] + 36
    canvas = Canvas(720, low + 62)
    centres = [
        [left + width * (i + 0.5) / branches**level for i in range(branches**level)]
        for level in range(depth + 1)
    ]
    for level in range(1, depth + 1):
        for i, x in enumerate(centres[level]):
            parent = centres[level - 1][i // branches]
            promise = float(result.promises[level][i])
            ends = ((parent, tops[level - 1] + SIDES[level - 1] + 26), (x, tops[level] - 4))
            thick = max(1, round(9 * float(result.probs[level][i])))
            canvas.line(ends, shade(promise), thick)
    for level, (frames, top) in enumerate(zip(result.frames, tops, strict=True)):
        side = SIDES[level]
        for i, x in enumerate(centres[level]):
            edge = AMBER if level else SLATE
            frame = frames[i] if level else result.real
            canvas.frame(round(x - side / 2), top, frame, side, edge, 2)
            promise = float(result.promises[level][i])
            canvas.box(x - side / 2 - 2, top + side + 3, side + 4, 4, shade(promise))
            if side > 24:
                canvas.text(x, top + side + 20, signed(promise), size=12, bold=True, anchor="ms")
            else:
                canvas.text(x, top + side + 19, short(promise), INK, 9, anchor="ms")
        if level == 1:
            for i, x in enumerate(centres[level]):
                canvas.text(x - side / 2 - 10, top + side / 2 + 4, name(i), SOFT, 12, anchor="rs")
    canvas.text(left, 22, f"frame {result.root}, seen", bold=True)
    canvas.text(left, 42, "slate: real. amber: dreamt", SOFT, 12)
    canvas.text(left, 60, "wide edge: the actor's choice", SOFT, 12)
    canvas.text(708, 22, "promised return", bold=True, anchor="rs")
    for k in range(101):
        canvas.box(607 + k, 30, 1, 8, shade(k / 50 - 1))
    for x, word in ((607, "−1"), (657, "0"), (708, "+1")):
        canvas.text(x, 52, word, SOFT, 12, anchor="ms")
    canvas.box(1, low, 718, 61, TINT)
    canvas.box(1, low, 718, 1, LINE)
    route = ", ".join(name(action) for action in result.best)
    promise = float(result.promises[-1].max())
    canvas.text(left, low + 22, f"Most is promised after {route}: {signed(promise)}", bold=True)
    luck = "every branch tosses by itself"
    if result.same:
        luck = "the same random numbers in all branches"
    canvas.text(left, low + 44, f"Luck: {luck}. Temperature {result.temperature:.1f}.", SOFT, 12)
    canvas.text(708, low + 44, f"sample {result.sample + 1}", SOFT, 12, anchor="rs")
    return canvas.image


def short(promise: float) -> str:
    """A promise in at most four characters."""
    words = signed(promise)
    return words.replace("0.", ".") if abs(promise) < 0.995 else words[:4]


def name(action: int) -> str:
    """Word for an action of Curtain."""
    return BUTTONS[action].strip("◀▶ ") if action < len(BUTTONS) else str(action)


class CounterfactualTree(Widget):
    """Every action from one moment of an episode, and what the model dreams after it.

    agent: a trained agent for `env_id`, a world of images with discrete actions; it plays the
    episode, with eyes open. seed: of the episode. The other arguments set the controls; `world` are
    further settings for `make_env`.
    """

    alt = (
        "Counterfactual tree: one real frame, below it the dreams of each action, and of each "
        "action after that, with the return that each promises."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self,
        agent: Dreamer,
        env_id: str = CURTAIN,
        seed: int = 0,
        root: int = 3,
        depth: int = 2,
        same: bool = True,
        **world: Any,
    ) -> None:
        self.agent = agent
        self.sample = 0
        env = make_env(env_id, num_envs=1, **world)
        if not is_image(env.single_observation_space):
            raise BadInput("The counterfactual tree shows worlds of images only.")
        rows = play(agent, env, FILM, seed=seed)
        last = rows["is_last"][0]
        stop = int(last.argmax()) + 1 if last.any() else FILM
        self.rows = {key: value[:, :stop] for key, value in rows.items()}
        style = {"style": {"description_width": "90px"}, "layout": {"width": "300px"}}
        self.root = ipywidgets.IntSlider(root, min=0, max=stop - 2, description="frame", **style)
        self.depth = ipywidgets.IntSlider(depth, min=1, max=DEEPEST, description="depth", **style)
        self.temperature = ipywidgets.FloatSlider(
            1.0, min=0.1, max=3, step=0.1, description="temperature", readout_format=".1f", **style
        )
        self.same = ipywidgets.Checkbox(
            same, description="same luck in all branches", indent=False, layout={"width": "220px"}
        )
        self.again = button("other luck", 110)
        bars = [[self.root, self.depth], [self.temperature, self.same, self.again]]
        controls = (self.root, self.depth, self.temperature, self.same)
        self.assemble(bars, self.evaluate(), refreshed_by=controls)
        self.on(self.again, lambda _: self.resample())

    def evaluate(self) -> TreeResult:
        """The result of the current controls."""
        return compute(
            self.agent,
            self.rows,
            root=self.root.value,
            depth=self.depth.value,
            temperature=self.temperature.value,
            same=self.same.value,
            sample=self.sample,
        )

    def resample(self) -> TreeResult:
        """The same tree with other random numbers."""
        self.sample += 1
        return self.evaluate()
