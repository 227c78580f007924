"""What kinds of observation and action there are, and how each is stored and encoded.

| kind       | space of the environment            | in a row              | network input        |
| ---------- | ----------------------------------- | --------------------- | -------------------- |
| image      | Box (H, W), (H, W, C) or (C, H, W)  | uint8 (N, H, W, C)    | (..., H, W, C) / 255 |
| vector     | any other Box                       | float32 (N, D)        | symlog (..., D)      |
| discrete   | Discrete                            | int64 (N,) from 0     | one-hot (..., n)     |
|            | MultiDiscrete, MultiBinary, symbols | int64 (N, ...) from 0 | one-hots in a row    |
| continuous | float Box                           | float32 (N, A), -1..1 | (..., A)             |

Observations are of the first kinds, or a Dict of several; actions are discrete or continuous. N
environments. What is refused is refused by `ObsReader` and `row_act_space`, in one sentence each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from torch import Tensor

from wmlib.errors import BadInput

__all__ = [
    "ObsReader",
    "Space",
    "Unreadable",
    "act_kind",
    "action_size",
    "alike",
    "batched",
    "classes",
    "decode_action",
    "describe",
    "each",
    "encode_action",
    "env_action",
    "fault",
    "from_json",
    "halvings",
    "is_image",
    "obs_kind",
    "offsets",
    "one_hot",
    "parts",
    "readable",
    "random_actions",
    "row_act_space",
    "storage",
    "to_json",
]

Space: TypeAlias = Any  # a gymnasium.Space: what it has besides a shape depends on its kind
Tree: TypeAlias = Any  # an array or tensor, or a dict of them by name
SMALLEST = 8  # side of what can be a picture; a smaller grid of integers holds symbols
SYMBOLS = 32  # classes of a grid of symbols whose bounds do not say how many there are
CHANNELS = (1, 3, 4)


def describe(space: Space) -> str:
    """Name a space in a few words; its repr may fill pages."""
    if isinstance(space, Dict):
        return "Dict of " + ", ".join(f"{k} ({describe(s)})" for k, s in space.spaces.items())
    if isinstance(space, Discrete):
        return f"Discrete({space.n})"
    return f"{type(space).__name__} of shape {space.shape} and type {space.dtype}"


# ---------------------------------------------------------------- observations of several parts


def parts(space: Space) -> dict[tuple, Space]:
    """Return path -> space of everything that is observed, through dicts and tuples.

    The path of a single thing is (), that of space["arm"]["angles"] is ("arm", "angles").
    """
    if isinstance(space, Dict):
        inside = dict(space.spaces)
    elif isinstance(space, Tuple):
        inside = dict(enumerate(space.spaces))
    else:
        return {(): space}
    return {
        (key, *path): part for key, within in inside.items() for path, part in parts(within).items()
    }


def fault(space: Space, obs: Any, name: str = "observation") -> str:
    """Say in words how one observation differs from what is declared; "" if it does not.

    What cannot be observed at all, such as text, is not looked at.
    """
    if isinstance(space, Dict | Tuple):
        inside = dict(space.spaces) if isinstance(space, Dict) else dict(enumerate(space.spaces))
        kind = dict if isinstance(space, Dict) else tuple
        if not isinstance(obs, kind):
            return f"declares its {name} as a {type(space).__name__} and gave {type(obs).__name__}"
        given: dict[Any, Any] = obs if isinstance(obs, dict) else dict(enumerate(obs))
        for key, part in inside.items():
            if key not in given:
                return f"gave an {name} without {key!r}"
            if why := fault(part, given[key], f"{name}[{key!r}]"):
                return why
        return ""
    if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
        return ""
    try:
        array = np.asarray(obs)
    except (TypeError, ValueError):
        array = np.asarray(None)
    kinds = "biu" if space.dtype.kind in "biu" else "biuf"
    if array.shape == space.shape and array.dtype.kind in kinds:
        return ""
    came = f"one of shape {array.shape} and type {array.dtype}"
    if array.dtype.kind not in "biuf":
        came = repr(obs) if obs is None or isinstance(obs, str) else f"a {type(obs).__name__}"
    return f"declares its {name} as a {describe(space)} and gave {came}"


def named(path: tuple) -> str:
    """The name of a part in a row: "arm.angles"; a slash would mean a folder in checkpoints."""
    return ".".join(map(str, path)).replace("/", ".")


def each(function: Callable, tree: Tree, *more: Tree) -> Tree:
    """Apply a function to an array, or to every array of a dict; `more` has the same names."""
    if isinstance(tree, dict):
        return {key: each(function, tree[key], *(other[key] for other in more)) for key in tree}
    return function(tree, *more)


def only(space: Space, paths: list[tuple]) -> Space:
    """A space without the entries of its dicts that lie on none of these paths."""
    if not isinstance(space, Dict):
        return space
    inside = {key: [path[1:] for path in paths if path[0] == key] for key in space.spaces}
    return Dict({key: only(space[key], deeper) for key, deeper in inside.items() if deeper})


def least(space: Space) -> Any:
    """An observation of a space: zeros, or the lower bounds where there are any."""
    if isinstance(space, Dict):
        return {key: least(part) for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(map(least, space.spaces))
    low = getattr(space, "low", getattr(space, "start", 0))
    low = np.where(np.isfinite(low), low, 0)
    return np.broadcast_to(low, space.shape).astype(space.dtype)


def batched(obs: Any) -> Any:
    """One observation, through dicts and tuples, as a batch of one."""
    if isinstance(obs, dict):
        return {key: batched(part) for key, part in obs.items()}
    return tuple(map(batched, obs)) if isinstance(obs, tuple) else np.asarray(obs)[None]


def is_image(space: Space) -> bool:
    """Tell whether the observations of a row are images: uint8 (H, W, C)."""
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3


def obs_kind(space: Space) -> str:
    """Tell how observations of a row are encoded: 'image', 'vector', 'discrete' or 'dict'.

    Raises:
        BadInput: no space that `ObsReader` makes.
    """
    if isinstance(space, Dict):
        return "dict"
    if isinstance(space, Discrete | MultiDiscrete):
        return "discrete"
    if isinstance(space, Box) and len(space.shape) == 1:
        return "vector"
    if is_image(space):
        return "image"
    raise BadInput(f"An agent cannot be built for observations that are a {describe(space)}.")


def halvings(shape: Sequence[int]) -> int:
    """How often an image (H, W, ...) can be halved: at most 4 times, down to sides of 3 or more."""
    count = 0
    while count < 4 and all(n % 2 == 0 and n >= 6 for n in (n >> count for n in shape[:2])):
        count += 1
    return count


def readable(shape: Sequence[int]) -> bool:
    """Tell whether the encoders can read an image of this shape (H, W, ...) as it is."""
    count = halvings(shape)
    return count > 0 and max(shape[:2]) >> count <= 16


class Unreadable(BadInput):
    """Some parts of an observation cannot be read; `keys` are the others."""

    def __init__(self, message: str, keys: list[str]):
        super().__init__(message)
        self.keys = keys


class ObsReader:
    """Reads what an environment gives: its observations become those of a row.

    `space` is what a row holds. size: an image stays as it is if the encoders can read it and no
    side is longer than `size`, and becomes size × size else. keys: the parts of a Dict to observe,
    by default all. symbolic: whether a grid of integers holds symbols (one-hot) instead of
    brightness, and of how many kinds; by default grids whose bounds span at most 32 numbers, or
    which are smaller than 8 × 8, do. exact: every image becomes size × size.

    Raises:
        BadInput: a space that cannot be read.
    """

    def __init__(
        self,
        space: Space,
        size: int = 64,
        keys: Sequence[str] | None = None,
        symbolic: bool | int | None = None,
        exact: bool = False,
    ):
        self.raw = space
        self.size = size
        self.exact = exact
        self.symbolic = symbolic
        self.paths = {named(path): path for path in parts(space)}
        found = {name: parts(space)[path] for name, path in self.paths.items()}
        for key in keys or ():
            if key not in found:
                raise BadInput(f"There is no observation {key!r}, only {', '.join(found)}.")
        chosen = {key: found[key] for key in keys or found}
        if not chosen:
            raise BadInput(f"There is nothing to observe in a {describe(space)}.")
        refused = {key: why for key in chosen if (why := self._refusal(chosen[key]))}
        if refused:
            good = [key for key in found if not self._refusal(found[key])]
            key, why = next(iter(refused.items()))
            name = f"The observation {key!r}" if key else "What is observed"
            others = f" Observe only the others: keys={good}, or --keys {' '.join(good)}."
            cure = others if key and good else ""
            raise Unreadable(f"{name} is a {describe(chosen[key])}, and {why}.{cure}", good)
        self.declared = chosen
        self.plans = {key: self._plan(part) for key, part in chosen.items()}
        spaces = {key: plan[0] for key, plan in self.plans.items()}
        self.space: Space = Dict(spaces)
        if "" in self.plans:
            self.space = self.plans[""][0]

    def __call__(self, obs: Any) -> Tree:
        """N observations as a vector environment gives them -> array (N, ...), or a dict of them.

        Raises:
            BadInput: another shape than was declared, or a class or symbol out of range.
        """
        found = {key: self._read(key, obs) for key in self.plans}
        return found[""] if "" in self.plans else found

    def single(self, obs: Any) -> bool:
        """Tell whether this is one observation, and not a batch of them, by its shape."""
        key = next(iter(self.plans))
        return self._find(obs, key).shape == self.declared[key].shape

    def example(self) -> Any:
        """One observation as the environment may give it: the least of everything."""
        return least(only(self.raw, [self.paths[key] for key in self.plans]))

    def to_json(self) -> dict:
        """What it takes to make this reader again, as JSON values."""
        raw = only(self.raw, [self.paths[key] for key in self.plans])
        about = {"obs_space": to_json(raw), "size": self.size, "exact": self.exact}
        about |= {"keys": list(self.plans)} if "" not in self.plans else {}
        return about | ({} if self.symbolic is None else {"symbolic": self.symbolic})

    def _find(self, obs: Any, key: str) -> np.ndarray:
        """What an observation holds of one part, as an array."""
        name = f" {key!r}" if key else ""
        for step in self.paths[key]:
            try:
                obs = obs[step]
            except (LookupError, TypeError):
                raise BadInput(f"There is no observation{name} in what came.") from None
        try:
            return np.asarray(obs)
        except (TypeError, ValueError) as error:
            raise BadInput(f"The observation{name} is no array of numbers ({error}).") from error

    def _read(self, key: str, obs: Any) -> np.ndarray:
        space, convert = self.plans[key]
        name = f"observation {key!r}" if key else "observation"
        declared = self.declared[key]
        array = self._find(obs, key)
        kinds = "biu" if declared.dtype.kind in "biu" else "biuf"
        fits = array.ndim and len(array) and array.shape[1:] == declared.shape
        if array.dtype.kind not in kinds or not fits:
            raise BadInput(
                f"The {name} is declared as {describe(declared)}, but what came is "
                f"{array.dtype} of shape {array.shape[1:]}."
            )
        row = convert(array)
        if isinstance(space, Discrete | MultiDiscrete):
            counts = np.broadcast_to(classes(space), row.shape)
            if (bad := (row < 0) | (row >= counts)).any():
                value = array[bad][0]
                low = value - row[bad][0]
                cure = " If these are symbols, say of how many kinds: symbolic=64."
                raise BadInput(
                    f"The {name} holds {value}; allowed are {low} to {low + counts[bad][0] - 1}."
                    + (cure if isinstance(declared, Box) else "")
                )
        return row

    def _refusal(self, space: Space) -> str:
        """Why a part cannot be read, or ""."""
        if isinstance(space, Discrete | MultiDiscrete | MultiBinary):
            return ""
        if not isinstance(space, Box):
            return "only numbers and pictures can be learned from"
        if 0 in space.shape:
            return "that holds no numbers"
        if space.dtype.kind not in "biuf":
            return "only numbers can be learned from"
        large = len(space.shape) == 3 and min(sorted(space.shape)[1:]) >= SMALLEST
        if large and space.dtype == np.uint8 and not (self._layout(space) or self._kinds(space)):
            return "pictures have 1, 3 or 4 channels, the first or the last axis"
        return ""

    def _kinds(self, space: Box) -> int:
        """Of how many kinds the symbols of a grid are; 0: it is none."""
        if space.dtype.kind not in "iu" or len(space.shape) < 2 or self.symbolic is False:
            return 0
        span = float(space.high.max()) - float(space.low.min()) + 1
        small = max(space.shape[:2]) < SMALLEST
        if self.symbolic is None and not small and span > SYMBOLS:
            return 0
        if not isinstance(self.symbolic, bool) and self.symbolic is not None:
            return int(self.symbolic)
        return int(span) if span <= SYMBOLS else SYMBOLS

    def _layout(self, space: Box) -> str:
        """'HW', 'HWC' or 'CHW' if a Box holds pictures, else ''."""
        shape = space.shape
        bounded = space.low.min() >= 0 and space.high.max() <= 255
        if not bounded or space.dtype.kind == "b" or len(shape) not in (2, 3):
            return ""
        layouts = {"HW": (shape, 1)} if len(shape) == 2 else {}
        if len(shape) == 3:
            layouts = {"HWC": (shape[:2], shape[2]), "CHW": (shape[1:], shape[0])}
        for layout, (sides, channels) in layouts.items():
            if min(sides) >= SMALLEST and channels in CHANNELS:
                return layout
        return ""

    def _plan(self, space: Space) -> tuple[Space, Callable[[np.ndarray], np.ndarray]]:
        """The space of a part in a row, and what makes such an array of the environment's own."""
        if isinstance(space, Discrete):
            return Discrete(int(space.n)), lambda x: x.astype(np.int64) - int(space.start)
        if isinstance(space, MultiDiscrete):
            start = np.asarray(space.start)
            return MultiDiscrete(space.nvec), lambda x: x.astype(np.int64) - start
        if isinstance(space, MultiBinary):
            return MultiDiscrete(np.full(space.shape, 2)), lambda x: x.astype(np.int64)
        if kinds := self._kinds(space):
            low = np.int64(space.low.min())
            return MultiDiscrete(np.full(space.shape, kinds)), lambda x: x.astype(np.int64) - low
        if layout := self._layout(space):
            return self._picture(space, layout)
        size = int(np.prod(space.shape))

        def flatten(x: np.ndarray) -> np.ndarray:
            with np.errstate(over="ignore"):  # too large for float32 is infinite, and refused later
                return x.astype(np.float32).reshape(len(x), size)

        return Box(-np.inf, np.inf, (size,), np.float32), flatten

    def _picture(self, space: Box, layout: str) -> tuple[Space, Callable[[np.ndarray], np.ndarray]]:
        height, width, *_ = space.shape if layout != "CHW" else space.shape[1:]
        channels = {"HW": 1, "HWC": space.shape[-1], "CHW": space.shape[0]}[layout]
        fits = readable((height, width)) and max(height, width) <= self.size and not self.exact
        target = (height, width) if fits else (self.size, self.size)
        unit = 255.0 if space.dtype.kind == "f" and space.high.max() <= 1 else 1.0

        def draw(x: np.ndarray) -> np.ndarray:
            if x.dtype != np.uint8:
                x = np.clip(np.rint(x * unit), 0, 255).astype(np.uint8)
            x = np.moveaxis(x, 1, -1) if layout == "CHW" else x.reshape(*x.shape[:3], channels)
            if target == (height, width):
                return x.copy()
            return np.stack([resized(image, target) for image in x])

        return Box(0, 255, (*target, channels), np.uint8), draw


