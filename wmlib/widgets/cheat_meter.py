"""A policy made for a dream, and what it earns in the world: bet before you look.

The world is Curtain with `late=True`. Its dream is exact but for the coin, whose law a temperature
sharpens or flattens; so dream and real return of the best policy for a dream are exact too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import ipywidgets
import numpy as np
from PIL import Image

from wmlib.envs.curtain import Rules, make_rules
from wmlib.envs.oracle import COST, NEXT, at_start, mix, optimal_return, sweep
from wmlib.errors import BadInput
from wmlib.figures import AMBER, INK, PAPER, SLATE, SOFT
from wmlib.widgets.base import LINE, TINT, Canvas, Widget, button, signed

__all__ = ["CheatMeter", "CheatResult", "heated", "soft_policy"]

CHOICES = (0.05, 0.07, 0.1, 0.14, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.4, 2.0)
TAUS = tuple(np.round(np.geomspace(0.05, 2.0, 33), 4))  # of the curves
LOW, HIGH = -0.5, 1.0  # ends of the scale of returns
HIDDEN = "place a bet to see it"


@dataclass(frozen=True)
class CheatResult:
    """Everything the meter shows; `real` and `real_curve` are drawn only once a bet is placed."""

    tau: float
    p: float  # the real coin: two lanes to the left with p
    entropy: float  # bonus per nat, added to the reward when the policy is made
    dreamt_p: float  # the coin of the dream
    dream: float  # return of the policy in the dream it was made for
    real: float  # return of the same policy in the world
    best: float  # what the best policy earns in the world
    taus: np.ndarray  # (33,) temperatures of the curves
    dream_curve: np.ndarray  # (33,)
    real_curve: np.ndarray  # (33,)
    own: tuple[tuple[float, float, float], ...]  # the reader's policies: tau, dream, real return
    bet: float | None  # on the real return; None: not placed yet
    mark: float  # where the slider for the bet stands
    bets: tuple[tuple[float, float], ...]  # all bets placed: (bet, real return)


def heated(rules: Rules, tau: float) -> Rules:
    """The rules as a dream of this temperature has them: the coin's law to the power 1/tau."""
    odds = (np.array(rules.probs) / max(rules.probs)) ** (1 / tau)
    return replace(rules, probs=tuple(odds / odds.sum()))


def soft_policy(rules: Rules, entropy: float) -> np.ndarray:
    """Policy (R-1, 4, K+1, L, 3) that earns most when each nat of its entropy pays a bonus.

    Dynamic programming as in `oracle.sweep`, with a softmax of the values in place of the maximum.
    """
    values, best = sweep(rules)
    if entropy == 0:
        return best
    ahead = values[-1]  # (4, K+1, L)
    for t in reversed(range(rules.last)):
        if t + 1 == rules.reveal:
            ahead = np.concatenate([ahead[:, :-1], mix(rules, ahead)[:, None]], 1)
        q = (ahead[..., NEXT] - COST) / entropy
        top = q.max(-1, keepdims=True)
        odds = np.exp(q - top)
        best[t] = odds / odds.sum(-1, keepdims=True)
        ahead = entropy * (top[..., 0] + np.log(odds.sum(-1)))
    return best


@lru_cache(maxsize=64)
def returns(p: float, entropy: float, tau: float) -> tuple[float, float]:
    """Dream and real return of the policy made for a dream of temperature tau."""
    world = make_rules(p=p, late=True)
    dream = heated(world, tau)
    policy = soft_policy(dream, entropy)
    dreamt, real = (at_start(sweep(rules, policy=policy)[0]) for rules in (dream, world))
    return dreamt, real


@lru_cache(maxsize=64)
def curves(p: float, entropy: float) -> np.ndarray:
    """Dream and real returns over the temperatures of the scale, (2, 33)."""
    return np.array([returns.__wrapped__(p, entropy, tau) for tau in TAUS]).T


