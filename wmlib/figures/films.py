"""Film strips, dreams beside reality, and learning curves."""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from wmlib.errors import BadInput
from wmlib.figures.base import AMBER, INK, PAPER, SCALE, SLATE, font

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from wmlib.agent import Dreamer

__all__ = ["dream_frames", "film_strip", "learning_curve", "picture", "write_dream"]


def picture(observation: np.ndarray, side: int = 96) -> Image.Image:
    """One image observation, uint8 or in [0, 1], (H, W, C) -> RGB picture of `side` pixels."""
    if observation.dtype != np.uint8:
        observation = np.clip(observation * 255, 0, 255).astype(np.uint8)
    if observation.shape[-1] == 1:
        observation = np.repeat(observation, 3, -1)
    image = Image.fromarray(np.ascontiguousarray(observation[..., :3]))
    return image.resize((side, side), Image.Resampling.NEAREST)


def film_strip(
    rows: Sequence[np.ndarray],
    labels: Sequence[str],
    colors: Sequence[str | Sequence[str]],
    side: int = 96,
    every: int = 1,
) -> Image.Image:
    """Frames in rows, one film per row, for a `Picture`. rows: (T, H, W, C) each.

    `colors` frames a whole row, or one frame each if it is a sequence. `every` is the number of
    steps from one frame to the next. `side` is that of a frame, in pixels of the page.
    """
    side, gap, top, rim = (n * SCALE for n in (side, 6, 22, 3))
    written = font(12 * SCALE)
    left = 20 * SCALE + max(104 * SCALE, *(math.ceil(written.getlength(word)) for word in labels))
    longest = max(len(row) for row in rows)
    size = (left + longest * (side + gap) + gap, top + len(rows) * (side + gap) + gap)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for t in range(longest):
        middle = left + t * (side + gap) + side // 2
        pen.text((middle, 4 * SCALE), f"t = {t * every}", INK, written, "ma")
    for i, (row, label, color) in enumerate(zip(rows, labels, colors, strict=True)):
        y = top + i * (side + gap)
        pen.text((8 * SCALE, y + side // 2), label, INK, written, "lm")
        for t, frame in enumerate(row):
            x = left + t * (side + gap)
            edge = color if isinstance(color, str) else color[t]
            pen.rectangle((x - rim, y - rim, x + side + rim - 1, y + side + rim - 1), fill=edge)
            sheet.paste(picture(frame, side), (x, y))
    return sheet


def learning_curve(
    ax: "Axes",
    steps: np.ndarray,
    returns: np.ndarray,
    label: str,
    levels: dict[str, float] | None = None,
    color: str = SLATE,
    **style: Any,
) -> None:
    """Draw evaluation returns over environment steps, with named horizontal reference levels."""
    keep = np.isfinite(returns)
    ax.plot(steps[keep], returns[keep], color=color, label=label, **style)
    for name, level in (levels or {}).items():
        ax.axhline(level, color=INK, lw=1, ls="--")
        ax.annotate(
            name,
            (0.99, level),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=9,
        )
    ax.set_xlabel("environment steps")
    ax.set_ylabel("mean return")


# ---------------------------------------------------------------- reality above the dream


@torch.no_grad()
def dream_frames(
    agent: "Dreamer", env_spec: dict, context: int, horizon: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[bool], list[np.ndarray | None]]:
    """Play in reality and dream along with the same actions.

    The eyes are open for `context` rows after every reset, then closed for at most `horizon`; over
    two such stretches, or three episodes. Returns real observations (one-hot if discrete), the
    model's, whether each of those was dreamt, and rendered frames (None where the observation is an
    image). The global random state is left as it was.
    """
    from wmlib.envs.make import make_env
    from wmlib.runtime import own_randomness

    env = make_env(**{**env_spec, "num_envs": 1, "seed": seed})
    agent.check_spaces(env.single_observation_space, env.single_action_space)
    image = len(env.single_observation_space.shape) == 3
    classes = getattr(env.single_observation_space, "n", None)
    real: list[np.ndarray] = []
    model: list[np.ndarray] = []
    dreamt: list[bool] = []
    shown: list[np.ndarray | None] = []
    with contextlib.closing(env), own_randomness(agent.device, seed):
        row = env.reset(seed=seed)
        memory = agent.initial(1)
        age = ends = 0
        while ends < 3 and len(real) < 2 * (context + horizon):
            age = 0 if row.is_first[0] or age >= context + horizon else age
            blind = memory.state, memory.action
            action, memory = agent.act(row.obs, row.is_first, memory)
            if age >= context:  # forget what the eyes saw: predict this row from the last
                state = agent.world.rssm.step(*blind)
                chosen = agent.actor(state.feature).sample()
                memory = type(memory)(state, chosen)
                action = (chosen.argmax(-1) if agent.actor.discrete else chosen).cpu().numpy()
            real.append(np.eye(classes)[row.obs[0]] if classes else row.obs[0])
            model.append(agent.world.decode(memory.state)[0].float().cpu().numpy())
            dreamt.append(age >= context)
            shown.append(None if image else env.render()[0])
            ends += int(row.is_last[0])
            age += 1
            row = env.step(action)
    return real, model, dreamt, shown


def _traces(
    real: np.ndarray, model: np.ndarray, dreamt: Sequence[bool], size: tuple[int, int]
) -> Image.Image:
    """Plot vector observations up to now: real in slate, the model's in amber where it dreams."""
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    width, height = size
    count = real.shape[1]
    low, high = real.min(0), real.max(0)
    scale = np.where(high > low, high - low, 1)
    for k in range(count):
        top = k * height / count
        tall = height / count

        def point(
            t: int, value: float, top: float = top, tall: float = tall, k: int = k
        ) -> tuple[float, float]:
            y = 1 - np.clip((value - low[k]) / scale[k], -0.1, 1.1)
            return (t + 0.5) * width / len(real), top + tall * (0.15 + 0.7 * y)

        for t in range(1, len(dreamt)):
            pen.line([point(t - 1, real[t - 1, k]), point(t, real[t, k])], SLATE, 2)
            if dreamt[t]:
                pen.line([point(t - 1, model[t - 1, k]), point(t, model[t, k])], AMBER, 2)
    return sheet


def write_dream(
    agent: "Dreamer", env_spec: dict, out: str | Path, context: int, horizon: int, seed: int = 0
) -> int:
    """Write a GIF of reality above the agent's dream of it; returns the number of frames.

    Slate frames: real, and the model's view with eyes open. Amber frames: dreamt.

    Raises:
        BadInput: context or horizon below 1, or the file is no GIF or cannot be written.
    """
    if Path(out).suffix.lower() != ".gif":
        raise BadInput(f"Cannot write {out}; give a path that ends in .gif.")
    if context < 1 or horizon < 1:
        raise BadInput(f"context ({context}) and horizon ({horizon}) must be at least 1.")
    real, model, dreamt, shown = dream_frames(agent, env_spec, context, horizon, seed)
    sheets: list[Image.Image] = []
    side = 192
    edge = 6
    for t, blind in enumerate(dreamt):
        screen = shown[t]
        if screen is None:
            upper, lower = picture(real[t], side), picture(model[t], side)
        else:
            upper = Image.fromarray(screen).resize((288, side), Image.Resampling.LANCZOS)
            lower = _traces(np.stack(real), np.stack(model), dreamt[: t + 1], (288, side))
        width = upper.width + 2 * edge
        sheet = Image.new("RGB", (width, 2 * (side + 2 * edge)), SLATE)
        sheet.paste(AMBER if blind else SLATE, (0, side + 2 * edge, width, sheet.height))
        sheet.paste(upper, (edge, edge))
        sheet.paste(lower, (edge, side + 3 * edge))
        sheets.append(sheet)
    try:
        sheets[0].save(out, save_all=True, append_images=sheets[1:], duration=250, loop=0)
    except (OSError, ValueError) as error:
        raise BadInput(f"Cannot write {out} ({error}).") from error
    return len(sheets)
