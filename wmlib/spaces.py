"""What kinds of observation and action there are, and how each is stored and encoded.

| kind       | space                       | in a row                | as input of a network |
| ---------- | --------------------------- | ----------------------- | --------------------- |
| image      | uint8 Box (H, W, C)         | uint8 (N, H, W, C)      | (..., H, W, C) / 255  |
| vector     | Box of rank 1               | float32 (N, D)          | symlog (..., D)       |
| discrete   | Discrete                    | int64 (N,) from 0       | one-hot (..., n)      |
| continuous | bounded float Box of rank 1 | float32 (N, A), -1 .. 1 | (..., A)              |

Observations are of the first three kinds, actions discrete or continuous. N environments.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from wmlib.errors import BadInput

__all__ = [
    "SIZES",
    "Space",
    "act_kind",
    "action_size",
    "describe",
    "encode_action",
    "env_action",
    "fits",
    "from_json",
    "is_image",
    "obs_kind",
    "random_actions",
    "row_act_space",
    "row_obs_space",
    "storage",
    "to_json",
]

Space: TypeAlias = Any  # a gymnasium.Space: what it has besides a shape depends on its kind
SIZES = (8, 16, 32, 64)  # sides of the square images that the encoders can read


def describe(space: Space) -> str:
    """Name a space in a few words; its repr may fill pages."""
    return f"{type(space).__name__} of shape {space.shape} and type {space.dtype}"


def is_image(space: Space) -> bool:
    """Tell whether observations are (H, W, C) uint8 images with 1, 3 or 4 channels."""
    rank3 = isinstance(space, Box) and len(space.shape) == 3
    return rank3 and space.dtype == np.uint8 and space.shape[2] in (1, 3, 4)


def fits(space: Space) -> bool:
    """Tell whether an image is a square that the encoders can read as it is."""
    return space.shape[0] == space.shape[1] and space.shape[0] in SIZES


def obs_kind(space: Space) -> str:
    """Tell how observations are encoded: 'image', 'vector' or 'discrete'.

    Raises:
        BadInput: any other kind of space.
    """
    if isinstance(space, Discrete):
        return "discrete"
    if isinstance(space, Box) and len(space.shape) == 1:
        return "vector"
    if is_image(space):
        return "image"
    raise BadInput(
        "Observations must be a Box of rank 1, a Discrete, or a uint8 image (height, width, "
        f"channels) with 1, 3 or 4 channels, not {describe(space)}."
    )


def act_kind(space: Space) -> str:
    """Tell how actions are chosen: 'discrete' or 'continuous'.

    Raises:
        BadInput: any other kind of space.
    """
    if isinstance(space, Discrete):
        return "discrete"
    if isinstance(space, Box) and len(space.shape) == 1 and space.dtype.kind == "f":
        return "continuous"
    raise BadInput(
        "Actions must be a Discrete or a bounded floating-point Box of rank 1, "
        f"not {describe(space)}."
    )


def row_obs_space(space: Space) -> Space:
    """Return the space of `Row.obs`: vectors as float32, images as they are, Discrete from 0.

    Raises:
        BadInput: any other kind of space, or an image that the encoders cannot read.
    """
    kind = obs_kind(space)
    if kind == "discrete":
        return Discrete(int(space.n))
    if kind == "vector":
        return Box(-np.inf, np.inf, space.shape, np.float32)
    if fits(space):
        return Box(0, 255, space.shape, np.uint8)
    raise BadInput(f"Images must be squares with a side among {SIZES}, not {describe(space)}.")


def row_act_space(space: Space) -> Space:
    """Return the space the agent acts in: Discrete from 0, or Box(-1, 1, (A,)).

    Raises:
        BadInput: any other kind of space, or a Box without bounds to rescale to.
    """
    if act_kind(space) == "discrete":
        return Discrete(int(space.n))
    if np.isfinite([space.low, space.high]).all():
        return Box(-1.0, 1.0, space.shape, np.float32)
    raise BadInput(
        "Actions must be a Discrete or a bounded floating-point Box of rank 1, "
        f"not {describe(space)} with infinite bounds."
    )


def action_size(space: Space) -> int:
    """Width A of an action vector: classes of a Discrete space, dimensions of a Box."""
    return int(space.n) if act_kind(space) == "discrete" else space.shape[0]


def encode_action(action: Tensor, space: Space) -> Tensor:
    """Stored action -> network input: one-hot if discrete, unchanged if continuous. -> (..., A)."""
    if act_kind(space) == "discrete":
        return torch.nn.functional.one_hot(action.long(), int(space.n)).float()
    return action.float()


def storage(space: Space) -> tuple[tuple[int, ...], type]:
    """Shape and type of one observation or action as it is stored.

    Raises:
        BadInput: a space that is neither a Discrete nor a Box.
    """
    if isinstance(space, Discrete):
        return (), np.int64
    if isinstance(space, Box):
        return space.shape, np.uint8 if space.dtype == np.uint8 else np.float32
    raise BadInput(f"What is stored must be a Box or a Discrete, not {describe(space)}.")


def to_json(space: Space) -> dict:
    """A row's space as JSON values, for checkpoints."""
    if isinstance(space, Discrete):
        return {"n": int(space.n)}
    return {"shape": list(space.shape), "dtype": str(space.dtype)}


def from_json(about: dict) -> Space:
    """Undo `to_json`."""
    if "n" in about:
        return Discrete(about["n"])
    low, high = (0, 255) if about["dtype"] == "uint8" else (-np.inf, np.inf)
    return Box(low, high, tuple(about["shape"]), np.dtype(about["dtype"]).type)


def random_actions(space: Space, count: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform actions of the space the agent acts in: int64 (N,), or float32 (N, A)."""
    if act_kind(space) == "discrete":
        return rng.integers(space.n, size=count)
    return rng.uniform(-1, 1, (count, *space.shape)).astype(np.float32)


def env_action(space: Space, count: int, action: np.ndarray) -> np.ndarray:
    """Translate the agent's actions for N = `count` environments into their own action space.

    Discrete: integers (N,) from 0. Continuous: floats (N, A), clipped to [-1, 1] and rescaled.

    Raises:
        BadInput: wrong shape or type, an index out of range, NaN or infinity.
    """
    action = np.asarray(action)
    discrete = act_kind(space) == "discrete"
    kinds, word = ("iu", "integers") if discrete else ("f", "floats")
    if action.shape != (count, *space.shape) or action.dtype.kind not in kinds:
        raise BadInput(
            f"Actions must be {word} of shape {(count, *space.shape)}, "
            f"not {action.dtype} of shape {action.shape}."
        )
    bad = (action < 0) | (action >= space.n) if discrete else ~np.isfinite(action)
    if bad.any():
        env = int(np.argwhere(bad)[0, 0])
        allowed = f"from 0 to {space.n - 1}" if discrete else "finite"
        raise BadInput(
            f"The action of environment {env} must be {allowed}, not {action[env].tolist()}."
        )
    if discrete:
        return (action + int(space.start)).astype(space.dtype)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    action = low + (action + 1.0) / 2.0 * (high - low)
    # clipped last: rounding could step over a bound, and some environments check
    return np.clip(action, low, high).astype(space.dtype)
