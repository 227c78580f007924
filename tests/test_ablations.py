"""The ablations change what they say, and nothing else."""

import concurrent.futures
import json

import numpy as np
import pytest
import torch
from PIL import Image

import wmlib
from wmlib import __main__ as cli
from wmlib.distributions import symexp, symlog, twohot_loss
from wmlib.experiments import ablations, bench
from wmlib.experiments.ablations import ABLATIONS, Adam
from wmlib.nets import NormSiLU

SMALL = dict(deter=16, hidden=8, units=8, depth=8, batch_size=2, batch_length=4, horizon=2)


@pytest.fixture
def agent():
    wmlib.seed_everything(0)
    space = bench.image_space(16, 1), bench.DISCRETE(3)
    return wmlib.Dreamer(*space, wmlib.preset("tiny", **SMALL))


@pytest.mark.parametrize("name", list(ABLATIONS))
def test_every_ablation_trains(name):
    wmlib.seed_everything(0)
    ablation = ABLATIONS[name]
    config = wmlib.preset("tiny", **SMALL | {"batch_length": 8}).replace(**ablation.changes)
    agent = wmlib.Dreamer(bench.image_space(16, 1), bench.DISCRETE(3), config)
    if ablation.operation:
        ablation.operation(agent)
    before = {k: v.clone() for k, v in agent.state_dict().items()}
    for _ in range(3):
        agent.update(bench.random_batch(agent))
    changed = [k for k, v in agent.state_dict().items() if not torch.equal(v, before[k])]
    parts = ("world.encoder", "world.rssm", "world.decoder", "actor", "critic.fast", "critic.slow")
    for part in parts:
        assert any(k.startswith(part) for k in changed), part


def test_adam_takes_adams_steps():
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = Adam([p], 0.1, warmup=0, agc=0)
    seen = []
    for grad in (1.0, -2.0, 0.5, 10.0):
        p.grad = torch.tensor([grad])
        optimizer.step()
        seen.append(p.item())
    expected = [-0.1, -0.06338965, -0.04972058, -0.10387036]
    assert np.allclose(seen, expected, atol=1e-6)


def test_layer_norm_replaces_every_norm(agent):
    count = sum(isinstance(m, NormSiLU) for m in agent.modules())
    ablations.use_layer_norm(agent)
    assert not any(isinstance(m, NormSiLU) for m in agent.modules())
    assert sum(isinstance(m, ablations.LayerNormSiLU) for m in agent.modules()) == count > 20
    learnt = {id(p) for group in agent.optimizer.param_groups for p in group["params"]}
    assert learnt == {id(p) for p in agent.parameters() if p.requires_grad}


def test_without_scale_returns_stay(agent):
    ablations.drop_return_scale(agent)
    assert agent.return_scale(torch.tensor([0.0, 1e6])) == 1


def test_symlog_two_hot_underestimates_a_gamble(agent):
    """Rewards 0 or 100 with equal odds: even bins in symlog space settle on about 9."""
    ablations.use_symlog_twohot(agent)
    bins = agent.critic.bins
    targets = symlog(torch.tensor([0.0, 100.0]))
    logits = torch.zeros(1, len(bins), requires_grad=True)
    for _ in range(4000):
        loss = twohot_loss(logits.expand(2, -1), targets, bins)
        (grad,) = torch.autograd.grad(loss.mean(), logits)
        logits = (logits - 2 * grad).detach().requires_grad_()
    assert agent.critic.mean(logits).item() == pytest.approx(9.05, abs=0.3)


