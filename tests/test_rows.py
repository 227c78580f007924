"""Rows: nothing lost, nothing doubled, flags right, exact resume, and a sentence for every mistake.

The worlds here say in every observation which environment, episode and step it comes from, so the
rows that must come out can be written down without running anything.
"""

import importlib.util
import io
import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Text, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from wmlib.envs.make import make_env
from wmlib.envs.rewind import Rewind
from wmlib.envs.rows import Row, RowEnv
from wmlib.errors import BadInput

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]
NEXT_STEP, SAME_STEP = MODES
KEYS = ("obs", "reward", "is_first", "is_last", "is_terminal")


# ---------------------------------------------------------------- worlds that tell


def episode_length(index, episode):
    """1, 2, 3, 4 or 5 steps, differently in every environment."""
    return 1 + (2 * index + 3 * episode) % 5


def terminates(index, episode):
    """Whether an episode ends for good; the others run into a time limit."""
    return (index + episode) % 2 == 0


def code(index, episode, step):
    return 10_000 * index + 100 * episode + step


class Counter(gym.Env):
    """Observation (environment, episode, step, last action), reward their code."""

    observation_space = Box(-np.inf, np.inf, (4,), np.float64)
    action_space = Discrete(7)

    def __init__(self, index=0):
        self.index, self.episode = index, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        return self._obs(-1), {}

    def step(self, action):
        self.time += 1
        assert self.time <= episode_length(self.index, self.episode), "stepped after the end"
        over = self.time == episode_length(self.index, self.episode)
        dead = terminates(self.index, self.episode)
        reward = code(self.index, self.episode, self.time)
        return self._obs(action), reward, over and dead, over and not dead, {"note": self.time}

    def _obs(self, action):
        return np.array([self.index, self.episode, self.time, action], np.float64)


class Dice(gym.Env):
    """Everything random, from the environment's own generator, with noise in every step."""

    observation_space = Box(-np.inf, np.inf, (3,), np.float32)
    action_space = Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left, self.sum = int(self.np_random.integers(1, 9)), 0.0
        return self._obs(), {}

    def step(self, action):
        self.left -= 1
        self.sum += float(np.sum(action)) + self.np_random.normal()
        dead = bool(self.np_random.random() < 0.2)
        return self._obs(), self.np_random.normal(), dead, self.left == 0, {}

    def _obs(self):
        return np.array([self.left, self.sum, self.np_random.normal()], np.float32)


class Shifted(gym.Env):
    """Discrete spaces that begin elsewhere than at 0; the observation is the action plus 10."""

    observation_space = Discrete(3, start=15)
    action_space = Discrete(3, start=5)

    def reset(self, *, seed=None, options=None):
        return 15, {}

    def step(self, action):
        assert action in self.action_space
        return int(action) + 10, 0.0, False, False, {}


class Given(gym.Env):
    """Spaces, observations and rewards as told; never ends."""

    def __init__(self, obs_space=None, act_space=None, obs=None, rewards=()):
        self.observation_space = obs_space or Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = act_space or Discrete(2)
        self.obs, self.rewards, self.time = obs or {}, dict(rewards), 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        self.time, self.action = self.time + 1, action
        return self._obs(), self.rewards.get(self.time, 0.0), False, False, {}

    def _obs(self):
        zero = np.zeros(self.observation_space.shape, self.observation_space.dtype)
        return self.obs.get(self.time, zero)


