"""The dream and the real world side by side, under the same actions: error, or luck?"""

import textwrap
from typing import Any

import ipywidgets
import numpy as np
from PIL import Image

from wmlib.agent import Dreamer
from wmlib.envs.make import make_env
from wmlib.figures import AMBER, INK, SLATE, SOFT
from wmlib.widgets.base import ALERT, BUTTONS, TINT, Canvas, Widget, button, signed
from wmlib.widgets.dream_session import CURTAIN, ConsoleResult, Session, compute

__all__ = ["DreamConsole"]

FILM = 8  # frames in the film strip
HOLD = 4  # ticks of the play button for which a finished episode stays on screen


def draw(result: ConsoleResult) -> Image.Image:
    """The newest frames, the film so far, and the scores."""
    canvas = Canvas(720, 418)
    side, small = 192, 48
    left, middle, right, top = 24, 252, 488, 44
    canvas.text(left, 30, "the real world", bold=True)
    canvas.frame(left, top, result.real[-1], side, SLATE)
    shut = result.closed[-1]
    canvas.text(middle, 30, "the dream, eyes closed" if shut else "the model, eyes open", bold=True)
    canvas.frame(middle, top, result.dream[-1], side, AMBER if shut else SLATE)

    begin = max(0, result.t + 1 - FILM)
    for k, t in enumerate(range(begin, result.t + 1)):
        x = left + k * 53
        edge = AMBER if result.closed[t] else SLATE
        now = t == result.t
        apart = t == result.parted
        label, color = (f"≠ {t}", ALERT) if apart else (str(t), INK if now else SOFT)
        canvas.text(x + 24, 266, label, color, 12, bold=now or apart, anchor="ms")
        canvas.frame(x, 275, result.real[t], small, SLATE, 2)
        canvas.frame(x, 331, result.dream[t], small, edge, 2)
        canvas.box(x - 2, 386, small + 4, 4, edge)
        if k == 0 or result.closed[t] != result.closed[t - 1]:
            canvas.text(x - 2, 405, "eyes closed" if result.closed[t] else "eyes open", SOFT, 12)

    canvas.box(464, 1, 255, 416, TINT)
    canvas.text(right, 30, f"episode {result.episode + 1}, frame {result.t}", bold=True)
    numbers = (
        (result.real_score, "score in the world", SLATE),
        (result.dream_score, "in the dream", AMBER),
    )
    for y, (score, label, color) in zip((64, 122), numbers, strict=True):
        canvas.box(right, y - 10, 10, 10, color)
        canvas.text(right + 18, y, label, SOFT)
        canvas.text(right, y + 24, signed(score), size=18, bold=True)
    word = "no oracle" if result.verdict == "unknown" else result.verdict
    place = "error or luck?" if result.parted is None else f"they parted at frame {result.parted}"
    canvas.fact(right, 180, place, word, ALERT if result.verdict == "error" else INK)
    for k, line in enumerate(textwrap.wrap(result.reason, 33)):
        canvas.text(right, 226 + 17 * k, line, SOFT, 12)
    if result.scores:
        means = np.mean(result.scores, 0)
        canvas.text(right, 302, f"means, finished episodes: {len(result.scores)}", SOFT)
        canvas.text(right, 320, f"world {signed(means[0])}, dream {signed(means[1])}", SOFT)
    canvas.text(right, 350, f"temperature {result.temperature:.1f}", SOFT)
    if result.over:
        canvas.text(right, 382, "The episode is over.", bold=True)
        canvas.text(right, 402, "Step or a move starts the next.", SOFT)
    return canvas.image


class DreamConsole(Widget):
    """Steer the world and the dream at once, or watch the agent do it.

    agent: a trained agent for `env_id`, a world of images with discrete actions. seed: of the first
    episode. eyes_open: frames the model sees after a reset. horizon: frames it then dreams. world:
    further settings for `make_env`. played: actions the agent has taken before any click.
    """

    alt = (
        "Dream console: the real world and the model's dream of it under the same actions, frame "
        "by frame, with both scores and the frame where they part."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self,
        agent: Dreamer,
        env_id: str = CURTAIN,
        seed: int = 0,
        eyes_open: int = 4,
        horizon: int = 15,
        temperature: float = 1.0,
        played: int = 5,
        **world: Any,
    ) -> None:
        self.played = played
        self.session = Session(agent, make_env(env_id, **world), seed, eyes_open, horizon)
        count = int(self.session.env.single_action_space.n)
        names = {2: ("◀ left", "right ▶"), 3: BUTTONS}.get(count, [str(k) for k in range(count)])
        self.idle = count // 2
        self.wish: int | None = None  # of the human, for the next tick
        self.held = 0  # ticks since the episode ended
        self.buttons = [button(name) for name in names]
        self.driver = ipywidgets.ToggleButtons(
            options=["agent", "human"],
            style={"button_width": "76px"},
            layout={"margin": "2px 0 0 12px"},
        )
        self.play = ipywidgets.Play(max=10**6, interval=300, show_repeat=False)
        self.once = button("step")
        self.heat = ipywidgets.FloatSlider(
            temperature,
            min=0.1,
            max=3,
            step=0.1,
            description="temperature",
            readout_format=".1f",
            style={"description_width": "90px"},
        )
        rows = [[*self.buttons, self.driver], [self.play, self.once, self.heat]]
        self.assemble(rows, self.episode())
        for index, item in enumerate(self.buttons):
            self.on(item, lambda _, index=index: self.press(index))
        self.on(self.once, lambda _: self.advance())
        self.on(self.play, self.tick)

    def episode(self) -> ConsoleResult:
        """The next episode, begun by the agent."""
        result = self.session.reset(self.heat.value)
        while not result.over and result.t < self.played:
            result = self.session.step(None, self.heat.value)
        return result

    def evaluate(self) -> ConsoleResult:
        """The episode as it stands: these controls act, and only acting changes it."""
        return self.result

    def refresh(self) -> None:
        """The agent has learnt something: it begins the episode on screen once more."""
        self.session.episode -= 1
        self.session.scores = ()
        self.show(self.episode())

    def advance(self, action: int | None = None) -> ConsoleResult:
        """One frame on: this action, or the driver's; after the end, the next episode."""
        self.held = 0
        heat = self.heat.value
        if self.result.over:
            return self.session.reset(heat)
        if action is None and self.driver.value == "human":
            action = self.idle if self.wish is None else self.wish
            self.wish = None
        return self.session.step(action, heat)

    def press(self, action: int) -> ConsoleResult | None:
        """An action button: the human takes over, at once or with the next tick of play."""
        self.driver.value = "human"
        if self.play.playing:
            self.wish = action
            return None
        return self.advance(action)

    def tick(self, count: int) -> ConsoleResult | None:
        """The play button; 0 is its stop."""
        self.held += self.result.over
        return self.advance() if count and (not self.result.over or self.held > HOLD) else None
