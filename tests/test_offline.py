"""Learning from recorded rows: the losses fall, and rows that are wrong are told."""

import itertools
import signal

import numpy as np
import pytest
import torch
from conftest import BUTTONS, MINI, STICKS, VECTOR, make_sample
from gymnasium.spaces import Box

import wmlib
from wmlib.errors import BadInput

QUICK = MINI.replace(batch_size=4, batch_length=6, horizon=3, lr=3e-3)


def learn(rows, updates=3, config=QUICK, act_space=BUTTONS, **options):
    return wmlib.train_model(rows, VECTOR, act_space, config, updates, progress=False, **options)


def moved(agent, seed=0):
    """Names of the parts whose weights are not those that this seed begins with."""
    wmlib.seed_everything(seed)
    fresh = wmlib.Dreamer(agent.obs_space, agent.act_space, agent.config).state_dict()
    changed = [k for k, v in agent.state_dict().items() if not torch.equal(v, fresh[k])]
    return {".".join(name.split(".")[: 1 + name.startswith("world")]) for name in changed}


WORLD = {"world.encoder", "world.rssm", "world.decoder", "world.reward_head"}
WORLD |= {"world.continue_head"}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("act_space", [BUTTONS, STICKS])
def test_what_should_learn_learns(act_space, stored):
    rows = make_sample(VECTOR, act_space, 4, 8)
    config = QUICK.replace(stored_latents=stored)
    assert moved(learn(rows, 3, config, act_space)) == WORLD
    both = learn(rows, 3, config, act_space, behaviour=True)
    assert moved(both) == WORLD | {"actor", "critic", "return_scale"}


def test_a_model_of_random_play_draws_and_predicts_better(tmp_path):
    env = wmlib.make_env("wmlib/Curtain-v0", 64)
    spaces = env.single_observation_space, env.single_action_space
    small = {"deter": 32, "hidden": 16, "units": 16, "warmup": 0, "batch_length": 8}
    config = wmlib.preset("tiny", **small)
    rows = wmlib.play(wmlib.Dreamer(*spaces, config), env, 24)
    options = {"out": tmp_path / "run", "progress": False}
    agent = wmlib.train_model(rows, *spaces, config, 120, **options)
    exam = wmlib.play(agent, env, 8, seed=1)
    wmlib.seed_everything(0)
    fresh = wmlib.Dreamer(*spaces, config)

    def losses(of):
        torch.manual_seed(0)
        found, _, _ = of.losses(of.tensors(exam)[0], behaviour=False)
        return {name: value.mean().item() for name, value in found.items()}

    before, after = losses(fresh), losses(agent)
    assert after["rec"] < 0.3 * before["rec"] and after["dyn"] < 0.3 * before["dyn"]
    assert after["rew"] < 0.5 * before["rew"] and after["con"] < before["con"]
    line = wmlib.read_metrics(tmp_path / "run" / "metrics.csv")
    assert line["updates"][-1] == 120 and line["kl"][-1] < 0.2
    again, about = wmlib.load_agent(tmp_path / "run", "cpu")
    assert about["updates"] == 120
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in agent.state_dict().items())
    assert wmlib.load_policy(tmp_path / "run")(rows["obs"][0, 0]) in (0, 1, 2)


def test_behaviour_finds_the_action_that_pays():
    rng = np.random.default_rng(0)
    rows = make_sample(VECTOR, BUTTONS, 16, 32)
    rows |= {name: np.zeros((16, 32), bool) for name in ("is_first", "is_last", "is_terminal")}
    rows["is_first"][:, 0] = True
    rows["obs"] = rng.normal(size=(16, 32, 6)).astype(np.float32)
    rows["action"] = rng.integers(3, size=(16, 32))
    rows["reward"][:, 1:] = rows["action"][:, :-1] == 2
    rows["reward"][:, 0] = 0
    agent = learn(rows, 250, QUICK.replace(batch_length=8, imagine_last=4), behaviour=True)
    policy = wmlib.Policy(agent, VECTOR, BUTTONS, seed=0)
    chosen = np.stack([policy(rng.normal(size=(50, 6))) for _ in range(5)])
    assert (chosen == 2).mean() > 0.6  # by chance a third