class Photo(gym.Env):
    """A picture of any size with one bright half, and nothing to do."""

    action_space = Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, height=96, width=96, channels=3, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = Box(0, 255, (height, width, channels), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action):
        return self._obs(), 0.0, False, False, {}

    def render(self):
        return np.full((16, 16, 3), 70, np.uint8)

    def _obs(self):
        picture = np.zeros(self.observation_space.shape, np.uint8)
        picture[: len(picture) // 2] = 200
        return picture


class Twin(gym.vector.VectorEnv):
    """A vector environment that can say its state; the sum of all actions is observed."""

    metadata = {"autoreset_mode": NEXT_STEP}
    single_observation_space, single_action_space = Box(-np.inf, np.inf, (1,)), Discrete(3)

    def __init__(self, num_envs=1, bonus=0):
        self.num_envs, self.bonus = num_envs, bonus
        self.action_space = MultiDiscrete([3] * num_envs)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sum, self.over = self.np_random.random(self.num_envs), np.zeros(self.num_envs, bool)
        return self.sum[:, None].copy(), {}

    def step(self, actions):
        fresh = self.np_random.random(self.num_envs)
        self.sum = np.where(self.over, fresh, self.sum + actions)
        reward, self.over = self.sum + self.bonus, ~self.over & (self.sum > 5)
        return self.sum[:, None].copy(), reward, self.over, np.zeros_like(self.over), {}

    def get_state(self):
        rng = self.np_random.bit_generator.state
        return {"sum": self.sum.copy(), "over": self.over.copy(), "rng": rng}

    def set_state(self, state):
        self.sum, self.over = state["sum"].copy(), state["over"].copy()
        self.np_random = np.random.default_rng()
        self.np_random.bit_generator.state = state["rng"]


def needs_package():
    raise gym.error.DependencyNotInstalled("nothing of that kind is installed")


def needs_module():
    raise ModuleNotFoundError("No module named 'nowhere'")


def matrix():
    return Given(Box(0, 1, (2, 2)))


WORLDS = {
    "Matrix": matrix,
    "Counter": Counter,
    "Dice": Dice,
    "Shifted": Shifted,
    "Given": Given,
    "Photo": Photo,
    "NeedsPackage": needs_package,
    "NeedsModule": needs_module,
}
for name, maker in WORLDS.items():
    if f"test/{name}-v0" not in gym.registry:
        gym.register(f"test/{name}-v0", entry_point=maker)
if "test/Twin-v0" not in gym.registry:
    gym.register("test/Twin-v0", entry_point=Given, vector_entry_point=Twin)


def through_file(state):
    """Write nested dicts as npz and JSON, without pickle, and read them again."""
    arrays, rest = {}, {}

    def flatten(tree, prefix):
        for key, value in tree.items():
            assert isinstance(key, str)
            if isinstance(value, dict):
                flatten(value, f"{prefix}{key}/")
            else:
                (arrays if isinstance(value, np.ndarray) else rest)[prefix + key] = value

    flatten(state, "")
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    loaded = dict(np.load(file, allow_pickle=False)) | json.loads(json.dumps(rest))
    tree = {}
    for path, value in loaded.items():
        *parents, last = path.split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = value
    return tree


def random_actions(env, steps, seed=0):
    rng, space = np.random.default_rng(seed), env.single_action_space
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=(steps, env.num_envs))
    return rng.normal(0, 1, (steps, env.num_envs, *space.shape)).astype(np.float32)


def same(row, other):
    for key in KEYS:
        mine, theirs = getattr(row, key), getattr(other, key)
        assert mine.dtype == theirs.dtype and np.array_equal(mine, theirs), key
    assert (row.final is None) == (other.final is None)
    if row.final is not None:
        assert np.array_equal(row.final.envs, other.final.envs)
        for key in KEYS:
            assert np.array_equal(getattr(row.final, key), getattr(other.final, key)), key


def histories(env, actions, seed=0):
    """All rows of each environment in order of time, as lists of tuples."""
    found = [[] for _ in range(env.num_envs)]

    def note(envs, rows):
        for k, i in enumerate(envs):
            found[i].append(tuple(np.asarray(getattr(rows, key))[k].tolist() for key in KEYS))

    row = env.reset(seed)
    note(range(env.num_envs), row)
    for action in actions:
        row = env.step(action)
        if row.final is not None:
            note(row.final.envs, row.final)
        note(range(env.num_envs), row)
    return found


# ---------------------------------------------------------------- no row lost, no row doubled


