"""An agent taken home: in a plain Gymnasium loop it does what it did in training's."""

from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import MINI, randomise
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

import wmlib
from wmlib.checkpoint import build_agent, describe_agent, latest, load_tree
from wmlib.envs.make import world_reader
from wmlib.errors import BadInput
from wmlib.spaces import ObsReader, env_action, row_act_space

WORLDS = ("wmlib/Curtain-v0", "CartPole-v1", "Pendulum-v1", "FrozenLake-v1")


def new_agent(obs_space, act_space, seed=0):
    torch.manual_seed(seed)
    return randomise(wmlib.Dreamer(ObsReader(obs_space).space, row_act_space(act_space), MINI))


def at_home(world, count=1, **settings):
    """An agent that knows nothing yet, and its worlds."""
    env = wmlib.make_env(world, count, **settings)
    return new_agent(env.single_observation_space, env.single_action_space), env


def home_policy(agent, env, **options):
    return wmlib.Policy(agent, world_reader(env), env.vec.single_action_space, **options)


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("world", WORLDS)
def test_a_batch_plays_as_play_does(world, mode):
    agent, env = at_home(world, 3)
    played = wmlib.play(agent, env, 40, seed=5, mode=mode)
    policy = home_policy(agent, env, mode=mode, seed=5)
    obs, _ = env.vec.reset(seed=5)
    first = np.ones(3, bool)
    space = env.vec.single_action_space
    for t in range(40):
        policy.reset(first)
        action = policy(obs)
        going = ~played["is_last"][:, t]
        wanted = env_action(space, 3, played["action"][:, t])
        assert action.dtype == wanted.dtype and action.shape == wanted.shape
        np.testing.assert_array_equal(action[going], wanted[going])
        obs, reward, terminated, truncated, _ = env.vec.step(action)
        first = played["is_last"][:, t]
        if t < 39:
            np.testing.assert_array_equal((terminated | truncated), played["is_last"][:, t + 1])
            np.testing.assert_allclose(reward[~first], played["reward"][~first, t + 1], rtol=1e-6)
    assert played["is_last"].any() or world == "Pendulum-v1"


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize(("world", "kind"), [("CartPole-v1", int), ("Pendulum-v1", np.ndarray)])
def test_a_plain_loop_earns_what_evaluate_says(world, kind, mode):
    agent, env = at_home(world)
    wanted = wmlib.evaluate(agent, env, 1, mode, seed=7)
    policy = home_policy(agent, env, mode=mode, seed=7)
    plain = env.vec.envs[0]
    obs, _ = plain.reset(seed=7)
    total, over = 0.0, False
    while not over:
        action = policy(obs)
        assert type(action) is kind and env.vec.single_action_space.contains(action)
        obs, reward, terminated, truncated, _ = plain.step(action)
        total += float(np.float32(reward))
        over = terminated or truncated
    assert total == wanted[0]


def test_its_dice_are_its_own():
    agent, env = at_home("Pendulum-v1")
    obs = np.array([1.0, 0.0, 0.5])

    def act(seed, there):
        torch.manual_seed(there)
        before = torch.get_rng_state()
        policy = home_policy(agent, env, seed=seed)
        actions = [policy(obs) for _ in range(4)]
        assert torch.equal(torch.get_rng_state(), before)
        return np.stack(actions)

    np.testing.assert_array_equal(act(3, 0), act(3, 1))
    assert (act(3, 0) != act(4, 0)).any() and (act(None, 0) != act(None, 0)).any()
    assert len(np.unique(act(3, 0))) > 1  # it goes on, and does not throw the same again


def test_needs_no_gradient_and_times_itself_beside_the_episode():
    agent, env = at_home("CartPole-v1")
    one, two = (home_policy(agent, env, seed=1) for _ in range(2))
    for t in range(6):
        obs = np.full(4, t / 10)
        assert one(obs) == two(obs)
        if t == 3:
            assert 0 < two.latency() < 1000
    assert not one.memory.state.h.requires_grad


def test_episodes_begin_where_they_are_told_to(argmax_sampling):
    agent, env = at_home("CartPole-v1", 2)
    policy, fresh = (home_policy(agent, env, mode=True) for _ in range(2))
    obs = np.random.default_rng(0).normal(size=(4, 2, 4))
    for t in range(3):
        policy(obs[t])
    policy.reset(np.array([True, False]))
    policy(obs[3]), fresh(obs[3])
    same = (policy.memory.state.h == fresh.memory.state.h).all(1)
    assert same.tolist() == [True, False]
    policy.reset()
    policy(obs[3])
    assert torch.equal(policy.memory.state.h, fresh.memory.state.h)
    policy.reset()
    assert isinstance(policy(obs[3, 0]), int)  # other episodes may be another number of them


