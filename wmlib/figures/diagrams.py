"""The map of the whole agent that opens every notebook, with today's blocks lit."""

from collections.abc import Sequence
from typing import Any

from wmlib.errors import BadInput
from wmlib.figures.base import AMBER, INK, PAPER, SLATE, Picture
from wmlib.figures.sheet import (
    AMBER_LINE,
    AMBER_SOFT,
    AMBER_TINT,
    DREAMT,
    LINE,
    MUTED,
    REAL,
    SLATE_TINT,
    Page,
    Point,
    default_look,
)

__all__ = ["BLOCKS", "agent_map"]

BLOCKS = (
    "world",
    "replay",
    "encoder",
    "recurrent",
    "latent",
    "prior",
    "posterior",
    "decoder",
    "reward",
    "continue",
    "imagination",
    "actor",
    "critic",
)


def agent_map(*lit: str) -> Picture:
    """The whole agent over a real and an imagined step, with the named blocks lit (default: all).

    Raises:
        BadInput: a name that is not in `BLOCKS`.
    """
    for name in lit:
        if name not in BLOCKS:
            raise BadInput(f"The map has no block '{name}'; it has {', '.join(BLOCKS)}.")
    with default_look():
        drawing = _Map(frozenset(lit or BLOCKS))
        drawing.draw()
        alt = (
            "Map of the agent. A real step in slate: observation, encoder, posterior, model state; "
            "an imagined step in amber: recurrent core, prior, model state. Both states feed "
            "decoder, reward, continue, critic and actor. Lit here: "
        )
        return drawing.page.picture(alt + (", ".join(lit) or "everything") + ".")


