"""The command line: one line of JSON when it went well, one sentence and a code when it did not."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from PIL import Image

import wmlib
from wmlib.__main__ import main
from wmlib.agent import Dreamer
from wmlib.checkpoint import checkpoints, latest, load_agent, read_metrics

CONFIG = dict(deter=16, hidden=16, units=16, depth=8, stoch=2, classes=4, num_envs=4, batch_size=4)
CONFIG |= dict(batch_length=8, horizon=4, imagine_last=2, ratio=16, random_steps=0, model_updates=0)
SMALL = [word for k, v in CONFIG.items() for word in (f"--{k.replace('_', '-')}", str(v))]
SMALL += ["--device", "cpu", "--eval-episodes", "2"]
KEYS = ["env", "preset", "seed", "device", "steps", "updates", "seconds", "eval_return_mean"]
KEYS += ["eval_return_std", "eval_episodes", "run"]

WORLDS = {"image": "wmlib/Curtain-v0", "vector": "CartPole-v1", "continuous": "Pendulum-v1"}
WORLDS |= {"discrete": "FrozenLake-v1"}


class Given(gym.Env):
    """Never ends; spaces as told, and what is not finite at step `at`."""

    def __init__(self, kind="", wrong="", at=0):
        obs = {"dict": Dict({"a": Discrete(2)}), "matrix": Box(0, 1, (2, 2))}
        self.observation_space = obs.get(kind, Box(-np.inf, np.inf, (2,)))
        act = {"tuple": MultiDiscrete([2, 2]), "unbounded": Box(-np.inf, np.inf, (1,))}
        self.action_space = act.get(kind, Discrete(2))
        self.wrong, self.at = wrong, at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._told("obs", np.zeros(2)), {}

    def step(self, action):
        self.time += 1
        return self._told("obs", np.zeros(2)), self._told("reward", 0.0), False, False, {}

    def _told(self, name, value):
        return value + np.nan if self.wrong == name and self.time == self.at else value


@pytest.fixture(scope="module", autouse=True)
def register():
    gym.register("test/Given-v0", entry_point=Given)
    yield
    del gym.registry["test/Given-v0"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Kind of world -> a finished run of 60 steps, never touched."""
    folder = tmp_path_factory.mktemp("trained")

    def make(kind):
        out = folder / kind
        if not out.exists():
            env = wmlib.make_env(WORLDS[kind], 4, 0, size=32)
            torch.manual_seed(0)
            agent = wmlib.Dreamer(
                env.single_observation_space,
                env.single_action_space,
                wmlib.preset("tiny", **CONFIG),
            )
            wmlib.train(agent, env, 60, out, eval_episodes=1, progress=False)
        return out

    return make


@pytest.fixture
def run(trained, tmp_path):
    """A CartPole run that a test may spoil."""
    return shutil.copytree(trained("vector"), tmp_path / "run")


def good(capsys, *words):
    """Run a command that must succeed; returns the JSON of its only line on stdout."""
    code = main([str(w) for w in words])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert out.count("\n") == 1 and out.endswith("\n")
    return json.loads(out)


def refused(capsys, *words):
    """Run a command that must be refused; returns its only line on stderr."""
    code = main([str(w) for w in words])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), (code, out, err)
    assert err.startswith("wmlib: ") and err.count("\n") == 1 and err.endswith("\n"), err
    return err


def wmlib_process(*words, **more):
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
    return subprocess.Popen([sys.executable, "-m", "wmlib", *map(str, words)], **more)


# ---------------------------------------------------------------- refused

