"""Worlds that fail, lie, never come back to where they were, or live in processes of their own."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from test_rows import random_actions, same, through_file
from test_trainer import assert_identical, everything, make_trainer, ticks

import wmlib
from wmlib.checkpoint import checkpoints
from wmlib.envs import rewind
from wmlib.envs.rewind import Rewind
from wmlib.envs.rows import RowEnv
from wmlib.errors import BadInput

# ---------------------------------------------------------------- what they return


class World(gym.Env):
    """Well-behaved: counts its steps; an episode has `length` of them, or as chance has it."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Discrete(2)

    def __init__(self, length=None):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        self.end = self.length or self.np_random.integers(3, 30)
        self.sum = self.np_random.normal()
        return self.seen(), {}

    def step(self, action):
        self.time += 1
        self.sum += int(action) + self.np_random.normal()
        return self.seen(), 1.0, False, self.time >= self.end, {}

    def seen(self):
        return np.array([self.time, self.sum], np.float32)


class Odd(World):
    """What `_seen` or a method returns is odd from step 3 on, as a test wants it."""

    def step(self, action):
        good = super().step(action)
        return good if self.time < 3 else self.odd(*good)

    def odd(self, *good):
        return good


def odd(name, change, space=None):
    """A class of worlds with this change of what a step returns."""
    body = {"odd": lambda self, *good: change(*good)}
    return type(name, (Odd,), body | ({"observation_space": space} if space else {}))


def with_obs(obs, space=None):
    return odd("Arm", lambda _, *rest: (obs, *rest), space)


def fails(*_):
    raise KeyError("motor 3")


PAIR = Dict({"camera": Box(0, 255, (8, 8, 3), np.uint8), "joints": Box(-1, 1, (2,), np.float32)})
STEPS = {
    "shape": (
        with_obs(np.zeros(3)),
        "Box of shape .2,. and type float32 and gave one of shape .3,.",
    ),
    "type": (
        with_obs(np.zeros((8, 8, 3)), PAIR["camera"]),
        "of shape .8, 8, 3. and type uint8 and gave one of shape .8, 8, 3. and type float64",
    ),
    "none": (with_obs(None), "and gave None"),
    "text": (with_obs("left"), "and gave 'left'"),
    "a list of lists": (with_obs([[1], [2, 3]]), "and gave a list"),
    "no key": (with_obs({"camera": np.zeros((8, 8, 3), np.uint8)}, PAIR), "without 'joints'"),
    "a wrong key": (
        with_obs({"camera": np.zeros((8, 8, 3), np.uint8), "joints": np.zeros(3)}, PAIR),
        r"its observation\['joints'\] as a Box of shape .2,.",
    ),
    "no dict": (with_obs(np.zeros(2), PAIR), "as a Dict and gave ndarray"),
    "no tuple": (with_obs(np.zeros(2), Tuple([Discrete(2)])), "as a Tuple and gave ndarray"),
    "reward array": (
        odd("Arm", lambda obs, _, *rest: (obs, np.ones(1), *rest)),
        r"must give one number as reward and gave array\(\[1.\]\)",
    ),
    "no reward": (odd("Arm", lambda obs, _, *rest: (obs, None, *rest)), "as reward and gave None"),
    "four values": (
        odd("Arm", lambda obs, pay, end, cut, info: (obs, pay, end, info)),
        "must return .observation, reward, terminated, truncated, info. from step, .* 4 values",
    ),
    "nothing": (odd("Arm", lambda *_: None), "from step, and gave None"),
    "an exception": (odd("Arm", fails), "cannot be stepped .step 2. .KeyError: 'motor 3'"),
    "not finite": (
        with_obs(np.array([0, np.inf])),
        "observation of environment 0 at step 3 is inf",
    ),
    "an unknown class": (with_obs(7, Discrete(5)), "holds 7; allowed are 0 to 4"),
}


