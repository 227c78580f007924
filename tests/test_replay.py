"""Replay against plain Python lists: every window is a true piece of one environment's past.

Every stored number says which environment and which row of its history it belongs to, so a window
that crosses the write head, mixes environments or shifts one key against another shows at once.
"""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, Text
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_rows import through_file

from wmlib.envs.rows import FinalRows, Row, RowEnv
from wmlib.errors import BadInput
from wmlib.replay import Replay

VECTOR = Box(-np.inf, np.inf, (2,), np.float32)
IMAGE = Box(0, 255, (4, 4, 3), np.uint8)
BUTTONS, STICKS = Discrete(1000), Box(-1, 1, (2,), np.float32)
D, S = 3, 2


# ---------------------------------------------------------------- the reference: lists


def encode(space, env, number):
    """An observation, action or latent that says where it belongs (number < 250)."""
    if isinstance(space, Discrete):
        return 100 * env + number
    if space.dtype == np.uint8:
        picture = np.full(space.shape, number, np.uint8)
        picture[0, 0] = env
        return picture
    return np.array([env, number], np.float32)


class Lists:
    """The whole history of every environment, and what each window of it must look like."""

    def __init__(self, obs_space, act_space, num_envs, latents, seed):
        self.spaces, self.latents = (obs_space, act_space), latents
        self.rows = [[] for _ in range(num_envs)]
        self.rng = np.random.default_rng(seed)

    def new(self, env, final):
        """Make up the next row of an environment and remember what should be stored of it."""
        number = len(self.rows[env])
        first, last, dead = (bool(x) for x in self.rng.random(3) < [0.2, 0.25, 0.5])
        first, last = (False, True) if final else (first, last)
        row = {
            "obs": encode(self.spaces[0], env, number),
            "reward": np.float32(1000 * env + number),
            "is_first": first,
            "is_last": last,
            "is_terminal": last and dead,
            "action": encode(self.spaces[1], env, number),
            "deter": np.array([env, number, -number], np.float32),
            "stoch": np.array([env, number]),
        }
        stored = dict(row)
        if last:
            stored["action"] = np.zeros_like(row["action"])
        if final:
            stored |= {"deter": np.zeros(D), "stoch": np.zeros(S, int)}
        self.rows[env].append(stored)
        return row

    def step(self, replay, finals):
        """Add one row per environment, after last rows of some, to both memories."""
        final = None
        envs = np.flatnonzero(self.rng.random(len(self.rows)) < finals)
        if len(envs):
            final = FinalRows(envs, **stack([self.new(env, True) for env in envs], FLAGS))
        rows = [self.new(env, False) for env in range(len(self.rows))]
        extra = stack(rows, ("deter", "stoch")) if self.latents else {}
        action = np.array([row["action"] for row in rows])
        replay.add(Row(**stack(rows, FLAGS), final=final), action, **extra)

    def starts(self, replay):
        """All (environment, number of the first row) that a window may begin with."""
        return [
            (env, first)
            for env, rows in enumerate(self.rows)
            for first in range(max(0, len(rows) - replay.capacity), len(rows) - replay.window + 1)
        ]

    def window(self, env, first, length):
        """What `sample` must return for it."""
        rows = self.rows[env][first : first + length + self.latents]
        trained = rows[self.latents :]
        out = {key: np.array([row[key] for row in trained]) for key in (*FLAGS, "action")}
        before = [row["action"] for row in rows]
        none = np.zeros_like(before[0])
        out["prev_action"] = np.array(before[:-1] if self.latents else [none, *before[:-1]])
        for t in range(length - 1):
            out["is_last"][t] |= out["is_first"][t + 1]
        if self.latents:
            out |= {key: rows[0][key] for key in ("deter", "stoch")}
        else:
            out["is_first"][0] = True
        return out


FLAGS = ("obs", "reward", "is_first", "is_last", "is_terminal")


def stack(rows, keys):
    return {key: np.array([row[key] for row in rows]) for key in keys}


def fill(replay, steps, finals=0.0, seed=0):
    lists = Lists(
        replay.obs_space, replay.act_space, replay.num_envs, replay.latents is not None, seed
    )
    for _ in range(steps):
        lists.step(replay, finals)
    return lists


