"""The experiment `losses`: every run once, and each objective is the change that it names."""

import numpy as np
import pytest
import torch

import wmlib
from wmlib import experiments, objectives
from wmlib.distributions import kl_divergence
from wmlib.losses import total


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setenv("WMLIB_THREADS", "1")
    monkeypatch.setattr(objectives, "UPDATES", 2)
    monkeypatch.setattr(objectives, "EVERY", 1)
    monkeypatch.setattr(objectives, "BATCH", 4)
    monkeypatch.setattr(objectives, "SEEDS", (0, 1))
    full = objectives.episodes
    monkeypatch.setattr(objectives, "episodes", lambda seed: full(seed, 8))
    kinds = {name: objectives.OBJECTIVES[name] for name in ("recipe", "beta 10")}
    monkeypatch.setattr(objectives, "OBJECTIVES", kinds)


def test_results_are_written_once(small, tmp_path):
    lines = experiments.run("losses", tmp_path)
    assert [(r["objective"], r["seed"]) for r in lines] == [
        ("recipe", 0), ("beta 10", 0), ("recipe", 1), ("beta 10", 1)
    ]  # fmt: skip
    assert all(r["command"] == "python -m wmlib experiment losses" and r["date"] for r in lines)
    curves = objectives.curves(tmp_path)
    assert [point[0] for point in curves["beta 10", 1]] == [0, 1, 2]
    assert np.isfinite([point for curve in curves.values() for point in curve]).all()
    for line in lines:
        last = curves[line["objective"], line["seed"]][-1]
        assert last[1:] == pytest.approx((line["nll"], line["kl"]), rel=1e-3)
    before = (tmp_path / "losses.csv").read_bytes()
    assert experiments.run("losses", tmp_path) == lines
    assert (tmp_path / "losses.csv").read_bytes() == before
    experiments.draw("losses", tmp_path, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").stat().st_size > 5000


def test_episodes_are_whole():
    rows = objectives.episodes(seed=3, count=5)
    assert rows["obs"].shape == (5, 8, 16, 16, 1)
    assert rows["is_first"].float().sum(1).tolist() == [1] * 5 and rows["is_first"][:, 0].all()
    assert rows["is_terminal"][:, 7].all() and not rows["is_terminal"][:, :7].any()


def test_nats_are_whole_and_unclipped():
    wmlib.seed_everything(0)
    rows = objectives.episodes(seed=0, count=6)
    env = wmlib.make_env("wmlib/Curtain-v0")
    config = wmlib.preset("tiny", free_nats=5.0)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    wmlib.seed_everything(1)
    nll, kl = objectives.nats(agent.world, rows)
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
    rows = objectives.episodes(seed=0, count=4)
    env = wmlib.make_env("wmlib/Curtain-v0")
    agent = wmlib.Dreamer(
        env.single_observation_space, env.single_action_space, wmlib.preset("tiny")
    )
    scales = agent.scales(behaviour=False)
    losses = agent.world.losses(rows, agent.world.observe(rows))
    plain = float(total(losses, scales).detach())
    for name, objective in objectives.OBJECTIVES.items():
        assert objective.scales.keys() <= scales.keys(), name
        changed = float(total(losses, scales | objective.scales).detach())
        due = sum(
            (scale - scales[key]) * float(losses[key].detach().mean())
            for key, scale in objective.scales.items()
        )
        assert changed - plain == pytest.approx(due, rel=1e-4, abs=1e-3), name
