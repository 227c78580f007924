"""`env.describe()` and `python -m wmlib doctor`: what is measured in a world, and the advice."""

import dataclasses
import json
import shlex

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import wmlib
from wmlib import doctor
from wmlib.__main__ import main, parse

PICTURE = Box(0, 255, (16, 16, 3), np.uint8)


class World(gym.Env):
    """Episodes of ten steps, cut by a time limit; its inputs move as widely as `spread` says."""

    def __init__(self, spread=(1.0, 1.0), end="truncated", reward=1.0, seeded=True, text=False):
        self.spread = np.array(spread, np.float32)
        self.end, self.reward, self.seeded = end, reward, seeded
        numbers = Box(-np.inf, np.inf, self.spread.shape, np.float32)
        self.observation_space = Dict(numbers=numbers, words=Text(9)) if text else numbers
        self.text = text
        self.action_space = Discrete(3)

    def _obs(self):
        rng = self.np_random if self.seeded else np.random
        numbers = (self.spread * rng.normal(size=self.spread.shape)).astype(np.float32)
        return {"numbers": numbers, "words": "go"} if self.text else numbers

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == 10
        ended = {name: over and self.end == name for name in ("terminated", "truncated")}
        return self._obs(), self.reward * (int(action) + 1), *ended.values(), {}


class Pictures(World):
    """Large ones."""

    def __init__(self):
        super().__init__()
        self.observation_space = Box(0, 255, (64, 64, 3), np.uint8)

    def _obs(self):
        return self.np_random.integers(256, size=(64, 64, 3), dtype=np.uint8)


