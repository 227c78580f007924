"""The command line: one line of JSON when it went well, one sentence and a code when it did not."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Text, Tuple
from PIL import Image

import wmlib
from wmlib.__main__ import COMMANDS, _env_args, _new_run, main, parse
from wmlib.agent import Dreamer
from wmlib.checkpoint import (
    checkpoints,
    describe_agent,
    latest,
    load_agent,
    read_checkpoint,
    read_metrics,
    write_checkpoint,
)

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
        obs = {"text": Dict({"a": Discrete(2), "b": Text(5)}), "empty": Box(0, 1, (0,))}
        self.observation_space = obs.get(kind, Box(-np.inf, np.inf, (2,)))
        act = {"tuple": Tuple([Discrete(2)] * 2), "whole": Box(0, 9, (1,), np.int64)}
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
    "no whole number": (["train", "CartPole-v1", "--steps", "1.5"], "--steps is 1.5"),
    "no whole number after =": (["train", "CartPole-v1", "--steps=1e-3"], "--steps is 1e-3"),
    "no number of steps": (["train", "CartPole-v1", "--steps", "many"], "must be a whole number"),
    "endless steps": (["train", "CartPole-v1", "--steps", "inf"], "must be a whole number"),
    "far too many steps": (["train", "CartPole-v1", "--steps", "1e999"], "must be a whole number"),
    "half a config": (["train", "CartPole-v1", "--batch_size", "2.5"], "must be a whole number"),
    "half an episode": (["evaluate", "run", "--episodes", "0.5"], "--episodes is 0.5"),
    "nobody's home": (["train", "CartPole-v1", "--out", "~nobody-here/x"], "~nobody-here/x"),
    "a thousand levels": (["train", "CartPole-v1", "--out", "a/" * 1000], "Cannot write to a/a"),
    "negative steps": (["train", "CartPole-v1", "--steps", "-1"], "steps"),
    "no episodes": (["train", "CartPole-v1", "--eval-episodes", "-1"], "eval_episodes"),
    "unknown device": (["train", "CartPole-v1", "--device", "abacus"], "abacus"),
    "negative seed": (["train", "CartPole-v1", "--seed", "-1"], "-1"),
    "size": (["train", "CartPole-v1", "--pixels", "--size", "33"], "33"),
    "env-args without =": (["train", "CartPole-v1", "--env-args", "p"], "'p'"),
    "unknown env-args": (["train", "wmlib/Curtain-v0", "--env-args", "q=1"], "q"),
    "bad env-args": (["train", "wmlib/Curtain-v0", "--env-args", "p=7"], "7"),
    "env-args of ours": (["train", "CartPole-v1", "--env-args", "seed=1"], "seed"),
    "a text": (["train", "test/Given-v0", "--env-args", "kind=text"], "keys=['a']"),
    "nothing": (["train", "test/Given-v0", "--env-args", "kind=empty"], "holds no numbers"),
    "many actions": (["train", "test/Given-v0", "--env-args", "kind=tuple"], "Tuple"),
    "whole actions": (["train", "test/Given-v0", "--env-args", "kind=whole"], "MultiDiscrete"),
    "nan at once": (["train", "test/Given-v0", "--env-args", "wrong=obs"], "nan"),
    "missing to resume": (["train", "CartPole-v1", "--resume", "nowhere"], "nowhere"),
    "missing to evaluate": (["evaluate", "nowhere"], "nowhere"),
    "missing to dream": (["dream", "nowhere"], "nowhere"),
    "missing to export": (["export", "nowhere"], "nowhere"),
    "exported elsewhere": (["export", "curtain", "--weights", "no/a.safetensors"], "no/a"),
    "exported as another kind": (["export", "curtain", "--weights", "a.pt"], ".safetensors"),
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


WHOLE = {"1e4": 10_000, "1.5e3": 1500, "2E1": 20, "100.0": 100, "7": 7, "1_000": 1000}


@pytest.mark.parametrize("text", WHOLE)
def test_whole_numbers_may_be_written_in_any_way_that_is_exact(text):
    for words in (
        ["--steps", text, "--batch-size", text],
        [f"--steps={text}", f"--batch_size={text}"],
    ):
        args = parse(["train", "CartPole-v1", *words, "--lr", "1e-3", "--out", text])
        assert (args.steps, args.config.batch_size) == (WHOLE[text], WHOLE[text])
        assert (args.config.lr, args.out) == (1e-3, text)


VALUES = {"False": False, "True": True, "false": False, "true": True, "None": None, "null": None}
VALUES |= {"0.5": 0.5, "7": 7, "-1e3": -1000.0, "[1, 2]": [1, 2], "(1, 2)": [1, 2], "": ""}
VALUES |= {"'False'": "False", '"False"': "False", "FALSE": "FALSE", "no": "no", "a=b": "a=b"}
VALUES |= {
    "{1, 2}": "{1, 2}",
    "b'x'": "b'x'",
    "1+2j": "1+2j",
    "4x4": "4x4",
    "[" * 10**4: "[" * 10**4,
}


@pytest.mark.parametrize("text", VALUES, ids=lambda text: text[:9])
def test_arguments_of_a_world_are_read_as_python_or_json_writes_them(text):
    ((_, found),) = _env_args((f"x={text}",)).items()
    assert found == VALUES[text] and type(found) is type(VALUES[text])


def test_a_world_is_told_false(capsys):
    words = ["train", "FrozenLake-v1", *SMALL, "--steps", 4, "--env-args", "is_slippery=False"]
    result = good(capsys, *words)
    assert load_agent(result["run"])[1]["env"]["kwargs"] == {"is_slippery": False}
    words = ["--resume", result["run"], "--steps", 8, "--env-args", "is_slippery=false"]
    assert good(capsys, "train", "FrozenLake-v1", *words)["steps"] == 8


def test_a_home_directory_is_found_wherever_it_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    run = tmp_path / "home" / "r"
    assert good(capsys, "train", "CartPole-v1", *SMALL, "--steps=4", "--out=~/r")["run"] == str(run)
    words = ["train", "CartPole-v1", "--resume=~/r", "--steps=8", "--eval-episodes=2"]
    assert good(capsys, *words)["run"] == str(run)
    assert good(capsys, "evaluate", "~/r", "--episodes", 1)["run"] == str(run)
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("out", [".", "..", "mine"])
def test_an_out_that_is_no_run_is_not_offered_to_resume(out, capsys, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("keep")
    monkeypatch.chdir(tmp_path / "mine" if out != "mine" else tmp_path)
    message = refused(capsys, "train", "CartPole-v1", *SMALL, "--steps", 4, "--out", out)
    assert message.startswith(f"wmlib: {out} already exists") and "resume" not in message


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
    named = "'tiny'" if other == "preset" else OTHER[other][0]
    assert named in message


def test_all_the_options_that_cannot_be_given_are_named(capsys, run):
    words = ["--lr", "1", "--seed", "5", "--deter", "16", "--batch-size", "8", "--eval-every", "9"]
    message = refused(capsys, "train", "CartPole-v1", "--resume", run, *words)
    assert message.endswith("drop --seed, --lr, --batch-size.\n")


def test_a_run_is_resumed_from_its_newest_checkpoint_only(capsys, run):
    newest = latest(run)
    shutil.copytree(newest, newest.with_name("step-0000000001"))
    words = ["train", "CartPole-v1", "--steps", 70, "--eval-episodes", 1, "--resume"]
    assert str(newest) in refused(capsys, *words, newest.with_name("step-0000000001"))
    assert good(capsys, *words, newest)["run"] == str(run)
    assert load_agent(run)[1]["steps"] >= 70


def test_a_run_in_use_is_refused(capsys, run, monkeypatch):
    holder = "import sys, time; from wmlib.checkpoint import lock_run as l\n"
    holder += "with l(sys.argv[1]): print(1, flush=True); time.sleep(60)"
    words = [sys.executable, "-c", holder, str(run)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        for words in (["--resume", run], ["--out", run, *SMALL]):
            message = refused(capsys, "train", "CartPole-v1", *words, "--steps", 99)
            assert f"{run} is in use by process {process.pid}" in message
        assert good(capsys, "evaluate", run, "--episodes", 1)
        process.kill()


def spoilt(run, **changes):
    """The run, with an intact checkpoint that is described otherwise."""
    newest = latest(run)
    (weights, about), (state, more) = read_checkpoint(newest, "agent", "training")
    about = {k: v for k, v in (about | changes).items() if v is not None}
    state = {k: v for k, v in state.items() if k != "steps" or "state" not in changes}
    parts = {"agent": (weights, about), "training": (state, more)}
    return write_checkpoint(run, about["steps"], parts)


SPOILT = {
    "no world": (dict(env=None), "None"),
    "a world that is text": (dict(env="CartPole-v1"), "'CartPole-v1'"),
    "a world without a name": (dict(env={"num_envs": 4}), "num_envs"),
    "an unknown world": (dict(env={"id": "Nope-v0"}), "Nope-v0"),
    "a seed of text": (dict(seed="zero"), "'zero'"),
    "no config": (dict(config=None), "config"),
    "a newer config": (dict(config=CONFIG | {"magic": 1, "more": 2}), "newer wmlib"),
    "a huge config": (dict(config=CONFIG | {"deter": 8 * 10**6}), "architecture"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_crafted_checkpoint_is_one_sentence(case, capsys, run, tmp_path):
    changes, named = SPOILT[case]
    spoilt(run, **changes)
    for words in (
        ["train", "Nope-v0" if "unknown" in case else "CartPole-v1", "--resume", run],
        ["evaluate", run],
        ["dream", run, "--out", tmp_path / "a.gif"],
    ):
        message = refused(capsys, *words)
        assert named in message and len(message) < 600


def test_a_crafted_number_of_worlds_or_state_is_one_sentence(capsys, run):
    about = read_checkpoint(latest(run), "agent")[0][1]
    words = ["train", "CartPole-v1", "--resume", run, "--steps", 99]
    spoilt(run, config=about["config"] | {"num_envs": 10**12})
    assert str(10**12) in refused(capsys, *words)
    spoilt(run, config=about["config"], state="none")
    assert "KeyError" in refused(capsys, *words)


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


@pytest.mark.parametrize("command", [*COMMANDS, None])
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


@pytest.mark.parametrize("env", ["shimmy:dm_control/fish-swim-v0", "my.worlds:Arm", r"a\b*?\"<|>c"])
def test_the_name_of_a_run_is_possible_on_every_system(env):
    name = _new_run(env, "tiny", 0).removeprefix("runs/")
    assert name.endswith("-tiny-seed0") and not set(name) & set('\\/:*?"<>|')


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
    words = ["train", "CartPole-v1", "--resume", run, "--steps", 80, "--device", "cpu"]
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert code == 0 and f"already at {result['steps']} steps" in err
    again = json.loads(out)
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
def test_an_exported_agent_plays_as_its_run_does(kind, capsys, trained, tmp_path):
    result = good(capsys, "export", trained(kind), "--weights", "agent.safetensors")
    assert list(result) == ["run", "weights", "bytes", "dtype", "ms_per_action"]
    assert result["bytes"] == (tmp_path / "agent.safetensors").stat().st_size
    assert result["dtype"] == "float32" and 0 < result["ms_per_action"] < 1000
    words = ["--episodes", 2, "--device", "cpu"]
    one, two = (good(capsys, "evaluate", p, *words) for p in (trained(kind), "agent.safetensors"))
    assert one["eval_return_mean"] == two["eval_return_mean"]


def test_a_shipped_agent_is_named_as_a_run_is(capsys):
    result = good(capsys, "evaluate", "cartpole", "--episodes", 1, "--device", "cpu")
    assert result["env"] == "CartPole-v1" and result["eval_return_mean"] > 50
    words = ["--context", 1, "--horizon", 1, "--out", "dream.gif"]
    assert good(capsys, "dream", "cartpole", *words)["frames"] > 1
    assert "shipped agents are" in refused(capsys, "evaluate", "cartpool")


def test_tensorboard_that_is_not_there_is_told_before_training(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    words = ["train", "CartPole-v1", *SMALL, "--steps", 8, "--out", "run", "--tensorboard"]
    assert "pip install tensorboard" in refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []


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
    kept = latest(run)
    for place in (
        "wmlib.checkpoint.save_tree",
        "wmlib.checkpoint._sync",
        "wmlib.checkpoint._locked",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            assert main(words) == 1
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err
        last = err.strip().splitlines()[-1]
        assert last.startswith("wmlib: ") and os.strerror(errno.ENOSPC) in last
        assert latest(run) == kept
    monkeypatch.setattr("wmlib.trainer.write_metrics", full)
    assert main(words) == 0 and latest(run) != kept  # a log is no reason to stop
    assert capsys.readouterr().err.count(os.strerror(errno.ENOSPC)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such shell")
@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("2>&-", 0),
        ("2>/dev/full", 0),
        ("2>&1 | head -c 300", 1),
        (">/dev/full", 1),
        (">&- 2>&-", 0),
    ],
)
def test_a_reader_that_is_gone_never_ends_training(where, code, tmp_path):
    if "full" in where and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    words = " ".join(map(str, ["CartPole-v1", *SMALL, "--steps", 80, "--out", tmp_path / "run"]))
    shell = f"set -o pipefail; {sys.executable} -m wmlib train {words} {where}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=False)
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr
    assert load_agent(tmp_path / "run")[1]["steps"] >= 80
    assert read_metrics(tmp_path / "run" / "metrics.csv")["steps"][-1] >= 80
    if "head" not in where:  # there, whether it is too late for the last line depends on the bar
        assert done.returncode == code, done.stderr


def test_a_run_killed_before_its_first_checkpoint_begins_again_where_it_was(capsys, tmp_path):
    for out in ([], ["--out", tmp_path / "here"]):
        words = ["train", "wmlib/Curtain-v0", *SMALL, *out]
        run = tmp_path / "here" if out else tmp_path / "runs" / "Curtain-v0-tiny-seed0"
        process = wmlib_process(*words, "--minutes", 5)
        try:
            for _ in range(6000):
                if (run / "metrics.csv").exists() or process.poll() is not None:
                    break
                time.sleep(0.01)
        finally:
            process.kill()
            process.communicate()
        assert (run / "lock").exists() and not checkpoints(run)
        assert "can be started anew" in refused(
            capsys, "train", "wmlib/Curtain-v0", "--resume", run
        )
        result = good(capsys, *words, "--steps", 4)
        assert (tmp_path / result["run"]).samefile(run) and checkpoints(run)
        assert read_metrics(run / "metrics.csv")["steps"].tolist() == [4]


def test_a_run_that_has_only_begun_is_not_taken_for_abandoned(capsys, tmp_path):
    run = tmp_path / "runs" / "Curtain-v0-tiny-seed0"
    script = f"""
        import time
        from wmlib.checkpoint import lock_run
        with lock_run({str(run)!r}):
            print(1, flush=True)
            time.sleep(60)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        result = good(capsys, "train", "wmlib/Curtain-v0", *SMALL, "--steps", 4)
        process.kill()
    assert result["run"] == "runs/Curtain-v0-tiny-seed0-2"


