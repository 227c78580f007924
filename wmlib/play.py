"""Let an agent act in environments, without learning."""

from collections.abc import Iterator, Sequence

import numpy as np
from tqdm.auto import tqdm

from wmlib.agent import Dreamer
from wmlib.envs.rows import Row, RowEnv
from wmlib.runtime import STDERR, own_randomness, say
from wmlib.spaces import Tree, each

__all__ = ["endings", "evaluate", "play"]

LONGEST = 10_000  # steps of an episode in an evaluation


def evaluate(
    agent: Dreamer,
    env: RowEnv,
    episodes: int = 20,
    mode: bool = False,
    seed: int = 10_000,
    longest: int = LONGEST,
    progress: bool = False,
    stopped: Sequence[int] = (),
) -> np.ndarray:
    """Undiscounted returns of `episodes` fresh episodes, actions sampled unless `mode`.

    Every environment plays the same number of episodes (rounded up), so that short episodes are not
    counted more often than long ones. An episode that does not end counts as ended after `longest`
    steps, and a sentence says so. The global random state is left as it was.

    Raises:
        KeyboardInterrupt: there is something in `stopped`, which another part of the program fills.
    """
    agent.check_spaces(env.single_observation_space, env.single_action_space)
    quota = -(-episodes // env.num_envs)
    done: list[list[float]] = [[] for _ in range(env.num_envs)]
    total = np.zeros(env.num_envs)
    age = np.zeros(env.num_envs, int)
    cut = 0
    bar = tqdm(total=episodes, unit="episode", disable=not progress, file=STDERR)
    with bar, own_randomness(agent.device, seed):
        row = env.reset(seed=seed)
        memory = agent.initial(env.num_envs)
        while min(len(d) for d in done) < quota:
            if stopped:
                raise KeyboardInterrupt
            action, memory = agent.act(row.obs, row.is_first, memory, mode)
            row = env.step(action)
            for envs, rewards, last in endings(row):
                total[envs] += rewards
                age[envs] += 1
                endless = ~last & (age[envs] >= longest)
                for i in envs[last | endless]:
                    done[i].append(total[i])
                    total[i], age[i] = 0.0, 0
                cut += int(endless.sum())
                bar.update(min(sum(min(len(d), quota) for d in done), episodes) - bar.n)
    if cut:
        say(f"{cut} episodes had no end after {longest:,} steps and were counted up to there.")
    return np.array([d[k] for k in range(quota) for d in done][:episodes])


def play(
    agent: Dreamer, env: RowEnv, length: int, seed: int = 0, mode: bool = False
) -> dict[str, Tree]:
    """Let the agent act for `length` rows; returns what happened, as `Replay.sample` would give it.

    obs (N, T, ...), reward, is_first, is_last, is_terminal (N, T), action and prev_action
    (N, T[, A]), from a fresh reset. The global random state is left as it was.
    """
    agent.check_spaces(env.single_observation_space, env.single_action_space)
    rows, actions = [], []
    with own_randomness(agent.device, seed):
        row = env.reset(seed=seed)
        memory = agent.initial(env.num_envs)
        for _ in range(length):
            action, memory = agent.act(row.obs, row.is_first, memory, mode)
            rows.append(row)
            actions.append(action)
            row = env.step(action)
    names = ("obs", "reward", "is_first", "is_last", "is_terminal")
    sample = {
        name: each(lambda *steps: np.stack(steps, 1), *(getattr(row, name) for row in rows))
        for name in names
    }
    action = np.stack(actions, 1)
    action[sample["is_last"]] = 0
    before = np.concatenate([0 * action[:, :1], action[:, :-1]], 1)
    return sample | {"action": action, "prev_action": before}


def endings(row: Row) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (environments, rewards, is_last) in time order: final rows, if any, come first."""
    if row.final is not None:
        yield row.final.envs, row.final.reward, row.final.is_last
    yield np.arange(len(row.reward)), row.reward, row.is_last
