"""The shipped agents: small, described, fair dreamers and good players."""

from importlib.resources import files

import numpy as np
import pytest

import wmlib
from wmlib.checks.dreams import ball_lanes, dream_laws, paddle_lanes
from wmlib.errors import BadInput

COINS = {"curtain": 0.5, "curtain_p70": 0.7, "curtain_p90": 0.9}


@pytest.mark.parametrize("name", COINS)
def test_dreams_obey_the_laws_of_their_world(name):
    wmlib.seed_everything(0)
    laws = dream_laws(wmlib.load_pretrained(name), n=1000, p=COINS[name])
    assert laws.impossible < 0.02
    assert laws.action_fidelity > 0.95
    assert abs(laws.left - COINS[name]) <= 0.05
    assert abs(laws.right - (1 - COINS[name])) <= 0.05


def test_an_untrained_agent_breaks_the_laws():
    wmlib.seed_everything(0)
    trained = wmlib.load_pretrained("curtain")
    blank = wmlib.Dreamer(trained.obs_space, trained.act_space, trained.config)
    laws = dream_laws(blank, n=200)
    assert laws.impossible > 0.3 and laws.action_fidelity < 0.5


@pytest.mark.parametrize("name", COINS)
def test_it_plays_curtain_well(name):
    env = wmlib.make_env("wmlib/Curtain-v0", num_envs=100, p=COINS[name])
    assert wmlib.evaluate(wmlib.load_pretrained(name), env, 1000).mean() >= 0.85


def test_it_balances_the_pole():
    env = wmlib.make_env("CartPole-v1", num_envs=20)
    assert wmlib.evaluate(wmlib.load_pretrained("cartpole"), env, 20).mean() >= 475


@pytest.mark.parametrize("name", [*COINS, "cartpole"])
def test_files_are_small_and_described(name):
    assert (files("wmlib.pretrained") / f"{name}.safetensors").stat().st_size <= 2_000_000
    card = wmlib.pretrained_card(name)
    wanted = {"command", "seed", "steps", "updates", "seconds", "eval_return_mean", "machine"}
    assert wanted <= card.keys()


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(BadInput, match="'breakout'.*cartpole, curtain"):
        wmlib.load_pretrained("breakout")


def test_lanes_are_read_from_real_frames():
    env = wmlib.make_env("wmlib/Curtain-v0", num_envs=64, seed=1)
    row, rng = env.reset(seed=1), np.random.default_rng(0)
    for t in range(7):
        state = env.vec.state
        np.testing.assert_array_equal(paddle_lanes(row.obs), state.paddle)
        if t in (0, 1):
            np.testing.assert_array_equal(ball_lanes(row.obs, t), state.lane)
        if t in (4, 5, 6):
            np.testing.assert_array_equal(ball_lanes(row.obs, t), state.lane + state.offset)
        row = env.step(rng.integers(3, size=64))