def whereabouts(replay, sample, b):
    """Environment and number of the first row that window b shows, read from its rewards."""
    value = int(sample["reward"][b, 0])
    return value // 1000, value % 1000 - (replay.latents is not None)


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("latents", [None, (D, S)])
@pytest.mark.parametrize(
    ("obs_space", "act_space"),
    [(VECTOR, BUTTONS), (IMAGE, STICKS), (BUTTONS, STICKS), (IMAGE, BUTTONS)],
)
@pytest.mark.parametrize(
    ("num_envs", "length", "rows", "steps", "finals"),
    [
        (1, 1, 7, 40, 0.0),
        (3, 5, 11, 60, 0.0),
        (3, 5, 11, 60, 0.3),  # rings of different age
        (2, 6, 7, 30, 0.2),  # a ring that holds a single window, or two
        (3, 4, 100, 90, 0.2),  # grows past its first 64 rows and never wraps
        (2, 4, 100, 180, 0.2),  # grows, then wraps
    ],
)
def test_windows_are_true_pieces_of_the_past(
    obs_space, act_space, latents, num_envs, length, rows, steps, finals
):
    replay = Replay(
        obs_space, act_space, num_envs, length, capacity_rows=rows * num_envs, latents=latents
    )
    lists = Lists(obs_space, act_space, num_envs, latents is not None, seed=1)
    for _ in range(steps):
        lists.step(replay, finals)
        starts = lists.starts(replay)
        assert len(replay) == sum(min(len(history), rows) for history in lists.rows)
        assert replay.starts == len(starts)
        if not starts:
            continue
        sample = replay.sample(4)
        for b in range(4):
            env, first = whereabouts(replay, sample, b)
            assert (env, first) in starts
            wanted = lists.window(env, first, length)
            assert set(sample) == set(wanted) | {"index"}
            for key, value in wanted.items():
                assert np.array_equal(sample[key][b], value), key
            numbers = first + np.arange(length) + (latents is not None)
            assert np.array_equal(sample["index"][b], env * rows + numbers % rows)
    ages = {len(history) for history in lists.rows}
    assert (len(ages) > 1) == (finals > 0 and num_envs > 1)


def test_shapes_and_types():
    for act_space, kind in ((BUTTONS, np.int64), (STICKS, np.float32)):
        for latents in (None, (D, S)):
            replay = Replay(IMAGE, act_space, 2, 5, latents=latents)
            fill(replay, 30)
            sample = replay.sample(7)
            assert sample["obs"].shape == (7, 5, 4, 4, 3) and sample["obs"].dtype == np.uint8
            for key in ("action", "prev_action"):
                assert sample[key].shape == (7, 5, *act_space.shape)
                assert sample[key].dtype == kind
            for key in ("reward", "is_first", "is_last", "is_terminal", "index"):
                assert sample[key].shape == (7, 5)
            assert sample["reward"].dtype == np.float32 and sample["is_last"].dtype == bool
            assert ("deter" in sample) == (latents is not None)
            if latents:
                assert sample["deter"].shape == (7, D) and sample["deter"].dtype == np.float32
                assert sample["stoch"].shape == (7, S) and sample["stoch"].dtype == np.int64


@pytest.mark.parametrize("latents", [None, (D, S)])
@pytest.mark.parametrize("steps", [15, 40])
def test_every_window_is_equally_likely(latents, steps):
    replay = Replay(VECTOR, BUTTONS, 3, 4, capacity_rows=60, latents=latents, seed=3)
    lists = fill(replay, steps, finals=0.3)
    starts = lists.starts(replay)
    count = dict.fromkeys(starts, 0)
    sample = replay.sample(200 * len(starts))
    for b in range(200 * len(starts)):
        count[whereabouts(replay, sample, b)] += 1
    found = np.array(list(count.values()))
    chi2, free = ((found - 200) ** 2 / 200).sum(), len(starts) - 1
    assert found.min() > 130 and found.max() < 280
    assert abs(chi2 - free) < 4 * np.sqrt(2 * free)  # too even would be wrong as well


def test_two_replays_with_one_seed_draw_the_same_and_with_two_seeds_do_not():
    samples = []
    for seed in (0, 0, 1):
        replay = Replay(VECTOR, BUTTONS, 2, 4, seed=seed)
        fill(replay, 50)
        samples.append(replay.sample(20)["index"])
    assert np.array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])


def test_what_is_sampled_is_a_copy():
    replay = Replay(VECTOR, STICKS, 1, 6, capacity_rows=6)
    lists = fill(replay, 6)
    for value in replay.sample(3).values():
        value[:] = 1
    sample, wanted = replay.sample(1), lists.window(0, 0, 6)
    for key, value in wanted.items():
        assert np.array_equal(sample[key][0], value), key


