"""The cockpit: how training goes, and the other widgets on the agent while it learns."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
from IPython import get_ipython
from PIL import Image

from wmlib.agent import Dreamer
from wmlib.envs import oracle
from wmlib.envs.curtain import Rules
from wmlib.envs.make import make_env
from wmlib.figures import AMBER, INK, SLATE, SOFT
from wmlib.figures.base import BLUE
from wmlib.spaces import is_image
from wmlib.trainer import Trainer
from wmlib.widgets.base import LINE, TINT, Canvas, Widget, button, framed, signed
from wmlib.widgets.blindfold import BlindfoldPlayer, BlindfoldResult
from wmlib.widgets.dream_console import DreamConsole
from wmlib.widgets.dream_session import CURTAIN
from wmlib.widgets.latent_mixer import LatentMixer

__all__ = ["Cockpit", "CockpitResult"]

LATE = 0.5  # seconds after a cell in which the clicks made during it arrive
COLUMNS = ("steps", "updates", "seconds", "episodes", "score", "eval_return", "rec", "kl")


@dataclass(frozen=True)
class CockpitResult:
    """Everything the first tab shows."""

    history: dict[str, np.ndarray]  # COLUMNS of the log so far, NaN where a line has no value
    steps: int
    updates: int
    seconds: float
    score: float  # mean return of the newest training episodes; NaN before the first has ended
    levels: dict[str, float]  # returns to compare with, by name
    film: BlindfoldResult | None  # one real episode, and the agent's dream of it


def compute(
    agent: Dreamer,
    lines: Sequence[dict[str, float]],
    rows: dict[str, np.ndarray] | None = None,
    close_at: int = 4,
    rules: Rules | None = None,
    levels: dict[str, float] | None = None,
) -> CockpitResult:
    """Sum up the log of a run, and show where the agent's dream of an episode stands.

    lines: what `Trainer.run` gives to `on_log`. rows: one episode of images, (1, T, ...), as
    `wmlib.play` gives it, or None for other worlds; the dream begins at frame `close_at`.
    """
    history = {name: np.array([line.get(name, np.nan) for line in lines]) for name in COLUMNS}
    last = lines[-1] if lines else {}
    film = None
    if rows is not None:
        shut = [t >= close_at for t in range(rows["is_first"].shape[1])]
        film = BlindfoldPlayer.compute(agent, rows, shut, rules=rules)
    scores = history["score"][np.isfinite(history["score"])]
    return CockpitResult(
        history=history,
        steps=int(last.get("steps", 0)),
        updates=int(last.get("updates", 0)),
        seconds=float(last.get("seconds", 0.0)),
        score=float(scores[-1]) if len(scores) else np.nan,
        levels=dict(levels or {}),
        film=film,
    )


# ---------------------------------------------------------------- the picture


class Plot:
    """A small plot on a canvas: a frame, lines and dots."""

    def __init__(
        self,
        canvas: Canvas,
        at: tuple[int, int],
        size: tuple[int, int],
        right: float,
        low: float,
        high: float,
    ) -> None:
        self.canvas = canvas
        self.at = at
        self.size = size
        self.right = max(right, 1)
        self.low = low
        self.high = high if high > low else low + 1
        canvas.box(*at, *size, TINT)

    def spot(self, x: float, y: float) -> tuple[int, int]:
        """Pixel of a point; what is outside is moved to the edge."""
        down = np.clip((self.high - y) / (self.high - self.low), 0, 1)
        across = np.clip(x / self.right, 0, 1)
        return round(self.at[0] + across * self.size[0]), round(self.at[1] + down * self.size[1])

    def line(self, x: np.ndarray, y: np.ndarray, color: str, width: int = 2) -> None:
        """A line through the finite points."""
        keep = np.isfinite(x) & np.isfinite(y)
        points = [self.spot(*point) for point in zip(x[keep], y[keep], strict=True)]
        if len(points) > 1:
            self.canvas.line(points, color, width)

    def dots(self, x: np.ndarray, y: np.ndarray, color: str) -> None:
        """A disc at each finite point."""
        for point in zip(x, y, strict=True):
            if np.isfinite(point).all():
                across, down = self.spot(*point)
                self.canvas.disc(across, down, 3, color)

    def level(self, y: float, words: str, dashed: bool = True, low: bool = False) -> None:
        """A horizontal line with its name on it, or at the lower edge, where no curve comes.

        The name of a solid line stands left of the plot.
        """
        left, down = self.spot(0, y)
        if dashed:
            for x in range(left, left + self.size[0], 8):
                self.canvas.box(x, down, 4, 1, SOFT)
        else:
            self.canvas.box(left, down, self.size[0], 1, LINE)
        if low:
            self.canvas.text(left + 4, self.at[1] + self.size[1] - 4, words, SOFT, 11)
        elif dashed:
            self.canvas.text(left + 4, down - 4, words, SOFT, 11)
        else:
            self.canvas.text(left - 4, down + 4, words, SOFT, 10, anchor="rs")


def draw_returns(canvas: Canvas, result: CockpitResult) -> None:
    """Returns over steps: training episodes as a line, evaluations as dots."""
    history = result.history
    seen = np.concatenate([history["score"], history["eval_return"], [*result.levels.values()]])
    seen = seen[np.isfinite(seen)] if np.isfinite(seen).any() else np.zeros(1)
    low, high = float(seen.min()), float(seen.max())
    room = 0.16 * (high - low)
    ends = {"right": max(result.steps, 1), "low": low - room, "high": high + room}
    plot = Plot(canvas, (24, 100), (324, 140), **ends)
    for name, level in result.levels.items():
        plot.level(level, name, low=level < low + room)
    plot.line(history["steps"], history["score"], SLATE)
    plot.dots(history["steps"], history["eval_return"], INK)
    canvas.text(24, 90, "mean return", bold=True)
    canvas.text(348, 90, "line: training, dots: evaluations", SOFT, 11, anchor="rs")
    canvas.text(24, 255, "0", SOFT, 11)
    canvas.text(348, 255, f"{result.steps:,} steps", SOFT, 11, anchor="rs")


def draw_losses(canvas: Canvas, result: CockpitResult) -> None:
    """What the world model still gets wrong, on a logarithmic scale."""
    history = result.history
    ends = {"right": max(result.updates, 1), "low": -2.3, "high": 2.5}
    plot = Plot(canvas, (384, 100), (312, 140), **ends)
    for power in (-2, -1, 0, 1, 2):
        plot.level(power, f"{10.0**power:g}", dashed=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        plot.line(history["updates"], np.log10(history["kl"]), BLUE)
        plot.line(history["updates"], np.log10(history["rec"]), SLATE)
    canvas.text(384, 90, "nats per row", bold=True)
    for x, name, color in ((546, "reconstruction", SLATE), (663, "KL", BLUE)):
        canvas.box(x, 82, 8, 8, color)
        canvas.text(x + 12, 90, name, SOFT, 11)
    canvas.text(384, 255, "0", SOFT, 11)
    canvas.text(696, 255, f"{result.updates:,} updates", SOFT, 11, anchor="rs")


def draw(result: CockpitResult) -> Image.Image:
    """Numbers, two curves, and the film of one episode."""
    canvas = Canvas(720, 450 if result.film else 272)
    canvas.box(1, 1, 718, 62, TINT)
    rate = result.updates / result.seconds if result.seconds else 0.0
    if abs(result.score) < 10:
        score = signed(result.score)
    else:
        score = f"{result.score:.0f}" if np.isfinite(result.score) else "none yet"
    facts = (
        ("steps in the world", f"{result.steps:,}"),
        ("updates", f"{result.updates:,}"),
        ("updates a second", f"{rate:.1f}"),
        ("seconds", f"{result.seconds:.0f}"),
        ("newest 20 episodes", score),
    )
    for k, (label, number) in enumerate(facts):
        canvas.fact(24 + 139 * k, 24, label, number)
    draw_returns(canvas, result)
    draw_losses(canvas, result)
    film = result.film
    if film is None:
        return canvas.image
    side, left, pitch = 64, 100, 71
    for top, name, frames in ((283, "the world", film.real), (355, "the agent", film.model)):
        canvas.text(24, top + 36, name, bold=True)
        for t, frame in enumerate(frames):
            dreamt = top == 355 and film.closed[t]
            canvas.frame(left + pitch * t, top, frame, side, AMBER if dreamt else SLATE, 2)
    note = "one episode, watched again and again; amber: its eyes are closed"
    canvas.text(24, 276, note, SOFT, 11)
    place = "The same film" if film.parted is None else f"They part at frame {film.parted}"
    word = "" if film.verdict in ("together", "unknown") else f" ({film.verdict})"
    canvas.text(24, 438, f"{place}{word}. {film.reason}", INK, 12)
    return canvas.image


class Cockpit(Widget):
    """Tabs of widgets on an agent while it is being trained; redrawn as it learns.

    agent: the agent in training. env_id, world: its world, as for `make_env`. seed: of the episode
    that is watched. every: updates between two refreshes of the other tabs; the first one is
    redrawn with every log line. levels: returns to compare with (default: those of Curtain).

        cockpit = Cockpit(agent)
        trainer.run(steps=10_000, on_log=cockpit.on_log)

    Watching changes nothing: every tab has random numbers of its own. While a cell trains, the
    kernel hears no clicks; they are dropped, and the tabs say so.
    """

    alt = (
        "Cockpit: steps, updates and seconds of a training run, its returns and losses as curves, "
        "and one episode as the agent sees and dreams it; further tabs hold other widgets."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)
    release: asyncio.TimerHandle | None = None

    def __init__(
        self,
        agent: Dreamer,
        env_id: str = CURTAIN,
        seed: int = 4,
        every: int = 200,
        levels: dict[str, float] | None = None,
        **world: Any,
    ) -> None:
        env = make_env(env_id, num_envs=1, **world)
        agent.check_spaces(env.single_observation_space, env.single_action_space)
        self.agent = agent
        self.every = every
        self.lines: list[dict[str, float]] = []
        self.refreshed: float = 0  # updates at the newest refresh
        self.rules = getattr(env.vec, "rules", None)
        self.levels = levels
        if levels is None and self.rules:
            best = oracle.optimal_return(self.rules)
            chance = oracle.random_return(self.rules)
            names = f"optimum {best:.3f}", f"random play {chance:.3f}".replace("-", "−")
            self.levels = dict(zip(names, (best, chance), strict=True))
        self.tabs: dict[str, Widget] = {}
        self.rows = None
        image = is_image(env.single_observation_space)
        if image:
            player = BlindfoldPlayer(agent, env_id, seed, **world)
            self.tabs["blindfold"] = player
            self.rows = player.rows
        if image and hasattr(env.single_action_space, "n"):
            self.tabs["dream console"] = DreamConsole(agent, env_id, seed, **world)
        if env_id == CURTAIN and not world:
            self.tabs["latent mixer"] = LatentMixer(agent, seed, episodes=256)
        env.close()
        self.now = button("refresh all", 120)
        self.assemble([], self.evaluate())
        learning = ipywidgets.VBox([self.image], layout={"align_items": "flex-start"})
        self.tab = ipywidgets.Tab(
            [learning, *(widget.view for widget in self.tabs.values())],
            titles=["training", *self.tabs],
        )
        self.view = framed([self.tab, ipywidgets.HBox([self.now, self.message])], self.alt)
        self.on(self.now, lambda _: self.refresh())

    def evaluate(self) -> CockpitResult:
        """The log so far and a fresh dream."""
        return compute(self.agent, self.lines, rows=self.rows, rules=self.rules, levels=self.levels)

    def refresh(self) -> None:
        """All tabs once more, with the agent as it is now."""
        for widget in self.tabs.values():
            widget.refresh()
        self.refreshed = self.lines[-1]["updates"] if self.lines else 0
        super().refresh()

    def hold(self, busy: bool) -> None:
        """All tabs are busy, or none is."""
        super().hold(busy)
        for widget in self.tabs.values():
            widget.hold(busy)

    def on_log(self, trainer: Trainer, line: dict[str, float]) -> None:
        """Take a line of the log; what fails here is shown and does not stop the training."""
        self.lines.append(line)
        shell = get_ipython()
        if shell and self.on_cell_end not in shell.events.callbacks["post_run_cell"]:
            shell.events.register("post_run_cell", self.on_cell_end)
            if self.release:  # the cell before this one has trained, too
                self.release.cancel()
            self.hold(True)
        due = line["updates"] - self.refreshed >= self.every
        self.attempt(self.refresh if due else self.evaluate)

    def on_cell_end(self, _: Any) -> None:
        """Training is over: show the agent as it is now, and take clicks again."""
        get_ipython().events.unregister("post_run_cell", self.on_cell_end)
        self.attempt(self.refresh)
        try:
            self.release = asyncio.get_running_loop().call_later(LATE, self.hold, False)
        except RuntimeError:  # no loop: nothing can arrive late
            self.hold(False)