def resized(image: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    """Resize one image (H, W, C), each new pixel the mean of what it covers, as Gymnasium does."""
    import cv2

    new = cv2.resize(image, target[::-1], interpolation=cv2.INTER_AREA)
    return new.reshape(*target, image.shape[-1])


# ---------------------------------------------------------------- classes


def classes(space: Space) -> np.ndarray:
    """Number of classes of every element of a Discrete () or a MultiDiscrete (...)."""
    return np.asarray(space.nvec if isinstance(space, MultiDiscrete) else int(space.n))


def offsets(space: Space) -> Tensor:
    """Where the one-hot of each element of a Discrete or MultiDiscrete begins: int64 (elements)."""
    counts = classes(space).reshape(-1)
    return torch.as_tensor(np.cumsum(counts) - counts)


def one_hot(value: Tensor, space: Space, begin: Tensor | None = None) -> Tensor:
    """Elements of a Discrete or MultiDiscrete as one-hots, side by side. -> (..., classes).

    `begin` is `offsets(space)` on the device of `value`, if it is there already.
    """
    if isinstance(space, Discrete):
        return F.one_hot(value.long(), int(space.n)).float()
    begin = offsets(space).to(value.device) if begin is None else begin
    value = value.long().flatten(-len(space.shape))
    hot = torch.zeros(*value.shape[:-1], int(classes(space).sum()), device=value.device)
    return hot.scatter_(-1, value + begin, 1.0)


# ---------------------------------------------------------------- actions


def act_kind(space: Space) -> str:
    """Tell how actions are chosen: 'discrete' or 'continuous'.

    Raises:
        BadInput: any other kind of space.
    """
    if isinstance(space, Discrete | MultiDiscrete | MultiBinary):
        return "discrete"
    if isinstance(space, Box) and space.dtype.kind == "f":
        return "continuous"
    cure = "; whole numbers are a MultiDiscrete" if isinstance(space, Box) else ""
    raise BadInput(
        "Actions must be a Discrete, a MultiDiscrete, a MultiBinary or a floating-point Box, "
        f"not a {describe(space)}{cure}."
    )


def row_act_space(space: Space) -> Space:
    """Return the space the agent acts in: Discrete or MultiDiscrete from 0, or Box(-1, 1, (A,)).

    Raises:
        BadInput: any other kind of space.
    """
    if act_kind(space) == "continuous":
        if 0 in space.shape:
            raise BadInput(f"There is nothing to act with in a {describe(space)}.")
        return Box(-1.0, 1.0, (int(np.prod(space.shape)),), np.float32)
    if isinstance(space, Discrete):
        return Discrete(int(space.n))
    return MultiDiscrete(np.reshape(counts_of(space), -1))


def counts_of(space: Space) -> np.ndarray:
    """Classes of every element of discrete actions, as the environment shapes them."""
    return np.full(space.shape, 2) if isinstance(space, MultiBinary) else classes(space)


def action_size(space: Space) -> int:
    """Width A of an action vector: classes of a discrete space, dimensions of a Box."""
    return int(classes(space).sum()) if act_kind(space) == "discrete" else space.shape[0]


def encode_action(action: Tensor, space: Space) -> Tensor:
    """Stored action -> network input: one-hot if discrete, unchanged if continuous. -> (..., A)."""
    return one_hot(action, space) if act_kind(space) == "discrete" else action.float()


def decode_action(action: Tensor, space: Space) -> Tensor:
    """Undo `encode_action`: (..., A) -> int64 (...) or (..., k), or float32 (..., A)."""
    if act_kind(space) == "continuous":
        return action.float()
    if isinstance(space, Discrete):
        return action.argmax(-1)
    groups = action.split(classes(space).tolist(), -1)
    return torch.stack([group.argmax(-1) for group in groups], -1)


def random_actions(space: Space, count: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform actions of the space the agent acts in: int64 (N[, k]), or float32 (N, A)."""
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=count)
    if isinstance(space, MultiDiscrete):
        return rng.integers(space.nvec, size=(count, *space.shape))
    return rng.uniform(-1, 1, (count, *space.shape)).astype(np.float32)


def bounds(space: Box) -> tuple[np.ndarray, np.ndarray]:
    """What -1 and 1 mean to an environment: its bounds, with -1 and 1 where it has none."""
    low = np.where(np.isfinite(space.low), space.low, -1.0).astype(np.float64)
    high = np.where(np.isfinite(space.high), space.high, 1.0).astype(np.float64)
    return low, np.maximum(high, low)


def env_action(space: Space, count: int, action: np.ndarray) -> np.ndarray:
    """Translate the agent's actions for N = `count` environments into their own action space.

    Discrete: integers (N,) or (N, k) from 0. Continuous: floats (N, A), clipped to [-1, 1] and
    rescaled to the bounds; where there is no bound, -1 and 1 mean -1 and 1.

    Raises:
        BadInput: wrong shape or type, an index out of range, NaN or infinity.
    """
    action = np.asarray(action)
    discrete = act_kind(space) == "discrete"
    kinds, word = ("iu", "integers") if discrete else ("f", "floats")
    shape = (count, *row_act_space(space).shape)
    if action.shape != shape or action.dtype.kind not in kinds:
        raise BadInput(
            f"Actions must be {word} of shape {shape}, not {action.dtype} of shape {action.shape}."
        )
    limit = counts_of(space).reshape(shape[1:]) if discrete else np.inf
    bad = (action < 0) | (action >= limit) if discrete else ~np.isfinite(action)
    if bad.any():
        env = int(np.argwhere(bad)[0, 0])
        allowed = f"from 0 to {np.asarray(limit - 1).tolist()}" if discrete else "finite"
        raise BadInput(
            f"The action of environment {env} must be {allowed}, not {action[env].tolist()}."
        )
    if discrete:
        start = 0 if isinstance(space, MultiBinary) else np.asarray(space.start)
        return (action.reshape(count, *space.shape) + start).astype(space.dtype)
    low, high = bounds(space)
    action = low + (action.reshape(count, *space.shape) + 1.0) / 2.0 * (high - low)
    # clipped last: rounding could step over a bound, and some environments check
    return np.clip(action, low, high).astype(space.dtype)


# ---------------------------------------------------------------- storage


def storage(space: Space) -> tuple[tuple[int, ...], type]:
    """Shape and type of one observation or action as it is stored.

    Raises:
        BadInput: a space that is neither a Discrete, a MultiDiscrete nor a Box.
    """
    if isinstance(space, Discrete | MultiDiscrete):
        return space.shape or (), np.int64
    if isinstance(space, Box):
        return space.shape, np.uint8 if space.dtype == np.uint8 else np.float32
    raise BadInput(f"What is stored must be a Box or a Discrete, not {describe(space)}.")


def to_json(space: Space) -> dict:
    """A space as JSON values, for checkpoints.

    Raises:
        BadInput: a space whose parts cannot all be observed.
    """
    if isinstance(space, Dict):
        return {"parts": {key: to_json(part) for key, part in space.spaces.items()}}
    if isinstance(space, Tuple):
        return {"tuple": [to_json(part) for part in space.spaces]}
    if isinstance(space, Discrete):
        return {"n": int(space.n), "start": int(space.start)}
    if isinstance(space, MultiDiscrete):
        return {"classes": space.nvec.tolist(), "start": np.asarray(space.start).tolist()}
    if isinstance(space, MultiBinary):
        return {"binary": list(space.shape)}
    if not isinstance(space, Box):
        raise BadInput(f"A {describe(space)} cannot be described in a file.")
    about = {"shape": list(space.shape), "dtype": str(space.dtype)}
    if np.isfinite([space.low.astype(float), space.high.astype(float)]).all():
        for name, limit in (("low", space.low), ("high", space.high)):
            about[name] = limit.tolist() if np.ptp(limit) else limit.flat[0].item()
    return about


def from_json(about: dict) -> Space:
    """Undo `to_json`."""
    if "parts" in about:
        return Dict({key: from_json(part) for key, part in about["parts"].items()})
    if "tuple" in about:
        return Tuple([from_json(part) for part in about["tuple"]])
    if "n" in about:
        return Discrete(about["n"], start=about.get("start", 0))
    if "classes" in about:
        nvec = np.array(about["classes"])
        return MultiDiscrete(nvec, start=np.array(about.get("start", np.zeros_like(nvec))))
    if "binary" in about:
        return MultiBinary(about["binary"])
    dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
    usual = (0, 255) if dtype == np.uint8 else (-np.inf, np.inf)
    low, high = (
        np.broadcast_to(np.array(about.get(name, limit), dtype), shape)
        for name, limit in zip(("low", "high"), usual, strict=True)
    )
    return Box(low, high, shape, dtype.type)


def alike(one: Space, other: Space) -> bool:
    """Tell whether two spaces are the same to an agent: in kind and size, whatever the bounds."""

    def form(about: Any) -> Any:
        if not isinstance(about, dict):
            return about
        return {k: form(v) for k, v in about.items() if k not in ("low", "high", "start")}

    return form(to_json(one)) == form(to_json(other))
