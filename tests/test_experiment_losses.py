"""The experiment `losses`: every run once, and each objective is the change that it names."""

import numpy as np
import pytest
import torch

import wmlib
from wmlib.distributions import kl_divergence
from wmlib.experiments import losses
from wmlib.experiments.losses import OBJECTIVES, random_episodes
from wmlib.experiments.store import Size
from wmlib.losses import total


def test_results_are_written_once(monkeypatch, tmp_path):
    small = Size(updates=2, every=1, batch=4, episodes=8)
    kinds = {name: OBJECTIVES[name] for name in ("recipe", "beta 10")}
    monkeypatch.setattr(losses, "OBJECTIVES", kinds)
    lines = losses.run(tmp_path, seeds=(0, 1), size=small)
    assert [(r["objective"], r["seed"]) for r in lines] == [
        ("recipe", 0),
        ("beta 10", 0),
        ("recipe", 1),
        ("beta 10", 1),
    ]
    assert all(r["command"] == "python -m wmlib experiment losses" and r["date"] for r in lines)
    curves = losses.results(tmp_path).curves()
    assert curves["beta 10", 1]["update"].tolist() == [0, 1, 2]
    for line in lines:
        curve = curves[line["objective"], line["seed"]]
        for column in ("nll", "kl"):
            assert np.isfinite(curve[column]).all()
            assert curve[column][-1] == pytest.approx(line[column], rel=1e-3)
    before = (tmp_path / "losses.csv").read_bytes()
    assert losses.run(tmp_path, seeds=(0, 1), size=small) == lines
    assert (tmp_path / "losses.csv").read_bytes() == before
    panels = losses.draw(tmp_path).axes
    assert [ax.get_title() for ax in panels] == ["NLL, nats per episode", "KL, nats per episode"]
    assert [t.get_text() for t in panels[1].get_legend().get_texts()] == list(kinds)
    for ax, column in zip(panels, ("nll", "kl"), strict=True):
        drawn = [line.get_ydata().tolist() for line in ax.lines if len(line.get_xdata())]
        assert drawn == [curve[column].tolist() for curve in curves.values()]


def test_episodes_are_whole():
    rows = random_episodes(seed=3, count=5)
    assert rows["obs"].shape == (5, 8, 16, 16, 1)
    assert rows["is_first"].float().sum(1).tolist() == [1] * 5 and rows["is_first"][:, 0].all()
    assert rows["is_terminal"][:, 7].all() and not rows["is_terminal"][:, :7].any()


def test_nats_are_whole_and_unclipped():
    wmlib.seed_everything(0)
    rows = random_episodes(seed=0, count=6)
    env = wmlib.make_env("wmlib/Curtain-v0")
    config = wmlib.preset("tiny", free_nats=5.0)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    wmlib.seed_everything(1)
    nll, kl = losses.nats(agent.world, rows)
    wmlib.seed_everything(1)
    seen = agent.world.observe(rows)
    drawn = agent.world.decoder(seen.state.h, seen.state.z.flatten(-2))
    here = torch.nn.functional.binary_cross_entropy_with_logits(
        drawn.detach(), rows["obs"].float() / 255, reduction="sum"
    )
    assert nll == pytest.approx(float(here) / 6, rel=1e-5)
    divergence = kl_divergence(seen.posterior, seen.prior).sum(1).mean()
    assert kl == pytest.approx(float(divergence.detach()), rel=1e-5) and kl < 8 * 5


def test_weights_reach_the_loss():
    wmlib.seed_everything(0)
    rows = random_episodes(seed=0, count=4)
    env = wmlib.make_env("wmlib/Curtain-v0")
    agent = wmlib.Dreamer(
        env.single_observation_space, env.single_action_space, wmlib.preset("tiny")
    )
    scales = agent.scales(behaviour=False)
    found = agent.world.losses(rows, agent.world.observe(rows))
    plain = float(total(found, scales).detach())
    for name, objective in OBJECTIVES.items():
        assert objective.scales.keys() <= scales.keys(), name
        changed = float(total(found, scales | objective.scales).detach())
        due = sum(
            (scale - scales[key]) * float(found[key].detach().mean())
            for key, scale in objective.scales.items()
        )
        assert changed - plain == pytest.approx(due, rel=1e-4, abs=1e-3), name