def test_what_was_added_is_a_copy():
    replay = Replay(VECTOR, STICKS, 1, 1)
    no, action = np.zeros(1, bool), np.ones((1, 2), np.float32)
    row = Row(np.ones((1, 2), np.float32), np.ones(1, np.float32), no, ~no, no)
    replay.add(row, action)
    assert (action == 1).all()  # zeroed in the ring, since the row is a last one, but not here
    row.obs[:] = action[:] = 9
    sample = replay.sample(1)
    assert (sample["obs"] == 1).all() and (sample["action"] == 0).all()


# ---------------------------------------------------------------- o_{t+1} = a_t


class Echo(gym.Env):
    """The next observation is the action."""

    observation_space = action_space = Discrete(5)

    def __init__(self, length):
        self.length = length

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return 0, {}

    def step(self, action):
        self.time += 1
        return int(action), float(action), self.time == self.length, False, {}


@pytest.mark.parametrize("latents", [None, (D, S)])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_previous_action_is_what_led_to_the_observation(mode, latents):
    vec = SyncVectorEnv([lambda n=n: Echo(n) for n in (3, 5, 7)], autoreset_mode=mode)
    env, rng = RowEnv(vec), np.random.default_rng(0)
    replay = Replay(
        env.single_observation_space, env.single_action_space, 3, 9, 2**30, 120, latents
    )
    row = env.reset(0)
    for _ in range(100):
        action = rng.integers(5, size=3)
        state = (np.zeros((3, D), np.float32), np.zeros((3, S), int)) if latents else ()
        replay.add(row, action, *state)
        row = env.step(action)
    sample = replay.sample(200)
    obs, before, first = sample["obs"], sample["prev_action"], sample["is_first"]
    assert np.array_equal(obs[~first], before[~first])
    assert np.array_equal(sample["reward"][~first], before[~first])
    assert (obs[first] == 0).all() or latents is None
    later = first.copy()
    later[:, 0] = False
    assert later.any() and (obs[later] == 0).all() and (before[later] == 0).all()
    assert np.array_equal(first[:, 1:], sample["is_last"][:, :-1])
    assert (obs[~first] != sample["action"][~first]).mean() > 0.5  # shifted, it would be seen


# ---------------------------------------------------------------- latents


def test_latents_come_back_and_can_be_refreshed():
    replay = Replay(VECTOR, BUTTONS, 2, 3, capacity_rows=24, latents=(D, S), seed=1)
    fill(replay, 40)
    sample = replay.sample(6)
    numbers = np.random.default_rng(0).normal(size=(6, 3, D)).astype(np.float32)
    symbols = np.random.default_rng(1).integers(256, size=(6, 3, S))
    replay.refresh(sample["index"], numbers, symbols)
    newest = {}  # a row that was sampled twice keeps what was written last
    for place, number, symbol in zip(
        sample["index"].ravel(), numbers.reshape(-1, D), symbols.reshape(-1, S), strict=True
    ):
        newest[int(place)] = (number, symbol)
    seen = 0
    for _ in range(40):
        sample = replay.sample(6)
        for b in range(6):
            env, number = whereabouts(replay, sample, b)
            wanted = newest.get(env * 12 + number % 12)
            if wanted is None:  # still as it was added
                wanted = [env, number, -number], [env, number]
            else:
                seen += 1
            assert np.array_equal(sample["deter"][b], np.float16(wanted[0]))
            assert np.array_equal(sample["stoch"][b], wanted[1])
    assert seen > 20


# ---------------------------------------------------------------- memory


def test_memory_is_bounded_and_taken_as_needed():
    replay = Replay(IMAGE, BUTTONS, 2, 5, capacity_bytes=10_000)
    assert replay.capacity == 10_000 // (48 + 8 + 4 + 3) // 2
    fill(replay, 200)
    assert len(replay) == 2 * replay.capacity
    assert 9_000 < replay.nbytes <= 10_000
    large = Replay(Box(0, 255, (64, 64, 3), np.uint8), BUTTONS, 1, 5)
    assert large.capacity == 2**30 // (64 * 64 * 3 + 15)
    assert large.nbytes < 2**20
    small = Replay(VECTOR, BUTTONS, 4, 5, capacity_rows=100)
    assert small.capacity == 25


def test_latents_count_in_bytes():
    replay = Replay(VECTOR, BUTTONS, 1, 5, capacity_bytes=10_000, latents=(100, 10))
    assert replay.capacity == 10_000 // (8 + 8 + 4 + 3 + 200 + 10)


# ---------------------------------------------------------------- save and resume