SLOW = """
    import sys, time
    from wmlib import checkpoint
    from wmlib.__main__ import main
    save_tree = checkpoint.save_tree
    def slow(path, *more):
        print("saving", path, file=sys.stderr, flush=True)
        time.sleep(1.5)
        save_tree(path, *more)
    checkpoint.save_tree = slow
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process")
@pytest.mark.parametrize("pause", [0.2, 1.2])
def test_a_second_ctrl_c_does_not_interrupt_a_save(pause, tmp_path):
    run = tmp_path / "run"
    words = ["train", "CartPole-v1", *SMALL, "--minutes", 5, "--out", run]
    words = [sys.executable, "-c", textwrap.dedent(SLOW), *map(str, words)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(6000):
            if (run / "metrics.csv").exists() or process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in err, err
    assert "saving ..." in err and f"--resume {run}" in err
    assert load_agent(run)[1]["steps"] == json.loads(out)["steps"] > 0
    assert not list(run.rglob("*.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process")
@pytest.mark.parametrize("module", ["numpy", "torch", "gymnasium", "wmlib.replay", "tyro"])
def test_ctrl_c_while_modules_are_imported_is_one_sentence(module):
    words = [sys.executable, "-X", "importtime", "-m", "wmlib", "train", "CartPole-v1"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:  # the name of every module, as soon as it is there
            if line.split("|")[-1].strip() == module:
                process.send_signal(signal.SIGINT)
                break
        *_, last = process.stderr
    assert last == "wmlib: interrupted\n" and process.returncode == 1


def test_ctrl_c_while_code_is_written_has_the_code_of_any_other():
    script = """
        import runpy, sys, tyro
        def cli(*args, **settings):
            exec("raise KeyboardInterrupt")  # as a dataclass that is being made
        tyro.cli = cli
        sys.argv = ["wmlib", "train", "CartPole-v1"]
        runpy.run_module("wmlib", run_name="__main__")
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "wmlib: interrupted\n")


