"""Film strips, dreams beside reality, and learning curves."""

import contextlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

from wmlib.errors import BadInput
from wmlib.figures.base import AMBER, INK, PAPER, SCALE, SLATE, font
from wmlib.spaces import Space, Tree, decode_action, each, is_image, obs_kind

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


def visible(space: Space, obs: Tree, drawn: bool = False) -> np.ndarray:
    """What a film shows of one observation, or of what a decoder has drawn of it.

    The picture (H, W, C), the first of a Dict; without one all numbers (D,), a class as its number.
    """
    kind = obs_kind(space)
    if kind == "discrete":
        return np.reshape(obs.argmax(-1) if drawn else obs, -1).astype(float)
    if kind != "dict":
        return obs
    pictures = [key for key, part in space.spaces.items() if is_image(part)]
    if pictures:
        return obs[pictures[0]]
    return np.concatenate([visible(s, obs[key], drawn) for key, s in space.spaces.items()])


@torch.no_grad()
def dream_frames(
    agent: "Dreamer", env_spec: dict, context: int, horizon: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[bool], list[np.ndarray | None]]:
    """Play in reality and dream along with the same actions.

    The eyes are open for `context` rows after every reset, then closed for at most `horizon`; over
    two such stretches, or three episodes. Returns what is `visible` of the real observations and of
    the model's, whether each of those was dreamt, and rendered frames (None where pictures are
    observed, or the world cannot be drawn). The global random state is left as it was.
    """
    from wmlib.envs.make import make_env
    from wmlib.runtime import own_randomness, say

    env = make_env(**{**env_spec, "num_envs": 1, "seed": seed})
    agent.check_spaces(env.single_observation_space, env.single_action_space)
    drawn = True  # until it turns out that pictures are observed, or that there are none
    space = env.single_observation_space
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
                action = decode_action(chosen, agent.act_space).cpu().numpy()
            view = each(
                lambda part: part[0].float().cpu().numpy(), agent.world.decode(memory.state)
            )
            real.append(visible(space, each(lambda part: part[0], row.obs)))
            model.append(visible(space, view, drawn=True))
            dreamt.append(age >= context)
            drawn = drawn and real[-1].ndim != 3
            try:
                shown.append(env.render()[0] if drawn else None)
            except BadInput as error:
                drawn = False
                shown.append(None)
                say(f"{error} The dream shows its numbers instead.")
            ends += int(row.is_last[0])
            age += 1
            row = env.step(action)
    return real, model, dreamt, shown


def _traces(
    real: np.ndarray,
    model: np.ndarray,
    dreamt: Sequence[bool],
    size: tuple[int, int],
    steps: bool = False,
) -> Image.Image:
    """Plot numbers (T, D) up to now: real in slate, the model's in amber where it dreams.

    The first 8 numbers are drawn, each in a band of its own; `steps` draws them as step lines.
    """
    real, model = real[:, :8], model[:, :8]
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    width, height = size
    count = real.shape[1]
    low, high = real.min(0), real.max(0)
    scale = np.where(high > low, high - low, 1)
    x: list[float] = ((np.arange(len(real)) + 0.5) * width / len(real)).tolist()
    for values, color, shown in (
        (real, SLATE, [True] * len(dreamt)),
        (model, AMBER, dreamt),
    ):
        share = 1 - np.clip((values - low) / scale, -0.1, 1.1)
        y = (np.arange(count) + 0.15 + 0.7 * share) * height / count  # (T, D)
        for t, k in np.ndindex(len(dreamt), count):
            if t and shown[t]:
                last, now = (x[t - 1], y[t - 1, k]), (x[t], y[t, k])
                pen.line([last, (now[0], last[1]), now] if steps else [last, now], color, 2)
    return sheet


def write_dream(
    agent: "Dreamer", env_spec: dict, out: str | Path, context: int, horizon: int, seed: int = 0
) -> int:
    """Write a GIF of reality above the agent's dream of it; returns the number of frames.

    Slate frames: real, and the model's view with eyes open. Amber frames: dreamt. Vectors and
    classes are drawn as lines over time, below the world's picture if it has one.

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
    kind = obs_kind(agent.obs_space)
    trace = partial(_traces, np.stack(real), np.stack(model), steps=kind == "discrete")
    for t, blind in enumerate(dreamt):
        screen, seen = shown[t], dreamt[: t + 1]
        if real[t].ndim == 3:
            parts = [picture(real[t], side), picture(model[t], side)]
        elif screen is None:
            parts = [trace(seen, (2 * side, 2 * side + 2 * edge))]
        else:
            height, width = screen.shape[:2]
            size = (min(round(side * width / height), 2 * side), side)
            upper = ImageOps.pad(Image.fromarray(screen), size, Image.Resampling.LANCZOS, PAPER)
            parts = [upper, trace(seen, size)]
        width = parts[0].width + 2 * edge
        sheet = Image.new("RGB", (width, 2 * (side + 2 * edge)), SLATE)
        top = 0
        for part in parts:  # the last is the dream
            color = AMBER if blind and part is parts[-1] else SLATE
            sheet.paste(color, (0, top, width, top + part.height + 2 * edge))
            sheet.paste(part, (edge, top + edge))
            top += part.height + 2 * edge
        sheets.append(sheet)
    try:
        sheets[0].save(out, save_all=True, append_images=sheets[1:], duration=250, loop=0)
    except (OSError, ValueError) as error:
        raise BadInput(f"Cannot write {out} ({error}).") from error
    return len(sheets)