def expected_history(index, mode, actions):
    """What environment `index` must give, from the rules alone."""
    rows, episode, step = [], 0, 0
    rows.append(([index, 0, 0, -1], 0.0, True, False, False))
    for action in actions[:, index]:
        if step == episode_length(index, episode):  # next-step autoreset: the action is ignored
            episode, step = episode + 1, 0
            rows.append(([index, episode, 0, -1], 0.0, True, False, False))
            continue
        step += 1
        last = step == episode_length(index, episode)
        dead = last and terminates(index, episode)
        reward = code(index, episode, step)
        rows.append(([index, episode, step, action], reward, False, last, dead))
        if last and mode is SAME_STEP:
            episode, step = episode + 1, 0
            rows.append(([index, episode, 0, -1], 0.0, True, False, False))
    return rows


@pytest.mark.parametrize("mode", MODES)
def test_every_row_comes_exactly_once_with_its_reward_and_flags(mode):
    vec = SyncVectorEnv([lambda i=i: Counter(i) for i in range(3)], autoreset_mode=mode)
    env = RowEnv(vec)
    actions = random_actions(env, 60)
    for index, found in enumerate(histories(env, actions)):
        assert found == expected_history(index, mode, actions)
        lasts = [row for row in found if row[3]]
        assert {row[4] for row in lasts} == {True, False}  # terminated and truncated both happened
        assert len(lasts) > 10


@pytest.mark.parametrize("mode", MODES)
def test_one_row_per_step_and_the_types_of_rows(mode):
    env = RowEnv(SyncVectorEnv([lambda i=i: Counter(i) for i in range(3)], autoreset_mode=mode))
    assert env.single_observation_space == Box(-np.inf, np.inf, (4,), np.float32)
    rows = [env.reset(0)] + [env.step(a) for a in random_actions(env, 20)]
    finals = [row.final for row in rows if row.final is not None]
    assert bool(finals) == (mode is SAME_STEP)
    for row in [*rows, *finals]:
        count = len(row.envs) if hasattr(row, "envs") else 3
        assert row.obs.dtype == np.float32 and row.obs.shape == (count, 4)
        assert row.reward.dtype == np.float32 and row.reward.shape == (count,)
        for key in KEYS[2:]:
            assert getattr(row, key).dtype == bool and getattr(row, key).shape == (count,)
    for row in rows[1:]:
        ended = row.is_first if mode is SAME_STEP else np.zeros(3, bool)
        assert np.array_equal(np.flatnonzero(ended), [] if row.final is None else row.final.envs)


def test_rows_are_not_overwritten_by_later_steps():
    env = RowEnv(SyncVectorEnv([lambda i=i: Counter(i) for i in range(2)], copy=False))
    rows = [env.reset(0)] + [env.step(a) for a in random_actions(env, 5)]
    assert [row.obs[1, 2] for row in rows] == [0, 1, 2, 3, 0, 1]
    rows[-1].is_last[:] = True  # nor does writing into a row reach the environment
    assert not env.step(np.zeros(2, int)).is_first.all()


def test_abandoned_episodes_start_again_with_first_rows():
    env = RowEnv(SyncVectorEnv([lambda i=i: Counter(i) for i in range(2)]))
    env.reset(0)
    env.step(np.zeros(2, int))  # ends the one-step episode of environment 0
    row = env.reset()
    assert row.is_first.all() and (row.reward == 0).all() and not row.is_last.any()
    row = env.step(np.zeros(2, int))
    assert not row.is_first.any() and (row.obs[:, 2] == 1).all()


def test_an_old_name_of_the_final_observation_is_understood():
    class Old(gym.vector.VectorWrapper):
        def step(self, actions):
            *out, info = super().step(actions)
            return *out, {k.replace("final_obs", "final_observation"): v for k, v in info.items()}

    vec = SyncVectorEnv([lambda i=i: Counter(i) for i in range(3)], autoreset_mode=SAME_STEP)
    env = RowEnv(Old(vec))
    actions = random_actions(env, 30)
    for index, found in enumerate(histories(env, actions)):
        assert found == expected_history(index, SAME_STEP, actions)


