"""Experiments: every seed is run once, and its results can be read."""

import contextlib
import errno
import json
import os
from unittest.mock import Mock

import numpy as np
import pytest

import wmlib
from wmlib import experiments
from wmlib.__main__ import main
from wmlib.checkpoint import read_metrics
from wmlib.errors import BadInput
from wmlib.experiments import training
from wmlib.experiments.store import Store
from wmlib.experiments.training import RUNS, TrainingRun

CHANGES = dict(deter=16, hidden=16, units=16, depth=8, stoch=2, classes=4, num_envs=4, batch_size=4)
CHANGES |= dict(batch_length=8, horizon=4, imagine_last=2, ratio=4, random_steps=0, model_updates=0)
TINY = TrainingRun(
    "wmlib/Curtain-v0",
    seeds=(0, 4),
    steps=72,
    episodes=3,
    eval_every=36,
    curve_episodes=2,
    env_args={"p": 0.75},
    changes=CHANGES,
)


@pytest.fixture(autouse=True)
def small_run(monkeypatch):
    monkeypatch.setitem(RUNS, "small", TINY)


def test_results_are_written_once_and_can_be_read(tmp_path, monkeypatch):
    out = tmp_path / "deep" / "results"
    lines = experiments.run("small", out)
    assert [line["seed"] for line in lines] == [0, 4]
    stored = (out / "small.jsonl").read_text()
    assert [json.loads(line) for line in stored.splitlines()] == lines
    for line in lines:
        assert line["env"] == "wmlib/Curtain-v0" and line["eval_episodes"] == 3
        assert line["steps"] >= 72 and line["updates"] > 0 and line["wall_seconds"] > 0
        assert line["command"] == "python -m wmlib experiment small" and "run" not in line
        assert {"date", "machine", "torch"} <= line.keys()
    curve = read_metrics(out / "small.csv")
    for line in lines:
        mine = curve["seed"] == line["seed"]
        assert curve["steps"][mine].max() == line["steps"]
        assert (np.diff(curve["steps"][mine]) >= 0).all()
        assert np.isfinite(curve["eval_return"][mine]).sum() == 2  # at 36 and at 72
    written = (out / "small.csv").read_bytes()
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))
    assert experiments.run("small", out) == lines
    assert (out / "small.csv").read_bytes() == written
    assert (out / "small.jsonl").read_text() == stored
    assert sorted(p.name for p in out.iterdir()) == ["small.csv", "small.jsonl"]


def test_only_the_missing_seeds_are_run(tmp_path, monkeypatch):
    tmp_path.joinpath("small.jsonl").write_text('{"seed": 0}\n')
    monkeypatch.setattr(training, "run_seed", lambda spec, seed, folder: {"steps": 1})
    monkeypatch.setattr(training, "read_metrics", lambda _: {"steps": [1.0]})
    lines = experiments.run("small", tmp_path)
    assert [line["seed"] for line in lines] == [0, 4]
    lines = experiments.run("small", tmp_path, seeds=(4, 9))
    assert [line["seed"] for line in lines] == [0, 4, 9]


HALVES = ['{"seed": 4, "ste', '{"seed": 4, "steps": 5}', "", "\0\0\0", "[1]\n", "5\n{}\n", "null\n"]
HALVES += ['{"seed": [4]}\n', "[" * 10**5 + "\n", "\ufeff", "\xff\xfe\n"]


@pytest.mark.parametrize("half", HALVES, ids=lambda half: half[:12])
def test_a_damaged_line_of_results_is_skipped_and_told_once(half, tmp_path, monkeypatch, capsys):
    path = tmp_path / "small.jsonl"
    path.write_text('{"seed": 0}\n' + half, encoding="latin-1" if "\xff" in half else "utf-8")
    store = Store("small", tmp_path)
    kept = [{"seed": 0}, *([{"seed": 4, "steps": 5}] if half.endswith("5}") else [])]
    assert store.runs() == kept
    assert capsys.readouterr().err.count("is damaged") == (len(kept) == 1 and half != "")
    store.add({"seed": 7})
    store.add({"seed": 8})
    assert store.runs() == [*kept, {"seed": 7}, {"seed": 8}]
    text = path.read_text(encoding="latin-1")
    assert half.endswith(("\n", "}")) == (half in text) or half == ""  # a half line is cut
    monkeypatch.setattr(training, "run_seed", lambda *_: {"steps": 1})
    monkeypatch.setattr(training, "read_metrics", lambda _: {"steps": [1.0]})
    assert {line["seed"] for line in experiments.run("small", tmp_path)} == {0, 4, 7, 8}