def compute(
    tau: float = 0.25,
    p: float = 0.6,
    entropy: float = 0.0,
    bet: float | None = None,
    own: Mapping[float, tuple[float, float]] | None = None,
    bets: tuple[tuple[float, float], ...] = (),
    mark: float = 0.0,
) -> CheatResult:
    """The meter at one setting. own: tau -> (dream, real return) of policies to draw as dots.

    Raises:
        BadInput: a temperature that is not positive, or a negative bonus.
    """
    if not tau > 0 or entropy < 0:
        raise BadInput(
            f"The temperature must be positive and the bonus not negative, not {tau}, {entropy}."
        )
    dream, real = returns(p, entropy, tau)
    world = make_rules(p=p, late=True)
    dots = tuple((t, *pair) for t, pair in sorted((own or {}).items()))
    dream_curve, real_curve = curves(p, entropy)
    return CheatResult(
        tau=tau,
        p=p,
        entropy=entropy,
        dreamt_p=heated(world, tau).probs[0],
        dream=dream,
        real=real,
        best=optimal_return(world),
        taus=np.array(TAUS),
        dream_curve=dream_curve,
        real_curve=real_curve,
        own=dots,
        bet=bet,
        mark=mark,
        bets=bets,
    )


def place(tau: float, value: float) -> tuple[float, float]:
    """Pixel of a temperature (logarithmic) and a return in the plot."""
    share = np.log(tau / TAUS[0]) / np.log(TAUS[-1] / TAUS[0])
    height = (np.clip(value, LOW, HIGH) - LOW) / (HIGH - LOW)
    return 64 + 368 * float(np.clip(share, 0, 1)), 316 - 262 * float(height)


def draw(result: CheatResult) -> Image.Image:
    """Returns over temperature, what is hidden left out; the numbers beside them."""
    canvas = Canvas(720, 386)
    right = 488
    shown = result.bet is not None
    canvas.text(24, 28, "return of the policy made for a dream", bold=True)
    for value in (-0.5, 0, 0.5, 1):
        y = round(place(1, value)[1])
        canvas.box(64, y, 369, 1, LINE)
        canvas.text(56, y + 4, f"{value:g}".replace("-", "−"), SOFT, 11, anchor="rs")
    for tau in (0.05, 0.1, 0.25, 0.5, 1, 2):
        canvas.text(place(tau, 0)[0], 334, f"{tau:g}", SOFT, 11, anchor="ms")
    canvas.text(248, 352, "temperature of the dream", SOFT, 11, anchor="ms")
    x = round(place(result.tau, 0)[0])
    canvas.box(x, 54, 1, 263, INK)
    y = round(place(1, result.best)[1])
    for k in range(64, 432, 8):
        canvas.box(k, y, 4, 1, INK)
    lines = [(result.dream_curve, result.dream, AMBER, 1)]
    lines += [(result.real_curve, result.real, SLATE, 2)] if shown else []
    for curve, now, color, column in lines:
        canvas.line([place(t, v) for t, v in zip(result.taus, curve, strict=True)], color, 3)
        for dot in result.own:
            canvas.disc(*place(dot[0], dot[column]), 5, PAPER, color, 2)
        canvas.disc(x, place(result.tau, now)[1], 6, color, INK)
    y = place(1, result.mark if result.bet is None else result.bet)[1]
    side = -1 if x > 400 else 1
    canvas.polygon([(x + 16 * side, y - 6), (x + 16 * side, y + 6), (x + 8 * side, y)], INK)
    notes = "triangle: your bet.  dashed: best in the world"
    notes += ".  rings: your policies" * bool(result.own)
    canvas.text(24, 374, notes, SOFT, 11)

    canvas.box(464, 1, 255, 384, TINT)
    canvas.text(right, 30, "the coin, left", bold=True)
    canvas.text(right, 52, f"world {result.p:.2f}, dream {result.dreamt_p:.2f}", SOFT)
    facts = [("return in the dream", signed(result.dream), AMBER)]
    facts += [("return in the world", signed(result.real) if shown else "?", SLATE)]
    for k, (label, number, color) in enumerate(facts):
        canvas.box(right, 78 + 58 * k, 10, 10, color)
        canvas.text(right + 18, 88 + 58 * k, label, SOFT)
        canvas.text(right, 112 + 58 * k, number, size=18, bold=True)
    if result.bet is not None:
        canvas.fact(right, 204, "you bet", signed(result.bet))
        gap = result.dream - result.real
        words = f"the dream lies by {gap:.2f}" if gap > 0.05 else "the dream keeps its word"
        canvas.text(right, 262, words, bold=True)
    else:
        canvas.text(right, 194, HIDDEN, SOFT, 12)
    canvas.text(right, 294, f"best in the world {signed(result.best)}", SOFT)
    if result.bets:
        off = np.mean([abs(bet - real) for bet, real in result.bets])
        many = f"{len(result.bets)} bet{'s' * (len(result.bets) > 1)}"
        canvas.text(right, 318, f"{many}, off by {off:.2f} on average", SOFT)
    return canvas.image