def test_vectorised_cartpole_follows_the_convention():
    env = RowEnv(gym.make_vec("CartPole-v1", 4, vectorization_mode="vector_entry_point"))
    before, ends = env.reset(0), 0
    for action in random_actions(env, 200):
        row = env.step(action)
        assert np.array_equal(row.is_first, before.is_last)
        assert np.array_equal(row.reward, np.where(row.is_first, 0, 1))
        assert (np.abs(row.obs[row.is_first]) <= 0.05).all()
        ends, before = ends + row.is_last.sum(), row
    assert ends > 10


# ---------------------------------------------------------------- actions and spaces


def test_discrete_spaces_are_shifted_to_zero():
    env = make_env("test/Shifted-v0", num_envs=3)
    assert env.single_action_space == env.single_observation_space == Discrete(3)
    assert env.reset(0).obs.tolist() == [0, 0, 0]
    row = env.step(np.array([0, 2, 1]))
    assert row.obs.tolist() == [0, 2, 1] and row.obs.dtype == np.int64
    assert (env.reset().obs == 0).all()


def test_continuous_actions_are_clipped_and_rescaled():
    space = Box(np.float32([-2, 0]), np.float32([2, 10]))
    env = RowEnv(SyncVectorEnv([lambda: Given(act_space=space)] * 3))
    assert env.single_action_space == Box(-1, 1, (2,), np.float32)
    env.reset(0)
    env.step(np.array([[0.0, 0.0], [-7.0, 7.0], [0.5, -0.5]], np.float32))
    found = [inner.action for inner in env.vec.envs]
    assert np.array_equal(found, [[0, 5], [-2, 10], [1, 2.5]])
    assert all(action.dtype == np.float32 for action in found)


def test_rescaled_actions_never_leave_their_bounds():
    low, high = np.float32([0.1, -0.3, 1 / 3]), np.float32([0.7, 0.9, 2 / 3])
    env = RowEnv(SyncVectorEnv([lambda: Given(act_space=Box(low, high))]))
    env.reset(0)
    for value in (-1.0, 1.0):
        env.step(np.full((1, 3), value, np.float32))
        assert np.array_equal(env.vec.envs[0].action, low if value < 0 else high)


