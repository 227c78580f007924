"""A world and the model's dream of it under the same actions; where they part: error, or luck?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from wmlib.agent import Dreamer, Memory
from wmlib.envs.curtain import FIRST_HIDDEN, LANES, Rules, Scene, draw_frames
from wmlib.envs.make import make_env
from wmlib.envs.rows import Row, RowEnv
from wmlib.errors import BadInput
from wmlib.rssm import State
from wmlib.runtime import autocast, own_randomness
from wmlib.spaces import is_image

__all__ = ["CURTAIN", "ConsoleResult", "Session", "compute", "judge"]

CURTAIN = "wmlib/Curtain-v0"
SPECK = 1  # wrong pixels forgiven: the smallest object, the paddle, has two


@dataclass(frozen=True)
class ConsoleResult:
    """Everything the console shows. Tuples hold one item per frame of this episode."""

    episode: int
    t: int
    real: tuple[np.ndarray, ...]  # frames of the world
    dream: tuple[np.ndarray, ...]  # the model's, in [0, 1]: reconstructed, then dreamt
    closed: tuple[bool, ...]  # eyes closed: the model's frame is dreamt
    actions: tuple[int, ...]  # one fewer than frames; taken in both
    real_score: float  # return of this episode in the world
    dream_score: float  # the same, as the model predicts it
    over: bool
    parted: int | None  # first dreamt frame that differs from the world's
    verdict: str  # "together", "luck", "error", or "unknown" outside Curtain
    reason: str  # one sentence
    temperature: float
    scores: tuple[tuple[float, float], ...]  # world and dream, of every finished episode


# ---- error or luck ------------------------------------------------------------------------------


def judge(
    real: Sequence[np.ndarray],
    dream: Sequence[np.ndarray],
    closed: Sequence[bool],
    actions: Sequence[int],
    rules: Rules | None,
) -> tuple[int | None, str, str]:
    """First dreamt frame that differs from the world's, the verdict, and a sentence.

    Every dreamt frame of Curtain is compared with the frames of all outcomes of the coin. Luck: the
    dream took another outcome than the world. Error: no outcome that agrees with what was seen and
    dreamt before explains the frame. A pixel is wrong if it is off by more than 1/2.

    real (H, W, C) uint8, dream (H, W, C) in [0, 1], one each per frame; rules: None if the world is
    not Curtain.
    """
    watch = np.ones(real[0].size, bool)
    if rules:
        begin = FIRST_HIDDEN * 2 * 2 * LANES  # index of the first curtain pixel
        watch[begin : begin + rules.static] = False  # noise is neither error nor luck
    watch = watch.reshape(real[0].shape)

    def wrong(frame: np.ndarray, truth: np.ndarray) -> np.ndarray:  # (..., H, W, C) -> (...)
        return ((abs(frame - truth / 255) > 0.5) & watch).sum((-3, -2, -1))

    if not any(closed):
        return None, "together", "The eyes are open: the model sees what the world shows."
    frames: list[Any] = [
        dreamt if shut else truth / 255
        for truth, dreamt, shut in zip(real, dream, closed, strict=True)
    ]
    apart = [wrong(frame, truth) > SPECK for frame, truth in zip(frames, real, strict=True)]
    if not any(apart):
        return None, "together", "So far the dream shows what the world shows."
    parted = next(t for t, differs in enumerate(apart) if differs)
    if not rules:
        return parted, "unknown", "Error or luck: that takes an oracle, which only Curtain has."
    lane, paddle = (int(real[0][row, :, 0].argmax()) // 2 for row in (0, -1))
    sides = np.array(rules.offsets)[np.array(rules.probs) > 0]  # (K,) outcomes of the coin
    plain = replace(rules, static=0)
    open_to: Any = np.ones(len(sides), bool)  # those that agree with all that was seen and dreamt
    for t, shut in enumerate(closed):
        paddle = int(np.clip(paddle + actions[t - 1] - 1, 0, LANES - 1)) if t else paddle
        world = Scene(*np.broadcast_arrays(t, lane, sides, paddle))
        off = wrong(frames[t], draw_frames(plain, world))
        fits = off <= SPECK
        open_to = fits & open_to if shut else fits
        if not open_to.any():
            why = "the ball changes sides" if fits.any() else f"{off.min()} pixels are wrong"
            return parted, "error", f"Frame {t} cannot be: {why}."
    return parted, "luck", "The dream's coin fell on another side, which the world allows."


# ---- the world and the dream --------------------------------------------------------------------


class Session:
    """Episodes of a world, each with the model's dream of it under the same actions.

    The eyes are open for `eyes_open` frames after a reset, then closed for `horizon`, and so on.
    Chance depends on seed, episode and frame only: the same actions give the same session.
    """

    def __init__(self, agent: Dreamer, env: RowEnv, seed: int, eyes_open: int, horizon: int):
        agent.check_spaces(env.single_observation_space, env.single_action_space)
        if not is_image(env.single_observation_space) or not hasattr(env.single_action_space, "n"):
            raise BadInput("The console shows worlds of images with discrete actions only.")
        if eyes_open < 1 or horizon < 1:
            raise BadInput(f"eyes_open ({eyes_open}) and horizon ({horizon}) must be at least 1.")
        self.agent = agent
        self.env = env
        self.seed = seed
        self.eyes_open = eyes_open
        self.horizon = horizon
        self.episode = -1
        self.scores: tuple[tuple[float, float], ...] = ()

    def reset(
        self,
        temperature: float = 1.0,
        start: dict[str, Any] | None = None,
        latents: Sequence[int] | None = None,
    ) -> ConsoleResult:
        """Begin the next episode. start: options of its reset; latents: as for `step`."""
        self.episode += 1
        self.memory = self.agent.initial(1)
        self.real: tuple[np.ndarray, ...] = ()
        self.dream: tuple[np.ndarray, ...] = ()
        self.closed: tuple[bool, ...] = ()
        self.actions: tuple[int, ...] = ()
        self.real_score = 0.0
        self.dream_score = 0.0
        row = self.env.reset(seed=self.seed + self.episode, options=start)
        return self._see(row, temperature, latents)

    def step(
        self,
        action: int | None = None,
        temperature: float = 1.0,
        latents: Sequence[int] | None = None,
    ) -> ConsoleResult:
        """Act in the world and in the dream; None leaves the choice to the agent.

        latents: classes (S,) to take for z, instead of drawing them.
        """
        if self.over:
            raise BadInput(f"The episode is over after {len(self.actions)} actions; reset first.")
        chosen = np.array([self.choice if action is None else action])
        row = self.env.step(chosen)  # refuses an action that is none
        self.memory = self.agent.taken(self.memory, chosen)
        self.actions = (*self.actions, int(chosen[0]))
        return self._see(row, temperature, latents)

    @torch.no_grad()
    def _see(self, row: Row, temperature: float, latents: Sequence[int] | None) -> ConsoleResult:
        agent = self.agent
        t = len(self.real)
        shut = t % (self.eyes_open + self.horizon) >= self.eyes_open
        seed = np.random.SeedSequence([self.seed, self.episode, t]).generate_state(1)[0]
        with own_randomness(agent.device, int(seed)), autocast(agent.device):
            if shut:  # the row is not shown to the model: it expects it from its memory
                state = agent.world.rssm.step(self.memory.state, self.memory.action, temperature)
                choice = agent.actor(state.feature).sample()
                self.choice = int(choice.argmax())
                self.memory = Memory(state, choice)
            else:
                choice, self.memory = agent.act(row.obs, row.is_first, self.memory)
                self.choice = int(choice[0])
            if latents is not None:
                classes = torch.tensor([list(latents)], device=agent.device)
                z = F.one_hot(classes, agent.config.classes).to(self.memory.state.z.dtype)
                self.memory = Memory(State(self.memory.state.h, z), self.memory.action)
            drawn = agent.world.decode(self.memory.state)[0].float().cpu().numpy()
            reward = agent.world.reward(self.memory.state.feature).item() if t else 0.0
        self.real = (*self.real, row.obs[0])
        self.dream = (*self.dream, drawn)
        self.closed = (*self.closed, shut)
        self.real_score += float(row.reward[0])
        self.dream_score += reward
        self.over = bool(row.is_last[0])
        if self.over:
            self.scores = (*self.scores, (self.real_score, self.dream_score))
        rules = getattr(self.env.vec, "rules", None)
        parted, verdict, reason = judge(self.real, self.dream, self.closed, self.actions, rules)
        return ConsoleResult(
            episode=self.episode,
            t=t,
            real=self.real,
            dream=self.dream,
            closed=self.closed,
            actions=self.actions,
            real_score=self.real_score,
            dream_score=self.dream_score,
            over=self.over,
            parted=parted,
            verdict=verdict,
            reason=reason,
            temperature=temperature,
            scores=self.scores,
        )


def compute(
    agent: Dreamer,
    actions: Sequence[int | None] = (None,) * 7,
    env_id: str = CURTAIN,
    seed: int = 0,
    eyes_open: int = 4,
    horizon: int = 15,
    temperature: float = 1.0,
    start: dict[str, Any] | None = None,
    latents: Sequence[Sequence[int]] | None = None,
    **world: Any,
) -> ConsoleResult:
    """Play these actions (None: the agent's choice) from the reset of this seed on.

    start: options of the reset. latents: classes (T, S) to take for z in every frame, as a dream
    that ran elsewhere has drawn them.

    Raises:
        BadInput: a world that the console cannot show, more actions than the episode has, or a
            temperature that is not positive.
    """
    if not temperature > 0:
        raise BadInput(f"The temperature is {temperature}; it must be positive.")
    session = Session(agent, make_env(env_id, **world), seed, eyes_open, horizon)
    drawn = latents or [None] * (len(actions) + 1)
    result = session.reset(temperature, start, drawn[0])
    for action, classes in zip(actions, drawn[1:], strict=True):
        result = session.step(action, temperature, classes)
    return result