BAD = {
    "shape": ("CartPole-v1", np.zeros(3), r"Box of shape \(4,\) .* what came is float64"),
    "no rows": ("CartPole-v1", np.zeros((0, 4)), "what came is"),
    "words": ("CartPole-v1", ["a", "b", "c", "d"], "what came is <U1"),
    "with info": ("CartPole-v1", (np.zeros(4), {}), "no array"),
    "nan": ("CartPole-v1", [0, np.nan, 0, 0], "nan"),
    "too large": ("CartPole-v1", [0, 1e300, 0, 0], "inf"),
    "no uint8": ("wmlib/Curtain-v0", np.zeros((16, 16, 1)), "type uint8, .* float64"),
    "wide": ("wmlib/Curtain-v0", np.zeros((16, 17, 1), np.uint8), r"\(16, 16, 1\)"),
    "class": ("FrozenLake-v1", 16, "allowed are 0 to 15"),
    "half": ("FrozenLake-v1", 1.5, r"Discrete\(16\), but what came is float64"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_observation_is_one_sentence(case):
    world, obs, words = BAD[case]
    agent, env = at_home(world)
    policy = home_policy(agent, env)
    with pytest.raises(BadInput, match=words) as caught:
        policy(obs)
    assert "\n" not in str(caught.value) and policy.memory is None


def test_another_number_of_episodes_and_a_wrong_mask_are_told():
    agent, env = at_home("CartPole-v1")
    policy = home_policy(agent, env)
    policy(np.zeros((2, 4)))
    with pytest.raises(BadInput, match="began with 2 .* not 3; call reset"):
        policy(np.zeros((3, 4)))
    for mask in (np.ones(3, bool), np.ones(2), True):
        with pytest.raises(BadInput, match="one bool for each of the 2"):
            policy.reset(mask)
    with pytest.raises(BadInput, match="was built for"):
        home_policy(agent, at_home("Pendulum-v1")[1])
    with pytest.raises(BadInput, match="seed"):
        home_policy(agent, env, seed=-1)


def test_units_are_those_of_the_world(monkeypatch):
    obs_space, act_space = (
        Discrete(5, start=2),
        Box(np.array([0.0, -3]), np.array([1.0, 5]), dtype=np.float64),
    )
    agent = new_agent(obs_space, act_space)
    policy = wmlib.Policy(agent, obs_space, act_space, seed=0)
    actions = np.stack([policy(6) for _ in range(50)])
    assert actions.dtype == act_space.dtype and act_space.contains(actions[0])
    assert actions[:, 0].max() <= 1 and actions[:, 1].max() > 1.5  # each scaled to its own bounds
    with pytest.raises(BadInput, match="holds 1; allowed are 2 to 6"):
        policy(1)
    buttons = Discrete(3, start=-1)
    agent = new_agent(VECTOR3, buttons)
    policy = wmlib.Policy(agent, VECTOR3, buttons, seed=0)
    assert {policy(np.zeros(3)) for _ in range(60)} == {-1, 0, 1}


VECTOR3 = Box(-1, 1, (3,), np.float64)


def test_what_was_resized_for_training_is_resized_again(monkeypatch):
    agent, env = at_home("CartPole-v1", pixels=True, size=16)
    row = env.reset(seed=0)
    policy = home_policy(agent, env)
    seen, act = [], agent.act
    monkeypatch.setattr(agent, "act", lambda obs, *rest: seen.append(obs) or act(obs, *rest))
    screen = env.render()[0]
    assert screen.shape[:2] == (400, 600)
    policy(screen)
    np.testing.assert_array_equal(seen[0], row.obs)
    with pytest.raises(BadInput, match=r"\(400, 600, 3\)"):
        policy(row.obs[0])


# ---------------------------------------------------------------- loaded and shared


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a few steps, never touched."""
    agent, env = at_home("Pendulum-v1", 2)
    out = tmp_path_factory.mktemp("private") / "run"
    wmlib.train(agent, env, 10, out, eval_episodes=1, progress=False)
    return out


def actions(policy):
    policy.reset()
    return np.stack([policy(np.array([1, 0, t / 10])) for t in range(5)])


def test_a_shared_file_holds_the_agent_and_nothing_else(run, tmp_path, monkeypatch):
    path = tmp_path / "shared.safetensors"
    summary = wmlib.export_weights(run, path)
    assert list(summary) == ["weights", "bytes", "dtype", "ms_per_action"]
    assert (summary["bytes"], summary["dtype"]) == (path.stat().st_size, "float32")
    weights, about = load_tree(path)
    assert sorted(about) == ["act_space", "config", "env", "obs_space", "world"]
    agent = wmlib.load_agent(run, "cpu")[0]
    flat = sum(v.numel() for v in agent.state_dict().values())
    assert path.stat().st_size < 4 * flat + 30_000 and b"private" not in path.read_bytes()
    assert build_agent(load_tree(latest(run) / "agent.safetensors")[0], about)
    wanted = actions(wmlib.load_policy(run, seed=3))
    monkeypatch.setattr("wmlib.policy.make_env", None)  # whoever gets it may lack the world
    for source in (path, str(path)):
        np.testing.assert_array_equal(actions(wmlib.load_policy(source, seed=3)), wanted)
    again, _ = wmlib.load_agent(path, "cpu")
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in agent.state_dict().items())


def test_a_checkpoint_is_a_policy_and_bounds_are_those_of_the_world(run):
    wanted = actions(wmlib.load_policy(run, seed=3))
    for source in (latest(run), latest(run) / "agent.safetensors"):
        np.testing.assert_array_equal(actions(wmlib.load_policy(source, seed=3)), wanted)
    assert 1 < abs(wanted).max() <= 2


def test_settings_lose_the_folders_they_name(tmp_path):
    agent, env = at_home("CartPole-v1")
    spec = env.spec | {"kwargs": {"map": str(tmp_path / "a.xml"), "deep": [str(tmp_path)], "n": 1}}
    about = describe_agent(agent, spec, 0)
    about["world"] = env.reader.to_json() | {"act_space": about["act_space"]}
    wmlib.checkpoint.save_tree(tmp_path / "one.safetensors", agent.state_dict(), about)
    wmlib.export_weights(tmp_path / "one.safetensors", tmp_path / "two.safetensors")
    kwargs = load_tree(tmp_path / "two.safetensors")[1]["env"]["kwargs"]
    assert kwargs == {"map": "a.xml", "deep": [tmp_path.name], "n": 1}


def test_shipped_agents_have_names():
    policy = wmlib.load_policy("cartpole", mode=True, seed=0)
    with closing(gym.make("CartPole-v1")) as env:
        obs, _ = env.reset(seed=0)
        steps, over = 0, False
        while not over:
            obs, _, terminated, truncated, _ = env.step(policy(obs))
            steps, over = steps + 1, terminated or truncated
    assert steps >= 475
    with pytest.raises(BadInput, match="file breakout, and the shipped agents are cartpole"):
        wmlib.load_policy("breakout")


def test_a_file_that_cannot_be_written_is_told(run, tmp_path):
    for name in ("a.pt", "no/a.safetensors"):
        with pytest.raises(BadInput, match="Cannot write"):
            wmlib.export_weights(run, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_policy_for_a_world_of_many_parts(tmp_path):
    """Class, Dict of a picture and numbers, several choices: trained, exported, acted with."""
    env = wmlib.make_env(Machine, 2)
    config = wmlib.preset(
        "tiny",
        deter=16,
        hidden=8,
        units=8,
        depth=8,
        stoch=2,
        classes=4,
        num_envs=2,
        batch_size=2,
        batch_length=4,
        horizon=2,
        random_steps=0,
        model_updates=1,
        ratio=4,
    )
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    wmlib.train(agent, env, 24, out=tmp_path / "run", eval_episodes=1, progress=False)
    wmlib.export_weights(tmp_path / "run", tmp_path / "shared.safetensors")
    policy = wmlib.load_policy(tmp_path / "shared.safetensors", seed=1)
    assert policy.latency() > 0
    world = Machine()
    obs, _ = world.reset(seed=0)
    for _ in range(3):
        obs, *_ = world.step(policy(obs))
    policy.reset()
    assert policy({key: np.stack([part] * 4) for key, part in obs.items()}).shape == (4, 2)
    del obs["camera"]
    with pytest.raises(BadInput, match="There is no observation 'camera'"):
        policy(obs)


class Machine(gym.Env):
    """Ten steps of a picture, two numbers and a gear."""

    observation_space = Dict(
        camera=Box(0, 255, (3, 24, 24), np.uint8), speed=Box(-9, 9, (2,)), gear=Discrete(3, start=1)
    )
    action_space = MultiDiscrete([3, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        return self._obs(), float(action[1]), False, self.steps == 10, {}

    def _obs(self):
        camera = np.full((3, 24, 24), 20 * self.steps, np.uint8)
        return dict(camera=camera, speed=np.ones(2, np.float32), gear=np.int64(1 + self.steps % 3))
