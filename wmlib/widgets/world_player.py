"""Curtain by hand, beside what can be known about it exactly."""

from dataclasses import dataclass
from typing import Any

import gymnasium
import ipywidgets
import numpy as np
from PIL import Image

import wmlib.envs  # noqa: F401 (registers the world)
from wmlib.envs.curtain import LANES, Rules
from wmlib.envs.oracle import belief, entropy_per_step, optimal_action, value
from wmlib.errors import BadInput
from wmlib.figures import FAINT, INK, SLATE, SOFT, picture
from wmlib.figures.base import SCALE
from wmlib.widgets.base import BUTTONS, LINE, TINT, Canvas, Widget, button, signed

__all__ = ["PlayerResult", "WorldPlayer"]


@dataclass(frozen=True)
class PlayerResult:
    """Everything the world player shows."""

    t: int
    seen: np.ndarray  # (16, 16, 1) uint8, the newest frame
    painted: np.ndarray  # (192, 192, 3) uint8, the same in colour, the ball shown if peeking
    peek: bool
    hint: bool  # the best move is shown
    belief: np.ndarray  # (8,) distribution of the landing lane given all frames so far
    entropy: np.ndarray  # (8,) nats of every step
    nats: float  # of this step: entropy of this frame before it was seen
    value: float  # best expected return from here on
    best_action: int | None  # None on the last frame; drawn only with a hint
    reward: float  # that came with this frame
    score: float  # return of this ball so far
    over: bool
    caught: bool | None  # None until the end
    p: float
    earlier: tuple[bool, ...]  # earlier balls: caught or not


def compute(
    p: float = 0.5,
    seed: int = 0,
    actions: tuple[int, ...] = (),
    peek: bool = False,
    earlier: tuple[bool, ...] = (),
    hint: bool = False,
    **world: Any,
) -> PlayerResult:
    """Play these actions from the reset of this seed on; the same arguments, the same result.

    Raises:
        BadInput: more actions than the episode has, or a world that cannot be.
    """
    env: Any = gymnasium.make(
        "wmlib/Curtain-v0", render_mode="rgb_array", disable_env_checker=True, p=p, **world
    ).unwrapped
    rules: Rules = env.rules
    if rules.rows != 8:
        raise BadInput(f"The world player draws boards of 8 rows, not {rules.rows}.")
    if len(actions) > rules.last:
        raise BadInput(f"An episode has {rules.last} actions, not {len(actions)}.")
    frame, info = env.reset(seed=seed)
    frames = [frame]
    rewards = [0.0]
    over = False
    for action in actions:
        frame, reward, over, _, info = env.step(action)
        frames.append(frame)
        rewards.append(float(reward))
    t = info["t"]
    paddle = int(env.state.paddle[0])
    known = info["offset"] if t >= rules.reveal else None
    situation = (t, info["lane"], known, paddle)
    nats = entropy_per_step(rules)
    return PlayerResult(
        t=t,
        seen=frame,
        painted=env.render(peek=peek),
        peek=peek,
        hint=hint,
        belief=belief(rules, np.stack(frames)),
        entropy=nats,
        nats=float(nats[t]),
        value=value(rules, situation),
        best_action=None if over else optimal_action(rules, situation),
        reward=rewards[-1],
        score=sum(rewards),
        over=over,
        caught=paddle == info["lane"] + info["offset"] if over else None,
        p=p,
        earlier=tuple(earlier),
    )