@pytest.mark.parametrize("limit", [False, True], ids=["bare", "with a time limit"])
@pytest.mark.parametrize("case", STEPS)
def test_what_a_step_returns_is_checked(case, limit):
    world, sentence = STEPS[case]
    if case in ("no tuple", "an unknown class"):  # before that, let it give what it declares
        good = {"no tuple": (0,), "an unknown class": 2}[case]
        world = type("Arm", (world,), {"seen": lambda self: good})
    elif world.observation_space is not Odd.observation_space:
        space = world.observation_space
        world = type("Arm", (world,), {"seen": lambda self: space.sample()})
    settings = {"max_episode_steps": 9} if limit else {}
    env = wmlib.make_env(world, **settings)
    env.reset(0)
    with pytest.raises(BadInput) as caught:
        for _ in range(5):
            env.step(np.zeros(1, int))
    message = str(caught.value)
    if case in ("four values", "nothing") and limit:  # Gymnasium's own wrapper has looked first
        sentence = "step must return observation, reward, terminated, truncated and info"
    caught.match(sentence)
    assert "\n" not in message and message.endswith(".")
    assert "Arm" in message or case in ("not finite", "an unknown class")


class OldReset(World):
    def reset(self):  # as Gym had it before version 0.26
        return super().reset()[0]