class CheatMeter(Widget):
    """Bet on the real return of a policy that was made for a dream of Curtain's late world.

    tau, p and entropy set the sliders. With `bet` the first bet is placed already. own: your own
    policies for dreams of the coin `own_p`, as tau -> (dream return, real return).
    """

    alt = (
        "Cheat meter: return of the policy made for a dream, in that dream and in the world, over "
        "the temperature of the dream; the real one is shown once a bet is placed."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self,
        tau: float = 0.25,
        p: float = 0.6,
        entropy: float = 0.0,
        bet: float | None = None,
        own: Mapping[float, tuple[float, float]] | None = None,
        own_p: float = 0.6,
    ) -> None:
        self.own = dict(own or {})
        self.own_p = own_p
        self.placed: dict[tuple[float, float, float], tuple[float, float]] = {}  # by setting
        style = {"style": {"description_width": "90px"}, "layout": {"width": "320px"}}
        self.tau = ipywidgets.SelectionSlider(
            options=sorted({*CHOICES, tau}), value=tau, description="temperature", **style
        )
        self.p, self.entropy, self.guess = (
            ipywidgets.FloatSlider(value, min=low, max=high, step=step, description=name, **style)
            for value, low, high, step, name in (
                (p, 0.5, 0.95, 0.05, "p"),
                (entropy, 0, 0.3, 0.02, "entropy η"),
                (0.0 if bet is None else bet, -0.5, 1, 0.05, "your bet"),
            )
        )
        self.button = button("bet")
        rows = [[self.tau, self.p], [self.entropy, self.guess, self.button]]
        controls = (self.tau, self.p, self.entropy, self.guess)
        first = self.evaluate() if bet is None else self.bet()
        self.assemble(rows, first, refreshed_by=controls)
        self.on(self.button, lambda _: self.bet())

    @property
    def setting(self) -> tuple[float, float, float]:
        """Temperature, coin and bonus, as the sliders have them."""
        return self.tau.value, round(self.p.value, 4), round(self.entropy.value, 4)

    def evaluate(self) -> CheatResult:
        """The result of the current controls; without a bet the real return stays hidden."""
        tau, p, entropy = self.setting
        return compute(
            tau,
            p,
            entropy,
            bet=self.placed.get(self.setting, (None,))[0],
            own=self.own if p == self.own_p else {},
            bets=tuple(self.placed.values()),
            mark=self.guess.value,
        )

    def bet(self) -> CheatResult | None:
        """Place the bet, once for each setting."""
        if self.setting in self.placed:
            return None
        self.placed[self.setting] = round(self.guess.value, 4), self.evaluate().real
        return self.evaluate()