def test_symlog_two_hot_is_used_for_rewards_and_values(agent):
    ablations.use_symlog_twohot(agent)
    for head in (agent.world.reward_head, agent.critic.fast, agent.critic.slow):
        torch.nn.init.normal_(head.out.weight)
    batch = bench.random_batch(agent)
    seen = agent.world.observe(batch)
    feature = seen.state.feature
    bins = agent.world.bins
    assert torch.equal(bins, torch.linspace(-20, 20, len(bins)))
    logits = agent.world.reward_head(feature)
    expected = twohot_loss(logits, symlog(batch["reward"]), bins)
    torch.testing.assert_close(agent.world.losses(batch, seen)["rew"], expected)
    average = symexp((torch.softmax(logits, -1) * bins).sum(-1))
    torch.testing.assert_close(agent.world.reward(feature), average)
    returns = torch.randn(feature[:, 1:].shape[:2])
    logits = agent.critic(feature)
    slow = agent.critic.mean(agent.critic.slow(feature[:, :-1]))
    expected = twohot_loss(logits[:, :-1], symlog(returns), bins)
    expected += twohot_loss(logits[:, :-1], symlog(slow.detach()), bins)
    torch.testing.assert_close(agent.critic.loss(logits, feature, returns), expected)


def test_the_plan_goes_seed_by_seed():
    plan = ablations.plan()
    assert len(plan) == len(set(plan)) == 3 * (len(ABLATIONS) + 5)
    assert [seed for *_, seed in plan] == sorted(seed for *_, seed in plan)


@pytest.fixture
def quick(monkeypatch):
    calls = []

    def fake(world, name, seed):
        calls.append((world, name, seed))
        line = {"world": world, "ablation": name, "seed": seed, "eval_return_mode": 0.5 + seed / 10}
        return line, {"steps": [1.0, 2.0], "eval_return": [0.1, 0.2]}

    monkeypatch.setattr(ablations, "train_one", fake)
    monkeypatch.setattr(
        concurrent.futures,
        "ProcessPoolExecutor",
        lambda jobs, *_, **__: concurrent.futures.ThreadPoolExecutor(jobs),
    )
    return calls


def test_stored_runs_are_not_run_again(quick, tmp_path):
    assert len(ablations.run(tmp_path, 2, seeds=(0,))) == len(quick) == len(ABLATIONS) + 5
    assert len(ablations.run(tmp_path, 1)) == 3 * (len(ABLATIONS) + 5)
    assert len(quick) == len(set(quick))
    columns = (tmp_path / "ablations.csv").read_text().splitlines()
    assert columns[0] == "world,ablation,seed,steps,eval_return" and len(columns) == 1 + 2 * len(
        quick
    )


def test_command_draws(quick, tmp_path, capsys):
    picture = tmp_path / "a.png"
    options = ["--out", str(tmp_path / "r"), "--plot", str(picture), "--jobs", "2"]
    assert cli.main(["experiment", "ablations", *options]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(quick)
    assert Image.open(picture).format == "PNG"
    for ax, world in zip(ablations.draw(tmp_path / "r").axes, ablations.WORLDS, strict=True):
        names = list(dict.fromkeys(name for where, name, _ in ablations.plan() if where == world))
        assert [label.get_text() for label in ax.get_yticklabels()] == names
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        assert [sorted(line.get_xdata()) for line in dots] == [[0.5, 0.6, 0.7]] * len(names)
        means = [line.get_xdata() for line in ax.lines if line.get_marker() == "|"]
        assert np.allclose(means, 0.6)


def test_bad_input_is_one_sentence(capsys, tmp_path):
    assert cli.main(["experiment", "ablations", "--jobs", "0", "--out", str(tmp_path)]) == 2
    assert "--jobs is 0" in capsys.readouterr().err
    assert cli.main(["experiment", "no such"]) == 2
    assert "ablations" in capsys.readouterr().err


def test_one_real_run(tmp_path, monkeypatch):
    small = ablations.TrainingRun(
        "wmlib/Curtain-v0", (0,), steps=64, episodes=4, eval_every=32, curve_episodes=4
    )
    monkeypatch.setitem(ablations.WORLDS, "Curtain", small)
    threads = torch.get_num_threads()
    line, curve = ablations.train_one("Curtain", "KL 0.5 / 0.1", 0)
    torch.set_num_threads(threads)
    assert line["ablation"] == "KL 0.5 / 0.1" and line["steps"] >= 64
    assert len(curve["steps"]) >= 1 and -1.2 < curve["eval_return"][0] < 1