BAD = {
    "no command": ([], "train"),
    "unknown command": (["fly"], "fly"),
    "no environment": (["train"], "id"),
    "unknown environment": (["train", "Cartpole-v1"], "CartPole-v1"),
    "unknown preset": (["train", "CartPole-v1", "--preset", "huge"], "tiny"),
    "unknown key": (["train", "CartPole-v1", "--lrr", "1"], "--lrr"),
    "a word too many": (["train", "CartPole-v1", "Pendulum-v1"], "Pendulum-v1"),
    "no number": (["train", "CartPole-v1", "--lr", "abc"], "abc"),
    "no value": (["train", "CartPole-v1", "--lr"], "--lr"),
    "out of range": (["train", "CartPole-v1", "--lr", "-1"], "lr"),
    "not among the choices": (["train", "CartPole-v1", "--coder", "round"], "pooled"),
    "no whole number": (["train", "CartPole-v1", "--steps", "1.5"], "1.5"),
    "negative steps": (["train", "CartPole-v1", "--steps", "-1"], "steps"),
    "no episodes": (["train", "CartPole-v1", "--eval-episodes", "0"], "eval_episodes"),
    "unknown device": (["train", "CartPole-v1", "--device", "abacus"], "abacus"),
    "negative seed": (["train", "CartPole-v1", "--seed", "-1"], "-1"),
    "size": (["train", "CartPole-v1", "--pixels", "--size", "33"], "33"),
    "env-args without =": (["train", "CartPole-v1", "--env-args", "p"], "'p'"),
    "unknown env-args": (["train", "wmlib/Curtain-v0", "--env-args", "q=1"], "q"),
    "bad env-args": (["train", "wmlib/Curtain-v0", "--env-args", "p=7"], "7"),
    "env-args of ours": (["train", "CartPole-v1", "--env-args", "seed=1"], "seed"),
    "a dict": (["train", "test/Given-v0", "--env-args", "kind=dict"], "Dict"),
    "a matrix": (["train", "test/Given-v0", "--env-args", "kind=matrix"], "(2, 2)"),
    "many actions": (["train", "test/Given-v0", "--env-args", "kind=tuple"], "MultiDiscrete"),
    "no bounds": (["train", "test/Given-v0", "--env-args", "kind=unbounded"], "infinite"),
    "nan at once": (["train", "test/Given-v0", "--env-args", "wrong=obs"], "nan"),
    "missing to resume": (["train", "CartPole-v1", "--resume", "nowhere"], "nowhere"),
    "missing to evaluate": (["evaluate", "nowhere"], "nowhere"),
    "missing to dream": (["dream", "nowhere"], "nowhere"),
    "nothing to evaluate": (["evaluate"], "RUN"),
    "unknown experiment": (["experiment", "alchemy"], "curtain"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_code_2(case, capsys, tmp_path):
    words, named = BAD[case]
    assert named.lower() in refused(capsys, *words).lower()
    assert list(tmp_path.rglob("*")) == []  # nothing is left behind


def test_a_device_that_is_not_there_is_refused(capsys):
    device = "mps" if torch.cuda.is_available() else "cuda"
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has every device")
    assert device in refused(capsys, "train", "CartPole-v1", "--device", device)


def test_the_process_itself_tells_codes_and_lines():
    process = wmlib_process("train", "Nope-v0", "--steps", 5)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.startswith("wmlib: ") and err.count("\n") == 1


@pytest.mark.parametrize("what", ["obs", "reward"])
def test_what_is_not_finite_ends_training(what, capsys):
    words = ["train", "test/Given-v0", "--env-args", f"wrong={what}", "at=3"]
    assert main([*words, *SMALL, "--steps", "100"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("wmlib: ") and "nan" in last and "step 3" in last


@pytest.mark.parametrize("in_the_way", ["directory", "file", "below a file"])
def test_an_out_in_use_is_refused(in_the_way, capsys, tmp_path):
    out = tmp_path / "out"
    if in_the_way == "directory":
        out.mkdir()
        (out / "mine.txt").write_text("keep")
    else:
        out.write_text("keep")
        out = out / "deeper" if in_the_way == "below a file" else out
    message = refused(capsys, "train", "CartPole-v1", *SMALL, "--steps", 8, "--out", out)
    assert str(out) in message
    kept = tmp_path / "out" / "mine.txt" if in_the_way == "directory" else tmp_path / "out"
    assert kept.read_text() == "keep"


OTHER = {
    "key": ["--lr", "1"],
    "envs": ["--num-envs", "8"],
    "seed": ["--seed", "5"],
    "pixels": ["--pixels"],
    "size": ["--size", "64"],
    "preset": ["--preset", "size1m"],
    "world": ["--env-args", "sutton_barto_reward=true"],
    "out": ["--out", "another"],
}


@pytest.mark.parametrize("other", OTHER)
def test_a_run_is_not_resumed_with_other_settings(other, capsys, run):
    before = checkpoints(run)
    message = refused(capsys, "train", "CartPole-v1", "--resume", run, "--steps", 80, *OTHER[other])
    assert str(run) in message and checkpoints(run) == before


def test_a_run_is_not_resumed_in_another_world(capsys, run):
    assert "CartPole-v1" in refused(capsys, "train", "Pendulum-v1", "--resume", run)


def test_a_damaged_checkpoint_is_refused(capsys, run, tmp_path):
    path = latest(run) / "agent.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    for words in (
        ["train", "CartPole-v1", "--resume", run, "--steps", 80],
        ["evaluate", run],
        ["dream", run, "--out", tmp_path / "a.gif"],
        ["evaluate", path],
    ):
        assert str(path.parent) in refused(capsys, *words)
    assert not (tmp_path / "a.gif").exists()


@pytest.mark.parametrize("words", [["--episodes", "0"], ["--seed", "-1"], ["--device", "abacus"]])
def test_evaluation_refuses_nonsense(words, capsys, trained):
    refused(capsys, "evaluate", trained("vector"), *words)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("dream.png", []),
        ("dream", []),
        ("nowhere/dream.gif", []),
        ("folder.gif", []),
        ("dream.gif", ["--context", "0"]),
        ("dream.gif", ["--horizon", "0"]),
        ("dream.gif", ["--seed", "-1"]),
    ],
)
def test_dream_refuses_what_it_cannot_write(out, words, capsys, trained, tmp_path):
    (tmp_path / "folder.gif").mkdir()
    words = ["--context", 1, "--horizon", 1, *words]
    refused(capsys, "dream", trained("image"), "--out", out, *words)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.gif"]


def test_an_experiment_refuses_a_file_in_the_way(capsys, tmp_path):
    (tmp_path / "results").write_text("keep")
    message = refused(capsys, "experiment", "curtain", "--out", tmp_path / "results")
    assert str(tmp_path / "results") in message and (tmp_path / "results").read_text() == "keep"


# ---------------------------------------------------------------- done


@pytest.mark.parametrize("command", ["check", "train", "evaluate", "dream", "experiment", None])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_a_success(command, option, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, option] if command else [option])
    assert caught.value.code in (0, None)
    assert "wmlib" in "".join(capsys.readouterr())


