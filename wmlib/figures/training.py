"""The overall structure of training: the world model from rows, behaviour from dreams."""

import contextlib
from collections.abc import Sequence
from typing import Any

from PIL import Image

from wmlib.figures.base import INK, PAPER, SLATE, Picture
from wmlib.figures.films import picture
from wmlib.figures.sheet import (
    AMBER_LINE,
    AMBER_SOFT,
    AMBER_TINT,
    DREAMT,
    LINE,
    REAL,
    SLATE_TINT,
    Page,
    Point,
    default_look,
)

__all__ = ["training_structure"]

SHOWN = slice(3, 6)  # rows of an episode of Curtain: the ball is hidden, is out again, falls on
# heights on the page, the highest first
AGAIN = 502
HEADS = 438
FORK = 405
ACTOR = 385
STATE = 334
LATENT = 266
POSTERIOR = 190
ENCODER = 124
FRAME = 58
# widths
PITCH = 205  # from state to state
HALF = 30  # of a state


def training_structure() -> Picture:
    """Draw both halves of training over three steps, with frames of the shipped agent.

    The frames are real rows of Curtain and what the agent reconstructs from them.
    """
    with default_look():
        drawing = _Training()
        drawing.draw(*_frames())
        return drawing.page.picture(
            "Structure of training. Left, in slate: three replayed rows; each observation passes "
            "the encoder and the posterior into the model state, which the decoder, reward and "
            "continue heads read, while the KL ties prior and posterior together. Right, in amber: "
            "from one of these states the agent dreams two steps on with the prior; actor and "
            "critic learn from the predicted rewards and values."
        )


def _frames() -> tuple[list[Image.Image], list[Image.Image]]:
    """Three rows that the shipped agent has played, and its reconstructions of them."""
    from wmlib.envs.make import make_env
    from wmlib.play import play
    from wmlib.pretrained import load_pretrained
    from wmlib.runtime import own_randomness

    agent = load_pretrained("curtain")
    with contextlib.closing(make_env("wmlib/Curtain-v0")) as env:
        rows = play(agent, env, length=8, seed=3)
    with own_randomness(agent.device, 0):
        seen = agent.imagine({k: rows[k] for k in ("obs", "prev_action", "is_first")}, horizon=1)
    real, model = rows["obs"][0, SHOWN], seen.reconstruction[0, SHOWN]
    return [picture(frame, 256) for frame in real], [picture(frame, 256) for frame in model]