class _Map:
    """`agent_map` while it is being drawn."""

    HEADS = (("decoder", "o"), ("reward", "r"), ("continue", "c"), ("critic", "v"), ("actor", "a"))
    LEFT, RIGHT = 142, 552  # of the real and the imagined step
    LOW, MIDDLE, HIGH = 52, 117, 191  # encoder, posterior, prior
    STATE, TOP = 260, 348  # recurrent core and model state, heads

    def __init__(self, lit: frozenset[str]):
        self.page = Page(960, 440)
        self.lit = lit

    def block(
        self,
        name: str,
        at: Point,
        size: Point,
        text: str,
        dreamt: bool = False,
        radius: float = 6,
        points: float = 9.5,
    ) -> None:
        """A block in its colours: filled if lit, an outline if not."""
        face, edge, ink = (PAPER, AMBER_SOFT if dreamt else MUTED, LINE)
        if name in self.lit:
            face, edge, ink = DREAMT if dreamt else REAL
        self.page.box(at, size, text, face, edge, ink, radius=radius, points=points)

    def symbol(self, name: str, at: Point, letter: str, index: str, dreamt: bool = False) -> None:
        """A quantity of the course's notation in a pill."""
        text = f"${letter}_{{{index}}}$"
        self.block(name, at, (46, 34), text, dreamt, radius=16.9, points=13)

    def arrow(
        self, points: Sequence[Point], *names: str, dreamt: bool = False, **style: Any
    ) -> None:
        """An arrow, dark if a block it belongs to is lit."""
        strong = bool(self.lit.intersection(names))
        ink = max(
            (self.ink(name, dreamt) for name in names), key=lambda c: c in (SLATE, AMBER_LINE)
        )
        self.page.arrow(points, ink, strong=strong, **style)

    def ink(self, name: str, dreamt: bool) -> str:
        """The colour of lines that belong to a block."""
        if name in self.lit:
            return AMBER_LINE if dreamt else SLATE
        return AMBER_SOFT if dreamt else MUTED

    def step(self, left: float, index: str, dreamt: bool) -> None:
        """What both steps have in common."""
        core, h, prior, z = (left + dx for dx in (50, 134, 216, 318))
        hat = r"\hat " if dreamt else ""
        tint = AMBER_TINT if dreamt else SLATE_TINT
        edge = tint
        if dreamt and "imagination" in self.lit:
            edge = AMBER
        self.page.box((left + 198, 214), (396, 392), face=tint, edge=edge, radius=8, zorder=0)
        self.arrow([(core + 38, self.STATE), (h - 23, self.STATE)], "recurrent", dreamt=dreamt)
        self.arrow([(h + 23, self.STATE), (z - 42, self.STATE)], "recurrent", dreamt=dreamt)
        self.arrow([(prior, self.STATE), (prior, self.HIGH + 20)], "prior", dreamt=dreamt)
        self.arrow([(z, self.HIGH + 17), (z, self.STATE - 16)], "latent", dreamt=dreamt)
        self.block("recurrent", (core, self.STATE), (76, 40), "recurrent", dreamt)
        self.symbol("recurrent", (h, self.STATE), "h", index, dreamt)
        self.block("prior", (prior, self.HIGH), (120, 40), "", dreamt)
        formula = rf"$p(\hat z_{{{index}}}\,|\,h_{{{index}}})$"
        self.words("prior", (prior, self.HIGH), formula, dreamt)
        self.symbol("latent", (z, self.HIGH), hat + "z", index, dreamt)
        self.page.dot((prior, self.STATE), self.ink("prior", dreamt))
        self.page.text((z - 12, self.STATE + 27), "model state", LINE, 8.5, ha="right")
        both = f"$h_{{{index}}},{hat}z_{{{index}}}$"
        self.page.box((z, self.STATE), (84, 32), both, edge=LINE, radius=15.9, points=12)
        for k, (name, letter) in enumerate(self.HEADS):
            x = left + 54 + 72 * k
            fork = self.STATE + 46
            path = [(z, self.STATE + 16), (z, fork), (x, fork), (x, self.TOP - 16)]
            self.arrow(path, name, dreamt=dreamt)
            self.block(name, (x, self.TOP), (66, 30), name, dreamt, points=9)
            self.arrow([(x, self.TOP + 15), (x, self.TOP + 30)], name, dreamt=dreamt)
            head = r"\hat " if letter in "orc" else ""
            self.page.text((x, self.TOP + 41), f"${head}{letter}_{{{index}}}$", INK, 13)

    def words(self, name: str, at: Point, formula: str, dreamt: bool = False) -> None:
        """A distribution with its name above it, inside a block."""
        ink = LINE if name not in self.lit else INK if dreamt else PAPER
        self.page.text((at[0], at[1] + 8), name, ink, 9)
        self.page.text((at[0], at[1] - 8), formula, ink, 10.5)

    def draw(self) -> None:
        """Both steps, what feeds them, and the loop through the world."""
        self.step(self.LEFT, "t", False)
        self.step(self.RIGHT, "t+1", True)
        self.eyes_open(self.LEFT)
        self.eyes_closed(self.RIGHT)
        self.between()

    def eyes_open(self, left: float) -> None:
        """The observation and its way into the posterior; the world and its rows."""
        h, latent, z = (left + dx for dx in (134, 216, 318))
        low, middle = self.LOW, self.MIDDLE
        world = 66
        self.arrow([(world, 190), (world, low + 20)], "world", "replay")
        self.arrow([(world + 44, low), (left + 22, low)], "replay")
        self.arrow([(left + 68, low), (left + 94, low)], "encoder")
        self.arrow([(left + 170, low), (latent, low), (latent, middle - 20)], "encoder")
        self.arrow([(h, self.STATE - 17), (h, middle), (latent - 60, middle)], "posterior")
        self.arrow([(latent + 60, middle), (z, middle), (z, self.HIGH - 17)], "posterior")
        ends = [(latent, self.HIGH - 20), (latent, middle + 20)]
        self.arrow(ends, "prior", "posterior", dashed=True, ends="<|-|>")
        self.block("world", (world, 212), (88, 44), "world")
        self.block("replay", (world, low), (88, 40), "replay")
        self.symbol("world", (left + 45, low), "o", "t")
        self.block("encoder", (left + 132, low), (76, 36), "encoder")
        self.block("posterior", (latent, middle), (120, 40), "")
        self.words("posterior", (latent, middle), r"$q(z_t\,|\,h_t,e_t)$")
        self.page.text((latent + 14, (low + middle) / 2 - 6), "$e_t$", INK, 13)
        self.page.text((latent + 10, (self.HIGH + middle) / 2), "KL", LINE, 9, ha="left")
        self.page.text((world + 8, 132), "$o_t,r_t,a_t$", INK, 11.5, ha="left")
        self.page.text((left + 384, 34), "eyes open", SLATE, 9.5, ha="right")

    def eyes_closed(self, left: float) -> None:
        """Nothing is seen; the latent is drawn from the prior."""
        self.arrow([(left + 276, self.HIGH), (left + 295, self.HIGH)], "prior", dreamt=True)
        lit = "imagination" in self.lit
        face, edge, ink = DREAMT if lit else (PAPER, AMBER_SOFT, LINE)
        at = (left + 198, (self.LOW + self.MIDDLE) / 2)
        self.page.box(at, (356, 74), face=face, edge=edge)
        self.page.text((at[0], at[1] + 19), "imagination", ink, 9.5)
        words = "eyes closed, no observation:\n"
        words += r"$\hat z$ from the prior, $a$ from the actor, step after step"
        self.page.text((at[0], at[1] - 11), words, ink, 9)

    def between(self) -> None:
        """From one step to the next, and back into the world."""
        first, second = self.LEFT, self.RIGHT
        leave, core = first + 360, second + 12
        row = self.STATE
        out = self.TOP + 41
        self.arrow([(118, row), (first + 12, row)], "recurrent")
        self.page.text((first - 8, row + 33), "$h_{t-1},z_{t-1}$", INK, 11.5, ha="right")
        self.page.text((first - 8, row + 12), "$a_{t-1}$", INK, 11.5, ha="right")
        self.arrow([(leave, row), (core, row)], "recurrent", dreamt=True)
        gap = (first + 396 + second) / 2
        enter = [(first + 354, out), (gap, out), (gap, row + 12), (core, row + 12)]
        self.arrow(enter, "recurrent", dreamt=True)
        act = [(first + 342, out + 10), (first + 342, 427), (46, 427), (46, 234)]
        self.arrow(act, "world")
        self.arrow([(second + 360, row), (954, row)], "imagination", dreamt=True)
        last = second + 382
        follow = [(second + 362, out), (last, out), (last, row + 12), (954, row + 12)]
        self.arrow(follow, "imagination", dreamt=True)
