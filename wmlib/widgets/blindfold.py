"""Eyes open or closed, frame by frame: posterior where the model looks, prior where it does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
import torch
from PIL import Image

from wmlib.agent import Dreamer
from wmlib.envs.curtain import Rules
from wmlib.envs.make import make_env
from wmlib.errors import BadInput
from wmlib.figures import AMBER, INK, SLATE, SOFT
from wmlib.play import play
from wmlib.rssm import State
from wmlib.runtime import autocast, own_randomness
from wmlib.spaces import is_image
from wmlib.widgets.base import ALERT, TINT, Canvas, Widget, button
from wmlib.widgets.dream_session import CURTAIN, judge

__all__ = ["BlindfoldPlayer", "BlindfoldResult"]

FILM = 8  # frames at most
LEFT = 23  # of the first frame; the eyes stand above the frames
PITCH = 85  # from frame to frame


@dataclass(frozen=True)
class BlindfoldResult:
    """Everything the blindfold player shows, for one episode of T frames."""

    closed: tuple[bool, ...]  # (T,) eyes closed
    episode: int
    sample: int
    real: np.ndarray  # (T, H, W, C) uint8
    seen: np.ndarray  # (T, H, W, C) in [0, 1]: the posterior's, eyes always open
    model: np.ndarray  # the same shape: the posterior's where open, the prior's where closed
    parted: int | None  # first dreamt frame that differs from the world's
    verdict: str  # "together", "luck", "error", or "unknown" outside Curtain
    reason: str  # one sentence


@torch.no_grad()
def film(
    agent: Dreamer, rows: dict[str, np.ndarray], closed: Sequence[bool], sample: int
) -> np.ndarray:
    """What the model draws of T rows, (T, H, W, C) in [0, 1]; a closed frame is not shown to it.

    Chance depends on sample and frame only: what comes before a change stays as it was.
    """
    batch, _ = agent.tensors(rows)
    rssm = agent.world.rssm
    drawn = []
    with autocast(agent.device):
        embed = agent.world.encoder(batch["obs"])
        state = rssm.initial(1, agent.device)
        for t, shut in enumerate(closed):
            now = slice(t, t + 1)
            action = batch["prev_action"][:, now]
            first = batch["is_first"][:, now]
            seed = np.random.SeedSequence([sample, t]).generate_state(1)[0]
            with own_randomness(agent.device, int(seed)):
                if shut:
                    state = rssm.step(state, action[:, 0])
                else:
                    seen = rssm.observe(embed[:, now], action, first, state).state
                    state = State(seen.h[:, 0], seen.z[:, 0])
            drawn.append(agent.world.decode(state)[0].float().cpu().numpy())
    return np.stack(drawn)


def compute(
    agent: Dreamer,
    rows: dict[str, np.ndarray],
    closed: Sequence[bool],
    sample: int = 0,
    rules: Rules | None = None,
    episode: int = 0,
) -> BlindfoldResult:
    """Watch one episode through a blindfold. rows: (1, T, ...), as `wmlib.play` gives them.

    Raises:
        BadInput: not one flag per frame, a first frame that is not seen, or two episodes in one.
    """
    closed = tuple(bool(shut) for shut in closed)
    if rows["is_first"].shape != (1, len(closed)):
        raise BadInput(f"{len(closed)} flags do not fit rows of shape {rows['is_first'].shape}.")
    if closed[0] or rows["is_first"][0, 1:].any():
        raise BadInput("The eyes must be open at frame 0, and the rows must be one episode.")
    real = rows["obs"][0]
    seen, model = (film(agent, rows, shut, sample) for shut in ([False] * len(closed), closed))
    actions = rows["action"][0, :-1].tolist()
    parted, verdict, reason = judge(real, list(model), closed, actions, rules)
    return BlindfoldResult(
        closed=closed,
        episode=episode,
        sample=sample,
        real=real,
        seen=seen,
        model=model,
        parted=parted,
        verdict=verdict,
        reason=reason,
    )


def draw(result: BlindfoldResult) -> Image.Image:
    """Three films, one above the other, and the verdict below."""
    canvas = Canvas(720, 428)
    side = 80
    rows = (
        (44, "the real world", result.real),
        (162, "posterior: eyes always open", result.seen),
        (280, "with the blindfold", result.model),
    )
    for top, title, frames in rows:
        canvas.text(LEFT - 3, top - 10, title, bold=True)
        for t, frame in enumerate(frames):
            dreamt = top == 280 and result.closed[t]
            canvas.frame(LEFT + PITCH * t, top, frame, side, AMBER if dreamt else SLATE, 2)
    for t, shut in enumerate(result.closed):
        middle = LEFT + PITCH * t + side / 2
        apart = t == result.parted
        label = f"{'≠ ' if apart else ''}{t}: {'prior' if shut else 'posterior'}"
        color = ALERT if apart else SOFT
        canvas.text(middle, 377, label, color, 11, bold=apart, anchor="ms")
    canvas.box(1, 384, 718, 43, TINT)
    place = "The same film" if result.parted is None else f"They part at frame {result.parted}"
    word = "no oracle" if result.verdict == "unknown" else result.verdict
    canvas.text(LEFT - 3, 403, f"{place}: {word}.", ALERT if word == "error" else INK, bold=True)
    canvas.text(LEFT - 3, 420, result.reason, SOFT, 12)
    count = f"episode {result.episode + 1}, sample {result.sample + 1}"
    canvas.text(699, 403, count, SOFT, 12, anchor="rs")
    return canvas.image


class BlindfoldPlayer(Widget):
    """Close the model's eyes from a frame on, or frame by frame, and let it dream again.

    agent: a trained agent for `env_id`, a world of images; it plays the episodes, with eyes open.
    seed: of the first episode. close_at: first frame that is not seen. world: further settings for
    `make_env`.
    """

    alt = (
        "Blindfold player: eight real frames, the posterior's view of them, and the model's film "
        "with its eyes closed from some frame on; the first differing frame is marked."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self, agent: Dreamer, env_id: str = CURTAIN, seed: int = 0, close_at: int = 4, **world: Any
    ) -> None:
        self.agent = agent
        self.seed = seed
        self.episode = 0
        self.sample = 0
        self.env = make_env(env_id, num_envs=1, **world)
        if not is_image(self.env.single_observation_space):
            raise BadInput("The blindfold player shows worlds of images only.")
        self.rows = self.watch()
        frames = len(self.rows["obs"][0])
        if not 1 <= close_at <= frames:
            raise BadInput(f"close_at must be 1 to {frames} (never), not {close_at}.")
        self.boundary = ipywidgets.IntSlider(
            close_at,
            min=1,
            max=frames,
            description="eyes close at frame",
            style={"description_width": "130px"},
            layout={"width": "420px"},
        )
        self.eyes = [
            ipywidgets.ToggleButton(
                t >= close_at,
                description=f"{t}",
                icon="eye-slash" if t >= close_at else "eye",
                disabled=t == 0,
                layout={"width": f"{PITCH - 4}px", "margin": f"2px 2px 2px {2 if t else LEFT}px"},
                tooltip=f"close or open the eyes at frame {t}",
            )
            for t in range(frames)
        ]
        self.again = button("sample again", 120)
        self.other = button("next episode", 120)
        self.moving = False  # the boundary is setting the eyes
        self.assemble([[self.boundary, self.again, self.other], self.eyes], self.evaluate())
        self.on(self.boundary, self.close_from)
        for eye in self.eyes:
            self.on(eye, lambda _: None if self.moving else self.evaluate())
        self.on(self.again, lambda _: self.resample())
        self.on(self.other, lambda _: self.next_episode())

    def watch(self) -> dict[str, np.ndarray]:
        """One episode played by the agent, or its first frames."""
        rows = play(self.agent, self.env, FILM, seed=self.seed + self.episode)
        last = rows["is_last"][0]
        stop = int(last.argmax()) + 1 if last.any() else FILM
        return {name: value[:, :stop] for name, value in rows.items()}

    def refresh(self) -> None:
        """The agent has learnt something: it plays the episode on screen once more."""
        self.rows = self.watch()
        super().refresh()

    def evaluate(self) -> BlindfoldResult:
        """The result of the current controls."""
        for eye in self.eyes:
            eye.icon = "eye-slash" if eye.value else "eye"
        closed = [eye.value for eye in self.eyes][: len(self.rows["obs"][0])]
        rules = getattr(self.env.vec, "rules", None)
        return compute(
            self.agent, self.rows, closed, sample=self.sample, rules=rules, episode=self.episode
        )

    def close_from(self, frame: int) -> BlindfoldResult:
        """Close the eyes from this frame on, and open them before."""
        self.moving = True
        for t, eye in enumerate(self.eyes):
            eye.value = t >= frame
        self.moving = False
        return self.evaluate()

    def resample(self) -> BlindfoldResult:
        """Dream once more from the same memories."""
        self.sample += 1
        return self.evaluate()

    def next_episode(self) -> BlindfoldResult:
        """Another episode, with the same blindfold."""
        self.episode += 1
        self.sample = 0
        self.rows = self.watch()
        return self.evaluate()
