"""From a Gymnasium id to rows of N environments: `make_env`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from wmlib.envs.rewind import Rewind
from wmlib.envs.rows import RowEnv, check_seed, explained
from wmlib.errors import BadInput
from wmlib.spaces import SIZES, fits, is_image

__all__ = ["make_env"]


def make_env(
    id: str,
    num_envs: int = 1,
    seed: int = 0,
    pixels: bool = False,
    size: int = 64,
    **kwargs: Any,
) -> RowEnv:
    """Make `num_envs` copies of a Gymnasium environment and return them as rows.

    pixels: observe rendered pictures of size × size instead of what the environment gives.
    Images of a side that is not among 8, 16, 32 and 64 are resized to `size` as well. Everything
    else goes to the environment. The seed is used by the first reset.

    Raises:
        BadInput: an unknown id or setting, a missing package, a space that is not supported.
    """
    nested = kwargs.pop("kwargs", {})  # `RowEnv.spec` keeps them under one name
    if not isinstance(nested, dict):
        raise BadInput(f"kwargs must be a dict of environment settings, not {nested!r}.")
    kwargs = {**nested, **kwargs}
    if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
        raise BadInput(f"num_envs must be a whole number from 1, not {num_envs!r}.")
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size not in SIZES:
        raise BadInput(f"size must be one of {SIZES}, not {size!r}.")
    check_seed(seed)
    about = {"id": id, "num_envs": int(num_envs), "pixels": bool(pixels), "size": int(size)}
    about["kwargs"] = plain(kwargs)
    found = find_spec(id)
    vec = None if pixels else own_vector(found, about["num_envs"], kwargs)
    if vec is None:
        vec = sync_vector(found, about["num_envs"], kwargs, about["size"], pixels)
    try:
        return RowEnv(vec, about, seed)
    except BadInput:
        vec.close()
        raise


def plain(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return environment settings as JSON values, to be written into a checkpoint.

    Raises:
        BadInput: a value that JSON cannot hold.
    """
    try:
        return json.loads(json.dumps(kwargs, default=lambda value: value.tolist()))
    except (TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"Environment settings must be numbers, strings, lists or dicts of them, not {kwargs}."
        ) from error


def find_spec(id: str) -> EnvSpec:
    """Look an id up in Gymnasium's registry; "module:Name-v0" imports the module first.

    Raises:
        BadInput: there is no such id; the sentence offers the closest one.
    """
    module, _, name = str(id).rpartition(":")
    if module:
        with explained(id, "found"):
            importlib.import_module(module)
    if name in gymnasium.registry:
        return gymnasium.registry[name]
    close = difflib.get_close_matches(name, list(gymnasium.registry), n=1)
    hint = f"did you mean {close[0]!r}?" if close else "see gymnasium.pprint_registry() for all."
    raise BadInput(f"Unknown environment {id!r}; {hint}")


def creator_of(entry_point: str | Callable) -> tuple[Callable, set[str] | None]:
    """Return what builds an environment, and the settings it takes (None: anything)."""
    creator = entry_point if callable(entry_point) else load_env_creator(entry_point)
    parameters = inspect.signature(creator).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return creator, None
    return creator, {p.name for p in parameters}


def own_vector(spec: EnvSpec, num_envs: int, kwargs: dict[str, Any]) -> VectorEnv | None:
    """Make the environment's own vector version, or return None if it is of no use to us.

    It must take these settings, need no resizing, and be able to save and restore its state: a
    loop over single environments is slower, but can be resumed exactly thanks to `Rewind`.
    """
    if spec.vector_entry_point is None or spec.additional_wrappers:
        return None
    with explained(spec.id, f"made with {kwargs}"):
        creator, names = creator_of(spec.vector_entry_point)
        needed = set(kwargs) | ({"max_episode_steps"} if spec.max_episode_steps else set())
        stateful = hasattr(creator, "get_state") and hasattr(creator, "set_state")
        if not stateful or (names is not None and not needed <= names):
            return None
        if names is None or "render_mode" in names:
            kwargs = {"render_mode": "rgb_array", **kwargs}
        vec = gymnasium.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs)
    space = vec.single_observation_space
    if is_image(space) and not fits(space):
        vec.close()
        return None
    return vec


def sync_vector(
    spec: EnvSpec, num_envs: int, kwargs: dict[str, Any], size: int, pixels: bool
) -> SyncVectorEnv:
    """Make N single environments that are stepped in a loop and can be resumed exactly.

    Raises:
        BadInput: an unknown setting, a missing package, or whatever the environment objects to.
    """
    with explained(spec.id, f"made with {kwargs}"):
        assert spec.entry_point is not None  # an id without one cannot be made
        creator, names = creator_of(spec.entry_point)
        allowed = (names or set()) | {"max_episode_steps", "render_mode"}
        unknown = [name for name in kwargs if names is not None and name not in allowed]
        if unknown:
            settings = ", ".join(sorted(allowed - {"render_mode"}))
            raise BadInput(f"{spec.id!r} has no setting {unknown[0]!r}, only {settings}.")
        modes = getattr(creator, "metadata", {}).get(
            "render_modes"
        )  # None: a function, which has none
        if pixels and modes is not None and "rgb_array" not in modes:
            raise BadInput(f"{spec.id!r} has no pixels: its render modes are {modes}.")
        if pixels or "rgb_array" in (modes or []):
            kwargs = {"render_mode": "rgb_array", **kwargs}
        makers = [lambda i=i: single_env(spec, i, kwargs, size, pixels) for i in range(num_envs)]
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)


def single_env(
    spec: EnvSpec, index: int, kwargs: dict[str, Any], size: int, pixels: bool
) -> Rewind:
    """Make environment number `index`: drawn and resized if need be, and able to rewind."""
    from gymnasium import wrappers

    # we only ever draw to arrays: no window system is needed, and none should complain
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    # the checker warns about harmless things on the first steps; rows are checked by RowEnv
    env = gymnasium.make(spec, disable_env_checker=True, **kwargs)
    if pixels:
        env = wrappers.AddRenderObservation(env, render_only=True)
    if pixels or (is_image(env.observation_space) and not fits(env.observation_space)):
        env = wrappers.ResizeObservation(env, (size, size))
    return Rewind(env, index)