SIGNALS = [s for s in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, s)]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process")
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_to_stop_saves_tells_and_lets_go_on(name, capsys, tmp_path):
    run = tmp_path / "run"
    words = ["CartPole-v1", *SMALL, "--minutes", 5, "--out", run]
    process = wmlib_process("train", *words)
    try:
        for _ in range(6000):  # until the loop has told about itself once
            if (run / "metrics.csv").exists() or process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in err, err
    result = json.loads(out)
    assert result.pop("interrupted") is True and f"--resume {run}" in err
    assert list(result) == KEYS and 0 < result["seconds"] < 290
    _, about = load_agent(run)
    assert (about["steps"], about["updates"]) == (result["steps"], result["updates"])
    assert result["eval_return_mean"] is None and result["eval_episodes"] == 0
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


# ---------------------------------------------------------------- what comes from elsewhere

PAYLOAD = """
import pathlib
pathlib.Path("ran").touch()
import gymnasium as gym
class Nice(gym.make("CartPole-v1").unwrapped.__class__):
    pass
"""


@pytest.mark.parametrize("command", ["evaluate", "dream", "export"])
def test_a_download_imports_nothing(command, capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "payload.py").write_text(PAYLOAD)
    agent = wmlib.load_pretrained("cartpole")
    spec = {"id": "payload:Nice", "num_envs": 1, "pixels": False, "size": 64, "kwargs": {}}
    about = describe_agent(agent, spec, 0)
    write_checkpoint(tmp_path / "downloaded", 0, {"agent": (agent.state_dict(), about)})
    out = {"dream": ["--out", "d.gif", "--horizon", 2]}.get(command, [])
    message = refused(capsys, command, "downloaded", *out)
    assert "'payload:Nice'" in message and "--import payload" in message
    assert not (tmp_path / "ran").exists()
    more = ["--episodes", 1] if command == "evaluate" else out
    good(capsys, command, "downloaded", *more, "--import", "payload")
    assert (tmp_path / "ran").exists()
    del sys.modules["payload"]


def test_only_environments_can_be_named(capsys, tmp_path):
    message = refused(capsys, "train", "os:system", "--env-args", "command=touch ran")
    assert "Unknown environment 'os:system'" in message and not (tmp_path / "ran").exists()
    assert "Module 'nowhere' needs" in refused(
        capsys, "train", "CartPole-v1", "--import", "nowhere"
    )
