"""From an environment, however it is named, to rows of N of them: `make_env`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import json
import os
import re
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from wmlib.envs.rewind import Rewind
from wmlib.envs.rows import RowEnv, check_seed, explained
from wmlib.errors import BadInput
from wmlib.spaces import ObsReader, readable

__all__ = ["make_env", "world_reader"]

# Packages whose environments are known once they are imported, by how their ids begin.
HOMES = {
    "ALE/": "ale_py",
    "MiniGrid-": "minigrid",
    "BabyAI-": "minigrid",
    "dm_control/": "shimmy",
    "highway-": "highway_env",
    "Fetch": "gymnasium_robotics",
    "Adroit": "gymnasium_robotics",
    "Meta-World/": "metaworld",
}


def make_env(
    id: str | Callable[..., gymnasium.Env] | gymnasium.Env | VectorEnv,
    num_envs: int = 1,
    seed: int = 0,
    pixels: bool = False,
    size: int = 64,
    keys: Sequence[str] | None = None,
    symbolic: bool | int | None = None,
    async_envs: bool = False,
    **kwargs: Any,
) -> RowEnv:
    """Make `num_envs` copies of a Gymnasium environment and return them as rows.

    Args:
        id: an id; "module:Id", which imports the module first; "module:Class"; a class; or a
            function that makes an environment. Of an environment that exists already there is only
            one, and of a vector environment as many as it has: neither can be copied.
        num_envs: number of copies.
        seed: of the first reset.
        pixels: observe rendered pictures instead of what the environment gives.
        size: side of an image in pixels. Smaller images stay as they are if the encoders can read
            them (96, 64, 48, 32, 16, 8, ...); others, and rendered pictures, become size × size.
        keys: the parts of a Dict to observe; by default all.
        symbolic: whether grids of integers hold symbols, and of how many kinds; see `ObsReader`.
        async_envs: step every copy in a process of its own. It pays where a step takes longer than
            about a millisecond; what the copies do is the same. Environments that come with a
            vector version of their own, or exist already, stay in this process.
        kwargs: settings of the environment.

    Raises:
        BadInput: an unknown id or setting, a missing package, a space that is not supported.
    """
    nested = kwargs.pop("kwargs", {})  # `RowEnv.spec` keeps them under one name
    if not isinstance(nested, dict):
        raise BadInput(f"kwargs must be a dict of environment settings, not {nested!r}.")
    kwargs = {**nested, **kwargs}
    if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
        raise BadInput(f"num_envs must be a whole number from 1, not {num_envs!r}.")
    whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
    if not whole or not readable((size, size)):
        raise BadInput(f"size must be a side that can be halved down to 3 to 16, not {size!r}.")
    check_seed(seed)
    about = {"id": name_of(id), "num_envs": int(num_envs), "pixels": bool(pixels)}
    about |= {"size": int(size), "kwargs": plain(kwargs)}
    about |= {"keys": list(keys)} if keys is not None else {}
    about |= {"symbolic": symbolic} if symbolic is not None else {}
    made = isinstance(id, gymnasium.Env | VectorEnv)
    if made:
        vec = existing(id, about, pixels)
    else:
        found = find_spec(id)
        vec = None if pixels else own_vector(found, about["num_envs"], kwargs)
        if vec is None:
            side = about["size"] if pixels else 0
            vec = copies_of(found, about["num_envs"], kwargs, side, async_envs)

    def remake(count: int, seed: int) -> RowEnv:
        count = min(count, num_envs) if async_envs else count  # each takes a process
        return make_env(id, count, seed, pixels, size, keys, symbolic, async_envs, **kwargs)

    try:
        reader = ObsReader(vec.single_observation_space, int(size), keys, symbolic)
        return RowEnv(vec, about, seed, reader, None if made else remake)
    except BadInput:
        if not made:
            vec.close()
        raise


def name_of(id: Any) -> str:
    """What an environment is called in checkpoints and messages; an importable name if possible."""
    if isinstance(id, str):
        return id
    if isinstance(id, gymnasium.Env | VectorEnv):
        return str(id)
    name = getattr(id, "__qualname__", type(id).__qualname__)
    return f"{getattr(id, '__module__', '?')}:{name}"


def existing(id: gymnasium.Env | VectorEnv, about: dict[str, Any], pixels: bool) -> VectorEnv:
    """The vector environment of what somebody else has made.

    Raises:
        BadInput: settings that would need another one.
    """
    if about["kwargs"] or pixels:
        raise BadInput("An environment that exists already takes no settings and no pixels=True.")
    if isinstance(id, VectorEnv):
        about["num_envs"] = id.num_envs
        return id
    if about["num_envs"] != 1:
        raise BadInput(
            f"There is one {name_of(id)}, not {about['num_envs']}; give a class or a function that "
            "makes one, or num_envs=1."
        )
    return SyncVectorEnv(
        [lambda: Rewind(id, name=about["id"])], autoreset_mode=AutoresetMode.NEXT_STEP
    )


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


def find_spec(id: str | Callable[..., gymnasium.Env]) -> EnvSpec:
    """Look an id up in Gymnasium's registry; "module:Name" imports the module first.

    Raises:
        BadInput: there is no such id; the sentence offers the closest one.
    """
    if not isinstance(id, str):
        if not callable(id):
            raise BadInput(f"An environment is an id, a class, a function or made, not {id!r}.")
        return spec_of(id)
    module, _, name = id.rpartition(":")
    if module:
        with explained(id, "found"):
            found = importlib.import_module(module)
        world = getattr(found, name, None)
        if isinstance(world, type) and issubclass(world, gymnasium.Env):  # nothing else is called
            return spec_of(world)
    if name in gymnasium.registry:
        return gymnasium.registry[name]
    raise BadInput(f"Unknown environment {id!r}; {hint(name)}")


def spec_of(creator: Callable[..., gymnasium.Env]) -> EnvSpec:
    """A spec that is in no registry."""
    name = re.sub(r"\W", "", getattr(creator, "__name__", "")) or "World"
    return EnvSpec(id=name, entry_point=creator)  # pyright: ignore[reportArgumentType]


def hint(name: str) -> str:
    """What somebody may have meant by an unknown id."""
    for beginning, package in HOMES.items():
        if name.startswith(beginning):
            if importlib.util.find_spec(package):
                return f"write '{package}:{name}', which imports {package} first."
            return f"it needs the package {package}, which is not installed."
    close = difflib.get_close_matches(name, list(gymnasium.registry), n=1)
    cure = f"did you mean {close[0]!r}" if close else "see gymnasium.pprint_registry() for all"
    return f"{cure}, or is it known once its module is imported (--import MODULE)?"


def creator_of(entry_point: str | Callable) -> tuple[Callable, set[str] | None]:
    """Return what builds an environment, and the settings it takes (None: anything)."""
    creator = entry_point if callable(entry_point) else load_env_creator(entry_point)
    parameters = inspect.signature(creator).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return creator, None
    return creator, {p.name for p in parameters}


def own_vector(spec: EnvSpec, num_envs: int, kwargs: dict[str, Any]) -> VectorEnv | None:
    """Make the environment's own vector version, or return None if it is of no use to us.

    It must take these settings, and be able to save and restore its state: a loop over single
    environments is slower, but can be resumed exactly thanks to `Rewind`.
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
        return gymnasium.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs)


