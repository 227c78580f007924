"""Any Gymnasium environment as a stream of rows.

Row t holds what arrived together: the observation o_t, the reward r_t that came with it, and three
flags. The action a_t is chosen after the row and belongs to it in replay.

    reset        step(a_0)       step(a_1)       step(ignored)    step(a_3)
    o_0  r=0     o_1  r_1        o_2  r_2        o_3  r=0         o_4  r_4
    is_first                     is_last         is_first

The last observation of an episode is a row of its own, so nothing is lost when an environment
resets itself. is_terminal marks the last rows after which there is no future (not a time limit).

Legend: N environments, A action dimensions, M environments whose episode has just ended.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from wmlib.errors import BadInput

__all__ = ["SIZES", "FinalRows", "Rewind", "Row", "RowEnv", "make_env"]

SIZES = (8, 16, 32, 64)  # sides of the square images that the encoders can read


# ---- rows ---------------------------------------------------------------------------------------


@dataclass
class FinalRows:
    """Last rows of the M episodes that ended within a step; they precede the `Row` they came with.

    Only environments with same-step autoreset have them: the step that ends an episode already
    returns the first row of the next.
    """

    envs: np.ndarray  # (M,) int64, which environments
    obs: np.ndarray  # (M, ...)
    reward: np.ndarray  # (M,) float32
    is_first: np.ndarray  # (M,) bool, all False
    is_last: np.ndarray  # (M,) bool, all True
    is_terminal: np.ndarray  # (M,) bool


@dataclass
class Row:
    """One row of each of N environments."""

    obs: np.ndarray  # (N, D) float32, (N, H, W, C) uint8 or (N,) int64
    reward: np.ndarray  # (N,) float32, arrives with obs; 0 where is_first
    is_first: np.ndarray  # (N,) bool, obs comes from a reset
    is_last: np.ndarray  # (N,) bool, the episode ends here, for whatever reason
    is_terminal: np.ndarray  # (N,) bool, it ends because there is no future
    final: FinalRows | None = None


# ---- spaces -------------------------------------------------------------------------------------


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


def row_obs_space(space: Space) -> Space:
    """Return the space of `Row.obs`: vectors as float32, images as they are, Discrete from 0.

    Raises:
        BadInput: any other kind of space.
    """
    if isinstance(space, Discrete):
        return Discrete(int(space.n))
    if isinstance(space, Box) and len(space.shape) == 1:
        return Box(-np.inf, np.inf, space.shape, np.float32)
    if is_image(space) and fits(space):
        return Box(0, 255, space.shape, np.uint8)
    raise BadInput(
        f"Observations must be a Box of rank 1, a Discrete, or a uint8 image with 1, 3 or 4 "
        f"channels and a side among {SIZES}, not {describe(space)}."
    )


def row_act_space(space: Space) -> Space:
    """Return the space the agent acts in: Discrete from 0, or Box(-1, 1, (A,)).

    Raises:
        BadInput: any other kind of space, or a Box without bounds to rescale to.
    """
    if isinstance(space, Discrete):
        return Discrete(int(space.n))
    rank1 = isinstance(space, Box) and len(space.shape) == 1
    if rank1 and space.dtype.kind == "f" and np.isfinite([space.low, space.high]).all():
        return Box(-1.0, 1.0, space.shape, np.float32)
    raise BadInput(
        f"Actions must be a Discrete or a bounded floating-point Box of rank 1, "
        f"not {describe(space)}{' with infinite bounds' * rank1}."
    )


def env_action(space: Space, count: int, action: np.ndarray) -> np.ndarray:
    """Translate the agent's actions for N = `count` environments into their own action space.

    Discrete: integers (N,) from 0. Continuous: floats (N, A), clipped to [-1, 1] and rescaled.

    Raises:
        BadInput: wrong shape or type, an index out of range, NaN or infinity.
    """
    action = np.asarray(action)
    discrete = isinstance(space, Discrete)
    kinds, word = ("iu", "integers") if discrete else ("f", "floats")
    if action.shape != (count, *space.shape) or action.dtype.kind not in kinds:
        raise BadInput(
            f"Actions must be {word} of shape {(count, *space.shape)}, "
            f"not {action.dtype} of shape {action.shape}."
        )
    bad = (action < 0) | (action >= space.n) if discrete else ~np.isfinite(action)
    if bad.any():
        where = int(np.argwhere(bad)[0, 0])
        allowed = f"from 0 to {space.n - 1}" if discrete else "finite"
        raise BadInput(
            f"The action of environment {where} must be {allowed}, not {action[where].tolist()}."
        )
    if discrete:
        return (action + int(space.start)).astype(space.dtype)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    action = low + (action + 1.0) / 2.0 * (high - low)
    # clipped last: rounding could step over a bound, and some environments check
    return np.clip(action, low, high).astype(space.dtype)


# ---- exact resume -------------------------------------------------------------------------------


class Rewind(gymnasium.Wrapper):
    """Make the state of an environment a function of (seed, episode, actions since the reset).

    Every reset is seeded from (base seed, index, episode number), and the actions of the running
    episode are kept, so a few numbers are enough to build the state again by playing them back.
    That needs an environment that obeys its seed, and takes as long as the episode so far.
    """

    def __init__(self, env: gymnasium.Env, index: int = 0):
        super().__init__(env)
        self.index, self.base, self.episode = index, 0, -1
        self.actions: list[np.ndarray] = []
        self.over = False

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Begin the next episode; a seed is the new base seed and begins with episode 0."""
        if seed is not None:
            self.base, self.episode = int(seed), -1
        self.episode, self.actions, self.over = self.episode + 1, [], False
        entropy = np.random.SeedSequence([self.base, self.index, self.episode])
        # 31 bits: some simulators read seeds as signed 32-bit integers
        return self.env.reset(seed=int(entropy.generate_state(1)[0] >> 1), options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Step, or begin the next episode if this one is over.

        After `load_state_dict` the vector environment around us does not know that an episode was
        over, so we remember it ourselves.
        """
        if self.over:
            obs, info = self.reset()
            return obs, 0.0, False, False, info
        self.actions.append(np.array(action))
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.over = bool(terminated or truncated)
        return obs, reward, terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        """Return base seed, episode number and the actions (k, ...) of the running episode."""
        space = self.env.action_space
        actions = np.array(self.actions, space.dtype).reshape(-1, *space.shape)
        return {"base": self.base, "episode": self.episode, "actions": actions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Play the episode back to where `state_dict` was called.

        Raises:
            BadInput: the episode ended on the way, so the environment does not obey its seed.
        """
        self.base, self.episode = int(state["base"]), int(state["episode"]) - 1
        self.reset()
        for count, action in enumerate(np.asarray(state["actions"])):
            if self.over:
                raise BadInput(
                    f"Environment {self.index} cannot be resumed: it ended after {count} of "
                    f"{len(state['actions'])} saved actions, so it does not obey its seed."
                )
            self.step(action)


# ---- rows of a vector environment ---------------------------------------------------------------


class RowEnv:
    """Rows of N environments side by side, from any Gymnasium vector environment that autoresets.

    `spec` is a JSON-able dict {id, num_envs, pixels, size, kwargs}: make_env(**spec) builds the
    environment again. `seed` is used by the first reset unless it is given one.
    """

    def __init__(self, vec: VectorEnv, spec: dict[str, Any] | None = None, seed: int = 0):
        self.vec, self.num_envs, self.seed = vec, vec.num_envs, check_seed(seed)
        self.single_observation_space = row_obs_space(vec.single_observation_space)
        self.single_action_space = row_act_space(vec.single_action_space)
        self.spec = spec or {"id": str(vec), "num_envs": vec.num_envs, "kwargs": {}}
        mode = vec.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
            raise BadInput(
                f"The autoreset mode of {vec} must be NEXT_STEP or SAME_STEP in its metadata, "
                f"not {mode}."
            )
        self.same_step = mode is AutoresetMode.SAME_STEP
        self.last: np.ndarray | None = None  # (N,) the coming row is a reset; None before the first
        self.pending: Row | None = None  # a row to return before the next step
        self.steps = 0

    def reset(self, seed: int | None = None) -> Row:
        """Abandon all episodes and return N first rows; a seed makes everything repeatable.

        Without a seed the environments go on to fresh episodes.

        Raises:
            BadInput: the seed is not a whole number from 0, or an observation is not finite.
        """
        if seed is not None or self.last is None:
            seed = self.seed = check_seed(self.seed if seed is None else seed)
            self.steps = 0
        obs, _ = self.vec.reset(seed=seed)
        self.last, self.pending = np.zeros(self.num_envs, bool), None
        first, no = np.ones(self.num_envs, bool), np.zeros(self.num_envs, bool)
        return Row(self._obs(obs), np.zeros(self.num_envs, np.float32), first, no, no.copy())

    def step(self, action: np.ndarray) -> Row:
        """Act in every environment and return the rows that follow.

        Discrete actions are integers (N,); continuous ones floats (N, A), unclipped. Environments
        whose last row was is_last ignore their action and return the first row of a new episode.

        Raises:
            BadInput: a bad action, or an observation or reward that is not finite.
        """
        self._need_reset()
        action = env_action(self.vec.single_action_space, self.num_envs, action)
        if self.pending is not None:
            row, self.pending = self.pending, None
            return row
        obs, reward, terminated, truncated, info = self.vec.step(action)
        self.steps += 1
        obs, reward = self._obs(obs), self._reward(reward)
        terminated = np.array(terminated, bool)
        ended = terminated | np.asarray(truncated, bool)
        if self.same_step:
            final = self._final(ended, info, reward, terminated) if ended.any() else None
            no = np.zeros(self.num_envs, bool)
            return Row(obs, np.where(ended, np.float32(0), reward), ended, no, no.copy(), final)
        first, self.last = self.last, ended
        reward = np.where(first, np.float32(0), reward)
        return Row(obs, reward, first, ended.copy(), terminated)

    def render(self) -> list[np.ndarray]:
        """Return one RGB picture (height, width, 3) uint8 per environment.

        Raises:
            BadInput: the environment cannot draw itself.
        """
        self._need_reset()
        with explained(self.spec["id"], "rendered"):
            frames = self.vec.render()
        if frames is None or any(np.ndim(frame) != 3 for frame in frames):
            raise BadInput(f"Environment {self.spec['id']!r} draws no pictures (rgb_array).")
        return [np.array(frame) for frame in frames]

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs: nested dicts of arrays, numbers and strings.

        "exact" is False if the environment can neither give its state nor be played back.
        """
        self._need_reset()
        worlds = worlds_state(self.vec)
        state = {"exact": worlds is not None, "seed": self.seed, "steps": self.steps}
        return state | {"last": self.last.copy(), "worlds": worlds or {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called: the next rows are those that would have come.

        If the state is not exact, every episode is abandoned: the next `step` ignores its actions
        and returns first rows.

        Raises:
            BadInput: the state is of another number of environments.
        """
        if np.shape(state["last"]) != (self.num_envs,):
            raise BadInput(
                f"The saved state is of {np.size(state['last'])} environments, not {self.num_envs}."
            )
        self.seed, steps = int(state["seed"]), int(state["steps"])
        if state["exact"]:
            restore_worlds(self.vec, state["worlds"])
            self.last, self.pending = np.array(state["last"], bool), None
        else:  # a seed of its own, or the run would repeat the episodes it began with
            entropy = np.random.SeedSequence([self.seed, steps]).generate_state(1)
            base, self.last = self.seed, np.zeros(self.num_envs, bool)
            self.pending = self.reset(int(entropy[0] >> 1))
            self.seed = base
        self.steps = steps

    def close(self) -> None:
        """Free windows and simulators."""
        self.vec.close()

    def _need_reset(self) -> None:
        if self.last is None:
            raise BadInput("Call reset() first: no episode is running.")

    def _obs(self, obs: Any) -> np.ndarray:
        """Convert N observations to the type of the row, never aliasing the environment's own."""
        space = self.vec.single_observation_space
        if isinstance(space, Discrete):
            return np.array(obs, np.int64) - int(space.start)
        return self._finite("observation", np.asarray(obs), self.single_observation_space.dtype)

    def _reward(self, reward: Any) -> np.ndarray:
        return self._finite("reward", np.asarray(reward), np.float32)

    def _finite(self, key: str, value: np.ndarray, dtype: Any) -> np.ndarray:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite and is told below
            value = value.astype(dtype)  # a copy
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            where = np.argwhere(~np.isfinite(value))[0]
            place = f" at index {where[1:].tolist()}" if len(where) > 1 else ""
            raise BadInput(
                f"The {key} of environment {where[0]} at step {self.steps} is "
                f"{value[tuple(where)]}{place}; only finite numbers can be learned from."
            )
        return value

    def _final(
        self, ended: np.ndarray, info: dict, reward: np.ndarray, terminated: np.ndarray
    ) -> FinalRows:
        """Collect the last rows of the episodes that ended within this step."""
        key = "final_obs" if "final_obs" in info else "final_observation"  # the name before 1.0
        if key not in info:
            raise BadInput(f"{self.vec} resets within a step but its info has no 'final_obs'.")
        envs = np.flatnonzero(ended)
        obs = self._obs(np.stack([info[key][i] for i in envs]))
        yes = np.ones(len(envs), bool)
        return FinalRows(envs, obs, reward[envs], ~yes, yes, terminated[envs])


def check_seed(seed: Any) -> int:
    """Return the seed as an int.

    Raises:
        BadInput: it is not a whole number from 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise BadInput(f"The seed must be a whole number from 0, not {seed!r}.")
    return int(seed)


def worlds_state(vec: VectorEnv) -> dict[str, Any] | None:
    """Return the state of all environments of a vector environment, or None if there is no way."""
    if hasattr(vec, "get_state") and hasattr(vec, "set_state"):
        return vec.get_state()
    envs = vec.envs if isinstance(vec, SyncVectorEnv) else [None]
    if all(isinstance(env, Rewind) for env in envs):
        return {str(i): env.state_dict() for i, env in enumerate(envs)}
    return None


def restore_worlds(vec: VectorEnv, worlds: dict[str, Any]) -> None:
    """Undo `worlds_state`."""
    if hasattr(vec, "set_state"):
        vec.set_state(worlds)
        return
    vec.reset()  # so that it no longer waits for a reset; Rewind remembers which episodes are over
    for i, env in enumerate(vec.envs):
        env.load_state_dict(worlds[str(i)])


# ---- from an id to rows -------------------------------------------------------------------------


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


@contextmanager
def explained(id: str, what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside an environment's own code into one sentence."""
    try:
        yield
    except BadInput:
        raise
    except (DependencyNotInstalled, ImportError) as error:
        text = " ".join(str(error).split())
        raise BadInput(f"Environment {id!r} needs what is not installed ({text}).") from error
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise BadInput(f"Environment {id!r} cannot be {what} ({text}).") from error


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
        creator, names = creator_of(spec.entry_point)
        names = None if names is None else names | {"max_episode_steps", "render_mode"}
        unknown = [name for name in kwargs if names is not None and name not in names]
        if unknown:
            settings = ", ".join(sorted(names - {"render_mode"}))
            raise BadInput(f"{spec.id!r} has no setting {unknown[0]!r}, only {settings}.")
        modes = getattr(creator, "metadata", {}).get("render_modes")  # None: a function, not told
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
