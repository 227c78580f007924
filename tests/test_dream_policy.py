"""A policy from dreams: one step of learning, every variant, and what is stored."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import wmlib
from wmlib.__main__ import main
from wmlib.actor_critic import replay_value_loss
from wmlib.experiments import dream_policy
from wmlib.experiments.ablations import Adam, NoScale
from wmlib.experiments.dream_policy import (
    CHANGES,
    SEEDS,
    SIZE,
    VARIANTS,
    Behaviour,
    improve,
    losses_in_dreams,
    results,
)
from wmlib.experiments.store import Size
from wmlib.optim import LaProp
from wmlib.rssm import State

TINY = Size(updates=4, every=2, batch=288, episodes=16, exam=8)


@pytest.fixture(scope="module")
def agent():
    return wmlib.load_pretrained("curtain")


def test_losses_are_those_of_the_agent(agent):
    rows, seen = dream_policy.random_rows(agent, 3, seed=0)
    behaviour = Behaviour(seen.feature.shape[-1], agent.act_space, agent.config)
    behaviour.actor = agent.actor
    behaviour.critic = agent.critic
    behaviour.return_scale = agent.return_scale
    start = State(*(part.flatten(0, 1) for part in seen))
    before = {k: v.clone() for k, v in agent.return_scale.state_dict().items()}
    torch.manual_seed(1)
    ours = losses_in_dreams(agent.world, behaviour, start)
    agent.return_scale.load_state_dict(before)
    torch.manual_seed(1)
    observed = type("", (), {"state": seen})
    theirs, metrics = agent.behaviour_losses(rows, observed)
    assert torch.equal(ours.policy, theirs["policy"]) and torch.equal(ours.value, theirs["value"])
    assert ours.returns.mean() == metrics["return"] and ours.scale == metrics["return_scale"]
    bootstrap = ours.returns[:, 0].view(3, 8)
    repval = replay_value_loss(agent.critic, rows, seen.feature, bootstrap, agent.config)
    assert torch.equal(repval, theirs["repval"])
    assert 0 < ours.entropy.mean() < np.log(3)


def test_learning_moves_actor_and_critic_and_no_more(agent):
    _, seen = dream_policy.random_rows(agent, 2, seed=0)
    config = agent.config.replace(**{**CHANGES, "warmup": 0})
    behaviour = Behaviour(seen.feature.shape[-1], agent.act_space, config)
    start = State(*(part.flatten(0, 1) for part in seen))
    world = [p.clone() for p in agent.world.parameters()]
    critic = behaviour.critic
    parts = {"actor": behaviour.actor, "fast": critic.fast, "slow": critic.slow}
    old = {k: [p.clone() for p in m.parameters()] for k, m in parts.items()}
    learnt = losses_in_dreams(agent.world, behaviour, start)
    improve(behaviour, {"policy": learnt.policy, "value": learnt.value})
    for name, module in parts.items():
        assert not all(map(torch.equal, old[name], module.parameters())), name
    assert all(map(torch.equal, world, agent.world.parameters()))
    assert all(p.grad is None for p in agent.world.parameters())


def test_another_reward_may_be_given(agent):
    _, seen = dream_policy.random_rows(agent, 20, seed=0)
    behaviour = Behaviour(seen.feature.shape[-1], agent.act_space, agent.config)
    start = State(*(part[:, 5] for part in seen))
    none = losses_in_dreams(
        agent.world, behaviour, start, lambda x: torch.zeros(x.shape[:-1])
    ).returns
    assert not none.any()
    assert losses_in_dreams(agent.world, behaviour, start).returns.abs().max() > 0.5


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


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_runs(name, monkeypatch):
    met = []

    def spy(behaviour, losses):
        met.append((behaviour, sorted(losses)))
        improve(behaviour, losses)

    monkeypatch.setattr(dream_policy, "improve", spy)
    line, curve = dream_policy.run_seed(name, 0, TINY)
    assert curve["updates"] == (0, 2, 4) and np.isfinite(curve["entropy"][-1])
    assert line["updates"] == 4 and line["eval_return"] == round(curve["eval_return"][-1], 4)
    variant = VARIANTS[name]
    behaviour, losses = met[0]
    assert ("policy" in losses) == (not variant.critic_first)
    assert ("repval" in losses) == variant.replay
    assert isinstance(behaviour.return_scale, NoScale) == (not variant.scaled)
    assert isinstance(behaviour.optimizer, Adam) == (variant.optimizer is Adam)
    assert isinstance(behaviour.optimizer, LaProp)
    assert all(getattr(behaviour.config, k) == x for k, x in variant.changes.items())


def test_what_is_stored_is_not_run_again(tmp_path, monkeypatch, capsys):
    some = {name: VARIANTS[name] for name in ("as it is", "no scale")}
    monkeypatch.setattr(dream_policy, "VARIANTS", some)
    lines = dream_policy.run(tmp_path, seeds=(5,), size=TINY)
    assert [(li["variant"], li["seed"], li["updates"]) for li in lines] == [
        ("as it is", 5, 4),
        ("no scale", 5, 4),
    ]
    monkeypatch.setattr(dream_policy, "run_seed", lambda *_, **__: pytest.fail("run again"))
    words = ["experiment", "dream_policy", "--out", str(tmp_path), "--seeds", "5"]
    picture = tmp_path / "variants.png"
    assert main([*words, "--plot", str(picture)]) == 0
    assert Image.open(picture).format == "PNG"
    assert json.loads(capsys.readouterr().out) == lines
    curves = results(tmp_path).curves()
    assert set(curves) == {("as it is", 5), ("no scale", 5)}
    assert all(len(column) == 3 for column in curves["no scale", 5].values())
    (ax,) = dream_policy.draw(tmp_path).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == list(some)
    ends = [[curves[name, 5]["eval_return"][-1], i] for i, name in enumerate(some)]
    assert [line.get_xydata().tolist() for line in ax.lines] == [[end] for end in ends]


def test_the_stored_results_are_complete():
    store = results(Path(__file__).parent.parent / "notebooks/results")
    curves = store.curves()
    assert set(curves) == {(name, seed) for name in VARIANTS for seed in SEEDS}
    for line in store.runs():
        curve = curves[line["variant"], line["seed"]]
        assert curve["updates"][-1] == line["updates"] == SIZE.updates
        assert curve["eval_return"][-1] == pytest.approx(line["eval_return"], abs=1e-4)
        assert line["command"] == "python -m wmlib experiment dream_policy" and line["date"]
