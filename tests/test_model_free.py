"""Model-free baselines: what is stored, when a run stops, and what is said without the library."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wmlib import experiments
from wmlib.__main__ import main
from wmlib.experiments import model_free
from wmlib.experiments.model_free import BASELINES, SEEDS, Baseline, results, steps_to

ENDLESS = Baseline(
    "PPO",
    "CartPole-v1",
    1e9,
    64,
    1,
    eval_every=32,
    episodes=3,
    num_envs=2,
    settings=dict(
        policy="MlpPolicy", n_steps=16, batch_size=16, n_epochs=1, learning_rate="linear_0.001"
    ),
)
AT_ONCE = Baseline(
    "DQN",
    "wmlib/Curtain-v0",
    -1e9,
    64,
    1,
    eval_every=16,
    episodes=3,
    num_envs=2,
    stack=4,
    settings=dict(policy="MlpPolicy", learning_starts=8, buffer_size=64, batch_size=8),
)
COLUMNS = ("steps", "seconds", "eval_return")
CURVE = [(10, 0.5, 1.0), (20, 1.0, 3.0), (30, 1.5, 2.0), (40, 2.0, 3.0), (50, 2.5, 4.0)]


def store(out, algorithm, env, seed, points=CURVE):
    """Store a run as the experiment does."""
    curve = dict(zip(COLUMNS, zip(*points, strict=True), strict=True))
    results(out).add({"algorithm": algorithm, "env": env, "seed": seed}, curve)


def points(curve):
    return list(zip(*(curve[name] for name in COLUMNS), strict=True))


@pytest.fixture
def no_library(monkeypatch):
    """Hide the library even where it is installed."""
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)


@pytest.fixture
def trained(monkeypatch):
    """Replace training by a curve; returns the runs asked for."""
    asked = []

    def run_seed(baseline, seed):
        asked.append((baseline.algorithm, baseline.env, seed))
        return {}, CURVE

    monkeypatch.setattr(model_free, "run_seed", run_seed)
    monkeypatch.setattr(model_free, "library", lambda *_: np)
    return asked


def test_without_the_library_one_sentence_and_code_2(no_library, capsys, tmp_path):
    assert main(["experiment", "model_free", "--out", str(tmp_path / "results")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("wmlib: ") and err.count("\n") == 1
    assert "pip install stable-baselines3" in err
    assert list(tmp_path.iterdir()) == []


def test_stored_runs_need_no_library(no_library, capsys, tmp_path):
    for baseline in BASELINES:
        store(tmp_path, baseline.algorithm, baseline.env, 7)
    words = ["experiment", "model_free", "--out", str(tmp_path), "--seeds", "7"]
    assert main([*words, "--plot", str(tmp_path / "curves.png")]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(BASELINES)
    assert Image.open(tmp_path / "curves.png").format == "PNG"
    panels = model_free.draw(tmp_path).axes
    expected = [[steps, value] for steps, _, value in CURVE]
    assert [ax.get_title() for ax in panels] == sorted({b.env for b in BASELINES})
    for ax in panels:
        here = [b.algorithm for b in BASELINES if b.env == ax.get_title()]
        assert [line.get_label() for line in ax.lines] == [f"{name}, seed 7" for name in here]
        assert all(line.get_xydata().tolist() == expected for line in ax.lines)


@pytest.mark.parametrize(
    ("threshold", "reached"),
    [(0, (10, 0.5)), (1, (10, 0.5)), (2, (20, 1.0)), (3, (40, 2.0)), (4, (None, None))],
)
def test_a_threshold_counts_from_the_first_of_two_evaluations_in_a_row(threshold, reached):
    assert steps_to(CURVE, threshold) == reached


@pytest.mark.parametrize("curve", [[], CURVE[:1]])
def test_short_curves_reach_nothing(curve):
    assert steps_to(curve, 0) == (None, None)


def test_curves_are_read_as_they_were_written(tmp_path):
    store(tmp_path, "PPO", "CartPole-v1", 0)
    store(tmp_path, "DQN", "CartPole-v1", 3, CURVE[:2])
    with open(tmp_path / "model_free.csv", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["algorithm", "env", "seed", "steps", "seconds", "eval_return"]
    assert lines[0] == ["PPO", "CartPole-v1", "0", "10", "0.5", "1"]
    assert {key: points(curve) for key, curve in results(tmp_path).curves().items()} == {
        ("PPO", "CartPole-v1", 0): CURVE,
        ("DQN", "CartPole-v1", 3): CURVE[:2],
    }
    assert [line["seed"] for line in results(tmp_path).runs()] == [0, 3]


def test_only_the_missing_runs_are_run(trained, tmp_path):
    first = BASELINES[0]
    store(tmp_path, first.algorithm, first.env, 1)
    lines = experiments.run("model_free", tmp_path)
    every = {(b.algorithm, b.env, seed) for b in BASELINES for seed in SEEDS}
    assert set(trained) == every - {(first.algorithm, first.env, 1)}
    assert len(trained) == len(every) - 1 == len(lines) - 1
    assert {"command", "date", "machine", "torch", "numpy", "gymnasium"} <= lines[-1].keys()
    trained.clear()
    assert experiments.run("model_free", tmp_path) == lines and trained == []
    experiments.run("model_free", tmp_path, seeds=(0, 8))
    assert {seed for *_, seed in trained} == {8}


def test_settings_can_be_stored_and_runs_told_apart():
    assert len({(b.algorithm, b.env) for b in BASELINES}) == len(BASELINES)
    for b in BASELINES:
        assert json.loads(json.dumps(b.settings)) == b.settings
        assert b.eval_every % b.num_envs == 0  # evaluations fall on these steps exactly


def test_the_stored_results_are_of_these_settings():
    stored = results(Path(__file__).parents[1] / "notebooks" / "results")
    lines = stored.runs()
    curves = stored.curves()
    settings = {(b.algorithm, b.env): b for b in BASELINES}
    assert stored.done() == set(curves) == {(*run, seed) for run in settings for seed in SEEDS}
    for line in lines:
        curve = points(curves[line["algorithm"], line["env"], line["seed"]])
        baseline = settings[line["algorithm"], line["env"]]
        assert line["settings"] == baseline.settings
        assert (line["num_envs"], line["stack"]) == (baseline.num_envs, baseline.stack)
        assert (line["steps"], line["eval_episodes"]) == (curve[-1][0], baseline.episodes)
        assert line["steps_to_threshold"] == steps_to(curve, baseline.threshold)[0]


def test_tiny_runs(monkeypatch, tmp_path):
    """Both algorithms, in both kinds of world, with the library itself."""
    library = pytest.importorskip("stable_baselines3")
    monkeypatch.setattr(model_free, "BASELINES", (ENDLESS, AT_ONCE))
    full, early = experiments.run("model_free", tmp_path, seeds=(5,))
    assert full["steps_to_threshold"] is full["seconds_to_threshold"] is None
    assert full["steps"] == 64 and full["actions"] == "sampled"
    assert (early["steps"], early["steps_to_threshold"]) == (32, 16)
    assert early["actions"] == "greedy" and early["settings"] == AT_ONCE.settings
    assert full["stable_baselines3"] == library.__version__
    curves = results(tmp_path).curves()
    ppo = curves["PPO", "CartPole-v1", 5]
    dqn = curves["DQN", "wmlib/Curtain-v0", 5]
    assert ppo["steps"].tolist() == [32, 64] and dqn["steps"].tolist() == [16, 32]
    assert ((ppo["eval_return"] >= 1) & (ppo["eval_return"] <= 500)).all()
    assert ((dqn["eval_return"] >= -1.14) & (dqn["eval_return"] <= 1)).all()
