"""The loop: what is counted, what is owed, what is told, and that an interruption changes nothing.

Credit is a multiple of a power of two in every test, so it is compared exactly.
"""

import errno
import gc
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import wmlib
from wmlib.checkpoint import (
    COLUMNS,
    checkpoints,
    forget_after,
    latest,
    read_metrics,
    write_checkpoint,
    write_metrics,
)
from wmlib.envs.rows import RowEnv
from wmlib.errors import BadInput
from wmlib.play import evaluate
from wmlib.runtime import handling
from wmlib.trainer import Trainer

SMALL = dict(deter=16, hidden=16, units=16, depth=8, stoch=2, classes=4, num_envs=4, batch_size=4)
SMALL |= dict(random_steps=0, model_updates=0, stored_latents=False, warmup=2)
SMALL |= dict(batch_length=8, horizon=4, imagine_last=2, ratio=16)  # 2 updates per 4 steps

PIXELS = {"pixels": True, "size": 32}
WORLDS = {
    "curtain": ("wmlib/Curtain-v0", {}, {}),
    "cartpole": ("CartPole-v1", {}, {}),
    "pendulum": ("Pendulum-v1", {}, {}),
    "pixels": ("CartPole-v1", PIXELS, {"coder": "strided", "likelihood": "mse"}),
    "curtain_latents": ("wmlib/Curtain-v0", {}, {"stored_latents": True}),
    "cartpole_latents": ("CartPole-v1", {}, {"stored_latents": True}),
    "pendulum_latents": ("Pendulum-v1", {}, {"stored_latents": True}),
}


class Steady(gym.Env):
    """Episodes of `length` steps, each paying `pay`; counts its steps and keeps its actions."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(self, length=5, pay=1.0):
        self.length, self.pay, self.actions = length, pay, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        assert self.time < self.length, "stepped after the end"
        self.time += 1
        self.actions.append(int(action))
        return self._obs(), self.pay, self.time == self.length, False, {}

    def _obs(self):
        return np.array([self.time, self.length], np.float32)


@pytest.fixture(scope="module", autouse=True)
def register():
    gym.register("test/Steady-v0", entry_point=Steady)
    yield
    del gym.registry["test/Steady-v0"]


def steady_env(lengths, pays, mode=AutoresetMode.NEXT_STEP):
    makers = [lambda x=x: Steady(*x) for x in zip(lengths, pays, strict=True)]
    return RowEnv(SyncVectorEnv(makers, autoreset_mode=mode))


def make_agent(env, seed=0, **changes):
    torch.manual_seed(seed)
    config = wmlib.preset("tiny", **{**SMALL, "num_envs": env.num_envs, **changes})
    return wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)


def make_trainer(env="CartPole-v1", out=None, seed=0, settings=None, **changes):
    """Build a trainer with everything new; `env` is an id or a RowEnv."""
    wmlib.seed_everything(seed)
    if isinstance(env, str):
        env = wmlib.make_env(env, 4, seed, **(settings or {}))
    return Trainer(make_agent(env, seed, **changes), env, seed, out)


def ticks(trainer, count):
    for _ in range(count):
        trainer.tick()
    return trainer


def flat(tree, prefix=""):
    """Nested dicts -> {path: leaf}, tensors as arrays."""
    if isinstance(tree, dict):
        return {k: v for n, sub in tree.items() for k, v in flat(sub, f"{prefix}{n}/").items()}
    return {prefix: tree.numpy() if isinstance(tree, torch.Tensor) else tree}


def everything(trainer):
    """All that a run consists of: weights, moments, replay, worlds, random states, next action."""
    state = {"agent": trainer.agent.state_dict(), **trainer.state_dict()}
    del state["seconds"], state["evaluated"]
    found = {k: np.copy(v) if isinstance(v, np.ndarray) else v for k, v in flat(state).items()}
    with torch.random.fork_rng(devices=[]):
        row = trainer.row
        action, memory = trainer.agent.act(row.obs, row.is_first, trainer.memory)
    return found | {"next action": action, "next h": memory.state.h.numpy()}


def assert_identical(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype, name
            assert found[name].tobytes() == value.tobytes(), name
        else:
            assert found[name] == value, name


def fake_clock(monkeypatch, seconds):
    """Replace the trainer's clock with one that advances at every look."""
    clock = itertools.count(0, seconds)
    monkeypatch.setattr("wmlib.trainer.time", SimpleNamespace(monotonic=lambda: next(clock)))


# ---------------------------------------------------------------- collecting


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_steps_count_real_transitions_and_every_row_is_stored_once(mode):
    env = steady_env([1, 3, 4], [1.0, 1.0, 1.0], mode)
    trainer = make_trainer(env, ratio=1e-6)
    ticks(trainer, 25)
    worlds = env.vec.envs
    assert trainer.steps == sum(len(world.actions) for world in worlds)
    for i, world in enumerate(worlds):
        rows = trainer.replay.written[i]
        data = {name: array[i, :rows] for name, array in trainer.replay.data.items()}
        period = world.length + 1
        expected = np.arange(rows) % period
        np.testing.assert_array_equal(data["obs"][:, 0], expected)
        np.testing.assert_array_equal(data["is_last"], expected == world.length)
        np.testing.assert_array_equal(data["reward"], expected > 0)
        # the action of a row is the one the world got at that row; a last row has none
        np.testing.assert_array_equal(
            data["action"][~data["is_last"]], world.actions[: (~data["is_last"]).sum()]
        )
        assert not data["action"][data["is_last"]].any()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_scores_are_whole_episodes_returns(mode):
    env = steady_env([2, 5], [1.0, 10.0], mode)
    trainer = ticks(make_trainer(env, ratio=1e-6), 12)
    both = mode is AutoresetMode.NEXT_STEP  # there every reset takes a step of its own
    assert sorted(trainer.scores) == [2.0] * (4 if both else 6) + [50.0] * 2
    assert trainer.episodes == len(trainer.scores)


def test_random_steps_play_at_random_and_owe_nothing():
    trainer = make_trainer("Pendulum-v1", random_steps=80)
    twin = np.random.default_rng()
    twin.bit_generator.state = trainer.rng.bit_generator.state
    for k in range(20):
        trainer.tick()
        played = twin.uniform(-1, 1, (4, 1)).astype(np.float32)
        np.testing.assert_array_equal(trainer.replay.data["action"][:, k], played)
        np.testing.assert_array_equal(trainer.memory.action, played)  # what the model is told
    assert (trainer.steps, trainer.updates, trainer.credit) == (80, 0, 0)
    trainer.tick()
    assert trainer.credit == 2
    assert trainer.rng.bit_generator.state == twin.bit_generator.state  # the agent chooses now


