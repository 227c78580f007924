"""Any world: every kind of observation and action is read, stored, encoded and learned from."""

import copy
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

import wmlib
from wmlib.encoder import make_decoder, make_encoder
from wmlib.errors import BadInput
from wmlib.spaces import (
    ObsReader,
    action_size,
    decode_action,
    each,
    encode_action,
    env_action,
    from_json,
    halvings,
    one_hot,
    random_actions,
    readable,
    row_act_space,
    to_json,
)

SMALL = dict(deter=16, hidden=8, units=8, depth=8, stoch=2, classes=4, num_envs=2, batch_size=2)
SMALL |= dict(batch_length=4, horizon=3, random_steps=0, model_updates=1, ratio=8)
PICTURE = Box(0, 255, (16, 24, 3), np.uint8)
EVERYTHING = Dict(
    camera=Box(0, 255, (3, 20, 16), np.uint8),
    arm=Dict({"angles": Box(-np.pi, np.pi, (2, 2)), "grip/left": MultiBinary(3)}),
    gear=Discrete(4, start=2),
    grid=Box(0, 255, (7, 7, 3), np.uint8),
    pair=Tuple((Discrete(2), MultiDiscrete([3, 2]))),
)


class Anything(gym.Env):
    """Ten steps of random observations of any space, and a reward for a small action."""

    def __init__(self, obs, act):
        self.observation_space = copy.deepcopy(obs)  # with a random generator of its own
        self.action_space = act

    def _obs(self):
        obs = self.observation_space.sample()
        if isinstance(obs, dict):
            obs["grid"] %= 11
        return obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.steps += 1
        return self._obs(), -float(np.sum(action)), False, self.steps == 10, {}


# ---------------------------------------------------------------- observations


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (Discrete(5, start=-2), Discrete(5)),
        (MultiDiscrete([3, 2], start=[1, 5]), MultiDiscrete([3, 2])),
        (MultiBinary((2, 2)), MultiDiscrete([[2, 2], [2, 2]])),
        (Box(-1, 1, (3,)), Box(-np.inf, np.inf, (3,), np.float32)),
        (Box(-1, 1, ()), Box(-np.inf, np.inf, (1,), np.float32)),
        (Box(-1, 1, (2, 3), np.float64), Box(-np.inf, np.inf, (6,), np.float32)),
        (Box(0, 255, (128,), np.uint8), Box(-np.inf, np.inf, (128,), np.float32)),
        (PICTURE, PICTURE),
        (Box(0, 255, (3, 16, 24), np.uint8), PICTURE),
        (Box(0, 1, (16, 24, 3)), PICTURE),
        (Box(0, 255, (84, 84), np.uint8), Box(0, 255, (64, 64, 1), np.uint8)),
        (Box(0, 1, (32, 32)), Box(0, 255, (32, 32, 1), np.uint8)),
        (Box(0, 255, (7, 7, 3), np.uint8), MultiDiscrete(np.full((7, 7, 3), 32))),
        (Box(0, 10, (19, 19), np.int64), MultiDiscrete(np.full((19, 19), 11))),
        (Box(-1, 1, (8, 8), np.int8), MultiDiscrete(np.full((8, 8), 3))),
    ],
    ids=str,
)
def test_every_observation_has_its_row(space, expected):
    reader = ObsReader(space)
    assert reader.space == expected
    space.seed(0)
    raw = np.stack([np.asarray(space.sample()) for _ in range(4)])
    if space.shape == (7, 7, 3):
        raw %= 11
    obs = reader(raw)
    assert all(reader.space.contains(one) for one in obs)
    assert not np.shares_memory(obs, raw)


def test_pictures_are_the_same_in_every_layout():
    raw = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3)).astype(np.uint8)
    assert np.array_equal(ObsReader(PICTURE)(raw), raw)
    first = np.moveaxis(raw, -1, 1)
    assert np.array_equal(ObsReader(Box(0, 255, (3, 16, 24), np.uint8))(first), raw)
    assert np.array_equal(ObsReader(Box(0, 1, (16, 24, 3)))(raw.astype(np.float32) / 255), raw)
    grey = ObsReader(Box(0, 255, (16, 24), np.uint8))(raw[..., 0])
    assert np.array_equal(grey, raw[..., :1])


def test_symbols_can_be_declared():
    space = Box(0, 255, (9, 9, 3), np.uint8)
    assert ObsReader(space).space == Box(0, 255, (64, 64, 3), np.uint8)
    assert ObsReader(space, symbolic=True).space == MultiDiscrete(np.full((9, 9, 3), 32))
    assert ObsReader(space, symbolic=64).space == MultiDiscrete(np.full((9, 9, 3), 64))
    grid = Box(0, 255, (7, 7, 3), np.uint8)
    assert ObsReader(grid, symbolic=False).space == Box(-np.inf, np.inf, (147,), np.float32)
    with pytest.raises(BadInput, match="holds 40; allowed are 0 to 31.*symbolic="):
        ObsReader(grid)(np.full((1, 7, 7, 3), 40, np.uint8))