def test_integer_vectors_become_floats():
    env = RowEnv(SyncVectorEnv([lambda: Given(Box(0, 255, (3,), np.uint8))]))
    assert env.reset(0).obs.dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "size", "side"),
    [((96, 96, 3), 32, 32), ((96, 96, 3), 96, 96), ((32, 24, 1), 16, 16), ((8, 8, 4), 64, 8)],
)
def test_images_are_resized_only_if_they_must(shape, size, side):
    settings = dict(zip(("height", "width", "channels"), shape, strict=True))
    env = make_env("test/Photo-v0", num_envs=2, size=size, **settings)
    expected = Box(0, 255, (side, side, shape[2]), np.uint8)
    assert env.single_observation_space == expected
    obs = env.reset(0).obs
    assert obs.shape == (2, *expected.shape) and obs.dtype == np.uint8
    assert (obs[:, : side // 2] == 200).all() and (obs[:, side // 2 :] == 0).all()


def test_pixels_are_the_rendered_picture_made_small():
    import cv2

    env = make_env("CartPole-v1", num_envs=2, pixels=True, size=32)
    assert env.single_observation_space == Box(0, 255, (32, 32, 3), np.uint8)
    row = env.reset(0)
    for action in random_actions(env, 3):
        frames = env.render()
        assert len(frames) == 2 and frames[0].shape == (400, 600, 3)
        small = [cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA) for frame in frames]
        assert np.array_equal(row.obs, small)
        assert not np.array_equal(row.obs[0], row.obs[1])
        row = env.step(action)
    env.close()


def test_pixels_have_the_size_that_was_asked_for():
    env = make_env("test/Photo-v0", num_envs=2, pixels=True, size=32)
    obs = env.reset(0).obs
    assert obs.shape == (2, 32, 32, 3) and (obs == 70).all()


def draws(render_mode=None):
    return Photo(render_mode=render_mode)


def passes_on(**settings):
    return Photo(**settings)


def draws_nothing(**settings):
    return Dice(**settings)


@pytest.mark.parametrize("maker", [draws, passes_on, draws_nothing])
@pytest.mark.parametrize("pixels", [False, True])
def test_a_function_is_asked_for_pictures_if_it_can_be(maker, pixels):
    if maker is draws_nothing and pixels:
        with pytest.raises(BadInput, match="draws_nothing"):
            make_env(maker, pixels=True)
        return
    env = make_env(maker, pixels=pixels, size=32)
    mode = env.vec.envs[0].unwrapped.render_mode
    assert mode == (None if maker is draws_nothing else "rgb_array")
    assert env.reset(0).is_first.all()


@pytest.mark.parametrize("id", ["CartPole-v1", "test/Twin-v0"])
def test_spec_builds_the_same_environment_again(id):
    kwargs = {"bonus": 2} if "Twin" in id else {"sutton_barto_reward": True}
    env = make_env(id, num_envs=3, seed=5, **kwargs)
    assert env.spec["kwargs"] == kwargs
    again = make_env(**json.loads(json.dumps(env.spec)), seed=5)
    assert again.spec == env.spec
    same(env.reset(), again.reset())
    for action in random_actions(env, 10):
        row = env.step(action)
        same(row, again.step(action))
        reward = row.reward[~row.is_first]
        assert (reward <= 0).all() if id == "CartPole-v1" else (reward >= 2).all()


def test_numpy_settings_become_json():
    env = make_env("test/Photo-v0", height=np.int64(16), width=16)
    assert json.loads(json.dumps(env.spec))["kwargs"] == {"height": 16, "width": 16}


# ---------------------------------------------------------------- seeds and exact resume


def test_seeds_repeat_everything_and_differ_between_environments_and_episodes():
    env = make_env("test/Dice-v0", num_envs=3, seed=4)
    actions = random_actions(env, 40)
    first = histories(env, actions, None)
    assert histories(env, actions, 4) == histories(make_env("test/Dice-v0", 3), actions, 4) == first
    assert histories(env, actions, None) != first  # without a seed: on to fresh episodes
    assert histories(env, actions, 5)[0] != first[0]
    shifted = histories(env, actions, 5)  # environment 0 of seed 5 is not environment 1 of seed 4
    assert shifted[0][0] != first[1][0]
    starts = [row[0][2] for history in first for row in history if row[2]]
    assert len(starts) > 20 and len(set(starts)) == len(starts)


RESUMED = ["CartPole-v1", "Pendulum-v1", "test/Dice-v0", "test/Twin-v0"]
if importlib.util.find_spec("wmlib.envs.curtain"):
    RESUMED.append("wmlib/Curtain-v0")


@pytest.mark.parametrize("id", RESUMED)
def test_resuming_anywhere_gives_the_same_rows_bit_for_bit(id):
    settings = {"max_episode_steps": 23} if id == "Pendulum-v1" else {}
    env = make_env(id, num_envs=3, seed=1, **settings)
    actions = random_actions(env, 90)
    rows, states = [env.reset()], [env.state_dict()]
    for action in actions:
        rows.append(env.step(action))
        states.append(env.state_dict())
    ends = [t for t, row in enumerate(rows) if row.is_last.any()]
    assert ends
    assert all((row.reward[row.is_first] == 0).all() for row in rows)
    stops = {0, 1, 2, 50, 70, *ends[:4], *(t + 1 for t in ends[:4])}
    for stop in sorted(t for t in stops if t < 80):
        assert states[stop]["exact"] is True
        fresh = make_env(id, num_envs=3, seed=99, **settings)
        if stop % 2:  # into one that plays and is about to reset an environment
            row = fresh.reset()
            while not row.is_last.any():
                row = fresh.step(actions[0])
        fresh.load_state_dict(through_file(states[stop]))
        for t in range(stop, min(stop + 30, 90)):
            same(fresh.step(actions[t]), rows[t + 1])


def test_resuming_the_one_who_saved_and_saving_again():
    env = make_env("test/Dice-v0", num_envs=2)
    env.reset(3)
    actions = random_actions(env, 30)
    for action in actions[:11]:
        env.step(action)
    state = env.state_dict()
    rows = [env.step(action) for action in actions[11:]]
    env.load_state_dict(state)
    for action, row in zip(actions[11:20], rows, strict=False):
        same(env.step(action), row)
    state = through_file(env.state_dict())
    fresh = make_env("test/Dice-v0", num_envs=2)
    fresh.load_state_dict(state)
    for action, row in zip(actions[20:], rows[9:], strict=True):
        same(fresh.step(action), row)


@pytest.mark.parametrize("id", ["CartPole-v1", "test/Dice-v0"])
def test_resuming_with_same_step_autoreset(id):
    def build():
        makers = [lambda i=i: Rewind(gym.make(id), i) for i in range(3)]
        return RowEnv(SyncVectorEnv(makers, autoreset_mode=SAME_STEP))

    env = build()
    actions = random_actions(env, 60)
    rows, states = [env.reset(0)], [env.state_dict()]
    for action in actions:
        rows.append(env.step(action))
        states.append(env.state_dict())
    ended = [t for t, row in enumerate(rows) if row.final is not None and t < 50]
    for stop in [0, 7, ended[0], ended[1], ended[2], ended[2] + 1]:
        fresh = build()
        fresh.load_state_dict(through_file(states[stop]))
        for t in range(stop, 60):
            same(fresh.step(actions[t]), rows[t + 1])


def test_resuming_pixels():
    env = make_env("CartPole-v1", pixels=True, size=8, seed=2)
    actions = random_actions(env, 12)
    env.reset()
    for action in actions[:6]:
        env.step(action)
    fresh = make_env(**env.spec)
    fresh.load_state_dict(through_file(env.state_dict()))
    for action in actions[6:]:
        same(env.step(action), fresh.step(action))


def test_without_a_way_to_resume_the_episodes_are_abandoned():
    def build():
        return RowEnv(gym.make_vec("CartPole-v1", 3, vectorization_mode="vector_entry_point"))

    env = build()
    begin = env.reset(0)
    actions = random_actions(env, 10)
    for action in actions:
        env.step(action)
    state = through_file(env.state_dict())
    assert state["exact"] is False
    env.step(actions[0])
    later = through_file(env.state_dict())
    env.load_state_dict(later)
    other = env.step(actions[0])
    rows = []
    for _ in range(2):
        fresh = build()
        fresh.load_state_dict(state)
        rows.append([fresh.step(action) for action in actions[:3]])
        assert rows[-1][0].is_first.all() and not rows[-1][0].is_last.any()
        assert not rows[-1][1].is_first.any() and (rows[-1][1].reward == 1).all()
        assert not np.array_equal(rows[-1][0].obs, begin.obs)  # not the same episodes once more
        assert not np.array_equal(rows[-1][0].obs, other.obs)
        assert fresh.seed == 0 and fresh.steps >= 10
    for row, other in zip(*rows, strict=True):
        same(row, other)  # but repeatable


def test_the_own_vector_version_is_used_if_it_can_be_resumed():
    assert isinstance(make_env("test/Twin-v0", 2).vec, Twin)
    assert isinstance(make_env("CartPole-v1", 2).vec, SyncVectorEnv)


# ---------------------------------------------------------------- a sentence for every mistake


def given(**settings):
    return RowEnv(SyncVectorEnv([lambda: Given(**settings)]))


def test_what_is_refused_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(Given, "close", lambda self: closed.append(self))
    with pytest.raises(BadInput):
        make_env("test/Matrix-v0", num_envs=3, keys=["nothing"])
    assert len(closed) == 3


VECTOR = Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"id": "CartPole-v7"}, "^Unknown environment 'CartPole-v7'; did you mean 'CartPole-v1'"),
        ({"id": "Pendulum"}, "Unknown environment 'Pendulum'; did you mean 'Pendulum-v1'"),
        (
            {"id": "qqqqqqqq"},
            "Unknown environment 'qqqqqqqq'; see gymnasium.pprint_registry.*--import",
        ),
        ({"id": "nowhere:Foo-v0"}, "'nowhere:Foo-v0' needs what is not installed .*nowhere"),
        ({"id": "test/NeedsPackage-v0"}, "not installed .nothing of that kind is installed"),
        ({"id": "test/NeedsModule-v0"}, "not installed .No module named 'nowhere'"),
        ({"id": "CartPole-v1", "mass": 3}, "'CartPole-v1' has no setting 'mass', only .*sutton"),
        ({"id": "test/Twin-v0", "mass": 3}, "'test/Twin-v0' has no setting 'mass'"),
        ({"id": "FrozenLake-v1", "map_name": "9x9"}, "cannot be made with .*'9x9'"),
        ({"id": "CartPole-v1", "sutton_barto_reward": object()}, "settings must be numbers"),
        ({"id": "CartPole-v1", "kwargs": 3}, "kwargs must be a dict .* not 3"),
        ({"id": "CartPole-v1", "num_envs": 0}, "num_envs must be a whole number from 1, not 0"),
        ({"id": "CartPole-v1", "num_envs": 2.0}, "num_envs must .* not 2.0"),
        ({"id": "CartPole-v1", "size": 50}, "size must be a side that can be halved .* not 50"),
        ({"id": "CartPole-v1", "keys": ["a"]}, "There is no observation 'a'"),
        ({"id": 3}, "An environment is an id, a class, a function or made, not 3"),
        ({"id": "CartPole-v1", "seed": -1}, "seed must be a whole number from 0, not -1"),
        ({"id": "CartPole-v1", "seed": "0"}, "seed must be a whole number from 0, not '0'"),
        ({"id": "test/Photo-v0", "channels": 2}, "is a Box of shape .96, 96, 2. .* and pictures"),
        (
            {"id": "test/Counter-v0", "pixels": True},
            "'test/Counter-v0' has no pixels: its render modes",
        ),
    ],
)
def test_make_env_says_what_is_wrong(arguments, sentence):
    with pytest.raises(BadInput, match=sentence) as caught:
        make_env(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (Box(0, 255, (16, 16, 2), np.uint8), "is a Box of shape .16, 16, 2. .* 1, 3 or 4 channels"),
        (Box(0, 1, (0,)), "holds no numbers"),
        (Text(5), "^What is observed is a Text of shape .*, and only numbers and pictures"),
        (
            Dict(a=VECTOR, b=Dict(mission=Text(5))),
            r"The observation 'b.mission' is a Text .* Observe only the others: keys=\['a'\]",
        ),
    ],
)
def test_unsupported_observations(space, sentence):
    with pytest.raises(BadInput, match=sentence):
        given(obs_space=space)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (Tuple([Discrete(2)]), "Actions must be .* not a Tuple"),
        (Box(0, 1, (0, 2)), "There is nothing to act with in a Box of shape .0, 2."),
        (Box(0, 9, (2,), np.int64), "Actions must be .* type int64; whole numbers are a Multi"),
    ],
)
def test_unsupported_actions(space, sentence):
    with pytest.raises(BadInput, match=sentence):
        given(act_space=space)


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (np.zeros(3, int), r"integers of shape \(2,\), not int64 of shape \(3,\)"),
        (np.zeros((2, 1), int), r"not int64 of shape \(2, 1\)"),
        (np.zeros(2), r"integers of shape \(2,\), not float64"),
        (np.zeros(2, bool), "not bool"),
        (1, r"not int64 of shape \(\)"),
        (np.array([0, 2]), "action of environment 1 must be from 0 to 1, not 2"),
        (np.array([-1, 0]), "action of environment 0 must be from 0 to 1, not -1"),
    ],
)
def test_bad_discrete_actions(action, sentence):
    env = make_env("CartPole-v1", num_envs=2)
    env.reset(0)
    with pytest.raises(BadInput, match=sentence):
        env.step(action)


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (np.zeros(2, np.float32), r"floats of shape \(2, 1\), not float32 of shape \(2,\)"),
        (np.zeros((2, 1), int), "not int64"),
        (np.float32([[0], [np.nan]]), r"action of environment 1 must be finite, not \[nan\]"),
        (np.float32([[-np.inf], [0]]), r"action of environment 0 must be finite, not \[-inf\]"),
    ],
)
def test_bad_continuous_actions(action, sentence):
    env = make_env("Pendulum-v1", num_envs=2)
    env.reset(0)
    with pytest.raises(BadInput, match=sentence):
        env.step(action)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"obs": {2: np.array([0, np.nan])}}, "observation .* 1 at step 2 is nan at index .1.;"),
        ({"obs": {2: np.array([-np.inf, 0])}}, "observation .* 1 at step 2 is -inf at index .0.;"),
        ({"obs": {2: np.array([0, 1e300])}}, "observation .* 1 at step 2 is inf at index .1.;"),
        ({"rewards": {2: np.nan}}, "The reward of environment 1 at step 2 is nan;"),
        ({"rewards": {2: np.inf}}, "The reward of environment 1 at step 2 is inf;"),
    ],
)
def test_numbers_that_are_none_are_told_where_they_come_from(settings, sentence):
    env = RowEnv(SyncVectorEnv([Given, lambda: Given(**settings)]))
    env.reset(0)
    env.step(np.zeros(2, int))
    with pytest.raises(BadInput, match=sentence):
        env.step(np.zeros(2, int))


