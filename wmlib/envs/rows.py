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

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import AutoresetMode, VectorEnv

from wmlib.envs.rewind import abandon_worlds, restore_worlds, worlds_state
from wmlib.errors import BadInput
from wmlib.spaces import ObsReader, Tree, batched, each, env_action, row_act_space

__all__ = ["FinalRows", "Row", "RowEnv", "check_seed", "explained"]


@dataclass
class FinalRows:
    """Last rows of the M episodes that ended within a step; they precede the `Row` they came with.

    Only environments with same-step autoreset have them: the step that ends an episode already
    returns the first row of the next.
    """

    envs: np.ndarray  # (M,) int64, which environments
    obs: Tree  # (M, ...)
    reward: np.ndarray  # (M,) float32
    is_first: np.ndarray  # (M,) bool, all False
    is_last: np.ndarray  # (M,) bool, all True
    is_terminal: np.ndarray  # (M,) bool


@dataclass
class Row:
    """One row of each of N environments."""

    obs: Tree  # (N, D) float32, (N, H, W, C) uint8, (N, ...) int64, or a dict of such arrays
    reward: np.ndarray  # (N,) float32, arrives with obs; 0 where is_first
    is_first: np.ndarray  # (N,) bool, obs comes from a reset
    is_last: np.ndarray  # (N,) bool, the episode ends here, for whatever reason
    is_terminal: np.ndarray  # (N,) bool, it ends because there is no future
    final: FinalRows | None = None


