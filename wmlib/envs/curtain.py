"""Curtain: a falling ball, a curtain, and one hidden coin that decides where the ball comes out.

The rules live in pure functions on arrays of N worlds; `Curtain` (one world) and `CurtainVec` (many
worlds at once) only hold a state and a random generator. Legend of the shapes used below:

    N  worlds side by side        R  rows of the board (8)       L  lanes of the board (8)
    a frame is (2R, 2L, 1) uint8, 0 or 255: one cell of the board is 2 × 2 pixels

Time is the row of the ball: t = 0 is the reset, t = R - 1 the last frame of the episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from wmlib.errors import BadInput

__all__ = ["Curtain", "CurtainVec", "Rules", "Scene", "make_rules"]

Array: TypeAlias = np.ndarray
Info: TypeAlias = dict[str, Any]

LANES = 8
START_LANES = np.arange(2, 6)  # where the ball may start: two free lanes on either side
FIRST_HIDDEN = 2  # the first row behind the curtain
MOVE_COST = 0.02
PAD_REWARD = 0.5  # late world only: paid in the lane the ball started from
CELL = 24  # screen pixels per cell in render()

SLATE, SLATE_LIGHT = (30, 41, 59), (37, 49, 69)  # alternate lanes, so that lanes can be counted
CURTAIN_LIGHT, CURTAIN_DARK = (164, 152, 186), (96, 84, 122)
BALL, PADDLE = (255, 183, 27), (86, 180, 233)  # orange and blue: told apart by every kind of eye


# ---- the parameters -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """The checked parameters of a world; build them with `make_rules`."""

    offsets: tuple[int, ...]  # the K sides of the coin, in lanes
    probs: tuple[float, ...]  # their K probabilities, summing to 1
    rows: int  # R
    reveal: int  # the first t at which the ball is seen again
    late: bool  # revealed on the last frame only, with a consolation pad
    static: int  # curtain pixels that are fresh coin flips in every frame
    goal: str  # "catch" or "avoid"

    @property
    def last(self) -> int:
        """The t of the terminal frame."""
        return self.rows - 1


def make_rules(
    p: float = 0.5,
    offsets: Sequence[int] | None = None,
    probs: Sequence[float] | None = None,
    curtain: int = 2,
    late: bool = False,
    static: int = 0,
    goal: str = "catch",
    rows: int = 8,
) -> Rules:
    """Check the parameters of a world (see `Curtain` for what they mean).

    Raises:
        BadInput: a value that is not allowed, named together with the allowed ones.
    """
    need(is_int(rows) and rows >= 4, f"rows must be a whole number of at least 4, not {rows!r}.")
    need(
        is_int(curtain) and 1 <= curtain <= rows - 3,
        f"curtain must be 1 to {rows - 3} rows on a board of {rows} rows, not {curtain!r}.",
    )
    need(
        not late or curtain == 2,
        f"curtain must keep its default 2 with late=True, which hangs its own, not {curtain!r}.",
    )
    reveal = rows - 1 if late else FIRST_HIDDEN + curtain
    pixels = 2 * (reveal - FIRST_HIDDEN) * 2 * LANES
    need(
        is_int(static) and 0 <= static <= pixels,
        f"static must be 0 to {pixels} curtain pixels, not {static!r}.",
    )
    need(goal in ("catch", "avoid"), f"goal must be 'catch' or 'avoid', not {goal!r}.")
    offsets, probs = make_coin(p, offsets, probs)
    return Rules(
        offsets=offsets,
        probs=probs,
        rows=int(rows),
        reveal=int(reveal),
        late=bool(late),
        static=int(static),
        goal=goal,
    )


def make_coin(
    p: float = 0.5, offsets: Sequence[int] | None = None, probs: Sequence[float] | None = None
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the sides of the coin and their probabilities: by default -2 with p, +2 with 1 - p.

    Offsets without probabilities are equally likely; either of the two overrides p.

    Raises:
        BadInput: probabilities that are no law, or offsets that could leave the board.
    """
    number = isinstance(p, int | float | np.number)
    need(number and 0 <= p <= 1, f"p must be a number from 0 to 1, not {p!r}.")
    for name, given in (("offsets", offsets), ("probs", probs)):
        need(given is None or np.ndim(given) == 1, f"{name} must be a list, not {given!r}.")
    if probs is None:
        probs = (p, 1 - p) if offsets is None else [1 / max(len(offsets), 1)] * len(offsets)
    sides = (-2, 2) if offsets is None else tuple(offsets)
    need(
        len(sides) > 0
        and len(set(sides)) == len(sides)
        and all(is_int(d) and -2 <= d <= 2 for d in sides),
        f"offsets must be different whole numbers from -2 to 2, not {offsets!r}.",
    )
    odds = np.asarray(probs, dtype=float)
    need(
        odds.shape == (len(sides),) and bool((odds >= 0).all()) and abs(odds.sum() - 1) < 1e-9,
        f"probs must be {len(sides)} numbers, none negative, that sum to 1, not {probs!r}.",
    )
    return tuple(int(d) for d in sides), tuple(float(q) for q in odds)