def test_nan_in_the_first_row():
    with pytest.raises(BadInput, match="observation of environment 0 at step 0 is nan"):
        given(obs={0: np.array([np.nan, 0])}).reset(0)


@pytest.mark.parametrize("world", [Dice(), Dice, "CartPole-v1"], ids=["made", "class", "id"])
def test_what_is_no_vector_environment_is_refused(world):
    with pytest.raises(BadInput, match="takes a vector environment; make_env takes .*(Dice|Cart)"):
        RowEnv(world)


def test_other_autoreset_modes_are_refused():
    with pytest.raises(BadInput, match="NEXT_STEP or SAME_STEP .* not AutoresetMode.DISABLED"):
        RowEnv(SyncVectorEnv([Given], autoreset_mode=AutoresetMode.DISABLED))


def test_same_step_without_final_observations_is_refused():
    class Forgetful(gym.vector.VectorWrapper):
        def step(self, actions):
            return *super().step(actions)[:4], {}

    env = RowEnv(Forgetful(SyncVectorEnv([Counter], autoreset_mode=SAME_STEP)))
    env.reset(0)
    with pytest.raises(BadInput, match="its info has no 'final_obs'"):
        env.step(np.zeros(1, int))


def test_nothing_works_before_the_first_reset():
    env = make_env("CartPole-v1")
    for call in (lambda: env.step(np.zeros(1, int)), env.render, env.state_dict):
        with pytest.raises(BadInput, match=r"Call reset\(\) first"):
            call()


def test_environments_that_cannot_draw():
    env = make_env("test/Counter-v0")
    env.reset(0)
    with pytest.raises(BadInput, match="'test/Counter-v0'"):
        env.render()


def test_a_state_of_another_number_of_environments_is_refused():
    env, other = make_env("CartPole-v1", 2), make_env("CartPole-v1", 3)
    env.reset(0), other.reset(0)
    with pytest.raises(BadInput, match="saved state is of 3 environments, not 2"):
        env.load_state_dict(other.state_dict())


def test_rows_need_no_final_rows():
    no = np.zeros(1, bool)
    assert Row(np.zeros((1, 2)), np.zeros(1), no, no, no).final is None