def test_the_same_seed_gives_the_same_agent():
    rows = make_sample(VECTOR, BUTTONS, 4, 8)
    one, two, other = (learn(rows, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(v, two[k]) for k, v in one.items())
    assert not all(torch.equal(v, other[k]) for k, v in one.items())


def spoilt(name, change):
    rows = make_sample(VECTOR, BUTTONS, 4, 8)
    rows[name] = change(rows[name])
    return rows


def put(value, *place):
    def change(array):
        array = array.copy()
        array[place] = value
        return array

    return change


WRONG = {
    "missing": ({"obs": np.zeros((1, 8, 6), np.float32)}, "no 'reward'; needed are obs"),
    "one stream": (spoilt("reward", lambda a: a[0]), r"\(streams, rows\), not \(8,\)"),
    "width": (spoilt("obs", lambda a: a[..., :5]), r"obs must be floats of shape \(4, 8, 6\)"),
    "length": (spoilt("action", lambda a: a[:, :7]), r"action must be integers of shape \(4, 8\)"),
    "type": (spoilt("is_last", lambda a: a.astype(int)), "is_last must be bool"),
    "class": (spoilt("action", put(3, 0, 0)), "action must be from 0 to 2, not 3"),
    "nan": (spoilt("obs", put(np.nan, 1, 2)), "obs is not finite in stream 1, row 2"),
    "infinite": (spoilt("reward", put(np.inf, 3, 4)), "reward is not finite in stream 3, row 4"),
    "terminal": (spoilt("is_terminal", put(True, 3, 1)), "stream 3, row 1, is_terminal is True"),
    "no first": (spoilt("is_first", put(False, 1, 5)), "stream 1, row 4, is_last .* next row"),
    "early": (spoilt("reward", put(1.0, 0, 3)), "stream 0, row 3, there is a reward where"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_rows_are_one_sentence(case, tmp_path):
    rows, words = WRONG[case]
    with pytest.raises(BadInput, match=words) as caught:
        learn(rows, out=tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_other_numbers_that_do_not_fit_are_told():
    rows = make_sample(VECTOR, BUTTONS, 4, 8)
    for words, updates, changes in (
        ("updates is 0", 0, {}),
        ("8 rows; batch_length 9 needs 9", 1, {"batch_length": 9}),
        ("8 rows; batch_length 8 needs 9", 1, {"batch_length": 8, "stored_latents": True}),
        (r"keeps 7; raise replay_rows \(28\)", 1, {"replay_rows": 28}),
    ):
        with pytest.raises(BadInput, match=words):
            learn(rows, updates, QUICK.replace(**changes))
    with pytest.raises(BadInput, match="from -1 to 1"):
        learn(make_sample(VECTOR, STICKS), act_space=Box(-2, 2, (2,)))


def test_ctrl_c_returns_what_is_there(tmp_path, monkeypatch):
    rows = make_sample(VECTOR, BUTTONS, 4, 8)
    wanted = learn(rows, 3).state_dict()
    update, calls = wmlib.Dreamer.update, itertools.count(1)

    def interrupted(*args):
        if next(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return update(*args)

    monkeypatch.setattr(wmlib.Dreamer, "update", interrupted)
    agent = learn(rows, 10**6, out=tmp_path / "run")
    assert all(torch.equal(v, wanted[k]) for k, v in agent.state_dict().items())
    _, about = wmlib.load_agent(tmp_path / "run")
    assert about["updates"] == 3
    assert wmlib.read_metrics(tmp_path / "run" / "metrics.csv")["updates"][-1] == 3


def test_a_loss_that_is_not_finite_is_told():
    rows = make_sample(VECTOR, BUTTONS, 4, 8)
    with pytest.raises(FloatingPointError, match="after .* updates: not finite"):
        learn(rows, 50, QUICK.replace(lr=1e30, agc=1e30))