def test_the_stored_latent_of_a_row_is_the_state_after_seeing_it():
    trainer = make_trainer("Pendulum-v1", stored_latents=True)
    for k in range(5):
        trainer.tick()
        state = trainer.memory.state
        data = trainer.replay.data
        np.testing.assert_array_equal(data["deter"][:, k], state.h.numpy().astype(np.float16))
        np.testing.assert_array_equal(data["stoch"][:, k], state.z.argmax(-1).numpy())


def test_learning_refreshes_the_stored_latents_of_the_sampled_rows(monkeypatch):
    trainer = ticks(make_trainer("Pendulum-v1", stored_latents=True), 16)
    assert trainer.updates == 0 and trainer.ready
    samples, states = [], []
    sample, update = trainer.replay.sample, trainer.agent.update

    def noted_update(*args):
        metrics, state = update(*args)
        states.append(state)
        return metrics, state

    monkeypatch.setattr(
        trainer.replay, "sample", lambda n: samples.append(sample(n)) or samples[-1]
    )
    monkeypatch.setattr(trainer.agent, "update", noted_update)
    trainer.learn()
    env, place = np.divmod(samples[0]["index"], trainer.replay.capacity)
    stored = trainer.replay.data["deter"][env, place]
    fresh = states[0].h.numpy().astype(np.float16)
    # a row drawn twice holds the later of its states
    last = {key: i for i, key in enumerate(zip(env.ravel(), place.ravel(), strict=True))}
    keep = sorted(last.values())
    np.testing.assert_array_equal(stored.reshape(-1, 16)[keep], fresh.reshape(-1, 16)[keep])


# ---------------------------------------------------------------- owing


@pytest.mark.parametrize("ratio", [16, 3, 0.25, 40])
def test_updates_owed_follow_the_ratio_exactly(ratio):
    # 4 rings of r rows hold 4 (r - 7) windows of 8: enough for 4 * 8 of them from the 15th row on
    trainer = make_trainer("Pendulum-v1", ratio=ratio)
    ticks(trainer, 14)
    assert (trainer.steps, trainer.updates, trainer.credit) == (56, 0, 0)
    trainer.run(4 * 20, progress=False)
    owed = (20 - 14) * 4 * ratio / (4 * 8)
    assert trainer.steps == 80
    assert trainer.updates == int(owed) and trainer.credit == owed - int(owed)


def test_last_rows_owe_nothing():
    # of the 4 rows of an episode of 3 steps, 3 are followed by a step
    trainer = make_trainer(steady_env([3, 3, 3, 3], [1.0] * 4), ratio=2)
    ticks(trainer, 14)
    before, rows = trainer.steps, 14
    while trainer.updates + trainer.credit < 3:
        trainer.tick()
    rows = int(trainer.replay.written[0])
    assert trainer.steps == 4 * (rows - rows // 4)
    assert trainer.updates + trainer.credit == (trainer.steps - before) * 2 / 32


def test_model_updates_come_first_and_teach_only_the_world_model(monkeypatch):
    trainer = make_trainer("Pendulum-v1", random_steps=72, model_updates=3)
    update, log = trainer.agent.update, []

    def noted(batch, start, behaviour):
        log.append((trainer.steps, behaviour))
        return update(batch, start, behaviour)

    def weights(part):
        return [p.detach().clone() for p in part.parameters()]

    monkeypatch.setattr(trainer.agent, "update", noted)
    world, actor = weights(trainer.agent.world), weights(trainer.agent.actor)
    while trainer.updates < 3:
        trainer.tick()
    assert log == [(72, False)] * 3
    assert all(map(torch.equal, actor, weights(trainer.agent.actor)))
    assert not all(map(torch.equal, world, weights(trainer.agent.world)))
    trainer.run(80, progress=False)
    assert log[3:] == [(76, True)] * 2 + [(80, True)] * 2
    assert not all(map(torch.equal, actor, weights(trainer.agent.actor)))


# ---------------------------------------------------------------- whole runs


@pytest.mark.parametrize("name", WORLDS)
def test_every_kind_of_world_can_be_trained_in(name):
    env_id, settings, changes = WORLDS[name]
    trainer = make_trainer(env_id, settings=settings, random_steps=20, model_updates=1, **changes)
    before = [p.detach().clone() for p in trainer.agent.parameters()]
    assert trainer.run(64, progress=False) is False
    assert trainer.steps >= 64 and trainer.updates > 2
    after = list(trainer.agent.parameters())
    assert all(torch.isfinite(p).all() for p in after)
    moved = [
        n
        for (n, p), q in zip(trainer.agent.named_parameters(), before, strict=True)
        if not torch.equal(p, q)
    ]
    for part in ("world.encoder", "world.rssm", "world.decoder", "actor", "critic.slow"):
        assert any(n.startswith(part) for n in moved), part
    test = wmlib.make_env(env_id, 2, 0, **{**settings, "size": 32})
    assert np.isfinite(evaluate(trainer.agent, test, 2)).all()


def test_a_same_step_vector_environment_can_be_trained_in():
    env = steady_env([2, 5, 3, 7], [1.0] * 4, AutoresetMode.SAME_STEP)
    trainer = make_trainer(env)
    trainer.run(80, progress=False)
    assert trainer.steps == 80 and trainer.updates > 10
    assert set(trainer.scores) == {2.0, 5.0, 3.0, 7.0}


def test_train_says_what_it_did(tmp_path):
    env = wmlib.make_env("test/Steady-v0", 4, 0, length=5, pay=2.0)
    agent = make_agent(env)
    result = wmlib.train(agent, env, 70, tmp_path / "run", seed=3, eval_episodes=6, progress=False)
    assert (result.env, result.preset, result.seed) == ("test/Steady-v0", "tiny", 3)
    assert (result.eval_return_mean, result.eval_return_std, result.eval_episodes) == (10.0, 0, 6)
    # rows 15 to 21 owe; of 21 rows 3 or 4 are last ones
    assert result.steps == 4 * 18 and result.updates > 0
    assert result.run == str(tmp_path / "run") and result.device == "cpu"
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "run.json",
        "metrics.csv",
        "checkpoints",
    }