class RowEnv:
    """Rows of N environments side by side, from any Gymnasium vector environment that autoresets.

    `spec` is a JSON-able dict {id, num_envs, pixels, size, kwargs}, `remake` makes more of the same
    environments (see `copies`). `seed` is used by the first reset unless it is given one. `reader`
    says how observations are read, if not in the usual way.
    """

    def __init__(
        self,
        vec: VectorEnv,
        spec: dict[str, Any] | None = None,
        seed: int = 0,
        reader: ObsReader | None = None,
        remake: Callable[[int, int], RowEnv] | None = None,
    ):
        if not isinstance(vec, VectorEnv):
            raise BadInput(f"RowEnv takes a vector environment; make_env takes {vec!r}, too.")
        self.vec = vec
        self.num_envs = vec.num_envs
        self.seed = check_seed(seed)
        self.reader = reader or ObsReader(vec.single_observation_space)
        self.remake = remake
        self.single_observation_space = self.reader.space
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
        self.seen: Tree = None  # (N, ...), the newest observations
        self.whole = True  # no environment has failed half-way through a step
        self.steps = 0

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Row:
        """Abandon all episodes and return N first rows; a seed makes everything repeatable.

        Without a seed the environments go on to fresh episodes. options go to the environments.

        Raises:
            BadInput: the seed is not a whole number from 0, or an observation is not finite.
        """
        if seed is not None or self.last is None:
            seed = self.seed = check_seed(self.seed if seed is None else seed)
            self.steps = 0
        self.whole = False
        with explained(self.spec["id"], "reset"):
            obs, _ = self.vec.reset(seed=seed, options=options)
        self.seen = self._obs(obs)
        self.whole = True
        self.last = np.zeros(self.num_envs, bool)
        self.pending = None
        first = np.ones(self.num_envs, bool)
        no = np.zeros(self.num_envs, bool)
        return Row(self.seen, np.zeros(self.num_envs, np.float32), first, no, no.copy())

    def step(self, action: np.ndarray) -> Row:
        """Act in every environment and return the rows that follow.

        Discrete actions are integers (N,); continuous ones floats (N, A), unclipped. Environments
        whose last row was is_last ignore their action and return the first row of a new episode.

        Raises:
            BadInput: a bad action, or an observation or reward that is not finite.
        """
        first = self._ended()
        action = env_action(self.vec.single_action_space, self.num_envs, action)
        if self.pending is not None:
            row, self.pending = self.pending, None
            return row
        self.whole = False
        with explained(self.spec["id"], f"stepped (step {self.steps})"):
            obs, reward, terminated, truncated, info = self.vec.step(action)
        self.steps += 1
        self.seen = obs = self._obs(obs)
        reward = self._reward(reward)
        terminated = np.array(terminated, bool)
        ended = terminated | np.asarray(truncated, bool)
        if self.same_step:
            final = self._final(ended, info, reward, terminated) if ended.any() else None
            no = np.zeros(self.num_envs, bool)
            self.whole = True
            return Row(obs, np.where(ended, np.float32(0), reward), ended, no, no.copy(), final)
        self.whole = True
        self.last = ended
        reward = np.where(first, np.float32(0), reward)
        return Row(obs, reward, first, ended.copy(), terminated)

    def render(self) -> list[np.ndarray]:
        """Return one RGB picture (height, width, 3) uint8 per environment.

        Raises:
            BadInput: the environment cannot draw itself.
        """
        self._ended()
        with explained(self.spec["id"], "rendered"):
            frames = self.vec.render()
        if frames is None or any(np.ndim(frame) != 3 for frame in frames):
            raise BadInput(f"Environment {self.spec['id']!r} draws no pictures (rgb_array).")
        return [np.array(frame) for frame in frames]

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs: nested dicts of arrays, numbers and strings.

        "exact" is False if the environment can neither give its state nor be played back, or has
        failed half-way through a step.
        """
        last = self._ended()
        worlds = worlds_state(self.vec) if self.whole else None
        state = {"exact": worlds is not None, "seed": self.seed, "steps": self.steps}
        return state | {
            "last": last.copy(),
            "worlds": worlds or {},
            "seen": each(np.copy, self.seen),
        }

    def load_state_dict(self, state: dict[str, Any]) -> int:
        """Continue where `state_dict` was called: the next rows are those that would have come.

        Episodes that cannot be continued are abandoned: the next `step` ignores their actions and
        returns first rows. They are all of them if the state is not exact, and otherwise those
        whose observation is not what it was. Returns how many.

        Raises:
            BadInput: the state is of another number of environments.
        """
        if np.shape(state["last"]) != (self.num_envs,):
            raise BadInput(
                f"The saved state is of {np.size(state['last'])} environments, not {self.num_envs}."
            )
        self.seed = int(state["seed"])
        lost = self.num_envs
        if state["exact"]:
            found = restore_worlds(self.vec, state["worlds"])
            self.last = np.array(state["last"], bool)
            self.pending = None
            self.seen = state.get("seen")  # older states have none
            elsewhere = [] if found is None else self._elsewhere(found)
            if elsewhere:
                abandon_worlds(self.vec, elsewhere)
                self.last[elsewhere] = True
            lost = len(elsewhere)
        else:  # a seed of its own, or the run would repeat the episodes it began with
            entropy = np.random.SeedSequence([self.seed, int(state["steps"])]).generate_state(1)
            self.last = np.zeros(self.num_envs, bool)
            self.pending = self.reset(int(entropy[0] >> 1))
            self.seed = int(state["seed"])
        self.whole = True
        self.steps = int(state["steps"])
        return lost

    def _elsewhere(self, found: list[Any]) -> list[int]:
        """Which environments are not where they were, by their observations (None: no way back)."""
        return [i for i, obs in enumerate(found) if obs is None or not self._there(i, obs)]

    def _there(self, index: int, obs: Any) -> bool:
        """Whether this observation of an environment is the newest one that was seen of it."""
        same: list[bool] = []

        def compare(now: np.ndarray, seen: np.ndarray) -> None:
            same.append(np.array_equal(now[0], seen[index]))

        if self.seen is not None:
            with suppress(BadInput):  # it gives what cannot even be read
                each(compare, self._obs(batched(obs)), self.seen)
                return all(same)
        return self.seen is None

    def copies(self, num_envs: int, seed: int) -> RowEnv:
        """Make as many more environments like these.

        Raises:
            BadInput: they cannot be made again, since somebody else made them.
        """
        if self.remake is None:
            raise BadInput(f"Environment {self.spec['id']!r} cannot be made again: give eval_env.")
        return self.remake(num_envs, seed)

    def describe(self, seconds: float = 5.0, minutes: float = 5.0, device: str = "auto") -> str:
        """A report on this world, measured in copies of it, and how to begin a run of `minutes`.

        `seconds` are played at random and as many trained; this environment is left alone.

        Raises:
            BadInput: seconds or minutes that are not positive, an unknown device, or an environment
                that fails.
        """
        from wmlib import doctor  # it plays and trains, and so builds on this module

        return doctor.report(self, seconds, minutes, device)

    def close(self) -> None:
        """Free windows, simulators and processes."""
        with explained(self.spec["id"], "closed"):
            self.vec.close()

    def _ended(self) -> np.ndarray:
        """Return whose episodes the last row ended (N,), or raise BadInput before the first."""
        if self.last is None:
            raise BadInput("Call reset() first: no episode is running.")
        return self.last

    def _obs(self, obs: Any) -> Tree:
        """Convert N observations to those of the row, never aliasing the environment's own."""
        try:
            found = self.reader(obs)
        except BadInput as error:
            raise BadInput(f"Environment {self.spec['id']!r}: {error}") from error
        return each(lambda part: self._finite("observation", part), found)

    def _reward(self, reward: Any) -> np.ndarray:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite
            return self._finite("reward", np.asarray(reward).astype(np.float32))

    def _finite(self, key: str, value: np.ndarray) -> np.ndarray:
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            env, *index = np.argwhere(~np.isfinite(value))[0].tolist()
            place = f" at index {index}" if index else ""
            raise BadInput(
                f"The {key} of environment {env} at step {self.steps} is "
                f"{value[env, *index]}{place}; only finite numbers can be learned from."
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
        obs = self._obs(each(lambda *one: np.stack(one), *(info[key][i] for i in envs)))
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


@contextmanager
def explained(id: str, what: str, kind: str = "Environment") -> Iterator[None]:
    """Turn whatever goes wrong inside an environment's own code into one sentence."""
    try:
        yield
    except BadInput:
        raise
    except (DependencyNotInstalled, ImportError) as error:
        text = " ".join(str(error).split()) + cure(error)
        raise BadInput(f"{kind} {id!r} needs what is not installed ({text}).") from error
    except (Exception, SystemExit) as error:  # some leave when their window is closed
        text = f"{type(error).__name__}: {' '.join(str(error).split())}{cure(error)}"
        raise BadInput(f"{kind} {id!r} cannot be {what} ({text}).") from error


CURES = {
    r"GL\b|\bgl[A-Z]|GLError|GLFW|OSMesa|DISPLAY|X11": "without a screen, setting MUJOCO_GL=egl "
    "may help",
    r"unexpected keyword argument '(seed|options)'": "reset must take seed=None and options=None",
    r"unpack \(expected 5|cannot unpack non-iter": "step must return observation, reward, "
    "terminated, truncated and info",
    r"values to unpack \(expected 2": "reset must return observation and info",
}


def cure(error: BaseException) -> str:
    """Words to add to an error that looks like a known one; none to another."""
    text = f"{type(error).__name__}: {error}"
    return next((f"; {words}" for sign, words in CURES.items() if re.search(sign, text)), "")