@pytest.mark.parametrize("latents", [None, (D, S)])
@pytest.mark.parametrize("steps", [3, 20, 90])
def test_resuming_goes_on_with_the_same_samples(latents, steps):
    def build(seed):
        return Replay(IMAGE, STICKS, 2, 3, capacity_rows=160, latents=latents, seed=seed)

    replay = build(1)
    lists = fill(replay, steps, finals=0.2)
    if replay.starts:
        replay.sample(5)
    state, twin = replay.state_dict(), build(2)
    loaded = through_file(state)
    for _ in range(100):  # what is saved is a copy: this must not reach it
        lists.step(replay, 0.2)
    again, other = fill(twin, 50), build(3)
    assert len(again.rows[0]) == 50
    twin.load_state_dict(loaded)
    other.load_state_dict(state)
    assert len(twin) == len(other) and twin.starts == other.starts
    lists = [Lists(IMAGE, STICKS, 2, latents is not None, seed=9) for _ in range(2)]
    for _ in range(100):
        samples = []
        for one, rows in zip((twin, other), lists, strict=True):
            rows.step(one, 0.2)
            if one.starts:
                samples.append(one.sample(3))
        for key in samples[0] if samples else ():
            assert np.array_equal(samples[0][key], samples[1][key]), key


def test_a_loaded_replay_samples_what_the_saved_one_does():
    replay, fresh = (Replay(VECTOR, BUTTONS, 2, 3, capacity_rows=100, seed=s) for s in (0, 5))
    fill(replay, 80, finals=0.1)
    fresh.load_state_dict(through_file(replay.state_dict()))
    for _ in range(5):
        one, other = replay.sample(8), fresh.sample(8)
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_a_saved_replay_of_another_shape_is_refused():
    replay = Replay(VECTOR, BUTTONS, 2, 3, capacity_rows=100)
    fill(replay, 10)
    state = replay.state_dict()
    others = [
        Replay(IMAGE, BUTTONS, 2, 3, capacity_rows=100),
        Replay(VECTOR, BUTTONS, 3, 3, capacity_rows=150),
        Replay(VECTOR, BUTTONS, 2, 3, capacity_rows=98),
        Replay(VECTOR, BUTTONS, 2, 3, capacity_rows=100, latents=(D, S)),
    ]
    for other in others:
        with pytest.raises(BadInput, match="The saved replay holds"):
            other.load_state_dict(state)
        assert len(other) == 0


# ---------------------------------------------------------------- bad input


def good_row(n=2, **changes):
    no = np.zeros(n, bool)
    fields = {"obs": np.zeros((n, 2), np.float32), "reward": np.zeros(n, np.float32)}
    fields |= {"is_first": no, "is_last": no, "is_terminal": no}
    return Row(**{**fields, **changes})


def good_final(envs=(1,), **changes):
    row = good_row(len(envs))
    fields = {key: getattr(row, key) for key in FLAGS} | {"is_last": np.ones(len(envs), bool)}
    return FinalRows(**{"envs": np.array(envs), **fields, **changes})


GOOD = np.zeros(2, int)