class _Training:
    """`training_structure` while it is being drawn."""

    LEFT, RIGHT = (14, 706), (722, 1312)  # ends of both halves
    LOW, TALL = 14, 598  # their lower edge and their height

    def __init__(self) -> None:
        self.page = Page(1326, 626)

    def block(
        self,
        at: Point,
        size: Point,
        text: str,
        dreamt: bool,
        points: float = 9.5,
        radius: float = 6,
    ) -> None:
        face, edge, ink = DREAMT if dreamt else REAL
        self.page.box(at, size, text, face, edge, ink, radius=radius, points=points)

    def arrow(self, points: Sequence[Point], dreamt: bool, **style: Any) -> None:
        self.page.arrow(points, AMBER_LINE if dreamt else SLATE, **style)

    def panel(self, ends: Point, tint: str, title: str, rows: str, learns: str) -> None:
        """A half of the page with its headline."""
        left, right = ends
        at = ((left + right) / 2, self.LOW + self.TALL / 2)
        size = (right - left, self.TALL)
        self.page.box(at, size, face=tint, edge=tint, radius=10, zorder=0)
        self.page.text((left + 18, 589), title, INK, 12, ha="left", bold=True)
        self.page.text((right - 18, 589), rows, LINE, 10, ha="right")
        self.page.text((left + 18, 563), learns, INK, 11, ha="left")

    def state(self, x: float, t: int, dreamt: bool) -> None:
        """A state: h_t above z_t in one frame, from which the heads read."""
        middle = (STATE + LATENT) / 2
        hat = r"\hat " if dreamt else ""
        edge = AMBER_LINE if dreamt else SLATE
        self.page.box((x, middle), (2 * HALF, 124), face=PAPER, edge=edge, radius=14)
        self.block((x, STATE), (44, 34), f"$h_{t}$", dreamt, points=13, radius=16.9)
        self.block((x, LATENT), (44, 34), f"${hat}z_{t}$", dreamt, points=13, radius=16.9)

    def head(self, x: float, t: int, place: int, name: str, symbol: str, dreamt: bool) -> None:
        """A box above a state (place: -1 left, 0, 1 right) with what it predicts."""
        at = x + 66 * place
        path = [(x, 362), (x, FORK), (at, FORK), (at, HEADS - 15)]
        self.arrow(path if place else [path[0], path[-1]], dreamt)
        self.block((at, HEADS), (62, 30), name, dreamt, 9)
        self.arrow([(at, HEADS + 15), (at, HEADS + 32)], dreamt)
        if symbol:
            self.page.text((at, HEADS + 43), f"${symbol}_{t}$", INK, 13)

    def core(self, x: float, dreamt: bool) -> None:
        """The recurrent core in front of the state at x, and the prior below it."""
        self.arrow([(x - PITCH + HALF, STATE), (x - 148, STATE)], dreamt)
        self.block((x - 110, STATE), (76, 36), "recurrent", dreamt, 9)
        self.arrow([(x - 72, STATE), (x - HALF, STATE)], dreamt)
        self.page.dot((x - 62, STATE), AMBER_LINE if dreamt else SLATE)
        self.arrow([(x - 62, STATE), (x - 62, LATENT + 16)], dreamt)
        self.block((x - 101, LATENT), (92, 32), "prior", dreamt)

    def real(self, x: float, t: int, frame: Image.Image, again: Image.Image) -> None:
        """One replayed row, from its frame up to what the heads make of the state."""
        self.core(x, False)
        self.page.text((x - 110, ACTOR), f"$a_{t - 1}$", INK, 13)
        self.arrow([(x - 110, ACTOR - 11), (x - 110, STATE + 18)], False)
        self.page.dot((x - 45, STATE), SLATE)
        self.arrow([(x - 45, STATE), (x - 45, POSTERIOR + 16)], False)
        self.arrow([(x, POSTERIOR + 16), (x, LATENT - 28)], False)
        ends = [(x - 101, LATENT - 16), (x - 101, POSTERIOR), (x - 60, POSTERIOR)]
        self.arrow(ends, False, dashed=True, ends="<|-|>")
        self.block((x, POSTERIOR), (120, 32), "posterior", False)
        self.page.text((x - 108, (LATENT + POSTERIOR) / 2 - 8), "KL", LINE, 9.5, ha="right")
        self.page.image((x, FRAME), 58, frame, SLATE)
        self.page.text((x - 48, FRAME), f"$o_{t}$", INK, 13)
        self.arrow([(x, FRAME + 32), (x, ENCODER - 15)], False)
        self.block((x, ENCODER), (76, 30), "encoder", False)
        self.arrow([(x, ENCODER + 15), (x, POSTERIOR - 16)], False)
        self.page.text((x + 16, (ENCODER + POSTERIOR) / 2), f"$e_{t}$", INK, 13)
        self.state(x, t, False)
        self.head(x, t, -1, "decoder", "", dreamt=False)
        self.head(x, t, 0, "reward", r"\hat r", dreamt=False)
        self.head(x, t, 1, "continue", r"\hat c", dreamt=False)
        self.page.image((x - 66, AGAIN), 58, again, SLATE)
        self.page.text((x - 19, AGAIN + 20), rf"$\hat o_{t}$", INK, 13)

    def dreamt(self, x: float, t: int) -> None:
        """One imagined step: the actor chooses, the latent comes from the prior."""
        self.core(x, True)
        actor = x - 110
        before = x - PITCH
        self.arrow([(before + 16, 362), (before + 16, ACTOR), (actor - 30, ACTOR)], True)
        self.block((actor, ACTOR), (60, 26), "actor", True, 9)
        self.arrow([(actor, ACTOR - 13), (actor, STATE + 18)], True)
        self.page.text((actor + 16, (ACTOR + STATE) / 2 + 3), f"$a_{t - 1}$", INK, 13)
        self.arrow([(x - 55, LATENT), (x - HALF, LATENT)], True)
        self.state(x, t, True)
        self.head(x, t, -1, "reward", r"\hat r", dreamt=True)
        self.head(x, t, 0, "continue", r"\hat c", dreamt=True)
        self.head(x, t, 1, "critic", "v", dreamt=True)

    def draw(self, real: Sequence[Image.Image], again: Sequence[Image.Image]) -> None:
        """Both halves, and the way from one to the other."""
        self.panel(
            self.LEFT,
            SLATE_TINT,
            "World model learning",
            "replayed rows, eyes open",
            r"$\hat o_t,\hat r_t,\hat c_t$ learn what the row holds; "
            "KL: prior and posterior learn to agree",
        )
        self.panel(
            self.RIGHT,
            AMBER_TINT,
            "Behaviour learning",
            "imagined rows, eyes closed",
            r"$v_t$ learns the return $R_t$; the actor learns to raise it",
        )
        first = 187
        start = 788
        for k, (frame, seen) in enumerate(zip(real, again, strict=True)):
            self.real(first + PITCH * k, k + 1, frame, seen)
        last = first + 2 * PITCH + HALF
        self.page.arrow([(last, 300), (start - HALF, 300)], SLATE, dashed=True)
        middle = (last + start - HALF) / 2
        self.page.text((middle, 274), "every state\nstarts a dream", LINE, 9.5)
        self.state(start, 1, False)
        self.head(start, 1, 1, "critic", "v", dreamt=True)
        for k in (1, 2):
            self.dreamt(start + PITCH * k, k + 1)
        middle = sum(self.RIGHT) / 2
        self.page.box((middle, 122), (470, 128), face=PAPER, edge=AMBER_SOFT, radius=10)
        self.page.text((middle, 164), "returns, from the last step back: $R_3=v_3$, then", LINE, 11)
        returns = r"$R_t=\hat r_{t+1}+\hat c_{t+1}\,[(1-\lambda)\,v_{t+1}+\lambda R_{t+1}]$"
        self.page.text((middle, 130), returns, INK, 14)
        words = r"$\hat c_t$: probability that the episode goes on, discount included;"
        words += "\nno gradient reaches the world model from here"
        self.page.text((middle, 88), words, LINE, 10.5)