class BareReset(World):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize(
    ("world", "sentence"),
    [
        (OldReset, "' cannot be .*seed.*reset must take seed=None and options=None"),
        (BareReset, "reset|a time limit"),
    ],
)
def test_an_old_way_to_reset_is_told(world, sentence, pixels):
    class Drawn(world):
        metadata = {"render_modes": ["rgb_array"]}
        render_mode = "rgb_array"

        def render(self):
            return np.zeros((8, 8, 3), np.uint8)

    Drawn.__qualname__ = world.__qualname__
    with pytest.raises(BadInput, match=sentence) as caught:
        wmlib.make_env(Drawn, pixels=pixels, size=8).reset(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("picture", [np.zeros((8, 8, 3)), None, np.zeros(8, np.uint8), "picture"])
def test_a_picture_of_another_kind_is_told(picture):
    class Drawn(World):
        metadata = {"render_modes": ["rgb_array"]}
        render_mode = "rgb_array"

        def render(self):
            return picture

    with pytest.raises(BadInput, match="Drawn") as caught:
        wmlib.make_env(Drawn, pixels=True, size=8).reset(0)
    assert "\n" not in str(caught.value)


def test_a_world_may_be_lax_where_nothing_is_lost():
    class Lax(World):
        def seen(self):
            return [float(self.time), 2]  # a list, in double precision

        def step(self, action):
            obs, _, end, cut, info = super().step(action)
            return obs, np.float64(1), np.bool_(end), cut, info

    env = wmlib.make_env(Lax)
    env.reset(0)
    np.testing.assert_array_equal(env.step(np.zeros(1, int)).obs, [[1, 2]])


# ---------------------------------------------------------------- a run in which one fails


class Fails(World):
    """Raises once, at a step of its whole life, then works again."""

    at = 7
    life = 0
    error = OSError

    def step(self, action):
        type(self).life += 1
        if type(self).life == self.at:
            raise self.error("the gripper is stuck")
        return super().step(action)


@pytest.mark.parametrize(("num_envs", "error"), [(1, OSError), (3, OSError), (1, SystemExit)])
def test_a_run_is_saved_when_its_world_fails(tmp_path, num_envs, error, capsys, monkeypatch):
    Fails.life = 0
    monkeypatch.setattr(Fails, "error", error)

    def make():
        env = wmlib.make_env(Fails, num_envs=num_envs)
        return make_trainer(env, tmp_path, num_envs=num_envs, ratio=1e-6)

    trainer = make()
    with pytest.raises(BadInput, match="the gripper is stuck.*the run is saved at . steps"):
        trainer.run(100, progress=False)
    again = make()
    again.resume()
    assert f"{num_envs} of {num_envs} running episodes were given up" in capsys.readouterr().err
    assert again.steps == trainer.steps == 6 // num_envs * num_envs
    assert (again.replay.written == trainer.replay.written).all()
    ticks(again, 2)
    newest = again.replay.written - 1
    data = {name: array[np.arange(num_envs), newest] for name, array in again.replay.data.items()}
    assert data["is_first"].all() and not data["reward"].any()  # nothing is made up


def test_without_a_directory_the_sentence_promises_nothing():
    Fails.life = 0
    trainer = make_trainer(wmlib.make_env(Fails), num_envs=1, ratio=1e-6)
    with pytest.raises(BadInput) as caught:
        trainer.run(100, progress=False)
    assert "saved" not in str(caught.value)


def test_a_world_that_fails_in_an_evaluation_costs_no_episode(tmp_path, capsys):
    class Fragile(World):
        number = 0

        def __init__(self):
            super().__init__()
            type(self).number += 1
            self.bad = type(self).number > 1

        def step(self, action):
            assert not self.bad
            return super().step(action)

    def make():
        Fragile.number = 0
        return make_trainer(wmlib.make_env(Fragile), tmp_path, num_envs=1, ratio=1e-6)

    trainer = make()
    with pytest.raises(BadInput, match="the run is saved at 10 steps"):
        trainer.run(100, eval_every=10, progress=False)
    again = make()
    again.resume()
    assert "given up" not in capsys.readouterr().err
    assert_identical(everything(again), everything(trainer))


# ---------------------------------------------------------------- worlds that do not come back


class Deaf(World):
    """Ignores its seed."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=np.random.default_rng().integers(2**31).item())


class Aging(World):
    """Keeps state over resets."""

    def __init__(self):
        super().__init__(length=7)
        self.age = 0

    def reset(self, *, seed=None, options=None):
        self.age += 1
        return super().reset(seed=seed)

    def seen(self):
        return np.array([self.time, self.age], np.float32)


class Short(World):
    """Ends after a number of steps of its own choice, and shows nothing of it."""

    def reset(self, *, seed=None, options=None):
        return super().reset()

    def seen(self):
        return np.array([self.time, 0], np.float32)


class Hides(World):
    """Shows nothing but its time; what it pays is chance."""

    def reset(self, *, seed=None, options=None):
        self.pay = np.random.default_rng().random()
        return super().reset(seed=seed)

    def seen(self):
        return np.array([self.time, 0], np.float32)

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, self.pay, *rest


class Refuses(World):
    """Cannot be reset more than once within its life of a second start."""

    starts = 0

    def __init__(self):
        super().__init__(length=20)
        type(self).starts += 1

    def step(self, action):
        if type(self).starts > 1 and self.time == 2:
            raise RuntimeError("the battery is empty")
        return super().step(action)


class Pair(World):
    """Shows a Dict; one part of it is not repeatable."""

    observation_space = PAIR

    def seen(self):
        camera = np.random.default_rng().integers(0, 255, (8, 8, 3), dtype=np.uint8)
        return {"camera": camera, "joints": np.zeros(2, np.float32)}


@pytest.mark.parametrize("world", [Deaf, Aging, Hides, Refuses, Pair])
def test_episodes_that_do_not_come_back_are_given_up_with_a_sentence(world, tmp_path, capsys):
    if world is Refuses:
        world.starts = 0

    def make():
        return make_trainer(wmlib.make_env(world), tmp_path, num_envs=1, ratio=1e-6)

    trainer = ticks(make(), 5)
    trainer.save()
    trainer = make()
    trainer.resume()
    said = capsys.readouterr().err
    assert "1 of 1 running episodes were given up" in said and "did not come back" in said
    trainer.tick()
    assert not trainer.replay.data["is_first"][0, 5]
    if world is not Refuses:
        ticks(trainer, 4)
        np.testing.assert_array_equal(trainer.replay.data["is_first"][0, 5:8], [False, True, False])
        assert trainer.replay.data["reward"][0, 6] == 0
        assert trainer.running[0] <= 4  # nothing of the episode that was given up is counted


def test_an_episode_that_ends_too_early_is_given_up(capsys):
    state = None
    for _ in range(50):  # chance decides how long an episode is
        env = wmlib.make_env(Short)
        row = env.reset(0)
        while not row.is_last[0] and env.vec.envs[0].taken < 25:
            row = env.step(np.zeros(1, int))
        if not row.is_last[0]:
            state = env.state_dict()
            break
    assert state is not None
    lost = [wmlib.make_env(Short) for _ in range(20)]
    assert sum(env.load_state_dict(state) for env in lost if env.reset(1)) > 10


def test_only_those_are_given_up_that_do_not_come_back():
    makers = [World, Deaf, World, Aging]

    def build():
        envs = [lambda i=i, make=make: Rewind(make(), i) for i, make in enumerate(makers)]
        return RowEnv(SyncVectorEnv(envs, autoreset_mode=AutoresetMode.NEXT_STEP))

    env = build()
    actions = random_actions(env, 12)
    row = env.reset(5)
    for action in actions[:2]:
        row = env.step(action)
    assert not row.is_last.any()
    again = build()
    assert again.load_state_dict(through_file(env.state_dict())) == 2
    row, wanted = again.step(actions[2]), env.step(actions[2])
    np.testing.assert_array_equal(row.is_first, [False, True, False, True])
    np.testing.assert_array_equal(row.obs[[0, 2]], wanted.obs[[0, 2]])
    assert not row.reward[[1, 3]].any() and not row.is_last[[1, 3]].any()
    row = again.step(actions[3])
    assert not row.is_first[[1, 3]].any() and row.reward[[1, 3]].all()


def test_an_episode_of_too_many_steps_is_given_up_and_takes_no_more_memory(monkeypatch):
    monkeypatch.setattr(rewind, "LONGEST", 20)
    env = wmlib.make_env(World, num_envs=2, length=10**6)
    env.reset(0)
    for _ in range(20):
        env.step(np.zeros(2, int))
    assert wmlib.make_env(World, 2, length=10**6).load_state_dict(env.state_dict()) == 0
    for _ in range(20):
        env.step(np.zeros(2, int))
    assert len(env.vec.envs[0].actions) == 20
    again = wmlib.make_env(World, num_envs=2, length=10**6)
    assert again.load_state_dict(through_file(env.state_dict())) == 2
    assert again.step(np.zeros(2, int)).is_first.all()


def test_long_episodes_are_repeated_with_a_word(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("wmlib.trainer.MANY", 6)
    for steps in (1, 3):
        out = tmp_path / str(steps)
        make = lambda out=out: make_trainer("CartPole-v1", out, ratio=1e-6)  # noqa: E731
        ticks(make(), steps).save()
        capsys.readouterr()
        make().resume()
        assert ("12 steps of the running episodes" in capsys.readouterr().err) == (steps == 3)


# ---------------------------------------------------------------- worlds in processes of their own


@pytest.mark.parametrize("settings", [{}, {"pixels": True, "size": 8}], ids=["numbers", "pixels"])
def test_worlds_in_processes_are_the_same_worlds(settings):
    here = wmlib.make_env("CartPole-v1", num_envs=2, seed=3, **settings)
    there = wmlib.make_env("CartPole-v1", num_envs=2, seed=3, async_envs=True, **settings)
    try:
        assert isinstance(there.vec, AsyncVectorEnv) and there.spec == here.spec
        same(here.reset(), there.reset())
        actions = random_actions(here, 40)
        states = []
        for action in actions[:25]:
            same(here.step(action), there.step(action))
            states.append((here.state_dict(), there.state_dict()))
        for mine, other in states[10], states[-1]:
            assert there.load_state_dict(through_file(mine)) == 0
            assert here.load_state_dict(through_file(other)) == 0
            for action in actions[25:]:
                same(here.step(action), there.step(action))
    finally:
        there.close()


def test_worlds_that_step_as_one_stay_here():
    env = wmlib.make_env("wmlib/Curtain-v0", num_envs=2, async_envs=True)
    assert not isinstance(env.vec, AsyncVectorEnv)


def test_copies_for_an_evaluation_take_no_more_processes():
    env = wmlib.make_env("CartPole-v1", num_envs=2, async_envs=True)
    try:
        copies = env.copies(100, 0)
        assert copies.num_envs == 2 and isinstance(copies.vec, AsyncVectorEnv)
        copies.close()
    finally:
        env.close()


def test_an_error_in_a_process_is_the_same_sentence():
    env = wmlib.make_env(STEPS["an exception"][0], num_envs=2, async_envs=True)
    try:
        env.reset(0)
        with pytest.raises(BadInput, match=r"KeyError.*'motor 3'"):
            for _ in range(5):
                env.step(np.zeros(2, int))
    finally:
        env.close()


STOPPED = """
    import wmlib, sys
    if __name__ == "__main__":
        env = wmlib.make_env("CartPole-v1", num_envs=2, async_envs=True)
        config = wmlib.preset("tiny", random_steps=10**6)
        agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
        done = wmlib.train(agent, env, steps=10**6, out=sys.argv[1], save_seconds=0, progress=False)
        print(done.json())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups as there are on Unix")
def test_ctrl_c_saves_although_it_reaches_the_processes_too(tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(STOPPED))
    command = [sys.executable, "script.py", "run"]
    child = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stdout=-1, stderr=-1, text=True
    )
    for _ in range(6000):
        if checkpoints(tmp_path / "run") or child.poll() is not None:
            break
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0 and '"interrupted": true' in out, err
    assert "Traceback" not in err
    env = wmlib.make_env("CartPole-v1", num_envs=2)
    config = wmlib.preset("tiny", random_steps=10**6)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    wmlib.train(agent, env, steps=1, out=tmp_path / "run", resume=True, eval_episodes=0)