def test_parts_have_names_and_can_be_chosen():
    whole = ObsReader(EVERYTHING).space
    names = ["arm.angles", "arm.grip.left", "camera", "gear", "grid", "pair.0", "pair.1"]
    assert list(whole.spaces) == names
    some = ObsReader(EVERYTHING, keys=["gear", "arm.angles"])
    assert set(some.space.spaces) == {"gear", "arm.angles"}
    with pytest.raises(
        BadInput, match="There is no observation 'arm', only camera, arm.angles, arm.grip.left"
    ):
        ObsReader(EVERYTHING, keys=["arm"])


def test_what_was_not_declared_is_refused():
    declared = r"declared as Box of shape \(3,\) and type float32, but what came is "
    for given, came in (
        (np.zeros((2, 4)), r"float64 of shape \(4,\)"),
        (np.array([["a"] * 3] * 2), r"<U1 of shape \(3,\)"),
        (np.array([None, None]), r"object of shape \(\)"),
    ):
        with pytest.raises(BadInput, match=declared + came):
            ObsReader(Box(-1, 1, (3,)))(given)
    with pytest.raises(BadInput, match="^The observation holds 5; allowed are 0 to 4.$"):
        ObsReader(Discrete(5))(np.array([0, 5]))


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("space", [Discrete(3), MultiDiscrete([3, 2, 4])], ids=str)
def test_one_hots_of_elements_stand_side_by_side(space):
    value = torch.tensor([[2, 1, 0], [0, 0, 3]]) if space.shape else torch.tensor([2, 0])
    expected = [[0, 0, 1, 0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0, 0, 0, 1]]
    hot = one_hot(value, space)
    assert hot.int().tolist() == (expected if space.shape else [[0, 0, 1], [1, 0, 0]])
    assert decode_action(hot, space).tolist() == value.tolist()


def test_classes_cost_their_cross_entropy():
    config = wmlib.preset("tiny", **SMALL)
    space = MultiDiscrete([3, 2, 4])
    decoder = make_decoder(space, config)
    h, z = torch.randn(5, 16), torch.randn(5, 8)
    logits = decoder(h, z)
    obs = torch.stack([torch.randint(n, (5,)) for n in (3, 2, 4)], -1)
    expected = torch.zeros(5)
    for k, n in enumerate((3, 2, 4)):
        assert logits[:, k, n:].isinf().all()
        expected += torch.nn.functional.cross_entropy(logits[:, k, :n], obs[:, k], reduction="none")
    torch.testing.assert_close(decoder.loss(logits, obs), expected)
    torch.testing.assert_close(decoder.mean(logits).sum(-1), torch.ones(5, 3))
    decoder.loss(logits, obs).sum().backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.parametrize(
    ("shape", "count", "end"),
    [((64, 64), 4, 4), ((96, 96), 4, 6), ((48, 48), 4, 3), ((8, 8), 1, 4), ((128, 128), 4, 8)],
)
def test_pictures_of_other_sides_are_coded(shape, count, end):
    space = Box(0, 255, (*shape, 3), np.uint8)
    assert halvings(shape) == count and readable(shape)
    config = wmlib.preset("tiny", **SMALL)
    encoder, decoder = make_encoder(space, config), make_decoder(space, config)
    obs = torch.zeros(2, *space.shape, dtype=torch.uint8)
    assert encoder(obs).shape == (2, encoder.outputs) and decoder.tiles[1:3] == (end, end)
    assert decoder(torch.zeros(2, 16), torch.zeros(2, 8)).shape == obs.shape


@pytest.mark.parametrize("shape", [(50, 50), (7, 7), (64, 40), (512, 512)])
def test_pictures_that_cannot_be_halved(shape):
    assert readable(shape) == (shape == (64, 40))


def test_the_loss_of_several_parts_is_their_sum():
    config = wmlib.preset("tiny", **SMALL)
    space = ObsReader(EVERYTHING).space
    decoder = make_decoder(space, config)
    obs = each(lambda *rows: torch.as_tensor(np.stack(rows)), *(space.sample() for _ in range(3)))
    h, z = torch.randn(3, 16), torch.randn(3, 8)
    drawn = decoder(h, z)
    alone = [part.loss(drawn[key], obs[key]) for key, part in decoder.items()]
    torch.testing.assert_close(decoder.loss(drawn, obs), torch.stack(alone).sum(0))
    embed = make_encoder(space, config)(obs)
    assert embed.shape == (3, make_encoder(space, config).outputs)


# ---------------------------------------------------------------- actions