def test_help_shows_the_defaults_of_the_preset(capsys):
    for preset in ("tiny", "size12m"):
        with pytest.raises(SystemExit):
            main(["train", "--help", "--preset", preset])
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert f"(default: {wmlib.preset(preset).deter})" in shown


def test_train_ends_with_one_line_of_json(capsys, tmp_path):
    result = good(
        capsys, "train", "CartPole-v1", *SMALL, "--steps", 62, "--seed", 3, "--out", "a/b"
    )
    assert list(result) == KEYS
    assert (result["env"], result["preset"], result["seed"]) == ("CartPole-v1", "tiny", 3)
    assert (result["device"], result["eval_episodes"], result["run"]) == ("cpu", 2, "a/b")
    assert result["steps"] >= 62 and result["updates"] > 0 and result["eval_return_mean"] > 0
    agent, about = load_agent(tmp_path / "a" / "b")
    assert about["seed"] == 3 and agent.config == wmlib.preset("tiny", **CONFIG)
    asked = json.loads((tmp_path / "a" / "b" / "run.json").read_text())
    assert asked["config"]["deter"] == 16 and asked["env"]["id"] == "CartPole-v1"
    assert read_metrics(tmp_path / "a" / "b" / "metrics.csv")["steps"][-1] == result["steps"]


def test_runs_without_a_name_get_one_of_their_own(capsys):
    words = ["train", "wmlib/Curtain-v0", *SMALL, "--steps", 4]
    assert good(capsys, *words)["run"] == "runs/Curtain-v0-tiny-seed0"
    assert good(capsys, *words)["run"] == "runs/Curtain-v0-tiny-seed0-2"


def test_the_settings_of_a_world_reach_it(capsys):
    words = ["train", "wmlib/Curtain-v0", *SMALL, "--steps", 4, "--env-args", "p=0.9", "rows=10"]
    result = good(capsys, *words)
    _, about = load_agent(result["run"])
    assert about["env"]["kwargs"] == {"p": 0.9, "rows": 10}
    again = good(capsys, "train", "wmlib/Curtain-v0", "--resume", result["run"], "--steps", 8)
    assert again["steps"] == 8


def test_minutes_end_a_run(capsys):
    result = good(capsys, "train", "wmlib/Curtain-v0", *SMALL, "--minutes", 0.001)
    assert result["steps"] > 0


def test_a_process_prints_nothing_but_json_on_stdout(tmp_path):
    words = ["CartPole-v1", "--pixels", "--size", 16, *SMALL, "--steps", 8, "--out", tmp_path / "r"]
    out, err = wmlib_process("train", *words).communicate()
    assert out.count("\n") == 1 and list(json.loads(out)) == KEYS, err
    assert "step" in err  # the progress bar


def test_resuming_goes_on_to_more_steps(capsys, run):
    before = latest(run)
    assert load_agent(run)[1]["steps"] < 80
    result = good(
        capsys,
        "train",
        "CartPole-v1",
        "--resume",
        run,
        "--steps",
        80,
        "--eval-episodes",
        2,
        "--device",
        "cpu",
    )
    assert result["steps"] >= 80 and result["run"] == str(run) and latest(run) != before
    steps = read_metrics(run / "metrics.csv")["steps"]
    assert (np.diff(steps) > 0).all() and steps[-1] == result["steps"]
    again = good(capsys, "train", "CartPole-v1", "--resume", run, "--steps", 80, "--device", "cpu")
    assert (again["steps"], again["updates"]) == (result["steps"], result["updates"])