def test_tensorboard_gets_the_numbers_of_the_metrics(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    env = wmlib.make_env("test/Steady-v0", 4, 0)
    agent, lines = make_agent(env), []
    options = {"eval_every": 16, "eval_episodes": 1, "progress": False, "tensorboard": True}
    options["on_log"] = lambda _, line: lines.append(line)
    for steps, resume in ((40, False), (70, True)):
        wmlib.train(agent, env, steps, tmp_path / "run", resume=resume, **options)
    stored = read_metrics(tmp_path / "run" / "metrics.csv")
    assert len(lines) == len(stored["steps"])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {k for line in lines for k in line} - {"steps"}
    for name in ("rec", "score", "eval_return"):
        known = np.isfinite(stored[name])
        points = [(event.step, event.value) for event in events.Scalars(name)]
        wanted = list(zip(stored["steps"][known], stored[name][known], strict=True))
        np.testing.assert_allclose(points, wanted, rtol=1e-5)


def test_tensorboard_without_a_directory_is_told():
    env = wmlib.make_env("test/Steady-v0", 4, 0)
    with pytest.raises(BadInput, match="directory in `out`"):
        wmlib.train(make_agent(env), env, 8, tensorboard=True)


def test_the_same_seed_gives_the_same_run(tmp_path):
    runs = [everything(ticks(make_trainer("CartPole-v1"), 40)) for _ in range(2)]
    assert_identical(*runs)
    other = everything(ticks(make_trainer("CartPole-v1", seed=1), 40))
    assert any(
        isinstance(v, np.ndarray) and v.tobytes() != other[k].tobytes() for k, v in runs[0].items()
    )


def test_a_run_without_directory_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = make_trainer("CartPole-v1")
    trainer.run(8, progress=False)
    assert trainer.save() is None and list(tmp_path.iterdir()) == []


def test_the_minutes_limit_ends_a_run(monkeypatch):
    trainer = make_trainer("CartPole-v1", ratio=1e-6)
    fake_clock(monkeypatch, 1.0)
    trainer.run(minutes=1, progress=False)
    assert 0 < trainer.steps <= 4 * 60 and 60 <= trainer.seconds <= 61


def test_minutes_count_from_now_and_seconds_in_all(monkeypatch):
    trainer = make_trainer("CartPole-v1", ratio=1e-6)
    fake_clock(monkeypatch, 1.0)
    for seconds in (60, 120):
        trainer.run(minutes=1, progress=False)
        assert seconds <= trainer.seconds <= seconds + 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": None},
        {"steps": -1},
        {"minutes": -0.5},
        {"minutes": float("nan")},
        {"eval_every": -5},
        {"eval_episodes": -1},
        {"curve_episodes": 0},
        {"resume": True},
    ],
)
def test_nonsense_is_refused_before_training(wrong, tmp_path):
    env = wmlib.make_env("CartPole-v1", 4, 0)
    with pytest.raises(BadInput) as caught:
        wmlib.train(make_agent(env), env, **{"steps": 8, "progress": False, **wrong})
    assert "\n" not in str(caught.value)


