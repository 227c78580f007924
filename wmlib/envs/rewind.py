"""Exact resume: the state of environments that cannot give it, from their seeds and actions."""

from __future__ import annotations

import zlib
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from wmlib.errors import BadInput
from wmlib.spaces import Space, fault

__all__ = ["Rewind", "abandon_worlds", "restore_worlds", "steps_back", "worlds_state"]

Worlds: TypeAlias = (
    Any  # a VectorEnv with `get_state` and `set_state`, or of worlds that can rewind
)
LONGEST = 10_000  # actions of an episode that are kept
STEP = ("observation", "reward", "terminated", "truncated", "info")


class Rewind(gymnasium.Wrapper):
    """Make the state of an environment a function of (seed, episode, actions since the reset).

    Every reset is seeded from (base seed, index, episode number), and the actions of the running
    episode are kept, so a few numbers are enough to build the state again by playing them back.
    That needs an environment that obeys its seed, and takes as long as the episode so far.

    What the environment returns is compared with what it has declared. `name` is what it is called
    in messages.
    """

    def __init__(self, env: gymnasium.Env, index: int = 0, name: str = ""):
        super().__init__(env)
        self.index = index
        self.name = name or type(env.unwrapped).__name__
        self.base = 0
        self.episode = -1
        self.actions: list[np.ndarray] = []
        self.taken = 0  # steps of the running episode
        self.trace = 0  # checksum of all that it has shown
        self.over = False

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Begin the next episode; a seed is the new base seed and begins with episode 0.

        Raises:
            BadInput: the environment returns something else than an observation and a dict.
        """
        if seed is not None:
            self.base = int(seed)
            self.episode = -1
        self.episode += 1
        self.actions = []
        self.taken = self.trace = 0
        self.over = False
        found = self.env.reset(seed=self.seed, options=options)
        obs, info = self._values("reset", found, ("observation", "info"))
        self._check(obs, "after a reset")
        return obs, info

    @property
    def seed(self) -> int:
        """Seed of the running episode; 31 bits: some simulators read it as a signed 32-bit one."""
        entropy = np.random.SeedSequence([self.base, self.index, self.episode])
        return int(entropy.generate_state(1)[0] >> 1)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        """Step, or begin the next episode if this one is over.

        After `load_state_dict` the vector environment around us does not know that an episode was
        over, so we remember it ourselves.

        Raises:
            BadInput: the environment returns something else than it should.
        """
        if self.over:
            obs, info = self.reset()
            return obs, 0.0, False, False, info
        if self.taken < LONGEST:
            self.actions.append(np.array(action))
        self.taken += 1
        found = self.env.step(action)
        obs, reward, terminated, truncated, info = self._values("step", found, STEP)
        place = f"at step {self.taken} of an episode"
        if np.ndim(reward) or np.asarray(reward).dtype.kind not in "biuf":
            self._complain(f"must give one number as reward and gave {reward!r} {place}")
        self._check(obs, place)
        self.trace = checksum(reward, self.trace)
        self.over = bool(terminated or truncated)
        return obs, reward, terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        """Return base seed, episode number, the actions (k, ...) of the running episode, its trace.

        The actions are None if there are too many to be kept.
        """
        state = {"base": self.base, "episode": self.episode, "actions": None, "trace": self.trace}
        if self.taken > LONGEST:
            return state
        space: Space = self.env.action_space
        actions = np.array(self.actions, space.dtype).reshape(-1, *space.shape)
        return state | {"actions": actions}

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Play the episode back to where `state_dict` was called; returns the observation there.

        If there is no way back, because actions are missing or the environment does not obey its
        seed, the result is None, and the next step begins the next episode. What was seen last may
        be the same by chance: all that the episode has shown is compared.
        """
        self.base = int(state["base"])
        self.episode = int(state["episode"])
        self.over = True
        if state["actions"] is None:
            return None
        actions = np.asarray(state["actions"])
        assert self.seed >= 0  # ValueError here if the state is none of ours
        self.episode -= 1
        try:
            obs, _ = self.reset()
            for action in actions:
                if self.over:
                    return None  # it ended too early
                obs, *_ = self.step(action)
        except (Exception, SystemExit):  # whatever happens in a world that is not where it was
            self.episode = int(state["episode"])
            self.over = True
            return None
        if self.trace != state.get("trace", self.trace):  # older states have none
            self.over = True
            return None
        return obs

    def restore(self, states: dict[str, Any]) -> Any:
        """`load_state_dict` with this environment's own part of the states of all."""
        return self.load_state_dict(states[str(self.index)])

    def abandon(self, indices: list[int]) -> None:
        """End the running episode if this environment is among those; the next step resets it."""
        self.over |= self.index in indices

    def _values(self, call: str, found: Any, names: tuple[str, ...]) -> tuple:
        if isinstance(found, tuple) and len(found) == len(names) and isinstance(found[-1], dict):
            return found
        given = f"{len(found)} values" if isinstance(found, tuple) else type(found).__name__
        given = "None" if found is None else given
        return self._complain(f"must return ({', '.join(names)}) from {call}, and gave {given}")

    def _check(self, obs: Any, place: str) -> None:
        if why := fault(self.env.observation_space, obs):
            self._complain(f"{why} {place}")
        self.trace = checksum(obs, self.trace)

    def _complain(self, sentence: str) -> Any:
        raise BadInput(f"Environment {self.name!r} {sentence}.")


def checksum(obs: Any, start: int) -> int:
    """Go on with a checksum over an observation, through dicts and tuples; floats as float32."""
    if isinstance(obs, dict | tuple):
        for part in obs.values() if isinstance(obs, dict) else obs:
            start = checksum(part, start)
        return start
    array = np.asarray(obs)
    kind = np.float32 if array.dtype.kind == "f" else array.dtype
    return start if array.dtype.kind == "O" else zlib.crc32(array.astype(kind).tobytes(), start)


def steps_back(worlds: dict[str, Any]) -> int:
    """How many steps `restore_worlds` will have to repeat."""
    actions = [w.get("actions") for w in worlds.values() if isinstance(w, dict)]
    return sum(len(a) for a in actions if a is not None)


def can_rewind(vec: Worlds) -> bool:
    """Whether all worlds of a vector environment are of the class above, here or elsewhere."""
    if isinstance(vec, AsyncVectorEnv):
        return getattr(vec, "rewinds", False)  # made by `make_env`: their classes cannot be seen
    envs = vec.envs if isinstance(vec, SyncVectorEnv) else []
    return bool(envs) and all(isinstance(env, Rewind) for env in envs)


def worlds_state(vec: Worlds) -> dict[str, Any] | None:
    """Return the state of all worlds of a vector environment, or None if there is no way."""
    if hasattr(vec, "get_state") and hasattr(vec, "set_state"):
        return vec.get_state()
    if not can_rewind(vec):
        return None
    return {str(i): state for i, state in enumerate(vec.call("state_dict"))}


def restore_worlds(vec: Worlds, worlds: dict[str, Any]) -> list[Any] | None:
    """Undo `worlds_state`; returns each world's observation, or None where there is no way back.

    A vector environment that can set its state gives no observations: None for all.
    """
    if hasattr(vec, "set_state"):
        vec.set_state(worlds)
        return None
    vec.reset()  # so that it no longer waits for a reset; Rewind remembers which episodes are over
    return list(vec.call("restore", worlds))


def abandon_worlds(vec: Worlds, indices: list[int]) -> None:
    """End the running episodes of these environments; their next step resets them."""
    vec.call("abandon", indices)
