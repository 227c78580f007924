"""The experiment `world_model`: every run once, each measured as it was trained."""

import numpy as np
import pytest
import torch

from wmlib import experiments, model_runs
from wmlib.model_runs import ModelRun, no_memory, shuffled_actions


@pytest.fixture(autouse=True)
def small(monkeypatch):
    sizes = dict(deter=16, hidden=16, units=16, depth=8, stoch=2, classes=4)
    monkeypatch.setenv("WMLIB_THREADS", "1")
    monkeypatch.setattr(model_runs, "CHANGES", sizes)
    monkeypatch.setattr(model_runs, "UPDATES", 2)
    monkeypatch.setattr(model_runs, "KEEP", (0.0, 1.0))
    monkeypatch.setattr(model_runs, "EPISODES", 80)
    monkeypatch.setattr(model_runs, "BATCH", 4)
    kinds = {
        "full": ModelRun((0, 1)),
        "no memory": ModelRun((0,), spoil=no_memory),
        "cut": ModelRun((3,), 0.7, {"free_nats": 1.0}, cut=True),
    }
    monkeypatch.setattr(model_runs, "RUNS", kinds)


def test_results_are_written_once(tmp_path):
    lines = experiments.run("world_model", tmp_path)
    assert [(r["run"], r["seed"], r["updates"]) for r in lines] == [
        (run, seed, updates)
        for run, seed in (("full", "0"), ("full", "1"), ("no memory", "0"), ("cut", "3"))
        for updates in ("0", "2")
    ]
    last = lines[-1]
    assert (last["p"], last["free_nats"]) == ("0.7", "1.0")
    assert last["command"] == "python -m wmlib experiment world_model" and last["date"]
    for line in lines:
        shares = [float(line[name]) for name in ("left", "right", "impossible")]
        assert sum(shares) == pytest.approx(1, abs=0.002)
    assert last["seconds"] and not lines[-2]["seconds"]  # marks the end of a run
    kl = np.array([[float(line[f"kl{t}"]) for t in range(8)] for line in lines])
    assert np.isfinite(kl).all() and (kl > -1e-6).all()
    before = (tmp_path / "world_model.csv").read_bytes()
    assert experiments.run("world_model", tmp_path) == lines
    assert (tmp_path / "world_model.csv").read_bytes() == before


def test_a_longer_run_takes_more_updates():
    shots = model_runs.train(ModelRun(longer=2), seed=0)
    assert [shot.updates for shot in shots] == [0, 4]


def test_the_learning_rate_cools_in_the_second_half():
    rates = [model_runs.cool(4.0, update, 100) for update in (0, 50, 75, 100)]
    assert rates == [4.0, 4.0, 2.0, 0.0]


def test_spoilt_batches():
    batch = {
        "is_first": torch.zeros(3, 8, dtype=torch.bool),
        "prev_action": torch.arange(3.0).view(3, 1, 1).expand(3, 8, 2),
    }
    no_memory(batch), shuffled_actions(batch)
    assert batch["is_first"].all()
    assert batch["prev_action"][:, 0, 0].tolist() == [2, 0, 1]