def test_what_cannot_be_evaluated_is_refused_before_training(tmp_path, monkeypatch):
    env = steady_env([2], [1.0])  # of no registered id: no second one can be made
    monkeypatch.setattr(Trainer, "tick", lambda _: pytest.fail("trained"))
    with pytest.raises(BadInput):
        wmlib.train(make_agent(env), env, 8, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("in_the_way", ["directory", "file", "below a file"])
def test_a_directory_in_use_is_refused_and_left_alone(in_the_way, tmp_path):
    out = tmp_path / "run"
    if in_the_way == "directory":
        out.mkdir()
        (out / "mine.txt").write_text("keep")
    else:
        out.write_text("keep")
        out = out / "deeper" if in_the_way == "below a file" else out
    env = wmlib.make_env("CartPole-v1", 4, 0)
    with pytest.raises(BadInput, match="run"):
        wmlib.train(make_agent(env), env, 8, out, progress=False)
    kept = tmp_path / "run" / "mine.txt" if in_the_way == "directory" else tmp_path / "run"
    assert kept.read_text() == "keep" and len(list(tmp_path.rglob("*"))) <= 2


def test_spaces_that_do_not_fit_are_refused():
    agent = make_agent(wmlib.make_env("CartPole-v1", 4))
    env = wmlib.make_env("Pendulum-v1", 4)
    for call in (
        lambda: Trainer(agent, env),
        lambda: evaluate(agent, env),
        lambda: wmlib.play(agent, env, 3),
    ):
        with pytest.raises(BadInput, match="was built for"):
            call()


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("greedy", [False, True])
def test_every_environment_plays_the_same_number_of_episodes(mode, greedy):
    env = steady_env([1, 9, 4], [1.0, 10.0, 0.5], mode)
    returns = evaluate(make_agent(env), env, 6, greedy)
    np.testing.assert_array_equal(returns, [1, 90, 2, 1, 90, 2])
    np.testing.assert_array_equal(evaluate(make_agent(env), env, 5, greedy), [1, 90, 2, 1, 90])
    np.testing.assert_array_equal(evaluate(make_agent(env), env, 2, greedy), [1, 90])


def test_evaluation_is_repeatable_and_depends_on_its_seed():
    env = wmlib.make_env("CartPole-v1", 3, 0)
    agent = make_agent(env)
    torch.manual_seed(1)
    first = evaluate(agent, env, 9)
    torch.manual_seed(2)
    again = evaluate(agent, wmlib.make_env("CartPole-v1", 3, 77), 9)
    np.testing.assert_array_equal(first, again)
    assert (evaluate(agent, env, 9, seed=5) != first).any()


def test_mode_takes_the_likeliest_action_and_sampling_draws():
    env = wmlib.make_env("CartPole-v1", 6, 0)
    agent = make_agent(env)
    with torch.no_grad():
        agent.actor.out.bias.copy_(torch.tensor([0.0, 1.0]))
    for greedy, mixed in ((True, False), (False, True)):
        episode = wmlib.play(agent, env, 6, mode=greedy)
        assert (episode["action"][~episode["is_last"]] == 0).any() == mixed


def random_states():
    legacy = np.random.get_state()  # noqa: NPY002 - the global state is what must not change
    return torch.get_rng_state().tolist(), legacy[1].tolist(), legacy[2], random.getstate()


@pytest.mark.parametrize("call", ["evaluate", "play"])
def test_looking_on_leaves_weights_and_global_random_state_alone(call):
    env = wmlib.make_env("CartPole-v1", 2, 0)
    agent = make_agent(env)
    weights = {k: v.clone() for k, v in agent.state_dict().items()}
    before = random_states()
    evaluate(agent, env, 3) if call == "evaluate" else wmlib.play(agent, env, 5)
    assert random_states() == before
    assert all(torch.equal(v, weights[k]) for k, v in agent.state_dict().items())


def test_play_tells_rows_as_replay_would():
    env = steady_env([2, 3], [1.0, 2.0])
    episode = wmlib.play(make_agent(env), env, 7)
    np.testing.assert_array_equal(episode["obs"][0, :, 0], [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(episode["reward"], [[0, 1, 1, 0, 1, 1, 0], [0, 2, 2, 2, 0, 2, 2]])
    np.testing.assert_array_equal(episode["is_first"][0], [1, 0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(episode["is_last"][1], [0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(episode["is_terminal"], episode["is_last"])
    np.testing.assert_array_equal(episode["prev_action"][:, 1:], episode["action"][:, :-1])
    assert (
        not episode["prev_action"][:, 0].any() and not episode["action"][episode["is_last"]].any()
    )
    for i, world in enumerate(env.vec.envs):
        actions = episode["action"][i, :-1][~episode["is_last"][i, :-1]]
        np.testing.assert_array_equal(actions, world.actions[: len(actions)])


# ---------------------------------------------------------------- what one sees


def test_metrics_are_readable_and_monotone(tmp_path, monkeypatch):
    trainer = make_trainer("CartPole-v1", tmp_path)
    fake_clock(monkeypatch, 1.0)
    seen = []
    trainer.run(
        96,
        eval_every=40,
        eval_episodes=2,
        progress=False,
        on_log=lambda t, line: seen.append((t.steps, line)),
    )
    metrics = read_metrics(tmp_path / "metrics.csv")
    losses = trainer.agent.scales()
    assert list(metrics) == [*COLUMNS, "kl", "entropy", "return", "return_scale", *losses]
    assert len(seen) == len(metrics["steps"]) > 5
    for name in ("steps", "updates", "seconds", "episodes"):
        assert (np.diff(metrics[name]) >= 0).all(), name
    assert metrics["steps"][-1] == trainer.steps and metrics["updates"][-1] == trainer.updates
    for k, (steps, line) in enumerate(seen):
        assert steps == line["steps"] == metrics["steps"][k]
    learned = metrics["updates"] > np.concatenate([[0], metrics["updates"][:-1]])
    for name in ("rec", "rew", "con", "dyn", "rep", "kl", "policy", "value", "repval", "entropy"):
        np.testing.assert_array_equal(np.isfinite(metrics[name]), learned, err_msg=name)


@pytest.mark.parametrize("pace", [0.001, 3.0])  # of the clock: few lines, or one after every tick
def test_every_evaluation_that_is_due_takes_place(pace, tmp_path, monkeypatch):
    trainer = make_trainer("Pendulum-v1", tmp_path, ratio=24)
    monkeypatch.setattr(trainer, "eval_return", lambda episodes: float(episodes))
    fake_clock(monkeypatch, pace)
    trainer.run(120, eval_every=20, eval_episodes=7, progress=False)
    metrics = read_metrics(tmp_path / "metrics.csv")
    evaluated = np.isfinite(metrics["eval_return"])
    np.testing.assert_array_equal(metrics["steps"][evaluated], [20, 40, 60, 80, 100, 120])
    assert (metrics["eval_return"][evaluated] == 7).all()


def test_evaluating_on_the_way_changes_nothing_but_the_file(tmp_path):
    quiet, curious = (make_trainer("CartPole-v1", tmp_path / n) for n in ("quiet", "curious"))
    for trainer, every in ((quiet, 0), (curious, 16)):
        wmlib.seed_everything(0)
        trainer.run(80, eval_every=every, eval_episodes=3, progress=False)
    assert_identical(everything(curious), everything(quiet))


@pytest.mark.parametrize("stop", [20, 24, 40])
def test_an_evaluation_that_was_due_when_the_run_was_killed_takes_place(stop, tmp_path):
    def run(trainer, steps):
        trainer.eval_return = lambda episodes: 1.0
        trainer.run(steps, eval_every=20, progress=False)
        metrics = read_metrics(tmp_path / "metrics.csv")
        return metrics["steps"][np.isfinite(metrics["eval_return"])].tolist()

    first = make_trainer("Pendulum-v1", tmp_path)
    while first.steps < stop:
        first.tick()
    first.save()  # and then, before the evaluation, it is killed
    again = make_trainer("Pendulum-v1", tmp_path)
    again.resume()
    assert run(again, stop) == [stop]
    last = make_trainer("Pendulum-v1", tmp_path)
    last.resume()
    assert run(last, 64) == [stop] + [s for s in (40, 60) if s > stop]


def test_a_second_ctrl_c_ends_an_evaluation_and_saves(tmp_path, monkeypatch):
    trainer = make_trainer("Pendulum-v1", tmp_path)
    monkeypatch.setattr("wmlib.runtime.TWICE", 0.0)

    def eval_return(_):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    trainer.eval_return = eval_return
    assert trainer.run(100, eval_every=20, progress=False) is True
    assert trainer.steps == 20 and latest(tmp_path).name == "step-0000000020"


class Endless(gym.Env):
    """Pays one for every step, and never ends."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 1.0, False, False, {}


class Closed(Endless):
    """Presses Ctrl-C at a step after it was copied; refers to itself, as some wrappers do."""

    alive = weakref.WeakSet()
    at = 10**9

    def __init__(self):
        self.circle, self.time = self, 0
        self.alive.add(self)

    def step(self, action):
        self.time += 1
        if len(self.alive) > 1 and self.time == self.at:
            signal.raise_signal(signal.SIGINT)
        return *super().step(action)[:2], False, self.time % 20 == 0, {}


def test_ctrl_c_ends_an_evaluation_on_the_way_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(Closed, "at", 3)
    trainer = make_trainer(wmlib.make_env(Closed), out=tmp_path, num_envs=1)
    assert trainer.run(100, eval_every=10, eval_episodes=10**6, progress=False) is True
    assert trainer.steps == 10 and latest(tmp_path).name == "step-0000000010"
    monkeypatch.setattr(Closed, "at", 10**9)
    assert trainer.eval_return(1) == 20  # what has been stopped can be used


def test_ctrl_c_in_the_last_evaluation_ends_only_that(tmp_path, monkeypatch):
    monkeypatch.setattr(Closed, "at", 25)
    env = wmlib.make_env(Closed)
    with handling(signal.default_int_handler):
        result = wmlib.train(
            make_agent(env, num_envs=1), env, 16, tmp_path, eval_episodes=1000, progress=False
        )
    assert json.loads(result.json())["interrupted"] is True
    assert (result.steps, result.eval_return_mean) == (16, None) and latest(tmp_path)


def test_worlds_of_an_evaluation_are_gone_after_it():
    trainer = make_trainer(wmlib.make_env(Closed), num_envs=1)
    gc.collect()
    before = len(Closed.alive)
    trainer.eval_return(3)
    assert len(Closed.alive) == before


def test_the_bar_says_what_happens_and_of_how_many_episodes_the_score_is(capsys, monkeypatch):
    trainer = make_trainer(wmlib.make_env(Closed), num_envs=1, random_steps=64, model_updates=3)
    monkeypatch.setattr("wmlib.trainer.time.monotonic", itertools.count(0, 3).__next__)
    trainer.run(80)
    said = capsys.readouterr().err
    assert "random play:  " in said and "score=20 of 3 episodes" in said
    shown = [number for number in range(4) if f"world model {number}/3" in said]
    assert shown == [0, 1, 2]
    assert "world model" not in said.split("\r")[-1]


def test_a_log_line_is_the_mean_since_the_last_one():
    trainer = make_trainer("CartPole-v1")
    trainer.recent = [{"rec": torch.tensor(1.0)}, {"rec": torch.tensor(4.0), "kl": torch.ones(())}]
    line = trainer.log()
    assert (line["rec"], line["kl"]) == (2.5, 1.0)
    assert "rec" not in trainer.log()


def test_lines_after_a_checkpoint_are_forgotten(tmp_path):
    path = tmp_path / "metrics.csv"
    write_metrics(path, [{"steps": k, "updates": 2 * k, "rec": k / 3} for k in (10, 20, 30)])
    with open(path, "a") as file:
        file.write("4")  # a line that was being written when the run was killed
    forget_after(path, 20)
    metrics = read_metrics(path)
    np.testing.assert_array_equal(metrics["steps"], [10, 20])
    np.testing.assert_array_equal(metrics["updates"], [20, 40])
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


HEAD = "steps,updates,seconds,episodes,score,eval_return,rec"
LINES = [f"{k},{2 * k},0.5,0,,,0.25" for k in (10, 20, 30)]
DAMAGE = {  # content, and the steps that can still be read
    "half a line": (f"{HEAD}\n{LINES[0]}\n{LINES[1]}", [10]),
    "half a line that looks whole": (f"{HEAD}\n{LINES[0]}\n20,40,0.5,0,,,0.2", [10]),
    "a tail of zeros": (f"{HEAD}\n{LINES[0]}\n" + 64 * "\0", [10]),
    "zeros within": (f"{HEAD}\n{LINES[0]}\n\0\0\n{LINES[1]}\n", [10, 20]),
    "a line too short": (f"{HEAD}\n5,9\n{LINES[0]}\n", [10]),
    "a line too long": (f"{HEAD}\n{LINES[0]}\n{LINES[1]},7,8\n", [10]),
    "words": (f"{HEAD}\n{LINES[0]}\nten,20,0.5,0,,,1\n", [10]),
    "a lonely quote": (f'{HEAD}\n{LINES[0]}\n"20,40\n{LINES[1]}\n', [10, 20]),
    "semicolons": ("\n".join([HEAD, *LINES, ""]).replace(",", ";"), []),
    "no header": ("\n".join([*LINES, ""]), []),
    "a header twice": (f"{HEAD}\n{LINES[0]}\n{HEAD}\n{LINES[1]}\n", [10, 20]),
    "a name twice": (f"steps,{HEAD}\n1,{LINES[0]}\n", []),
    "bytes": (np.random.default_rng(0).bytes(2000).decode("latin-1"), []),
    "bytes after lines": (f"{HEAD}\n{LINES[0]}\n\xff\xfe\xff\n", [10]),
}
SOUND = {
    "as written": ("\r\n".join([HEAD, *LINES[:2], ""]), [10, 20]),
    "a mark of an editor": ("\xef\xbb\xbf" + "\n".join([HEAD, *LINES[:2], ""]), [10, 20]),
    "floats": (f"{HEAD}\n1e1,2e1,0.5,0,,,1\n2.0e1,4e1,0.5,0,,,1\n", [10, 20]),
    "empty lines": (f"{HEAD}\n\n{LINES[0]}\n\n", [10]),
}


@pytest.mark.parametrize("case", [*DAMAGE, *SOUND])
def test_a_damaged_metrics_file_ends_nothing_and_is_told_once(case, tmp_path, capsys):
    content, steps = (DAMAGE | SOUND)[case]
    path, warnings = tmp_path / "metrics.csv", int(case in DAMAGE)
    ticks(make_trainer("CartPole-v1", tmp_path), 6).save()  # after 24 steps
    path.write_bytes(content.encode("latin-1"))
    assert read_metrics(path)["steps"].tolist() == steps
    assert capsys.readouterr().err.count("is damaged") == warnings
    trainer = make_trainer("CartPole-v1", tmp_path)
    trainer.resume()
    trainer.run(32, progress=False)
    assert capsys.readouterr().err.count("is damaged") == warnings
    assert read_metrics(path)["steps"].tolist() == [*steps, 32]
    assert capsys.readouterr().err == ""  # it is whole again
    aside = [p.read_bytes() for p in tmp_path.glob("*.damaged")]
    assert aside == ([] if steps else [content.encode("latin-1")])  # nothing was thrown away


def test_a_new_loss_becomes_a_column(tmp_path):
    path = tmp_path / "metrics.csv"
    write_metrics(path, [{"steps": 1, "rec": 0.5}])
    write_metrics(path, [{"steps": 2, "mine": 0.25, "rec": 0.125}])
    write_metrics(path, [{"steps": 3, "rec": 0.0}])
    metrics = read_metrics(path)
    assert list(metrics) == [*COLUMNS, "rec", "mine"]
    np.testing.assert_array_equal(metrics["steps"], [1, 2, 3])
    np.testing.assert_array_equal(metrics["rec"], [0.5, 0.125, 0])
    np.testing.assert_array_equal(metrics["mine"], [np.nan, 0.25, np.nan])


def test_a_run_of_an_older_version_cannot_be_resumed(tmp_path):
    trainer = ticks(make_trainer("CartPole-v1", tmp_path), 20)
    state = trainer.state_dict() | {"optimizer": {"updates": np.zeros(3, np.int64)}}
    trainer.state_dict = lambda rows: state
    trainer.save()
    with pytest.raises(BadInput, match="0.1.0 and cannot be resumed"):
        make_trainer("CartPole-v1", tmp_path).resume()


def test_a_trainer_without_a_directory_cannot_resume():
    with pytest.raises(BadInput, match="give it `out`"):
        make_trainer("CartPole-v1").resume()


def test_an_empty_metrics_file_is_no_obstacle(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("")
    forget_after(path, 20)
    assert len(read_metrics(path)["steps"]) == 0
    write_metrics(path, [{"steps": 1}])
    np.testing.assert_array_equal(read_metrics(path)["steps"], [1])


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_that_cannot_be_written_never_ends_training(tmp_path, monkeypatch, capsys):
    trainer = make_trainer("CartPole-v1", tmp_path)
    fake_clock(monkeypatch, 3.0)  # a line after every tick
    trainer.run(20, progress=False)
    path = tmp_path / "metrics.csv"
    with monkeypatch.context() as patch:

        def half(*_):
            with open(path, "a") as file:
                file.write("24,0,3")
            raise FULL

        patch.setattr("wmlib.trainer.write_metrics", half)
        trainer.run(60, progress=False)
    assert capsys.readouterr().err == (
        f"wmlib: cannot write {path} ({os.strerror(errno.ENOSPC)}); training goes on without it.\n"
    )
    trainer.run(72, progress=False)  # there is space again
    steps = read_metrics(path)["steps"].tolist()
    assert steps[:5] == [4, 8, 12, 16, 20] and steps[-1] == 72 and 24 not in steps
    assert latest(tmp_path).name.startswith("step-0000000072")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("what", ["metrics.csv", "metrics.tmp"])
def test_a_directory_in_the_way_of_the_metrics_never_ends_training(what, tmp_path, capsys):
    (tmp_path / what).mkdir()
    trainer = make_trainer("CartPole-v1", tmp_path)
    trainer.run(20, progress=False)
    again = make_trainer("CartPole-v1", tmp_path)
    again.resume()
    again.run(40, progress=False)
    assert "metrics.csv" in capsys.readouterr().err and again.steps == 40


class Pipe(io.StringIO):
    """Breaks after so many characters."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def write(self, text):
        self.left -= len(text)
        if self.left < 0:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return len(text)

    def flush(self):
        self.write("")


@pytest.mark.parametrize("left", [None, 0, 300])
def test_a_bar_that_cannot_be_drawn_never_ends_training(left, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr", None if left is None else Pipe(left))
    trainer = make_trainer("CartPole-v1", tmp_path)
    trainer.run(80, progress=True)
    assert trainer.steps == 80 and checkpoints(tmp_path)


# ---------------------------------------------------------------- interruption


@pytest.mark.parametrize("out", [False, True])
def test_an_interrupted_run_says_so_and_goes_on(out, tmp_path, capsys):
    run = tmp_path / "run" if out else None
    env = wmlib.make_env("test/Steady-v0", 4, 0)

    def stop(trainer, line):
        signal.raise_signal(signal.SIGTERM)

    settings = dict(seed=0, eval_every=20, eval_episodes=4, curve_episodes=4, progress=False)
    result = wmlib.train(make_agent(env), env, 90, run, on_log=stop, **settings)
    assert result.interrupted and '"interrupted": true' in result.json() and result.steps < 90
    assert ("saving ..." in capsys.readouterr().err) == out
    if out:
        env = wmlib.make_env("test/Steady-v0", 4, 0)
        result = wmlib.train(make_agent(env), env, 90, run, resume=True, **settings)
        assert not result.interrupted and '"interrupted"' not in result.json()
        assert capsys.readouterr().err == ""
        result = wmlib.train(make_agent(env), env, 40, latest(run), resume=True, **settings)
        assert result.run == str(run)
        assert f"already at {result.steps}" in capsys.readouterr().err


def remake(out, change):
    """Write the checkpoint anew, intact, with another training state."""
    trainer = ticks(make_trainer("CartPole-v1", out), 20)
    tree = {name.strip("/"): value for name, value in flat(trainer.state_dict()).items()}
    change(tree)
    about = {"env": trainer.env.spec}
    parts = {"agent": (trainer.agent.state_dict(), about), "training": (tree, {})}
    write_checkpoint(out, trainer.steps, parts)


def put(**values):
    return lambda tree: tree.update({k.replace("__", "/"): v for k, v in values.items()})


CRAFTED = {
    "nothing": lambda tree: tree.clear(),
    "no steps": lambda tree: tree.pop("steps"),
    "no replay": lambda tree: [tree.pop(k) for k in list(tree) if k.startswith("replay")],
    "no world": lambda tree: tree.pop("env/worlds/0/actions"),
    "no moments": lambda tree: tree.pop("optimizer/0/mean"),
    "steps of text": put(steps="many"),
    "half steps": put(steps=1.5),
    "negative steps": put(steps=-1),
    "endless credit": put(credit=float("inf")),
    "no credit": put(credit=float("nan")),
    "scores of text": put(scores=["a"]),
    "scores that are a number": put(scores=5),
    "running of another length": put(running=np.zeros(9)),
    "rows of another length": put(row__obs=np.zeros((9, 4), np.float32)),
    "flags that are numbers": put(row__is_first=np.zeros(4, np.float32)),
    "memory of another size": put(memory__h=np.zeros((4, 99), np.float32)),
    "memory of text": put(memory__h="h"),
    "moments of another size": put(optimizer__0__mean=np.zeros(7, np.float32)),
    "moments of no weight": put(optimizer__999__mean=np.zeros(7, np.float32)),
    "dice of text": put(rng__torch="dice"),
    "dice of another kind": put(rng__numpy__bit_generator="MT19937"),
    "a replay of text": put(replay__written="all"),
    "a huge replay": put(replay__capacity=10**15),
    "worlds of text": put(env__last="no"),
    "worlds with a huge seed": put(env__worlds__0__base=-(10**30)),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_a_training_state_that_was_not_written_by_a_trainer_is_told(case, tmp_path):
    remake(tmp_path, CRAFTED[case])
    with pytest.raises(BadInput) as caught:
        make_trainer("CartPole-v1", tmp_path).resume()
    message = str(caught.value)
    assert str(latest(tmp_path)) in message and "\n" not in message and message.endswith(".")


def test_a_training_state_written_anew_is_resumed(tmp_path):
    remake(tmp_path, lambda tree: None)
    again = make_trainer("CartPole-v1", tmp_path)
    again.resume()
    assert_identical(everything(again), everything(ticks(make_trainer("CartPole-v1"), 20)))


def resumed(tmp_path, name, stop, total):
    """Ticks until `stop`, save, everything anew, resume, ticks until `total`."""
    env_id, settings, changes = WORLDS[name]
    changes = {**changes, "random_steps": 30, "model_updates": 2, "ratio": 13}
    first = make_trainer(env_id, tmp_path, settings=settings, **changes)
    ticks(first, stop).save()
    again = make_trainer(env_id, tmp_path, seed=99, settings=settings, **changes)
    again.resume()
    assert_identical(everything(again), everything(first))
    return ticks(again, total - stop)


@pytest.fixture(scope="module")
def uninterrupted():
    """World -> everything after 40 ticks without interruption (computed once)."""
    known = {}

    def compute(name):
        if name not in known:
            env_id, settings, changes = WORLDS[name]
            changes = {**changes, "random_steps": 30, "model_updates": 2, "ratio": 13}
            trainer = ticks(make_trainer(env_id, settings=settings, **changes), 40)
            assert trainer.updates > 8
            known[name] = everything(trainer)
        return known[name]

    return compute


STOPS = [(name, stop) for name in WORLDS for stop in (16, 29)]  # between model updates, later
STOPS += [("curtain_latents", 3), ("pendulum", 3)]  # during random play


@pytest.mark.parametrize(("name", "stop"), STOPS)
def test_a_resumed_run_is_bit_identical(name, stop, tmp_path, uninterrupted):
    assert_identical(everything(resumed(tmp_path, name, stop, 40)), uninterrupted(name))


def test_run_save_resume_run_equals_one_run(tmp_path):
    def run(trainer, steps):
        trainer.run(steps, progress=False)
        return trainer

    whole = run(make_trainer("CartPole-v1", tmp_path / "whole", ratio=13), 91)
    run(make_trainer("CartPole-v1", tmp_path / "parts", ratio=13), 47)
    for steps in (70, 91):
        later = {"steps": 1000, "updates": 500}  # logged after the checkpoint, before a crash
        write_metrics(tmp_path / "parts" / "metrics.csv", [later])
        part = make_trainer("CartPole-v1", tmp_path / "parts", seed=5, ratio=13)
        part.resume()
        run(part, steps)
    assert_identical(everything(part), everything(whole))
    steps = [read_metrics(tmp_path / n / "metrics.csv")["steps"] for n in ("whole", "parts")]
    assert steps[0][-1] == steps[1][-1] and (np.diff(steps[1]) > 0).all()


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of replay of three rows of each of four CartPoles."""
    monkeypatch.setattr("wmlib.replay.BLOCK", 3 * 4 * 31)


def test_a_save_writes_only_blocks_with_new_rows(tmp_path, small_blocks):
    trainer = make_trainer("CartPole-v1", tmp_path, stored_latents=True, ratio=13, replay_rows=64)
    rows = trainer.replay.block_rows
    first = ticks(trainer, 24).save()
    moved = trainer.replay.written.max()
    second = ticks(trainer, 5).save()
    new = np.arange(moved, trainer.replay.written.max()) % trainer.replay.capacity // rows
    assert trainer.updates and 0 < len(set(new)) < trainer.replay.blocks
    for number in range(trainer.replay.blocks):
        name = f"replay-{number:05d}.safetensors"
        there = (first / name).exists()
        assert (there and (first / name).samefile(second / name)) == (number not in new)


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("latents", [True, False])
def test_a_run_saved_in_blocks_is_resumed_bit_by_bit(tmp_path, monkeypatch, latents, linked):
    monkeypatch.setattr("wmlib.replay.BLOCK", 200)
    if not linked:  # as on file systems without links
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "")))

    def make(out):  # its rings turn over once
        return make_trainer("CartPole-v1", out, replay_rows=64, stored_latents=latents)

    whole = ticks(make(None), 60)
    assert whole.replay.written.max() > whole.replay.capacity
    trainer = make(tmp_path)
    for part in (13, 7, 20, 1, 19):
        ticks(trainer, part).save()
        trainer = make(tmp_path)
        trainer.resume()
    assert_identical(everything(trainer), everything(whole))


def test_a_missing_block_of_replay_is_told(tmp_path, small_blocks):
    folder = ticks(make_trainer("CartPole-v1", tmp_path), 20).save()
    sums = json.loads((folder / "checksums.json").read_text())
    del sums["replay-00001"]
    (folder / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(BadInput, match="blocks of replay instead of"):
        make_trainer("CartPole-v1", tmp_path).resume()
    (folder / "replay-00000.safetensors").unlink()
    with pytest.raises(BadInput, match=r"replay-00000"):
        sums["replay-00001"] = sums["replay-00000"]
        (folder / "checksums.json").write_text(json.dumps(sums))
        make_trainer("CartPole-v1", tmp_path).resume()


def test_a_checkpoint_whose_predecessor_was_deleted_is_whole(tmp_path, small_blocks):
    trainer = make_trainer("CartPole-v1", tmp_path)
    shutil.rmtree(ticks(trainer, 20).save())
    ticks(trainer, 3).save()
    again = make_trainer("CartPole-v1", tmp_path)
    again.resume()
    assert_identical(everything(again), everything(trainer))


def test_a_checkpoint_from_before_there_were_blocks_is_resumed(tmp_path):
    trainer = ticks(make_trainer("CartPole-v1", tmp_path), 20)
    state = trainer.state_dict()
    parts = {"agent": (trainer.agent.state_dict(), {"env": trainer.env.spec})}
    write_checkpoint(tmp_path, trainer.steps, parts | {"training": (state, {})})
    again = make_trainer("CartPole-v1", tmp_path)
    again.resume()
    assert_identical(everything(again), everything(trainer))
    ticks(again, 3).save()  # the first in blocks
    last = make_trainer("CartPole-v1", tmp_path)
    last.resume()
    assert_identical(everything(last), everything(again))


def test_saving_takes_a_twentieth_of_the_time_at_most(tmp_path, monkeypatch):
    trainer = make_trainer("CartPole-v1", tmp_path)
    now = [0.0]
    monkeypatch.setattr("wmlib.trainer.time", SimpleNamespace(monotonic=lambda: now[0]))
    saves = []
    trainer.save = lambda: (saves.append(now[0]), now.__setitem__(0, now[0] + 10))
    tick = trainer.tick
    trainer.tick = lambda: (now.__setitem__(0, now[0] + 10), tick())
    trainer.run(240, save_seconds=60, progress=False)
    assert saves[0] == 70 and len(saves) > 3
    assert min(np.diff(saves[:-1])) > 200  # the last one is that of the end


def test_saving_does_not_disturb(tmp_path, monkeypatch):
    quiet, busy = (make_trainer("CartPole-v1", tmp_path / n) for n in ("quiet", "busy"))
    for trainer, seconds in ((quiet, 1e9), (busy, -1.0)):
        wmlib.seed_everything(0)
        trainer.run(72, save_seconds=seconds, progress=False)
    assert_identical(everything(busy), everything(quiet))


def test_a_world_that_cannot_be_rewound_goes_on_with_fresh_episodes(tmp_path):
    def make():
        return make_trainer(steady_env([6, 9], [1.0, 1.0]), tmp_path, ratio=1e-6)

    first = ticks(make(), 4)
    first.save()
    again = make()
    again.resume()
    assert again.steps == first.steps
    ticks(again, 20)
    assert set(again.scores) == {6.0, 9.0}  # nothing of the abandoned episodes is counted


KILLED = """
    import sys, torch, wmlib
    from wmlib.trainer import Trainer
    torch.set_num_threads(int(sys.argv[2]))
    wmlib.seed_everything(0)
    env = wmlib.make_env("CartPole-v1", 4, 0)
    torch.manual_seed(0)
    config = wmlib.preset("tiny", **{changes})
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    Trainer(agent, env, 0, sys.argv[1]).run(10**9, save_seconds=-1.0, progress=False)
"""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path):
    script = textwrap.dedent(KILLED).replace("{changes}", repr(SMALL))
    threads = str(torch.get_num_threads())
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), threads])
    try:
        for _ in range(6000):
            if len(checkpoints(tmp_path)) > 1 or child.poll() is not None:
                break
            time.sleep(0.01)
    finally:
        child.kill()  # SIGKILL: no goodbye, perhaps in the middle of writing
        child.wait()
    resumed = make_trainer("CartPole-v1", tmp_path, seed=7)
    resumed.resume()
    goal = resumed.steps + 70
    resumed.run(goal, progress=False)
    whole = make_trainer("CartPole-v1")
    whole.run(goal, progress=False)
    assert whole.updates > 2
    assert_identical(everything(resumed), everything(whole))
    assert not (tmp_path / "lock").exists()
    assert not list(tmp_path.rglob("*.tmp"))


# ---------------------------------------------------------------- losses that are not finite


def poison(trainer):
    with torch.no_grad():
        trainer.agent.world.reward_head.out.bias.fill_(float("nan"))


def test_a_loss_that_is_not_finite_stops_training_and_names_the_last_good_checkpoint(tmp_path):
    trainer = make_trainer("CartPole-v1", tmp_path)
    trainer.run(72, progress=False)
    good, steps = checkpoints(tmp_path)[-1], trainer.steps
    poison(trainer)
    with pytest.raises(FloatingPointError) as caught:
        trainer.run(200, progress=False)
    message = str(caught.value)
    assert str(good) in message and "rew" in message and "\n" not in message
    assert checkpoints(tmp_path)[-1] == good
    again = make_trainer("CartPole-v1", tmp_path, seed=4)
    again.resume()
    assert again.steps == steps
    again.run(steps + 8, progress=False)
    assert all(torch.isfinite(p).all() for p in again.agent.parameters())


@pytest.mark.parametrize("out", [False, True])
def test_without_a_checkpoint_none_is_named(out, tmp_path):
    trainer = make_trainer("CartPole-v1", tmp_path if out else None)
    (tmp_path / "checkpoints").mkdir()
    poison(trainer)
    with pytest.raises(FloatingPointError, match="Training stopped") as caught:
        trainer.run(100, progress=False)
    assert "checkpoint" not in str(caught.value)


# ---------------------------------------------------------------- evaluation


def test_an_episode_without_end_is_counted_up_to_a_limit(capsys):
    env = wmlib.make_env(Endless, 2)
    agent = make_agent(env)
    assert wmlib.evaluate(agent, env, 3, longest=30).tolist() == [30, 30, 30]
    assert "had no end after 30 steps" in capsys.readouterr().err


@pytest.mark.parametrize("flat", [False, True])
def test_a_picture_in_a_vector_is_not_taken_without_a_word(flat, capsys):
    class Camera(Endless):
        observation_space = gym.spaces.Dict(
            camera=gym.spaces.Box(0, 255, (32, 32, 3), np.uint8),
            joints=gym.spaces.Box(-1, 1, (2,)),
        )

        def reset(self, *, seed=None, options=None):
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 1.0, False, False, {}

    make = lambda: gym.wrappers.FlattenObservation(Camera()) if flat else Camera()  # noqa: E731
    env = wmlib.make_env(make, 4)
    wmlib.train(make_agent(env), env, 4, eval_episodes=0, progress=False)
    assert ("a vector of 3,074 numbers" in capsys.readouterr().err) == flat


def test_a_world_that_exists_once_can_be_trained(tmp_path, capsys):
    env = wmlib.make_env(Endless())
    agent = make_agent(env)
    with pytest.raises(BadInput, match="cannot be made again: give eval_env"):
        wmlib.train(agent, env, 10, progress=False)
    result = wmlib.train(agent, env, 10, tmp_path / "a", eval_episodes=0, progress=False)
    assert (result.steps, result.eval_episodes, result.eval_return_mean) == (10, 0, None)
    assert "Nothing was learnt in 10 steps" in capsys.readouterr().err
    small = wmlib.make_env(gym.wrappers.TimeLimit(Endless(), 7))
    result = wmlib.train(
        agent,
        env,
        20,
        eval_env=small,
        eval_every=10,
        eval_episodes=2,
        curve_episodes=1,
        progress=False,
    )
    assert result.eval_return_mean == 7
    with pytest.raises(BadInput, match="There is one <Endless instance>, not 2"):
        wmlib.make_env(Endless(), 2)


def test_a_vector_environment_of_ones_own_can_be_trained():
    vec = gym.vector.SyncVectorEnv([Endless] * 3)
    env = wmlib.make_env(vec)
    result = wmlib.train(make_agent(env), env, 12, eval_episodes=0, progress=False)
    assert result.steps == 12