def need(ok: bool, sentence: str) -> None:
    """Raise `BadInput` with this sentence unless `ok`."""
    if not ok:
        raise BadInput(sentence)


def is_int(value: Any) -> bool:
    """Tell whole numbers from everything else; True and False do not count as numbers."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


# ---- the rules, on arrays of N worlds -----------------------------------------------------------


class Scene(NamedTuple):
    """Everything there is to know about N worlds; each field is (N,) int64."""

    t: np.ndarray  # row of the ball
    lane: np.ndarray  # lane s the ball starts in
    offset: np.ndarray  # hidden side d of the coin
    paddle: np.ndarray  # lane of the paddle


def draw_start(rules: Rules, rng: np.random.Generator, n: int) -> Scene:
    """Draw n fresh episodes: start lane, paddle lane and the coin, each independently."""
    lane = rng.choice(START_LANES, size=n)  # (n,)
    paddle = rng.integers(LANES, size=n)  # (n,)
    offset = rng.choice(rules.offsets, p=rules.probs, size=n)  # (n,)
    return Scene(np.zeros(n, np.int64), lane, offset, paddle)


def move(paddle: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move paddles (N,) by actions (N,), 0 left, 1 stay, 2 right; return new lanes and costs (N,).

    A move into the wall goes nowhere and costs the same.
    """
    return np.clip(paddle + action - 1, 0, LANES - 1), MOVE_COST * (action != 1)


def payoff(rules: Rules, lane: np.ndarray, offset: np.ndarray, paddle: np.ndarray) -> np.ndarray:
    """Reward of the terminal frame without the last move's cost; inputs and result (N,)."""
    elsewhere = np.where(rules.late & (paddle == lane), PAD_REWARD, -1.0)
    score = np.where(paddle == lane + offset, 1.0, elsewhere)
    return score if rules.goal == "catch" else -score


def advance(rules: Rules, state: Scene, action: np.ndarray) -> tuple[Scene, np.ndarray]:
    """One step of N worlds that are not over; return the new state and the rewards (N,).

    The cost of a move arrives with the frame that shows it. The episode is over when the new t is
    `rules.last`.
    """
    paddle, cost = move(state.paddle, action)
    state = Scene(state.t + 1, state.lane, state.offset, paddle)
    final = payoff(rules, state.lane, state.offset, paddle)
    return state, np.where(state.t == rules.last, final, 0.0) - cost


