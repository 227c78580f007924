"""The shipped agents: small, described, fair dreamers and good players."""

import json
from importlib.resources import files

import numpy as np
import pytest
import torch

import wmlib
from wmlib.checkpoint import load_agent
from wmlib.diagnostics import ball_lanes, dream_laws, paddle_lanes
from wmlib.errors import BadInput
from wmlib.experiments import pretrained as maker

COINS = {"curtain": 0.5, "curtain_p70": 0.7, "curtain_p90": 0.9}


def weights(path):
    return load_agent(path)[0].state_dict()


def near(a, b):
    """Whether two agents' world models are the same but for float16."""
    names = [name for name in a if name.startswith("world.")]
    return all(torch.allclose(a[name], b[name], atol=1e-2, rtol=1e-2) for name in names)


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


def test_agents_are_made_beside_the_shipped_ones(tmp_path, monkeypatch, capsys):
    shipped = {f.name: f.read_bytes() for f in files("wmlib.pretrained").iterdir() if f.is_file()}
    short = dict(random_steps=16, model_updates=1, batch_size=2, batch_length=4, ratio=1, lr=1e-9)
    small = {"p": 0.7}, None, short
    first = maker.Recipe("wmlib/Curtain-v0", "curtain", 160, 3, *small)
    then = maker.Recipe("wmlib/Curtain-v0", "curtain", 160, 3, {"p": 0.9}, "curtain", short, 1)
    alone = maker.Recipe("CartPole-v1", "cartpole", 160, 3, {}, "cartpole", short)
    recipes = [("curtain", first), ("curtain_p90", then), ("cartpole", alone)]
    monkeypatch.setattr(maker, "RECIPES", recipes)
    maker.main(["--out", str(tmp_path / "a"), "curtain", "curtain_p90"])
    assert sorted(f.name for f in (tmp_path / "a").iterdir()) == [
        *("curtain.json", "curtain.safetensors", "curtain_p90.json", "curtain_p90.safetensors")
    ]
    card = json.loads((tmp_path / "a" / "curtain_p90.json").read_text())
    assert card["settings"] == {"p": 0.9} and card["start"] == "curtain" and card["seed"] == 1
    assert card["eval_episodes"] == 3 and card["updates"] > 0
    # Steps this small move nothing: an agent made from another one is still the same agent, the one
    # just made where there is one and else the shipped one.
    one, two = (weights(tmp_path / "a" / f"{c}.safetensors") for c in ("curtain", "curtain_p90"))
    assert near(one, two) and not near(one, wmlib.load_pretrained("curtain").state_dict())
    maker.main(["--out", str(tmp_path / "b"), "cartpole"])
    made = weights(tmp_path / "b" / "cartpole.safetensors")
    assert near(made, wmlib.load_pretrained("cartpole").state_dict())
    assert "shipped: 500.000, 500.000" in capsys.readouterr().out
    assert shipped == {
        f.name: f.read_bytes() for f in files("wmlib.pretrained").iterdir() if f.is_file()
    }


def test_an_unknown_name_makes_nothing(tmp_path):
    with pytest.raises(BadInput, match="'breakout'.*cartpole, curtain"):
        maker.main(["--out", str(tmp_path / "x"), "breakout"])
    assert not (tmp_path / "x").exists()


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