def test_evaluate_ends_with_one_line_of_json(capsys, trained):
    run = trained("vector")
    words = ["evaluate", run, "--episodes", 3, "--device", "cpu"]
    result = good(capsys, *words)
    assert list(result) == KEYS
    about = load_agent(run)[1]
    assert (result["steps"], result["updates"]) == (about["steps"], about["updates"])
    assert result["eval_episodes"] == 3 and result["seed"] == 10_000 and result["steps"] >= 60
    again = good(capsys, *words)
    assert {**again, "seconds": 0} == {**result, "seconds": 0}
    for path in (latest(run), latest(run) / "agent.safetensors"):
        same = good(capsys, "evaluate", path, *words[2:])
        assert same["eval_return_mean"] == result["eval_return_mean"]
    agent = load_agent(run, "cpu")[0]
    env = wmlib.make_env("CartPole-v1", 3)
    assert result["eval_return_mean"] == round(wmlib.evaluate(agent, env, 3).mean(), 4)
    likeliest = good(capsys, *words, "--mode", "--seed", 4)
    expected = wmlib.evaluate(agent, env, 3, mode=True, seed=4)
    assert likeliest["eval_return_mean"] == round(expected.mean(), 4)


@pytest.mark.parametrize("kind", WORLDS)
def test_dream_writes_a_gif_that_opens(kind, capsys, trained, tmp_path):
    words = ["dream", trained(kind), "--out", "dream.gif", "--context", 2, "--horizon", 3]
    result = good(capsys, *words)
    assert result["out"] == "dream.gif" and 1 < result["frames"] <= 2 * (2 + 3)
    durations = []
    with Image.open(tmp_path / "dream.gif") as gif:
        assert gif.format == "GIF" and gif.size[1] == 2 * (192 + 12)
        for frame in range(gif.n_frames):  # equal neighbours are stored as one that lasts longer
            gif.seek(frame)
            durations.append(gif.info["duration"])
    assert sum(durations) == 250 * result["frames"]
    first = (tmp_path / "dream.gif").read_bytes()
    good(capsys, *words)
    assert (tmp_path / "dream.gif").read_bytes() == first


# ---------------------------------------------------------------- failed, or stopped


def test_a_loss_that_is_not_finite_is_code_1_and_names_the_last_checkpoint(
    capsys, run, monkeypatch
):
    losses, kept = Dreamer.losses, latest(run)

    def broken(self, *args):
        found, metrics, state = losses(self, *args)
        return {**found, "rec": found["rec"] * float("nan")}, metrics, state

    monkeypatch.setattr(Dreamer, "losses", broken)
    code = main(["train", "CartPole-v1", "--resume", str(run), "--steps", "200"])
    out, err = capsys.readouterr()
    assert (code, out) == (1, "") and "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("wmlib: ") and str(kept) in last and "rec" in last
    assert latest(run) == kept
    load_agent(run)


def test_a_full_disk_is_one_sentence(capsys, run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    words = ["train", "CartPole-v1", "--resume", str(run), "--steps", "80"]
    for place, code in (("wmlib.trainer.write_metrics", 1), ("wmlib.checkpoint.save_tree", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            assert main(words) == code
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err
        last = err.strip().splitlines()[-1]
        assert last.startswith("wmlib: ") and os.strerror(errno.ENOSPC) in last


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process")
def test_ctrl_c_saves_tells_and_lets_go_on(capsys, tmp_path):
    run = tmp_path / "run"
    words = ["CartPole-v1", *SMALL, "--minutes", 5, "--out", run]
    process = wmlib_process("train", *words)
    try:
        for _ in range(6000):  # until the loop has result about itself once
            if (run / "metrics.csv").exists() or process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in err, err
    result = json.loads(out)
    assert list(result) == KEYS and 0 < result["seconds"] < 290
    _, about = load_agent(run)
    assert (about["steps"], about["updates"]) == (result["steps"], result["updates"])
    seen = good(capsys, "evaluate", run, "--episodes", 2, "--device", "cpu")
    assert seen["eval_return_mean"] == result["eval_return_mean"]
    more = good(
        capsys,
        "train",
        "CartPole-v1",
        "--resume",
        run,
        "--steps",
        result["steps"] + 8,
        "--eval-episodes",
        2,
    )
    assert more["steps"] >= result["steps"] + 8