def draw(result: PlayerResult) -> Image.Image:
    """Two boards, the belief under its lanes, the entropy of every step, and the numbers."""
    canvas = Canvas(720, 398)
    side = 192
    left, middle, right, top, floor = 24, 252, 488, 44, 356
    canvas.text(left, 30, "the world" + ", curtain lifted" * result.peek, bold=True)
    canvas.box(left - 3, top - 3, side + 6, side + 6, SLATE)
    canvas.paste(left, top, picture(result.painted, SCALE * side))
    canvas.text(middle, 30, "what an agent sees", bold=True)
    canvas.frame(middle, top, result.seen, side, SLATE)

    canvas.text(left, 266, "belief: where it lands", bold=True)
    canvas.text(middle, 266, "entropy per step, nats", bold=True)
    lane = side // LANES
    lanes = [SLATE if share > 0.005 else FAINT for share in result.belief]
    steps = [SLATE if t == result.t else FAINT for t in range(8)]
    for x, heights, colors in ((left, result.belief, lanes), (middle, result.entropy, steps)):
        share = heights / max(1.0, heights.max())
        for k in range(LANES):
            tall = 60 * share[k]
            canvas.box(x + k * lane + 3, floor - tall, lane - 6, tall, colors[k])
            now = colors[k] == SLATE
            color = INK if now else SOFT
            if heights[k] > 0.005:
                label = f"{heights[k]:.2f}".removeprefix("0")
                canvas.text(x + (k + 0.5) * lane, floor - tall - 4, label, color, 11, anchor="ms")
            canvas.text(x + (k + 0.5) * lane, floor + 16, str(k), color, 11, bold=now, anchor="ms")
        canvas.box(x, floor, side, 1, LINE)
    canvas.text(left + side / 2, floor + 32, "lane", SOFT, 11, anchor="ms")
    canvas.text(middle + side / 2, floor + 32, "step t", SOFT, 11, anchor="ms")

    canvas.box(464, 1, 255, 396, TINT)
    canvas.text(right, 30, f"t = {result.t} of 7", bold=True)
    canvas.fact(right, 64, "entropy of this step", f"{result.nats:.2f} nats")
    canvas.fact(right, 122, "value from here on", signed(result.value))
    best = "none" if result.best_action is None else BUTTONS[result.best_action]
    canvas.fact(right, 180, "best move", best if result.hint else "?")
    canvas.fact(right, 238, "score of this ball", signed(result.score))
    past = result.earlier if result.caught is None else (*result.earlier, result.caught)
    canvas.text(right, 298, f"caught {sum(past)} of {len(past)}", SOFT)
    canvas.text(right, 318, f"coin: left with p = {result.p:.2f}", SOFT)
    if result.over:
        canvas.text(right, 356, "Caught." if result.caught else "Missed.", bold=True)
        canvas.text(right, 376, "“next ball” drops another.", SOFT)
    return canvas.image


class WorldPlayer(Widget):
    """Play Curtain: left, stay, right, the coin's p, a peek behind the curtain, the best move.

    seed: of the first ball; every further ball has the next one. actions: already taken when the
    widget appears. world: further settings of `wmlib/Curtain-v0`.
    """

    alt = (
        "World player: the Curtain board in colour and as the agent's 16 × 16 pixels, the belief "
        "over the landing lane, the entropy of each step, the value and, on request, the best move."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self,
        p: float = 0.5,
        seed: int = 0,
        actions: tuple[int, ...] = (),
        peek: bool = False,
        **world: Any,
    ) -> None:
        self.world = world
        self.seed = seed
        self.actions = tuple(actions)
        self.earlier: tuple[bool, ...] = ()  # balls: caught or not
        fixed = bool({"offsets", "probs"} & set(world))  # they override p
        self.p = ipywidgets.FloatSlider(
            p,
            min=0,
            max=1,
            step=0.05,
            description="p",
            disabled=fixed,
            style={"description_width": "24px"},
            layout={"width": "240px"},
        )
        style = {"indent": False, "layout": {"width": "auto", "margin": "2px 12px 2px 2px"}}
        self.peek = ipywidgets.Checkbox(peek, description="peek behind the curtain", **style)
        self.hint = ipywidgets.Checkbox(False, description="show the best move", **style)
        self.buttons = [button(word) for word in BUTTONS]
        self.next = button("next ball", 90)
        rows = [[*self.buttons, self.next], [self.p, self.peek, self.hint]]
        self.assemble(rows, self.evaluate(), refreshed_by=[self.peek, self.hint])
        for index, item in enumerate(self.buttons):
            self.on(item, lambda _, index=index: self.act(index))
        self.on(self.next, lambda _: self.drop())
        self.on(self.p, self.new_coin)

    def evaluate(self) -> PlayerResult:
        """The result of the current controls."""
        result = compute(
            self.p.value,
            self.seed,
            self.actions,
            peek=self.peek.value,
            earlier=self.earlier,
            hint=self.hint.value,
            **self.world,
        )
        for item in self.buttons:
            item.disabled = result.over
        self.next.button_style = "primary" if result.over else ""
        return result

    def act(self, action: int) -> PlayerResult | None:
        """Take an action, unless this ball has landed."""
        if self.result.over:
            return None
        self.actions = (*self.actions, action)
        return self.evaluate()

    def drop(self) -> PlayerResult:
        """The next ball; one that was still falling does not count."""
        if self.result.over:
            self.earlier = (*self.earlier, self.result.caught)
        self.seed += 1
        self.actions = ()
        return self.evaluate()

    def new_coin(self, _: float) -> PlayerResult:
        """Another p: drop the same ball again and count from zero."""
        self.actions = ()
        self.earlier = ()
        return self.evaluate()