def copies_of(
    spec: EnvSpec, num_envs: int, kwargs: dict[str, Any], pixels: int, apart: bool
) -> SyncVectorEnv | AsyncVectorEnv:
    """Make N single environments that can be resumed exactly; stepped in a loop, or each `apart`.

    `pixels` is the side of the pictures to observe instead of what the environment gives, or 0.

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
        modes = getattr(creator, "metadata", {}).get("render_modes")  # None: a function
        if pixels and modes is not None and "rgb_array" not in modes:
            raise BadInput(f"{spec.id!r} has no pixels: its render modes are {modes}.")
        takes_it = names is None or "render_mode" in names  # others draw without being asked
        asked = takes_it and (pixels or modes is None or "rgb_array" in modes)
        maybe = names is None and modes is None and "render_mode" not in kwargs
        if asked:
            kwargs = {"render_mode": "rgb_array", **kwargs}
        makers = [lambda i=i: single_env(spec, i, kwargs, pixels, maybe) for i in range(num_envs)]
        if not apart:
            return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
        makers = [partial(elsewhere, make, os.getpid()) for make in makers]
        vec = AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
        vec.rewinds = True  # pyright: ignore[reportAttributeAccessIssue] - read by `can_rewind`
        return vec


def elsewhere(make: Callable[[], gymnasium.Env], home: int) -> gymnasium.Env:
    """Make an environment, in a process whose parent `home` decides when it is to end."""
    if os.getpid() != home:
        for name in ("SIGINT", "SIGHUP"):  # they reach all processes of a terminal
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return make()


def single_env(
    spec: EnvSpec, index: int, kwargs: dict[str, Any], pixels: int, maybe: bool = False
) -> Rewind:
    """Make environment number `index`: drawn if need be, and able to rewind.

    `maybe`: its maker takes any setting, but what it makes may not know `render_mode`.
    """
    from gymnasium import wrappers

    # we only ever draw to arrays: no window system is needed, and none should complain
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    # the checker warns about harmless things on the first steps; rows are checked by RowEnv
    try:
        env = gymnasium.make(spec, disable_env_checker=True, **kwargs)
    except TypeError as error:
        if not maybe or "render_mode" not in str(error):
            raise
        kwargs = {name: value for name, value in kwargs.items() if name != "render_mode"}
        env = gymnasium.make(spec, disable_env_checker=True, **kwargs)
    if pixels:
        env = wrappers.AddRenderObservation(env, render_only=True)
        env = wrappers.ResizeObservation(env, (pixels, pixels))
    return Rewind(env, index, spec.id)


def world_reader(env: RowEnv) -> ObsReader:
    """Return the reader for what the world gives outside of `make_env`.

    It is the environment's own, unless the agent learnt from rendered pictures: then it reads what
    `render` returns.
    """
    from gymnasium.wrappers import ResizeObservation

    first = env.vec.envs[0] if isinstance(env.vec, SyncVectorEnv) else None
    if isinstance(first, Rewind) and isinstance(first.env, ResizeObservation):
        frames = first.env.env.observation_space
        return ObsReader(frames, env.single_observation_space.shape[0], exact=True)
    return env.reader
