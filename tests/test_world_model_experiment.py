"""The experiment `world_model`: every run once, each measured as it was trained."""

import numpy as np
import pytest
import torch

from wmlib.experiments import world_model
from wmlib.experiments.store import Size
from wmlib.experiments.world_model import ModelRun, cool, no_memory, shuffled_actions

NETWORKS = dict(deter=16, hidden=16, units=16, depth=8, stoch=2, classes=4)
SMALL = Size(updates=2, batch=4, episodes=80, exam=20, config=NETWORKS)


@pytest.fixture(autouse=True)
def few_snapshots(monkeypatch):
    monkeypatch.setattr(world_model, "KEEP", (0.0, 1.0))


def test_results_are_written_once(tmp_path, monkeypatch):
    kinds = {
        "full": ModelRun((0, 1)),
        "no memory": ModelRun((0,), spoil=no_memory),
        "cut": ModelRun((3,), 0.7, {"free_nats": 1.0}, cut=True),
    }
    monkeypatch.setattr(world_model, "RUNS", kinds)
    lines = world_model.run(tmp_path, size=SMALL)
    runs = [("full", 0), ("full", 1), ("no memory", 0), ("cut", 3)]
    assert [(line["run"], line["seed"]) for line in lines] == runs
    assert (lines[-1]["p"], lines[-1]["free_nats"]) == (0.7, 1.0) and lines[-1]["seconds"] > 0
    assert lines[-1]["command"] == "python -m wmlib experiment world_model" and lines[-1]["date"]
    curves = world_model.results(tmp_path).curves()
    assert list(curves) == runs
    for curve in curves.values():
        assert curve["updates"].tolist() == [0, 2]
        shares = curve["left"] + curve["right"] + curve["impossible"]
        assert shares == pytest.approx(1, abs=0.002)
        kl = np.array([curve[f"kl{t}"] for t in range(8)])
        assert np.isfinite(kl).all() and (kl > -1e-6).all()
    before = (tmp_path / "world_model.csv").read_bytes()
    assert world_model.run(tmp_path, size=SMALL) == lines
    assert (tmp_path / "world_model.csv").read_bytes() == before


def test_a_longer_run_takes_more_updates():
    shots = world_model.train(ModelRun(longer=2), seed=0, size=SMALL)
    assert [shot.updates for shot in shots] == [0, 4]


def test_the_learning_rate_cools_in_the_second_half():
    assert [cool(4.0, update, 100) for update in (0, 50, 75, 100)] == [4.0, 4.0, 2.0, 0.0]


def test_spoilt_batches():
    batch = {
        "is_first": torch.zeros(3, 8, dtype=torch.bool),
        "prev_action": torch.arange(3.0).view(3, 1, 1).expand(3, 8, 2),
    }
    no_memory(batch), shuffled_actions(batch)
    assert batch["is_first"].all()
    assert batch["prev_action"][:, 0, 0].tolist() == [2, 0, 1]
