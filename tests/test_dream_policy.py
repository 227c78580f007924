"""A policy from dreams: one step of learning, every variant, and what is stored."""

import json

import numpy as np
import pytest
import torch

import wmlib
from wmlib import dream_policy, experiments
from wmlib.__main__ import main
from wmlib.ablations import Adam, NoScale
from wmlib.dream_policy import CHANGES, VARIANTS, Behaviour, curves, dream_losses, improve
from wmlib.rssm import State


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("WMLIB_THREADS", "1")


@pytest.fixture(scope="module")
def agent():
    return wmlib.load_pretrained("curtain")


def test_losses_are_those_of_the_agent(agent):
    rows, seen = dream_policy.random_rows(agent, 3, seed=0)
    me = Behaviour(seen.feature.shape[-1], agent.act_space, agent.config)
    me.actor, me.critic, me.scale = agent.actor, agent.critic, agent.return_scale
    start = State(*(part.flatten(0, 1) for part in seen))
    before = agent.return_scale.state_dict()
    before = {k: v.clone() for k, v in before.items()}
    torch.manual_seed(1)
    ours, returns, entropy = dream_losses(agent.world, me, start)
    agent.return_scale.load_state_dict(before)
    torch.manual_seed(1)
    observed = type("", (), {"state": seen})
    theirs, metrics = agent.behaviour_losses(rows, observed)
    for name in ("policy", "value"):
        torch.testing.assert_close(ours[name], theirs[name])
    torch.testing.assert_close(returns.mean(), metrics["return"])
    repval = dream_policy.replay_value(me, rows, seen, returns, agent.config.gamma)
    torch.testing.assert_close(repval, 0.3 * theirs["repval"])
    assert 0 < entropy < np.log(3)


def test_learning_moves_actor_and_critic_and_no_more(agent):
    _, seen = dream_policy.random_rows(agent, 2, seed=0)
    config = agent.config.replace(**{**CHANGES, "warmup": 0})
    me = Behaviour(seen.feature.shape[-1], agent.act_space, config)
    start = State(*(part.flatten(0, 1) for part in seen))
    world = [p.clone() for p in agent.world.parameters()]
    parts = {"actor": me.actor, "fast": me.critic.fast, "slow": me.critic.slow}
    old = {k: [p.clone() for p in m.parameters()] for k, m in parts.items()}
    improve(me, dream_losses(agent.world, me, start)[0])
    for name, module in parts.items():
        assert not all(map(torch.equal, old[name], module.parameters())), name
    assert all(map(torch.equal, world, agent.world.parameters()))
    assert all(p.grad is None for p in agent.world.parameters())


def test_another_reward_may_be_given(agent):
    _, seen = dream_policy.random_rows(agent, 20, seed=0)
    me = Behaviour(seen.feature.shape[-1], agent.act_space, agent.config)
    start = State(*(part[:, 5] for part in seen))
    none = dream_losses(agent.world, me, start, lambda x: torch.zeros(x.shape[:-1]))[1]
    assert not none.any() and dream_losses(agent.world, me, start)[1].abs().max() > 0.5


def test_random_rows_are_whole_episodes_of_random_play(agent):
    rows, seen = dream_policy.random_rows(agent, 400, seed=3)
    assert rows["is_first"][:, 0].all() and rows["is_terminal"][:, 7].all()
    assert rows["is_terminal"].sum() == 400 and seen.h.shape[:2] == (400, 8)
    moved = rows["prev_action"][:, 1:].flatten(0, 1).mean(0)
    assert (moved - 1 / 3).abs().max() < 0.04
    first = rows["obs"][:, 0, :2, :, 0].amax(1).argmax(-1)  # the lane of the ball, in pixels
    table = np.zeros((16, 3))
    np.add.at(table, (first.numpy(), rows["prev_action"][:, 1].argmax(-1).numpy()), 1)
    share = table[table.sum(1) > 0] / table.sum(1, keepdims=True)[table.sum(1) > 0]
    assert share.min() > 0.15  # lanes and actions come from different dice


@pytest.fixture
def tiny(monkeypatch):
    for name, value in (("UPDATES", 4), ("EVERY", 2), ("EPISODES", 8), ("REPLAY", 16)):
        monkeypatch.setattr(dream_policy, name, value)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_runs(name, tiny, monkeypatch):
    met = []

    def spy(me, losses):
        met.append((me, sorted(losses)))
        improve(me, losses)

    monkeypatch.setattr(dream_policy, "improve", spy)
    curve = dream_policy.one(name, 0)
    assert [point[0] for point in curve] == [0, 2, 4] and np.isfinite(curve[-1][2:]).all()
    v, (me, losses) = VARIANTS[name], met[0]
    assert ("policy" in losses) == (not v.critic_first) and ("repval" in losses) == v.replay
    assert isinstance(me.scale, NoScale) == (not v.scaled)
    assert isinstance(me.optimizer, Adam) == (v.optimizer is Adam)
    assert all(getattr(me.config, k) == x for k, x in v.changes.items())


def test_what_is_stored_is_not_run_again(tiny, tmp_path, monkeypatch, capsys):
    some = {name: VARIANTS[name] for name in ("as it is", "no scale")}
    monkeypatch.setattr(dream_policy, "VARIANTS", some)
    words = ["experiment", "dream_policy", "--out", str(tmp_path), "--seeds", "5"]
    picture = tmp_path / "variants.png"
    assert main([*words, "--plot", str(picture)]) == 0 and picture.stat().st_size > 1000
    lines = json.loads(capsys.readouterr().out)
    assert [(li["variant"], li["seed"], li["updates"]) for li in lines] == [
        ("as it is", 5, 4), ("no scale", 5, 4)
    ]  # fmt: skip
    monkeypatch.setattr(dream_policy, "one", lambda *_: pytest.fail("run again"))
    assert experiments.run("dream_policy", tmp_path, seeds=(5,)) == lines
    assert set(curves(tmp_path)) == {("as it is", 5), ("no scale", 5)}
    assert curves(tmp_path)["no scale", 5].shape == (3, 4)


def test_the_stored_results_are_complete():
    from pathlib import Path

    out = Path(__file__).parent.parent / "notebooks/results"
    found = curves(out)
    assert set(found) == {(name, seed) for name in VARIANTS for seed in dream_policy.SEEDS}
    for line in experiments.stored("dream_policy", out):
        curve = found[line["variant"], line["seed"]]
        assert curve[-1, 0] == line["updates"] == dream_policy.UPDATES
        assert curve[-1, 2] == pytest.approx(line["eval_return"], abs=1e-4)
        assert line["command"] == "python -m wmlib experiment dream_policy" and line["date"]