def test_a_damaged_line_of_a_curve_is_skipped_and_told(tmp_path, capsys):
    text = "world,seed,steps\nA,0,1\nA,zero,2\nA,0,x\nB,1,3\nB,1"
    (tmp_path / "small.csv").write_text(text)
    curves = Store("small", tmp_path, ("world", "seed")).curves()
    assert {k: v["steps"].tolist() for k, v in curves.items()} == {("A", 0): [1], ("B", 1): [3]}
    assert capsys.readouterr().err.count("3 of its lines") == 1


@pytest.mark.parametrize("name", ["small", "ablations"])
@pytest.mark.parametrize("what", ["folder", "jsonl", "csv", "full"])
def test_results_that_cannot_be_written_are_told_before_training(what, name, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr("wmlib.experiments.ablations.plan", lambda: pytest.fail("trained"))
    if what in ("folder", "full"):
        number = errno.EACCES if what == "folder" else errno.ENOSPC
        error = OSError(number, os.strerror(number))
        monkeypatch.setattr("tempfile.TemporaryFile", Mock(side_effect=error))
    else:
        (tmp_path / f"{name}.{what}").mkdir()  # a file that takes no more, for anybody
    with pytest.raises(OSError if what == "full" else BadInput, match="Cannot write to") as caught:
        experiments.run(name, tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_the_settings_of_an_experiment_reach_the_run(tmp_path, monkeypatch):
    asked = []

    def train(agent, env, **kwargs):
        asked.append((agent.config, env.spec, kwargs))
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(KeyboardInterrupt):
        experiments.run("small", tmp_path)
    ((config, spec, kwargs),) = asked
    assert config == wmlib.preset("tiny", **CHANGES)
    assert spec["kwargs"] == {"p": 0.75} and spec["num_envs"] == 4
    assert kwargs.pop("out").name == "run"
    assert kwargs == {
        "steps": 72,
        "minutes": None,
        "seed": 0,
        "eval_every": 36,
        "eval_episodes": 3,
        "curve_episodes": 2,
    }


@pytest.mark.parametrize("minutes", [None, 5])
def test_an_interrupted_run_is_not_stored(minutes, tmp_path, monkeypatch):
    monkeypatch.setitem(
        RUNS,
        "small",
        TrainingRun(
            "wmlib/Curtain-v0",
            (0,),
            steps=72,
            minutes=minutes,
            changes=CHANGES,
            episodes=1,
        ),
    )
    stopped = contextlib.nullcontext([2])
    monkeypatch.setattr("wmlib.trainer.interruptible", lambda: stopped)
    with pytest.raises(KeyboardInterrupt):
        experiments.run("small", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_used_up_its_minutes_is_stored(tmp_path, monkeypatch):
    monkeypatch.setitem(
        RUNS,
        "small",
        TrainingRun(
            "wmlib/Curtain-v0",
            (0,),
            minutes=0.002,
            changes=CHANGES,
            episodes=1,
        ),
    )
    (line,) = experiments.run("small", tmp_path)
    assert line["steps"] > 0


def test_an_unknown_experiment_is_told(tmp_path):
    with pytest.raises(BadInput) as caught:
        experiments.run("alchemy", tmp_path / "out")
    assert all(name in str(caught.value) for name in ("alchemy", *experiments.names()))
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "out").write_text("keep")
    with pytest.raises(BadInput, match="out"):
        experiments.run("small", tmp_path / "out")


@pytest.mark.parametrize("name", RUNS)
def test_every_experiment_can_be_built(name):
    spec = RUNS[name]
    config = wmlib.preset(spec.preset, **spec.changes)
    env = wmlib.make_env(spec.env, 1, 0, **spec.env_args)
    wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    assert spec.steps or spec.minutes
    assert len(set(spec.seeds)) == len(spec.seeds) > 0
    env.close()


def test_stored_curves_can_be_drawn(tmp_path):
    lines = ["seed,steps,eval_return", "0,0,1", "0,10,2", "3,0,1", "3,10,"]
    (tmp_path / "curtain.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "curtain.jsonl").write_text('{"seed": 0}\n{"seed": 3}\n')
    (ax,) = experiments.drawing("curtain")(tmp_path).axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[0, 1], [10, 2]], [[0, 1]]]
    assert ax.get_title() == "wmlib/Curtain-v0: 2 seeds, actions sampled"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("environment steps", "mean return")


@pytest.mark.parametrize("name", experiments.names())
def test_what_cannot_be_drawn_is_refused_before_anything_runs(name, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "run", lambda *_: pytest.fail("it ran"))
    words = ["experiment", name, "--out", str(tmp_path / "out")]
    assert main([*words, "--plot", str(tmp_path / "missing" / "a.png")]) == 2
    assert "there is no directory" in capsys.readouterr().err
    if name in ("hospital", "world_model"):
        assert main([*words, "--plot", str(tmp_path / "a.png")]) == 2
        assert f"'{name}' draws no picture" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