@lru_cache
def image_tables(rows: int, reveal: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of the ball (R, L, 2R, 2L) by row and lane, and of curtain and paddle (L, 2R, 2L).

    A ball behind the curtain has an empty picture: that is all it takes to hide it.
    """
    balls = np.zeros((rows, LANES, 2 * rows, 2 * LANES), np.uint8)
    scenes = np.zeros((LANES, 2 * rows, 2 * LANES), np.uint8)
    scenes[:, 2 * FIRST_HIDDEN : 2 * reveal, ::2] = 255  # stripes: even columns white, odd black
    for lane in range(LANES):
        cell = slice(2 * lane, 2 * lane + 2)
        scenes[lane, -1, cell] = 255  # the paddle, on the bottom line of pixels
        for t in [t for t in range(rows) if t < FIRST_HIDDEN or t >= reveal]:
            balls[t, lane, 2 * t : 2 * t + 2, cell] = 255
    balls.flags.writeable = scenes.flags.writeable = False  # shared by all worlds
    return balls, scenes


def ball_lane(rules: Rules, state: Scene) -> np.ndarray:
    """Lane of the ball (N,): it jumps by its offset when it leaves the curtain."""
    return state.lane + state.offset * (state.t >= rules.reveal)


def draw_frames(rules: Rules, state: Scene, flips: np.ndarray | None = None) -> np.ndarray:
    """Frames (N, 2R, 2L, 1) uint8 of N worlds; `flips` (N, static) of 0 and 1 is the noise."""
    balls, scenes = image_tables(rules.rows, rules.reveal)
    frames = np.maximum(balls[state.t, ball_lane(rules, state)], scenes[state.paddle])
    if rules.static:
        first = 2 * FIRST_HIDDEN * 2 * LANES  # index of the first curtain pixel, row by row
        pixels = frames.reshape(len(frames), -1)  # (N, 4RL), a view
        pixels[:, first : first + rules.static] = 255 * np.asarray(flips, np.uint8)
    return frames[..., None]


def draw_flips(rules: Rules, rng: np.random.Generator, n: int) -> np.ndarray | None:
    """Fresh noise (n, static) for one frame of n worlds, or None in a world without static."""
    return rng.integers(2, size=(n, rules.static)) if rules.static else None


def fix_start(rules: Rules, state: Scene, options: dict[str, Any] | None) -> Scene:
    """Replace what was drawn by what `options` asks for: "lane", "offset", "paddle".

    Each may be one number or (N,) numbers.

    Raises:
        BadInput: an unknown key, or a value the world could not have drawn.
    """
    allowed = {"lane": START_LANES.tolist(), "offset": rules.offsets, "paddle": list(range(LANES))}
    for key, value in (options or {}).items():
        need(key in allowed, f"reset options must be among {list(allowed)}, not {key!r}.")
        values = np.asarray(value)
        need(
            values.shape in [(), state.t.shape] and bool(np.isin(values, allowed[key]).all()),
            f"reset option {key!r} must be among {list(allowed[key])}, not {value!r}.",
        )
        fixed = np.broadcast_to(values.astype(np.int64), state.t.shape).copy()
        state = state._replace(**{key: fixed})
    return state


def paint(rules: Rules, state: Scene, frames: np.ndarray, peek: bool = False) -> np.ndarray:
    """Large coloured pictures (N, 24R, 24L, 3) uint8 of frames (N, 2R, 2L, 1) and their states.

    The ball is hidden exactly where the frame hides it; `peek` lets it shine through the curtain.
    """
    height, width = CELL * rules.rows, CELL * LANES
    y, x = np.mgrid[:height, :width] + 0.5  # centres of the screen pixels
    base = np.where((x // CELL % 2 < 1)[..., None], SLATE, SLATE_LIGHT)
    image = np.broadcast_to(base, (len(frames), height, width, 3)).astype(float)

    rows = slice(2 * FIRST_HIDDEN, 2 * rules.reveal)
    stripes = frames[:, rows].repeat(CELL // 2, axis=1).repeat(CELL // 2, axis=2)  # (N, ., ., 1)
    cloth = slice(CELL * FIRST_HIDDEN, CELL * rules.reveal)
    image[:, cloth] = np.where(stripes > 0, CURTAIN_LIGHT, CURTAIN_DARK)

    t, ball, paddle = (v[:, None, None] for v in (state.t, ball_lane(rules, state), state.paddle))
    hidden = (t >= FIRST_HIDDEN) & (t < rules.reveal)
    from_ball = np.hypot(x - CELL * (ball + 0.5), y - CELL * (t + 0.5))  # (N, height, width)
    disc = np.clip(10.5 - from_ball, 0, 1) * np.where(hidden, 0.75 * peek, 1.0)
    image += disc[..., None] * (np.array(BALL) - image)

    beyond = np.maximum(np.abs(x - CELL * (paddle + 0.5)) - 6.5, 0)  # a bar with round ends
    bar = np.clip(4.5 - np.hypot(beyond, y - (height - 5)), 0, 1)
    image += bar[..., None] * (np.array(PADDLE) - image)
    return image.round().astype(np.uint8)


def check_actions(actions: Any, n: int) -> np.ndarray:
    """Return the actions as int64 (n,), or raise BadInput."""
    given = np.asarray(actions)
    if given.shape != (n,) or not ((given == 0) | (given == 1) | (given == 2)).all():
        raise BadInput(f"an action must be 0, 1 or 2 for each of {n} worlds, not {actions!r}.")
    return given.astype(np.int64)


# ---- one world ----------------------------------------------------------------------------------


class _World:
    """What `Curtain` and `CurtainVec` share: rules, a state of N worlds, and their frames."""

    rules: Rules
    state: Scene | None = None  # None before the first reset
    render_mode: str | None
    np_random: np.random.Generator  # of the Gymnasium class beside this one

    def _build(self, rules: Rules, render_mode: str | None) -> gymnasium.spaces.Box:
        need(
            render_mode in (None, "rgb_array"),
            f"render_mode must be None or 'rgb_array', not {render_mode!r}.",
        )
        self.rules = rules
        self.render_mode = render_mode
        return gymnasium.spaces.Box(0, 255, (2 * rules.rows, 2 * LANES, 1), np.uint8)

    def set_coin(
        self,
        p: float = 0.5,
        offsets: Sequence[int] | None = None,
        probs: Sequence[float] | None = None,
    ) -> None:
        """Swap the coin from the next reset on; arguments as in `make_coin`."""
        offsets, probs = make_coin(p, offsets, probs)
        self.rules = replace(self.rules, offsets=offsets, probs=probs)

    def _start(self, n: int, options: dict[str, Any] | None) -> np.ndarray:
        self.state = fix_start(self.rules, draw_start(self.rules, self.np_random, n), options)
        return self._look()

    def _look(self) -> np.ndarray:
        """Draw, keep and return the frames of the current state (N, 2R, 2L, 1)."""
        state = self._scene()
        flips = draw_flips(self.rules, self.np_random, len(state.t))
        self.frames = draw_frames(self.rules, state, flips)
        return self.frames.copy()

    def _paint(self, peek: bool) -> np.ndarray:
        need(self.render_mode is not None, "render_mode must be 'rgb_array' to render, not None.")
        return paint(self.rules, self._scene(), self.frames, peek)

    def _scene(self, over: bool = True) -> Scene:
        """Return the state; ResetNeeded if there is none, or it is the last one and not `over`."""
        if self.state is None or not over and bool(self.state.t[0] == self.rules.last):
            raise ResetNeeded("call reset() first: no episode is running.")
        return self.state


class Curtain(_World, gymnasium.Env):
    """One world: catch the ball that comes out from behind the curtain, two lanes left or right.

    p: probability of offset -2, against +2. offsets, probs: another coin, overriding p.
    curtain: rows that hide the ball, from row 2 on. late: hide it until the last frame, where the
    lane it started from pays 0.5. static: curtain pixels that are pure noise. goal: "catch", or
    "avoid" with the final reward negated. rows: height of the board. Bad values raise BadInput.
    `info` holds lane, offset and t, for probes only.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(
        self,
        p: float = 0.5,
        offsets: Sequence[int] | None = None,
        probs: Sequence[float] | None = None,
        curtain: int = 2,
        late: bool = False,
        static: int = 0,
        goal: str = "catch",
        rows: int = 8,
        render_mode: str | None = None,
    ) -> None:
        rules = make_rules(
            p, offsets, probs, curtain=curtain, late=late, static=static, goal=goal, rows=rows
        )
        self.observation_space = self._build(rules, render_mode)
        self.action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Start an episode; options "lane", "offset", "paddle" fix what is otherwise drawn."""
        super().reset(seed=seed)
        return self._start(1, options)[0], self._info()

    def step(self, action: int) -> tuple[Array, float, bool, bool, Info]:
        """Move the paddle and let the ball fall one row; never truncates."""
        before = self._scene(over=False)
        self.state, reward = advance(self.rules, before, check_actions([action], 1))
        terminated = bool(self.state.t[0] == self.rules.last)
        return self._look()[0], float(reward[0]), terminated, False, self._info()

    def render(self, peek: bool = False) -> np.ndarray:
        """Return one coloured picture (24R, 24L, 3) uint8; `peek` shows the hidden ball."""
        return self._paint(peek)[0]

    def _info(self) -> Info:
        return {k: int(getattr(self.state, k)[0]) for k in ("lane", "offset", "t")}


# ---- many worlds --------------------------------------------------------------------------------


def save_worlds(worlds: CurtainVec) -> dict[str, Any]:
    """Return all that `restore_worlds` needs: arrays, and under "rng" the generator's state."""
    arrays = worlds._scene()._asdict() | {"frames": worlds.frames}
    arrays |= {"offsets": worlds.rules.offsets, "probs": worlds.rules.probs}
    copies = {k: np.array(v) for k, v in arrays.items()}
    return copies | {"rng": worlds.np_random.bit_generator.state}  # of Python ints: JSON-able


def restore_worlds(worlds: CurtainVec, saved: dict[str, Any]) -> None:
    """Continue exactly where `save_worlds` was called, with its coin (BadInput if it is no fit)."""
    shapes: dict[str, Any] = dict.fromkeys(Scene._fields, (worlds.num_envs,))
    shapes["frames"] = worlds.observation_space.shape
    keys = {*shapes, "offsets", "probs", "rng"}
    need(set(saved) == keys, f"a saved state has the keys {sorted(keys)}, not {sorted(saved)}.")
    for key, shape in shapes.items():
        found = np.shape(saved[key])
        need(found == shape, f"saved {key!r} must have the shape {shape}, not {found}.")
    worlds.set_coin(offsets=np.array(saved["offsets"]).tolist(), probs=saved["probs"])
    worlds.state = Scene(*(np.array(saved[k]) for k in Scene._fields))
    worlds.frames = np.array(saved["frames"], dtype=np.uint8)
    worlds.np_random.bit_generator.state = saved["rng"]


class CurtainVec(_World, gymnasium.vector.VectorEnv):
    """N worlds at once, without a Python loop; see `Curtain` for the parameters.

    The step after a terminal frame ignores the action, starts the next episode and pays 0.
    """

    metadata = {**Curtain.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        p: float = 0.5,
        offsets: Sequence[int] | None = None,
        probs: Sequence[float] | None = None,
        curtain: int = 2,
        late: bool = False,
        static: int = 0,
        goal: str = "catch",
        rows: int = 8,
        render_mode: str | None = None,
    ) -> None:
        need(is_int(num_envs) and num_envs > 0, f"num_envs must be 1 or more, not {num_envs!r}.")
        rules = make_rules(
            p, offsets, probs, curtain=curtain, late=late, static=static, goal=goal, rows=rows
        )
        self.num_envs = num_envs
        self.single_action_space = gymnasium.spaces.Discrete(3)
        self.single_observation_space = self._build(rules, render_mode)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Start N episodes; an option is one number for all worlds, or (N,) numbers."""
        super().reset(seed=seed)
        return self._start(self.num_envs, options), self._info()

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, Info]:
        """Step N worlds: frames, rewards (N,) float64, terminated and truncated (N,) bool, info."""
        state = self._scene()
        over = state.t == self.rules.last  # (N,) these start anew
        state, rewards = advance(self.rules, state, check_actions(actions, self.num_envs))
        if over.any():
            fresh = draw_start(self.rules, self.np_random, self.num_envs)
            state = Scene(*np.where(over, fresh, state))
        self.state = state
        terminated = state.t == self.rules.last
        rewards = np.where(over, 0.0, rewards)
        return self._look(), rewards, terminated, np.zeros_like(terminated), self._info()

    def render(self, peek: bool = False) -> tuple[np.ndarray, ...]:
        """Return N coloured pictures, each (24R, 24L, 3) uint8; `peek` shows the hidden ball."""
        return tuple(self._paint(peek))

    get_state, set_state = save_worlds, restore_worlds

    def _info(self) -> Info:
        return {k: getattr(self.state, k).copy() for k in ("lane", "offset", "t")}