class Shown(gym.Env):
    """Spaces to look at, without a world behind them."""

    def __init__(self, obs=Discrete(2), act=Discrete(2)):  # noqa: B008 - spaces are not changed
        self.observation_space, self.action_space = obs, act


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Fewer steps of random play."""
    monkeypatch.setattr(doctor, "STEPS", 400)


@pytest.fixture
def examined(monkeypatch):
    """What the doctor finds in a world after all of its STEPS, with updates of a known speed."""
    took = {"collect": 0.001, "learn": 0.05, "model": 0.04}
    monkeypatch.setattr(doctor, "progress", lambda *_: took)

    def examine(world=World, **settings):
        return doctor.examine(wmlib.make_env(world, **settings), 60, device="cpu")

    return examine


def text_of(found):
    """The report on one line."""
    return " ".join(" ".join(doctor.lines(found)).split())


# ---------------------------------------------------------------- spaces


@pytest.mark.parametrize(
    ("space", "kind", "words"),
    [
        (Box(-1, 1, (3,)), "vector", "3 numbers"),
        (PICTURE, "image", "a picture of 16 x 16 with 3 channels"),
        (Box(0, 1, (32, 32)), "image", "a picture of 32 x 32 with 1 channel"),
        (Box(0, 255, (210, 160, 3), np.uint8), "image", "64 x 64 with 3 channels, made from a Box"),
        (Discrete(5, start=2), "discrete", "one of 5 classes"),
        (MultiDiscrete([3, 4]), "discrete", "(2), each one of 3 or 4, so 7 one-hot inputs"),
        (MultiBinary(4), "discrete", "(4), each one of 2, so 8 one-hot inputs"),
        (Box(0, 10, (9, 9), np.int64), "discrete", "(9 x 9), each one of 11, so 891 one-hot"),
        (
            Box(0, 255, (7, 7, 3), np.uint8),
            "discrete",
            "a grid of symbols (7 x 7 x 3), each one of 32",
        ),
    ],
    ids=str,
)
def test_every_kind_of_observation_is_named(space, kind, words):
    (part,) = doctor.observed(wmlib.make_env(Shown(obs=space)))
    assert part["kind"] == kind and words in part["what"]


def test_only_a_guess_of_the_kinds_of_symbols_is_called_one():
    for high, guessed in ((10, False), (255, True)):
        grid = Box(0, high, (7, 7, 3), np.uint8)
        (part,) = doctor.observed(wmlib.make_env(Shown(obs=grid)))
        assert ("--symbolic N" in part["what"]) == guessed


def test_numbers_are_written_as_people_write_them():
    written = [doctor.number(value) for value in (0.02371, -1249.3, 100, 12.34, 0, 2e6)]
    assert written == ["0.0237", "-1,249", "100", "12.3", "0", "2,000,000"]


def test_every_part_of_a_dict_is_named():
    env = wmlib.make_env(Shown(obs=Dict(camera=PICTURE, arm=Dict(angle=Box(-1, 1, (2,))))))
    found = {part["name"]: part["kind"] for part in doctor.observed(env)}
    assert found == {"arm.angle": "vector", "camera": "image"}


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Discrete(4), "one of 4"),
        (MultiDiscrete([3, 2]), "2 choices at once, among 3, 2"),
        (MultiBinary(2), "2 choices at once, among 2, 2"),
        (Box(-2, 2, (1,)), "1 number; the agent's -1 to 1 become -2 to 2"),
        (Box(np.array([0, -1]), np.array([1, 1]), dtype=float), "become 0 to 1, -1 to 1"),
        (Box(-np.inf, np.inf, (3,)), "3 of them have no bounds"),
    ],
    ids=str,
)
def test_every_kind_of_action_is_named(space, words):
    assert words in doctor.acted(wmlib.make_env(Shown(act=space)))["what"]


# ---------------------------------------------------------------- what is measured


def test_the_random_baseline_is_that_of_the_world(examined):
    found = examined()
    random = found["random"]
    assert "other than 0 in 100% of all steps" in text_of(found)
    assert random["steps"] >= 400 and random["episodes"] >= 36
    assert random["return_mean"] == pytest.approx(20, abs=2)  # ten rewards of 1, 2 or 3
    assert (random["length_mean"], random["terminal_share"], found["time_limit"]) == (10, 0, 10)
    assert found["reward"] == {"nonzero_share": 1, "largest": 3} | {
        "mean": pytest.approx(2, abs=0.2),
        "varied_share": pytest.approx(2 / 3, abs=0.1),
    }
    assert found["rows_fit"] and found["resumable"] and found["notes"] == []


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_episodes_are_counted_whenever_a_world_resets_itself(mode):
    env = wmlib.RowEnv(SyncVectorEnv([World] * 2, autoreset_mode=mode))
    play = doctor.play_randomly(env, 60, seed=0)
    assert play.sound and set(play.lengths) == {10} and not any(play.terminal)
    assert len(play.returns) == 40 and len(play.rewards) == play.steps
    assert sum(play.returns) == pytest.approx(play.rewards.sum())


def test_rows_that_contradict_each_other_are_reported(examined, monkeypatch):
    step = wmlib.RowEnv.step

    def wrong(self, action):
        row = step(self, action)
        return dataclasses.replace(row, is_terminal=~row.is_last)

    monkeypatch.setattr(wmlib.RowEnv, "step", wrong)
    assert "contradict" in examined()["notes"][0]


def test_constant_and_faint_inputs_are_named(examined):
    found = examined(spread=[1.0, 0.0, 0.001])
    inputs = found["inputs"]
    assert (inputs["constant"], inputs["faint"]) == (["obs[1]"], ["obs[2]"])
    assert inputs["numbers"]["obs[2]"]["sd"] == pytest.approx(0.001, rel=0.2)
    constant, faint = found["notes"]
    assert "obs[1]" in constant and "obs[2]" in faint and "multiply" in faint


def test_a_world_that_ignores_its_seed_is_reported(examined):
    found = examined(seeded=False)
    assert not found["repeats"] and not found["resumable"]
    assert "np_random" in found["notes"][0] and "cannot be repeated" in text_of(found)


def test_a_world_without_an_end_is_reported(examined):
    found = examined(end="never")
    assert found["random"]["episodes"] == 0 and found["time_limit"] is None
    assert "10,000" in found["notes"][0] and "none ended" in text_of(found)


def test_an_end_that_looks_like_a_time_limit_is_reported(examined):
    found = examined(end="terminated")
    assert found["random"]["terminal_share"] == 1
    assert "truncated=True" in found["notes"][0]


def test_a_world_without_reward_is_reported(examined):
    found = examined(reward=0.0)
    assert "No reward" in found["notes"][0] and "always 0" in text_of(found)


def test_a_world_where_nothing_makes_a_difference_is_reported(examined, monkeypatch):
    monkeypatch.setattr(doctor, "STEPS", 2004)
    found = examined("Acrobot-v1", seed=1)
    assert found["time_limit"] == 500 and found["reward"]["varied_share"] == 0
    assert "lucky" in found["notes"][0] and "-1 in every step" in text_of(found)


def test_a_world_that_cannot_be_copied_is_judged_by_its_spaces():
    env = wmlib.make_env(World())
    env.reset()
    found = doctor.examine(env, 0.05)
    assert "random" not in found and "expected" not in found
    assert "cannot be made again" in found["notes"][0]
    assert found["command"].startswith("wmlib.preset('tiny'")
    assert "not played" in text_of(found)


def test_a_time_limit_is_known_that_random_play_does_not_reach():
    assert doctor.declared_limit(wmlib.make_env("CartPole-v1")) == 500
    assert doctor.declared_limit(wmlib.make_env("CartPole-v1", max_episode_steps=70)) == 70
    assert doctor.declared_limit(wmlib.make_env(World)) is None


def test_the_expected_run_is_worked_out():
    config = wmlib.preset("tiny", random_steps=1600, model_updates=10)  # 16 environments, 2 owed
    took = {"collect": 0.1, "learn": 0.45, "model": 0.5}
    about = doctor.expected(config, took, minutes=(10 + 5 + 200) / 60)
    assert about["steps"] == 1600 + 200 * 16 and about["updates"] == 10 + 400
    assert about["updates_per_second"] == 2.22 and about["world_share"] == 0.1


def test_too_few_updates_are_reported(examined, monkeypatch):
    slow = {"collect": 0.001, "learn": 2.0, "model": 1.5}
    monkeypatch.setattr(doctor, "progress", lambda *_: slow)
    (note,) = examined()["notes"]
    assert "updates teach little; 1,000 take about 31 minutes" in note and "GPU" in note
    monkeypatch.setattr(doctor, "progress", lambda *_: slow | {"learn": 20.0})
    note = examined(Pictures)["notes"][-1]
    assert "hours" in note and "--size 32" in note


FOUND = {"random": {"length_mean": 20.0}, "reward": {"varied_share": 0.9}}
FOUND |= {"time_limit": None, "observation": [{"kind": "image"}]}
LONG = {"horizon": 15, "imagine_last": 8}


@pytest.mark.parametrize(
    ("found", "changes"),
    [
        ({}, {}),  # short episodes of pictures: preset `tiny` as it is
        ({"observation": [{"kind": "vector"}]}, {"random_steps": 1000, "model_updates": 300}),
        ({"time_limit": 200}, LONG | {"discount_horizon": 100}),
        ({"time_limit": 200, "reward": {"varied_share": 0.1}}, LONG),
        ({"random": {"steps": 400}}, {"horizon": 30, "imagine_last": 4, "discount_horizon": 100}),
    ],
)
def test_the_advice_follows_from_what_was_measured(found, changes):
    advice = doctor.advise(FOUND | found)
    assert {key: value for key, (value, _) in advice.items()} == changes
    wmlib.preset("tiny", **changes)  # real keys


def test_slow_updates_and_slow_worlds_change_the_advice():
    config = wmlib.preset("tiny")
    fast = {"collect": 0.01, "learn": 0.05, "model": 0.04}
    assert doctor.afford(config, fast, minutes=5) == {}
    values = {k: v for k, (v, _) in doctor.afford(config, fast | {"model": 1.0}, 5).items()}
    assert values == {"model_updates": 60}
    values = {k: v for k, (v, _) in doctor.afford(config, fast | {"collect": 0.6}, 5).items()}
    assert values == {"random_steps": 1600, "ratio": 128}


# ---------------------------------------------------------------- what is left alone


def test_the_environment_goes_on_as_if_nothing_had_happened():
    env, twin = (wmlib.make_env(World, num_envs=2, seed=3) for _ in range(2))
    for one in (env, twin):
        one.reset()
        one.step(np.array([0, 1]))
    before = torch.get_rng_state()
    report = env.describe(seconds=0.05, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(report) == report and "Try:" in report
    assert doctor.same(env.step(np.array([2, 2])), twin.step(np.array([2, 2])))


# ---------------------------------------------------------------- advice


WORLDS = {
    "plain": ["CartPole-v1"],
    "pixels": ["CartPole-v1", "--pixels", "--size", "16"],
    "settings": ["wmlib/Curtain-v0", "--env-args", "p=0.9", "rows=10", "--seed", "3"],
    "words": ["test_doctor:World", "--import", "test_doctor", "--env-args", "text=True"],
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_command_can_be_pasted(name, capsys):
    words = ["--device", "cpu", "--seconds", "0.05", "--minutes", "2"]
    assert main(["doctor", *WORLDS[name], *words]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and err.splitlines()[-1].endswith("--minutes 2")
    found = json.loads(out)
    python, m, package, *rest = shlex.split(found["command"])
    assert (python, m, package, rest[0]) == ("python", "-m", "wmlib", "train")
    args, given = parse(rest), parse(["doctor", *WORLDS[name]])
    assert args.config == wmlib.preset(found["preset"], **found["changes"])
    assert found["reasons"].keys() == found["changes"].keys()
    wanted = given.spec() | ({"keys": ["numbers"]} if name == "words" else {})
    assert args.spec() == wanted
    assert (args.seed, args.device, args.imports) == (given.seed, "cpu", given.imports)


@pytest.mark.parametrize("words", [["--seconds", "0"], ["--minutes", "-1"], ["--device", "tpu"]])
def test_what_cannot_be_done_is_one_sentence(words, capsys):
    assert main(["doctor", "CartPole-v1", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words[1] in err


def test_what_cannot_be_observed_is_refused(capsys):
    words = ["test_doctor:World", "--env-args", "text=True", "--keys", "words"]
    assert main(["doctor", *words]) == 2
    assert "'words'" in capsys.readouterr().err
