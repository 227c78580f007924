"""A trained agent to take home: observations of its world in, actions of its world out.

    policy = load_policy("curtain")
    policy.reset()
    action = policy(obs)        single or a batch of N, as the observation was

Legend: N observations at a time, one for each copy of the world.
"""

import secrets
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, Space
from safetensors import SafetensorError

from wmlib.agent import Dreamer, Memory
from wmlib.checkpoint import env_spec, load_agent, save_tree
from wmlib.envs.make import make_env, world_reader
from wmlib.envs.rows import check_seed
from wmlib.errors import BadInput
from wmlib.pretrained import pretrained_file, pretrained_names
from wmlib.runtime import Dice
from wmlib.spaces import (
    ObsReader,
    Tree,
    batched,
    each,
    env_action,
    from_json,
    row_act_space,
    to_json,
)

__all__ = ["Policy", "export_weights", "load_policy"]


class Policy:
    """What an agent does, as a function of observations; it remembers the episodes under way.

    The spaces are those of the world itself, as Gymnasium gives them; an `ObsReader` instead of the
    first says how it is read. `mode` takes the most likely
    action instead of drawing one; the dice come from `seed` (None: other ones each time). What
    torch draws elsewhere is neither used nor changed.

    Raises:
        BadInput: the agent was built for other spaces, or the seed is no whole number from 0.
    """

    def __init__(
        self,
        agent: Dreamer,
        obs_space: Space | ObsReader,
        act_space: Space,
        mode: bool = False,
        seed: int | None = None,
    ):
        self.reader = obs_space if isinstance(obs_space, ObsReader) else ObsReader(obs_space)
        agent.check_spaces(self.reader.space, row_act_space(act_space))
        self.agent = agent
        self.act_space = act_space
        self.mode = mode
        self.dice = Dice(agent.device, secrets.randbits(63) if seed is None else check_seed(seed))
        self.memory: Memory | None = None  # None: no episode is under way
        self.first = np.ones(0, bool)  # (N,) whose next observation begins an episode

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Begin new episodes: all, or those where `mask` (N,) is True.

        Raises:
            BadInput: the mask is not one bool for each of the N.
        """
        if mask is None:
            self.memory = None
            return
        mask = np.asarray(mask)
        count = mask.shape if self.memory is None else self.first.shape
        if mask.dtype != bool or mask.ndim != 1 or mask.shape != count:
            raise BadInput(
                f"The mask of reset must be one bool for each of the {len(self.first) or 'N'} "
                f"observations at a time, not {mask.dtype} of shape {mask.shape}."
            )
        if self.memory is not None:
            self.first = self.first | mask

    def __call__(self, obs: Any) -> Any:
        """Choose what to do after this observation, in the world's own units and type.

        obs: one observation, or a batch (N, ...) -> an action of the world's action space, such as
        an int or a float array (A,); or a batch of them.

        Raises:
            BadInput: an observation of another shape, type or range, or another N than before.
        """
        rows, single = self._rows(obs)
        count = len(next(iter(rows.values())) if isinstance(rows, dict) else rows)
        if self.memory is None:
            self.memory, self.first = self.agent.initial(count), np.ones(count, bool)
        if len(self.first) != count:
            raise BadInput(
                f"These episodes began with {len(self.first)} observations at a time, not {count}; "
                "call reset() first."
            )
        with self.dice:
            action, self.memory = self.agent.act(rows, self.first, self.memory, self.mode)
        self.first = np.zeros(count, bool)
        action = env_action(self.act_space, count, action)
        if not single:
            return action
        return int(action[0]) if isinstance(self.act_space, Discrete) else action[0]

    def _rows(self, obs: Any) -> tuple[Tree, bool]:
        """Observations as rows hold them (N, ...), and whether it was a single one."""
        single = self.reader.single(obs)
        rows = self.reader(batched(obs) if single else obs)
        each(finite, rows)
        return rows, single

    def latency(self) -> float:
        """Milliseconds for one observation: the median of 100 calls, beside the episodes."""
        other = Policy(self.agent, self.reader, self.act_space, self.mode, seed=0)
        obs = self.reader.example()
        seconds = []
        for _ in range(110):
            began = time.perf_counter()
            other(obs)
            seconds.append(time.perf_counter() - began)
        return 1000 * float(np.median(seconds[10:]))  # the first calls are slower


def find_agent(
    source: str | Path, device: str = "cpu", agent: Dreamer | None = None
) -> tuple[Dreamer, dict]:
    """Load what `load_agent` loads, or a shipped agent by its name; also its description."""
    if Path(source).exists():
        return load_agent(source, device, agent)
    if source in pretrained_names():
        with pretrained_file(str(source)) as path:
            return load_agent(path, device, agent)
    raise BadInput(
        f"There is no run, checkpoint or file {source}, and the shipped agents are "
        f"{', '.join(pretrained_names())}."
    )


def finite(rows: np.ndarray) -> None:
    """Raise BadInput unless all numbers are finite."""
    if not np.isfinite(rows).all():
        bad = rows[~np.isfinite(rows)][0]
        raise BadInput(f"An observation must be of finite numbers, and one of them is {bad}.")


def world_of(about: dict) -> tuple[ObsReader, Space]:
    """How the world of an agent is read, and its action space.

    Raises:
        BadInput: the description does not hold them, and the world cannot be made here.
    """
    if world := about.get("world"):
        settings = {name: world.get(name) for name in ("keys", "symbolic")}
        space = from_json(world["obs_space"])
        reader = ObsReader(space, world["size"], exact=world["exact"], **settings)
        return reader, from_json(world["act_space"])
    if "id" not in about["env"]:
        raise BadInput("The file does not name the agent's world; give its spaces to wmlib.Policy.")
    with closing(make_env(**{**env_spec(about), "num_envs": 1})) as env:
        return world_reader(env), env.vec.single_action_space


def load_policy(
    source: str | Path,
    mode: bool = False,
    seed: int | None = None,
    device: str = "cpu",
    agent: Dreamer | None = None,
) -> Policy:
    """Load a trained agent as a `Policy`, ready to act in a plain Gymnasium loop.

    source: a run's folder, a checkpoint's folder, a weights file, or the name of a shipped agent.
    agent: an agent that was changed in code, built the same way again; it gets the weights.
    An agent that learnt from rendered frames takes what `env.render()` returns.

    Raises:
        BadInput: nothing is there, it is damaged, its weights do not fit, or its world cannot be
            made (a file of `export_weights` does without it).
    """
    agent, about = find_agent(source, device, agent)
    return Policy(agent, *world_of(about), mode=mode, seed=seed)


# ---------------------------------------------------------------- to share


def export_weights(
    source: str | Path, weights: str | Path, agent: Dreamer | None = None
) -> dict[str, Any]:
    """Write a file for sharing: the weights, and what is needed to load them as an agent again.

    It holds the config, the spaces, and the world's id and settings; of a setting that is a local
    path only its last part. Returns what it came to, with the time of one action on this CPU.

    Raises:
        BadInput: as `load_policy`, or the file cannot be written.
    """
    path = Path(weights)
    if path.suffix.lower() != ".safetensors":
        raise BadInput(f"Cannot write {path}; give a path that ends in .safetensors.")
    agent, about = find_agent(source, "cpu", agent)
    reader, act_space = world_of(about)
    shared = {key: about[key] for key in ("obs_space", "act_space", "config")}
    shared["env"] = _without_folders(about["env"])
    shared["world"] = reader.to_json() | {"act_space": to_json(act_space)}
    state = agent.state_dict()
    try:
        save_tree(path, state, shared)
        size = path.stat().st_size
    except (OSError, SafetensorError) as error:
        raise BadInput(f"Cannot write {path} ({error}).") from error
    kinds = {str(v.dtype).removeprefix("torch.") for v in state.values() if v.is_floating_point()}
    ms = Policy(agent, reader, act_space).latency()
    about = {"weights": str(path), "bytes": size, "dtype": ", ".join(sorted(kinds))}
    return about | {"ms_per_action": round(ms, 3)}


def _without_folders(value: Any) -> Any:
    """Settings in which every absolute path has become its last part."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