@pytest.mark.parametrize(
    ("row", "action", "sentence"),
    [
        (good_row(3), GOOD, r"obs must be floats of shape \(2, 2\), not float32 of shape \(3, 2\)"),
        (good_row(obs=np.zeros((2, 2), int)), GOOD, "obs must be floats .* not int64"),
        (good_row(reward=np.zeros((2, 1), np.float32)), GOOD, r"reward must be .*shape \(2, 1\)"),
        (good_row(is_last=np.zeros(2)), GOOD, "is_last must be bool .* not float64"),
        (good_row(), np.zeros(3, int), r"action must be integers .*shape \(3,\)"),
        (good_row(), np.zeros(2), "action must be integers .* not float64"),
        (good_row(), None, "action must be integers .* not object"),
        (good_row(), np.array([0, 3]), "action must be from 0 to 2, not 3"),
        (good_row(), np.array([-1, 0]), "action must be from 0 to 2, not -1"),
        (good_row(final=good_final(obs=np.zeros((1, 3)))), GOOD, "final.obs must be floats"),
        (good_row(final=good_final([2])), GOOD, "final.envs must be from 0 to 1, not 2"),
        (good_row(final=good_final([1, 1])), GOOD, r"final.envs must be different, not \[1, 1\]"),
        (good_row(3, final=good_final()), GOOD, "obs must be floats"),  # a good final row, too
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_written(row, action, sentence):
    replay = Replay(VECTOR, Discrete(3), 2, 1)
    replay.add(good_row(), GOOD)
    before = replay.state_dict()
    with pytest.raises(BadInput, match=sentence) as caught:
        replay.add(row, action)
    assert "\n" not in str(caught.value)
    after = replay.state_dict()
    assert np.array_equal(before["written"], after["written"])
    assert all(np.array_equal(before["data"][key], after["data"][key]) for key in before["data"])


def test_images_must_be_bytes_and_symbols_in_range():
    replay = Replay(IMAGE, BUTTONS, 2, 1)
    with pytest.raises(BadInput, match="obs must be uint8 of shape .* not int64"):
        replay.add(good_row(obs=np.zeros((2, 4, 4, 3), int)), GOOD)
    replay = Replay(Discrete(4), BUTTONS, 2, 1)
    with pytest.raises(BadInput, match="obs must be from 0 to 3, not 4"):
        replay.add(good_row(obs=np.array([4, 0])), GOOD)


@pytest.mark.parametrize(
    ("deter", "stoch", "sentence"),
    [
        (None, None, "deter must be floats .* not object"),
        (np.zeros((2, D + 1)), np.zeros((2, S), int), "deter must be floats"),
        (np.zeros((2, D)), np.zeros((2, S)), "stoch must be integers .* not float64"),
        (np.zeros((2, D)), np.full((2, S), 256), "stoch must be from 0 to 255, not 256"),
    ],
)
def test_bad_latents(deter, stoch, sentence):
    replay = Replay(VECTOR, BUTTONS, 2, 1, latents=(D, S))
    with pytest.raises(BadInput, match=sentence):
        replay.add(good_row(), GOOD, deter, stoch)
    assert len(replay) == 0


def test_bad_refreshes():
    replay = Replay(VECTOR, BUTTONS, 2, 1, latents=(D, S))
    fill(replay, 5)
    index = replay.sample(3)["index"]
    h, z = np.zeros((3, 1, D)), np.zeros((3, 1, S), int)
    for bad, sentence in [
        ((index, h[:2], z), "deter must be floats"),
        ((index, h, z + 256), "stoch must be from 0 to 255, not 256"),
        ((index - 10**9, h, z), "index must be from 0"),
        ((index.astype(float), h, z), "index must be integers"),
    ]:
        before = replay.state_dict()["data"]
        with pytest.raises(BadInput, match=sentence):
            replay.refresh(*bad)
        assert all(np.array_equal(before[k], v) for k, v in replay.state_dict()["data"].items())


def test_latents_need_a_replay_that_stores_them():
    replay = Replay(VECTOR, BUTTONS, 2, 1)
    with pytest.raises(BadInput, match="stores no latents"):
        replay.add(good_row(), GOOD, np.zeros((2, D)), np.zeros((2, S), int))
    with pytest.raises(BadInput, match="stores no latents"):
        replay.refresh(np.zeros((1, 1), int), np.zeros((1, 1, D)), np.zeros((1, 1, S), int))


def test_too_small_for_one_window():
    with pytest.raises(BadInput, match="keeps 63 rows for each of 2 environments .* needs 64"):
        Replay(VECTOR, BUTTONS, 2, 64, capacity_rows=127)
    Replay(VECTOR, BUTTONS, 2, 64, capacity_rows=128)
    with pytest.raises(BadInput, match="a window needs 65"):
        Replay(VECTOR, BUTTONS, 2, 64, capacity_rows=128, latents=(D, S))
    with pytest.raises(BadInput, match="10000 bytes .*per row.; a window needs 64"):
        Replay(Box(0, 255, (64, 64, 3), np.uint8), BUTTONS, 1, 64, capacity_bytes=10_000)
    for num_envs, length in ((0, 4), (4, 0)):
        with pytest.raises(BadInput, match="must be at least 1"):
            Replay(VECTOR, BUTTONS, num_envs, length)


def test_sampling_before_there_is_a_window():
    replay = Replay(VECTOR, BUTTONS, 2, 4)
    fill(replay, 3)
    assert replay.starts == 0 and len(replay) == 6
    with pytest.raises(BadInput, match="Cannot draw 16 windows of 4 rows: the replay has 0"):
        replay.sample(16)
    fill(replay, 1)
    with pytest.raises(BadInput, match="Cannot draw 0 windows"):
        replay.sample(0)


def test_other_spaces_are_refused():
    with pytest.raises(BadInput, match="cannot be built for observations that are a Text"):
        Replay(Text(5), BUTTONS, 1, 1)
    with pytest.raises(BadInput, match="must be a Box or a Discrete"):
        Replay(VECTOR, Text(5), 1, 1)
