"""Exact resume: the state of environments that cannot give it, from their seeds and actions."""

from __future__ import annotations

from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv

from wmlib.errors import BadInput
from wmlib.spaces import Space

__all__ = ["Rewind", "restore_worlds", "worlds_state"]

Worlds: TypeAlias = Any  # a VectorEnv with `get_state` and `set_state`, or whose `envs` can rewind


class Rewind(gymnasium.Wrapper):
    """Make the state of an environment a function of (seed, episode, actions since the reset).

    Every reset is seeded from (base seed, index, episode number), and the actions of the running
    episode are kept, so a few numbers are enough to build the state again by playing them back.
    That needs an environment that obeys its seed, and takes as long as the episode so far.
    """

    def __init__(self, env: gymnasium.Env, index: int = 0):
        super().__init__(env)
        self.index = index
        self.base = 0
        self.episode = -1
        self.actions: list[np.ndarray] = []
        self.over = False

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Begin the next episode; a seed is the new base seed and begins with episode 0."""
        if seed is not None:
            self.base = int(seed)
            self.episode = -1
        self.episode += 1
        self.actions = []
        self.over = False
        entropy = np.random.SeedSequence([self.base, self.index, self.episode])
        # 31 bits: some simulators read seeds as signed 32-bit integers
        return self.env.reset(seed=int(entropy.generate_state(1)[0] >> 1), options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
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
        space: Space = self.env.action_space
        actions = np.array(self.actions, space.dtype).reshape(-1, *space.shape)
        return {"base": self.base, "episode": self.episode, "actions": actions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Play the episode back to where `state_dict` was called.

        Raises:
            BadInput: the episode ended on the way, so the environment does not obey its seed.
        """
        self.base = int(state["base"])
        self.episode = int(state["episode"]) - 1
        self.reset()
        for count, action in enumerate(np.asarray(state["actions"])):
            if self.over:
                raise BadInput(
                    f"Environment {self.index} cannot be resumed: it ended after {count} of "
                    f"{len(state['actions'])} saved actions, so it does not obey its seed."
                )
            self.step(action)


def worlds_state(vec: Worlds) -> dict[str, Any] | None:
    """Return the state of all worlds of a vector environment, or None if there is no way."""
    if hasattr(vec, "get_state") and hasattr(vec, "set_state"):
        return vec.get_state()
    envs = vec.envs if isinstance(vec, SyncVectorEnv) else []
    states = {str(i): env.state_dict() for i, env in enumerate(envs) if isinstance(env, Rewind)}
    return states if envs and len(states) == len(envs) else None


def restore_worlds(vec: Worlds, worlds: dict[str, Any]) -> None:
    """Undo `worlds_state`."""
    if hasattr(vec, "set_state"):
        vec.set_state(worlds)
        return
    vec.reset()  # so that it no longer waits for a reset; Rewind remembers which episodes are over
    for i, env in enumerate(vec.envs):
        env.load_state_dict(worlds[str(i)])
