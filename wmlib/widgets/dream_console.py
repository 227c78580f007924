"""The dream and the real world side by side, under the same actions: error, or luck?"""

import textwrap
from typing import Any

import numpy as np
from PIL import Image

from wmlib.agent import Dreamer
from wmlib.envs.make import make_env
from wmlib.figures import AMBER, INK, SLATE, SOFT
from wmlib.page import content, pack
from wmlib.widgets.base import ALERT, TINT, Canvas, Widget, framed, signed
from wmlib.widgets.dream_player import DreamPlayer
from wmlib.widgets.dream_session import CURTAIN, ConsoleResult, Session, compute

__all__ = ["DreamConsole"]

FILM = 8  # frames in the film strip


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
    return canvas.image


class DreamConsole(Widget):
    """Steer the world and the dream at once, or watch the agent do it.

    Both run in the page, by `wmlib.page`: no key and no frame waits for Python. What was played
    last is `result`, computed here from the actions and latents of the page.

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
        played: int = 5,
        **world: Any,
    ) -> None:
        self.agent, self.env_id, self.seed, self.world = agent, env_id, seed, world
        self.eyes_open, self.horizon, self.played = eyes_open, horizon, played
        session = Session(agent, make_env(env_id, **world), seed, eyes_open, horizon)
        shown = content(agent, session.env, context=eyes_open, horizon=horizon, seed=seed)
        self.player = DreamPlayer(content=shown, played=played)
        self.assemble([], self.evaluate())
        self.view = framed([self.player, self.message], self.alt)
        self.view.add_class("wmlib-page")
        self.player.observe(self.hear, names="report")

    def evaluate(self) -> ConsoleResult:
        """What the page reported last; before that, the beginning of the first episode."""
        if self.player.report:
            return self.replay(self.player.report)
        actions = (None,) * self.played
        return compute(
            self.agent, actions, self.env_id, self.seed, self.eyes_open, self.horizon, **self.world
        )

    def refresh(self) -> None:
        """The agent has learnt something: the page goes on with its weights."""
        self.player.weights = pack(self.agent)
        super().refresh()

    def hear(self, change: dict[str, Any]) -> None:
        """Compute once more what the page has played."""
        self.attempt(lambda: self.replay(change["new"]))

    def replay(self, report: dict[str, Any]) -> ConsoleResult:
        """A report of the page -> the same frames, scores and verdict, from PyTorch."""
        keys = ("temperature", "start", "latents", "horizon")
        return compute(
            self.agent,
            report["actions"],
            self.env_id,
            self.seed,
            report["context"],
            **{key: report[key] for key in keys},
            **self.world,
        )