@pytest.mark.parametrize(
    ("space", "own"),
    [
        (Discrete(3, start=5), Discrete(3)),
        (MultiDiscrete([3, 2]), MultiDiscrete([3, 2])),
        (MultiDiscrete([[3, 2], [2, 5]], start=[[0, 1], [2, 3]]), MultiDiscrete([3, 2, 2, 5])),
        (MultiBinary(3), MultiDiscrete([2, 2, 2])),
        (Box(-2, 5, (2,)), Box(-1, 1, (2,), np.float32)),
        (Box(-2, 5, (2, 2), np.float64), Box(-1, 1, (4,), np.float32)),
        (Box(-np.inf, np.inf, (2,)), Box(-1, 1, (2,), np.float32)),
    ],
    ids=str,
)
def test_every_action_reaches_its_world(space, own):
    assert row_act_space(space) == own
    action = random_actions(own, 50, np.random.default_rng(0))
    assert all(own.contains(one) for one in action)
    assert all(space.contains(one) for one in env_action(space, 50, action))
    vector = encode_action(torch.as_tensor(action), own)
    assert vector.shape == (50, action_size(own))
    assert np.array_equal(decode_action(vector, own).numpy(), action)


def test_without_bounds_one_means_one():
    found = env_action(Box(-np.inf, np.array([np.inf, 3.0]), (2,)), 1, np.array([[-1.0, 1.0]]))
    assert found.tolist() == [[-1, 3]]


def test_several_choices_are_independent():
    torch.manual_seed(0)
    agent = wmlib.Dreamer(Discrete(2), MultiDiscrete([3, 2]), wmlib.preset("tiny", **SMALL))
    torch.nn.init.normal_(agent.actor.out.weight)
    policy = agent.actor(torch.randn(20_000, 24)[:1].expand(20_000, -1))
    drawn = policy.sample()
    assert drawn.shape == (20_000, 5) and (drawn.sum(-1) == 2).all()
    first, second = (group.probs[0] for group in policy.groups)
    joint = drawn[:, :3].T @ drawn[:, 3:] / 20_000
    torch.testing.assert_close(joint, first[:, None] * second, atol=0.02, rtol=0)
    expected = (drawn[:, :3] @ first).log() + (drawn[:, 3:] @ second).log()
    torch.testing.assert_close(policy.log_prob(drawn), expected)
    each_entropy = sum(-(p * p.log()).sum() for p in (first, second))
    torch.testing.assert_close(policy.entropy()[0], each_entropy)


# ---------------------------------------------------------------- from end to end


@pytest.mark.parametrize("space", [EVERYTHING, EVERYTHING["arm"]["angles"], Discrete(3)], ids=type)
@pytest.mark.parametrize("act", [MultiDiscrete([3, 2]), MultiBinary(2), Box(-2, 2, (2,))], ids=type)
def test_an_agent_lives_in_any_world(space, act, tmp_path):
    def make():
        return Anything(space, act)

    def new():
        return wmlib.make_env(make, 2)

    config = wmlib.preset("tiny", **SMALL)
    env = new()
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    result = wmlib.train(
        agent, env, 40, out=tmp_path / "a", eval_every=20, eval_episodes=2, progress=False
    )
    assert result.updates > 0 and np.isfinite(result.eval_return_mean)
    again, about = wmlib.load_agent(tmp_path / "a", "cpu")
    assert about["env"]["id"].endswith("make")
    rows = wmlib.play(again, new(), 6, seed=3)
    context = {key: rows[key] for key in ("obs", "prev_action", "is_first")}
    dream = again.imagine(context, horizon=2)
    shapes = each(lambda part: part.shape[:2], dream.observation)
    assert all(s == (2, 3) for s in (shapes.values() if isinstance(shapes, dict) else [shapes]))
    # resumed in the middle, it is the same run
    whole = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    wmlib.seed_everything(1)
    start = {k: v.clone() for k, v in whole.state_dict().items()}
    runs = []
    for stops in ((60,), (30, 60)):
        whole.load_state_dict(start)
        whole.optimizer = whole.build_optimizer()
        for steps in stops:
            wmlib.train(
                whole,
                new(),
                steps,
                out=tmp_path / str(len(stops)),
                seed=2,
                eval_episodes=1,
                resume=steps != stops[0],
                progress=False,
            )
        runs.append({k: v.clone() for k, v in whole.state_dict().items()})
    assert all(torch.equal(runs[0][k], runs[1][k]) for k in runs[0])


def test_spaces_survive_a_checkpoint():
    for space in (ObsReader(EVERYTHING).space, MultiDiscrete([[2, 3]]), Discrete(4), PICTURE):
        assert to_json(from_json(to_json(space))) == to_json(space)
        assert from_json(to_json(space)) == space


def test_a_reader_survives_a_file_without_what_it_does_not_read():
    space = Dict(mission=Text(9), image=Box(0, 255, (7, 7, 3), np.uint8), deep=Dict(a=Discrete(3)))
    reader = ObsReader(space, keys=["image", "deep.a"])
    about = reader.to_json()
    settings = {name: about.get(name) for name in ("keys", "symbolic", "size", "exact")}
    again = ObsReader(from_json(json.loads(json.dumps(about["obs_space"]))), **settings)
    assert again.space == reader.space
    obs = dict(mission=["go"], image=np.ones((1, 7, 7, 3), np.uint8), deep=dict(a=np.array([2])))
    found = again(obs)
    assert found["deep.a"].tolist() == [2] and (found["image"] == 1).all()
    assert again.single(again.example())
