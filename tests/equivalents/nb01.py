"""Simpler forms of notebook 01, beside the package's."""

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from equivalents import equivalent
from wmlib.envs.curtain import Scene, draw_start, make_rules
from wmlib.envs.make import make_env
from wmlib.envs.rows import RowEnv

WORLDS = [{}, {"p": 0.7}, {"p": 0.9}, {"curtain": 3}, {"rows": 10, "curtain": 4, "p": 0.2}]
COINS = [*WORLDS, {"offsets": range(-2, 3)}, {"offsets": (-1, 2), "probs": (0.3, 0.7)}]


@equivalent("wmlib.envs.curtain.Scene")
def state(ours, theirs):
    assert ours._fields == theirs._fields
    return ours(1, 2, 3, 4)._asdict(), theirs(1, 2, 3, 4)._asdict()


@equivalent("wmlib.envs.curtain.draw_frames")
def frames(ours, theirs):
    left, right = [], []
    for world in COINS:
        rules = make_rules(**world)
        start = draw_start(rules, np.random.default_rng(0), 40)
        for t in range(rules.rows):
            now = start._replace(t=np.full(40, t))
            left.append(ours(rules, now)), right.append(theirs(rules, now))
    return left, right


@equivalent("wmlib.envs.oracle.belief")
def belief(ours, theirs):
    from wmlib.envs.curtain import advance, draw_frames

    left, right = [], []
    for world in COINS:
        rules, rng = make_rules(**world), np.random.default_rng(1)
        for _ in range(4):
            now, history = draw_start(rules, rng, 1), []
            for t in range(rules.rows):
                history.append(draw_frames(rules, now)[0])
                seen = np.stack(history)
                left.append(ours(rules, seen)), right.append(theirs(rules, seen))
                if t < rules.last:
                    now, _ = advance(rules, Scene(*now), rng.integers(3, size=1))
    return left, right


def _returns(ours, theirs):
    rules = [make_rules(**world) for world in COINS]
    return [ours(r) for r in rules], [theirs(r) for r in rules]


for name in ("optimal_return", "random_return", "camping_return"):
    equivalent(f"wmlib.envs.oracle.{name}")(_returns)


def _streams():
    """Rows of three worlds: whole and cut episodes, and both ways to restart."""
    yield make_env("wmlib/Curtain-v0", num_envs=3, seed=1)
    yield make_env("CartPole-v1", num_envs=2, seed=2, max_episode_steps=9)
    how = {"autoreset_mode": AutoresetMode.SAME_STEP}
    vec = gymnasium.make_vec("CartPole-v1", 3, vectorization_mode="sync", vector_kwargs=how)
    yield RowEnv(vec, seed=3)


@equivalent("wmlib.replay.Replay")
def replay(ours, theirs):
    left, right = [], []
    for env in _streams():
        spaces, count = (env.single_observation_space, env.single_action_space), env.num_envs
        mine = ours(count, 7, 30, seed=4)
        other = theirs(*spaces, count, 7, capacity_rows=30 * count, seed=4)
        row, rng = env.reset(), np.random.default_rng(5)
        for t in range(100):
            action = rng.integers(spaces[1].n, size=count)
            mine.add(row, action), other.add(row, action)
            row = env.reset() if t == 80 else env.step(action)  # 80: episodes are abandoned
            if t in (9, 40, 99):
                sample = other.sample(50)
                sample.pop("index")
                left.append(mine.sample(50)), right.append(sample)
    return left, right
