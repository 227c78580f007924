"""Checkpoints: what is written comes back, and nothing that goes wrong loses what was there."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import wmlib
from wmlib import checkpoint
from wmlib.checkpoint import (
    KEEP,
    build_agent,
    checkpoints,
    describe_agent,
    env_spec,
    latest,
    load_agent,
    load_tree,
    load_weights,
    lock_run,
    open_run,
    read_checkpoint,
    run_folder,
    save_tree,
    write_checkpoint,
)
from wmlib.errors import BadInput
from wmlib.trainer import Trainer

SMALL = dict(deter=16, hidden=16, units=16, depth=8, stoch=2, classes=4, num_envs=2, batch_size=2)
SMALL |= dict(batch_length=4, horizon=3, imagine_last=2, random_steps=0, model_updates=0)
SMALL |= dict(stored_latents=False)


def make_trainer(out, env_id="CartPole-v1", settings=None, **changes):
    torch.manual_seed(0)
    env = wmlib.make_env(env_id, 2, 0, **(settings or {}))
    config = wmlib.preset("tiny", **{**SMALL, **changes})
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    return Trainer(agent, env, 0, out)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with two checkpoints; copied by `run`, never touched."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trainer = make_trainer(folder)
    for _ in range(2):
        for _ in range(6):
            trainer.tick()
        trainer.save()
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def contents(folder):
    """Path -> bytes of all files below a folder."""
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def one_sentence(caught, *names):
    message = str(caught.value)
    assert "\n" not in message and message.endswith("."), message
    for name in names:
        assert str(name) in message, message
    return message


def same_weights(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in mine.items())


# ---------------------------------------------------------------- trees

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64]
DTYPES += [torch.int32, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_come_back_as_they_were(dtype, shape, tmp_path):
    tensor = (10 * torch.rand(shape)).to(dtype)
    save_tree(tmp_path / "a", {"t": tensor})
    found = load_tree(tmp_path / "a")[0]["t"]
    assert found.dtype == dtype and found.shape == shape and torch.equal(found, tensor)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_come_back_as_tensors(dtype, shape, tmp_path):
    value = (10 * np.random.default_rng(0).random(shape)).astype(dtype)
    save_tree(tmp_path / "a", {"t": np.asarray(value)})
    found = load_tree(tmp_path / "a")[0]["t"].numpy()
    assert found.dtype == dtype and found.shape == shape
    np.testing.assert_array_equal(found, value)


def test_views_are_saved_as_what_they_show(tmp_path):
    base = torch.arange(12).reshape(3, 4)
    array = np.arange(12).reshape(3, 4)[:, ::-2]
    save_tree(tmp_path / "a", {"turned": base.T, "part": base[1:, :2], "array": array})
    found, _ = load_tree(tmp_path / "a")
    assert torch.equal(found["turned"], base.T) and torch.equal(found["part"], base[1:, :2])
    np.testing.assert_array_equal(found["array"].numpy(), array)


def test_not_a_number_comes_back(tmp_path):
    tree = {"t": torch.tensor([float("nan"), float("inf"), -0.0]), "x": float("nan")}
    save_tree(tmp_path / "a", tree)
    found, _ = load_tree(tmp_path / "a")
    assert found["t"].numpy().tobytes() == tree["t"].numpy().tobytes()
    assert np.isnan(found["x"])


def test_nested_and_empty_dicts_and_json_values_come_back(tmp_path):
    tree = {
        "a": {"b": {"c": 1, "none": {}}, "list": [1.5, None, "x"]},
        "empty": {},
        "yes": True,
        "text": "two words / a slash",
    }
    about = {"config": {"lr": 2e-3}, "nothing": None}
    save_tree(tmp_path / "a", tree, about)
    assert load_tree(tmp_path / "a") == (tree, about)
    save_tree(tmp_path / "b", {})
    assert load_tree(tmp_path / "b") == ({}, {})


def test_the_state_of_a_random_generator_comes_back_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(3)
    rng.integers(10, size=3)  # leaves half a draw in the buffer
    state = rng.bit_generator.state
    assert state["state"]["state"] > 2**64
    save_tree(tmp_path / "a", {"rng": state})
    again = np.random.default_rng()
    again.bit_generator.state = load_tree(tmp_path / "a")[0]["rng"]
    np.testing.assert_array_equal(again.integers(10, size=9), rng.integers(10, size=9))


# ---------------------------------------------------------------- what is in a run


def test_everything_is_safetensors_and_json_and_nothing_is_unpickled(run, monkeypatch):
    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("unpickled"))
    for path in contents(run):
        assert path.suffix in (".safetensors", ".json", ".csv")
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            assert all(isinstance(t, torch.Tensor) for t in load_file(path).values())
            with safe_open(path, "pt") as file:
                assert all(
                    isinstance(json.loads(file.metadata()[k]), dict) for k in ("rest", "about")
                )
    make_trainer(run).resume()
    load_agent(run)


def test_only_the_newest_checkpoints_stay(tmp_path):
    for steps in (5, 10, 20, 100):
        write_checkpoint(tmp_path, steps, {"part": ({"steps": steps}, {})})
    assert KEEP == 2
    assert [c.name for c in checkpoints(tmp_path)] == ["step-0000000020", "step-0000000100"]
    assert read_checkpoint(latest(tmp_path), "part") == [({"steps": 100}, {})]
    assert {p.parent for p in contents(tmp_path)} == set(checkpoints(tmp_path))


def test_saving_twice_at_one_step_keeps_the_newer_as_the_latest(tmp_path):
    for serial in range(12):
        write_checkpoint(tmp_path, 7, {"part": ({"serial": serial}, {})})
        assert read_checkpoint(latest(tmp_path), "part")[0][0] == {"serial": serial}
    write_checkpoint(tmp_path, 8, {"part": ({"serial": 99}, {})})
    assert read_checkpoint(latest(tmp_path), "part")[0][0] == {"serial": 99}
    assert len(checkpoints(tmp_path)) == KEEP


def test_an_agent_loads_from_a_run_a_checkpoint_or_a_file(run):
    trainer = make_trainer(run)
    trainer.resume()
    for path in (run, str(run), latest(run), latest(run) / "agent.safetensors"):
        agent, about = load_agent(path, "cpu")
        assert same_weights(agent, trainer.agent) and agent.config == trainer.config
        assert (about["steps"], about["updates"]) == (trainer.steps, trainer.updates)
        assert about["steps"] > 0 and about["updates"] > 0
    older, about = load_agent(checkpoints(run)[0])
    assert not same_weights(older, agent) and about["steps"] < trainer.steps


COPIES = ["step-9999999999-copy2", "step-9999999999.bak", "step-9999999999-2", "step-99", "mine9"]


@pytest.mark.parametrize("name", [*COPIES, "step-9999999999 (1)", "a file"])
def test_a_copy_of_the_user_is_neither_newest_nor_pruned(name, run):
    newest = latest(run)
    copy = newest.with_name("step-9999999999" if name == "a file" else name)
    copy.write_text("") if name == "a file" else shutil.copytree(newest, copy)
    before = contents(copy.parent)
    assert copy not in checkpoints(run) and latest(run) == newest
    trainer = make_trainer(run)
    trainer.resume()
    for _ in range(KEEP):
        trainer.save()
    assert newest not in checkpoints(run) and len(checkpoints(run)) == KEEP
    assert {p: b for p, b in contents(copy.parent).items() if copy in (p, p.parent)} == {
        p: b for p, b in before.items() if copy in (p, p.parent)
    }


def test_checkpoints_are_sorted_by_their_numbers(tmp_path):
    for steps in (10**10, 9 * 10**9):
        write_checkpoint(tmp_path, steps, {"part": ({}, {})})
    assert [c.name for c in checkpoints(tmp_path)] == ["step-9000000000", "step-10000000000"]


def test_a_run_is_also_named_by_its_newest_checkpoint(run, monkeypatch):
    older, newest = checkpoints(run)
    assert run_folder(run) == run_folder(newest) == run
    assert run_folder(run / "nothing") == run / "nothing"
    monkeypatch.chdir(newest)
    assert run_folder(".").samefile(run)
    with pytest.raises(BadInput) as caught:
        run_folder(older)
    one_sentence(caught, older, newest)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no umask")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_the_umask_says_who_may_read_a_run(mask, tmp_path):
    before = os.umask(mask)
    try:
        make_trainer(tmp_path).run(2, progress=False)
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in contents(tmp_path)}
    assert len(modes) == 5 and set(modes.values()) == {0o666 & ~mask}


def test_all_is_on_the_disk_before_a_name_says_so(run, monkeypatch):
    events, sync, replace = [], os.fsync, os.replace

    def noted(number):
        events.append(os.fstat(number).st_ino)
        sync(number)

    def renamed(old, new):
        events.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    final = write_checkpoint(run, 99, {"one": ({}, {}), "two": ({"a": np.ones(3)}, {})})
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    assert {p.stat().st_ino for p in [final, *final.iterdir()]} <= {*before}
    assert final.parent.stat().st_ino in after
    events.clear()
    checkpoint.write_metrics(run / "metrics.csv", [{"steps": 1, "new": 2.0}])
    place = events.index("rename")
    assert events[:place] == [(run / "metrics.csv").stat().st_ino]
    assert events[place + 1 :] == [run.stat().st_ino]


WORLDS = [("wmlib/Curtain-v0", {}), ("Pendulum-v1", {}), ("FrozenLake-v1", {"is_slippery": False})]
WORLDS += [("CartPole-v1", {"pixels": True, "size": 16})]


@pytest.mark.parametrize(("env_id", "settings"), WORLDS)
def test_a_loaded_agent_acts_in_the_world_it_tells_of(env_id, settings, tmp_path):
    trainer = make_trainer(tmp_path, env_id, settings)
    trainer.tick()
    trainer.save()
    agent, about = load_agent(tmp_path)
    env = wmlib.make_env(**about["env"])
    agent.check_spaces(env.single_observation_space, env.single_action_space)
    torch.manual_seed(5)
    row = env.reset(seed=1)
    action = agent.act(row.obs, row.is_first, agent.initial(2))[0]
    torch.manual_seed(5)
    mine = trainer.agent.act(row.obs, row.is_first, agent.initial(2))[0]
    np.testing.assert_array_equal(action, mine)
    env.step(action)


# ---------------------------------------------------------------- a crash while writing


def half_written(path, error):
    """Stand-in for `save_tree`: the second part of a checkpoint breaks off."""

    def save(target, tree, about=None):
        if target.name != path:
            return save_tree(target, tree, about)
        target.write_bytes(b"\x10\0\0\0\0\0\0\0{")
        raise error

    return save


@pytest.mark.parametrize("part", ["agent.safetensors", "training.safetensors"])
def test_a_full_disk_leaves_the_previous_checkpoint(part, run, monkeypatch):
    trainer = make_trainer(run)
    trainer.resume()
    good, before = latest(run), contents(run)
    trainer.tick()
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, "No space left on device")
        patch.setattr(checkpoint, "save_tree", half_written(part, full))
        with pytest.raises(OSError) as caught:
            trainer.save()
    one_sentence(caught, good, "No space left on device")
    assert contents(run) == before
    trainer.save()  # there is space again
    assert latest(run) != good and len(checkpoints(run)) == KEEP


def test_a_full_disk_before_the_first_checkpoint_is_told(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(checkpoint, "save_tree", half_written("agent.safetensors", full))
    with pytest.raises(OSError) as caught:
        make_trainer(tmp_path / "run").save()
    one_sentence(caught, tmp_path / "run", "no checkpoint exists yet")


@pytest.mark.parametrize("where", ["agent.safetensors", "training.safetensors", "rename"])
def test_a_crash_at_any_point_leaves_the_previous_checkpoint(where, run, monkeypatch):
    trainer = make_trainer(run)
    trainer.resume()  # saves at the same step again: the name is taken
    good, wanted = latest(run), {p: b for p, b in contents(run).items()}

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "rename":
            patch.setattr(os, "replace", crash)
        else:
            patch.setattr(checkpoint, "save_tree", half_written(where, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            trainer.save()
    assert latest(run) == good
    found = contents(run)
    assert {p: found.get(p) for p in wanted} == wanted
    again = make_trainer(run)
    again.resume()
    again.save()
    assert read_checkpoint(latest(run), "agent", "training")
    assert not list(run.rglob("*.tmp"))


def test_a_directory_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "run").write_text("a file in the way")
    with pytest.raises(BadInput) as caught:
        write_checkpoint(tmp_path / "run", 1, {"part": ({}, {})})
    one_sentence(caught, tmp_path / "run")
    assert (tmp_path / "run").read_text() == "a file in the way"


# ---------------------------------------------------------------- damage


def truncate(name):
    def spoil(folder):
        path = folder / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return spoil


def flip(name, place):
    def spoil(folder):
        data = bytearray((folder / f"{name}.safetensors").read_bytes())
        data[int(place * (len(data) - 1))] ^= 1
        (folder / f"{name}.safetensors").write_bytes(data)

    return spoil


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def remove(name):
    return lambda folder: (folder / name).unlink()


DAMAGE = {
    "truncated agent": truncate("agent"),
    "first byte": flip("agent", 0),
    "middle byte": flip("agent", 0.5),
    "last byte": flip("agent", 1),
    "missing agent": remove("agent.safetensors"),
    "missing checksums": remove("checksums.json"),
    "empty checksums": write("checksums.json", ""),
    "checksums that are a list": write("checksums.json", "[1, 2]"),
    "checksums that are a number": write("checksums.json", "5"),
    "checksums of nothing": write("checksums.json", "{}"),
    "agent that is text": write("agent.safetensors", "hello"),
    "agent that is empty": write("agent.safetensors", ""),
}
DAMAGE_OF_TRAINING = {
    "truncated training": truncate("training"),
    "middle byte of training": flip("training", 0.5),
    "missing training": remove("training.safetensors"),
}


def agent_and_moments(trainer):
    state = trainer.agent.state_dict()
    for number, moments in trainer.agent.optimizer.state_dict()["state"].items():
        state |= {f"{name} {number}": moments[name] for name in ("mean", "square")}
    return {k: v.clone() for k, v in state.items()}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_agent_is_told_and_the_older_one_named(damage, run):
    older, newest = checkpoints(run)
    DAMAGE[damage](newest)
    before = contents(run)
    with pytest.raises(BadInput) as caught:
        load_agent(run)
    one_sentence(caught, newest, older)
    assert contents(run) == before
    shutil.rmtree(newest)  # as the sentence advises
    load_agent(run)


@pytest.mark.parametrize("damage", [*DAMAGE, *DAMAGE_OF_TRAINING])
def test_resuming_from_a_damaged_checkpoint_changes_nothing(damage, run):
    older, newest = checkpoints(run)
    (DAMAGE | DAMAGE_OF_TRAINING)[damage](newest)
    before, trainer = contents(run), make_trainer(run)
    weights, steps = agent_and_moments(trainer), trainer.steps
    with pytest.raises(BadInput) as caught:
        trainer.resume()
    one_sentence(caught, newest, older)
    assert contents(run) == before and trainer.steps == steps
    assert all(torch.equal(v, weights[k]) for k, v in agent_and_moments(trainer).items())


REFUSED = [PermissionError(errno.EACCES, "Permission denied", "it")]
REFUSED += [OSError(errno.EIO, "Input/output error", "it")]


@pytest.mark.parametrize("error", REFUSED, ids=["forbidden", "broken disk"])
@pytest.mark.parametrize("place", ["pathlib.Path.iterdir", "pathlib.Path.read_text", "io.open"])
def test_what_cannot_be_read_is_not_called_damaged(place, error, run, monkeypatch):
    newest = latest(run)

    def refused(*_, **__):
        raise error

    place = place.replace("io.open", "builtins.open")
    for call in (lambda: load_agent(run), lambda: load_agent(newest / "agent.safetensors")):
        with monkeypatch.context() as patch:
            patch.setattr(place, refused)
            if place != "builtins.open" and "run" not in call.__code__.co_freevars:
                continue  # a file alone is only opened
            with pytest.raises(BadInput) as caught:
                call()
        assert one_sentence(caught) == f"Cannot read it ({error.strerror})."


def test_without_an_older_checkpoint_none_is_named(run):
    older, newest = checkpoints(run)
    shutil.rmtree(older)
    flip("agent", 0.5)(newest)
    with pytest.raises(BadInput) as caught:
        load_agent(run)
    assert "an older one" not in one_sentence(caught, newest)


def test_a_run_without_checkpoints_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / "checkpoints" / "draft.tmp").mkdir(parents=True)
    for path in (tmp_path / "empty", tmp_path / "begun", tmp_path / "missing"):
        with pytest.raises(BadInput) as caught:
            load_agent(path)
        one_sentence(caught, path)
        with pytest.raises(BadInput) as caught:
            make_trainer(path).resume()
        one_sentence(caught, path)
    assert not (tmp_path / "missing").exists()


def foreign(path):
    save_file({"w": torch.ones(3)}, path)


def not_an_agent(path):
    save_tree(path, {"w": torch.ones(3)}, {"something": "else"})


def wrong_metadata(path):
    save_file({"w": torch.ones(3)}, path, {"rest": "[1]", "about": "5"})


def crafted(tree=None, about=None, drop=None, weight=None):
    """An intact file, of an agent but for one thing."""

    def write_file(path):
        agent = make_trainer(None).agent
        weights = agent.state_dict()
        if weight is not None:
            weights[next(iter(weights))].fill_(weight)
        description = describe_agent(agent, {"id": "CartPole-v1"}, 0) | (about or {})
        for key in drop or ():
            del description[key]
        save_tree(path, {**weights, **(tree or {})}, description)

    return write_file


def metadata(**more):
    return lambda path: save_file({"w": torch.ones(3)}, path, {"rest": "{}", "about": "{}"} | more)


def config(**more):
    return {"config": describe_agent(make_trainer(None).agent, {}, 0)["config"] | more}


def half_described(path):
    save_tree(path, {}, {"config": {}, "obs_space": 5, "act_space": {"n": 2}})


GARBAGE = {
    "noise": lambda p: p.write_bytes(np.random.default_rng(0).bytes(4096)),
    "zeros": lambda p: p.write_bytes(bytes(4096)),
    "nothing": lambda p: p.write_bytes(b""),
    "a huge header": lambda p: p.write_bytes(b"\xff" * 8 + b"{}" * 100),
    "text": lambda p: p.write_text("hello, I am a checkpoint"),
    "a pickle": lambda p: torch.save({"w": torch.ones(3)}, p),
    "foreign safetensors": foreign,
    "no agent": not_an_agent,
    "wrong metadata": wrong_metadata,
    "half a description": half_described,
    "deep metadata": metadata(about="[" * 10**5 + "]" * 10**5),
    "deep values": metadata(rest='{"a":' * 10**5 + "1" + "}" * 10**5),
    "a description that is a list": metadata(about="[]"),
    "values that are a list": metadata(rest="[1]"),
    "a name below a tensor": metadata(rest='{"w/x": 1}'),
    "a slash in a weight": crafted(tree={"world/x": torch.ones(2)}),
    "a weight that is a number": crafted(tree={"world.bins": 5}),
    "a weight of whole numbers": crafted(tree={"world.bins": torch.ones(63, dtype=torch.int64)}),
    "NaN": crafted(weight=float("nan")),
    "infinity": crafted(weight=float("inf")),
    "no config": crafted(drop=["config"]),
    "no spaces": crafted(drop=["obs_space"]),
    "config that is text": crafted(about={"config": "tiny"}),
    "config that is a list": crafted(about={"config": [1, 2]}),
    "config of wrong types": crafted(about=config(deter="16", lr=[1])),
    "config out of range": crafted(about=config(deter=-8)),
    "huge deter": crafted(about=config(deter=8 * 10**12)),
    "huger deter": crafted(about=config(deter=8 * 10**30)),
    "huge units": crafted(about=config(units=10**7)),
    "many latents": crafted(about=config(stoch=10**6, classes=10**6)),
    "many bins": crafted(about=config(bins=10**12 + 1)),
    "lr beyond floats": crafted(about=config(lr=10**400)),
    "a huge vector": crafted(about={"obs_space": {"shape": [10**13], "dtype": "float32"}}),
    "a huge image": crafted(about={"obs_space": {"shape": [10**5, 10**5, 3], "dtype": "uint8"}}),
    "many actions": crafted(about={"act_space": {"n": 10**13}}),
    "more actions": crafted(about={"act_space": {"n": 10**30}}),
    "no actions": crafted(about={"act_space": {"n": 0}}),
    "actions that are text": crafted(about={"act_space": {"n": "2"}}),
    "a type that is none": crafted(about={"obs_space": {"shape": [4], "dtype": "spam"}}),
    "a negative shape": crafted(about={"obs_space": {"shape": [-4], "dtype": "float32"}}),
    "a shape of text": crafted(about={"obs_space": {"shape": ["4"], "dtype": "float32"}}),
    "steps that are text": crafted(about={"steps": "many"}),
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_no_agent(garbage, tmp_path):
    path = tmp_path / "agent.safetensors"
    GARBAGE[garbage](path)
    before = path.read_bytes()
    with pytest.raises(BadInput) as caught:
        load_agent(path)
    one_sentence(caught, path)
    assert path.read_bytes() == before


def test_a_crafted_file_without_its_fault_is_an_agent(tmp_path):
    crafted()(tmp_path / "agent.safetensors")
    assert load_agent(tmp_path / "agent.safetensors")[1]["env"] == {"id": "CartPole-v1"}


@pytest.mark.parametrize(
    "env", [None, "CartPole-v1", [], {}, {"id": 5}, {"id": "CartPole-v1", "seed": 1}], ids=str
)
def test_a_world_that_cannot_be_made_again_is_told(env):
    with pytest.raises(BadInput) as caught:
        env_spec({} if env is None else {"env": env})
    one_sentence(caught, env)


def test_a_large_agent_is_checked_before_it_is_made_and_loads(tmp_path, monkeypatch):
    crafted()(tmp_path / "agent.safetensors")
    monkeypatch.setattr(checkpoint, "LARGE", 0)
    load_agent(tmp_path / "agent.safetensors")


def test_the_other_file_of_a_checkpoint_is_no_agent(run):
    path = latest(run) / "training.safetensors"
    with pytest.raises(BadInput) as caught:
        load_agent(path)
    one_sentence(caught, path)


def test_a_truncated_agent_file_is_told(run):
    truncate("agent")(latest(run))
    with pytest.raises(BadInput) as caught:
        load_agent(latest(run) / "agent.safetensors")
    one_sentence(caught, latest(run) / "agent.safetensors")


def test_a_missing_part_is_told(tmp_path):
    with pytest.raises(BadInput) as caught:
        load_tree(tmp_path / "nowhere")
    one_sentence(caught, tmp_path / "nowhere")


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("env_id", "settings", "changes"),
    [
        ("CartPole-v1", {}, {"deter": 24}),
        ("Pendulum-v1", {}, {}),
        ("wmlib/Curtain-v0", {}, {}),
        ("CartPole-v1", {"sutton_barto_reward": True}, {}),
        ("CartPole-v1", {"pixels": True, "size": 16}, {}),
    ],
    ids=["architecture", "pendulum", "curtain", "settings", "pixels"],
)
def test_a_run_of_another_kind_is_not_resumed(env_id, settings, changes, run):
    trainer = make_trainer(run, env_id, settings, **changes)
    before, weights = contents(run), agent_and_moments(trainer)
    with pytest.raises(BadInput) as caught:
        trainer.resume()
    one_sentence(caught)
    assert contents(run) == before and trainer.steps == 0
    assert all(torch.equal(v, weights[k]) for k, v in agent_and_moments(trainer).items())


def test_a_run_with_another_replay_is_not_resumed(run):
    before = contents(run)
    with pytest.raises(BadInput) as caught:
        make_trainer(run, stored_latents=True).resume()
    one_sentence(caught)
    assert contents(run) == before


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_are_named_and_change_nothing(change):
    agent = make_trainer(None).agent
    weights = {k: v + 1 for k, v in agent.state_dict().items()}
    name = sorted(weights)[3]
    if change == "missing":
        del weights[name]
    elif change == "extra":
        name = "a.stranger"
        weights[name] = torch.ones(2)
    else:
        weights[name] = torch.ones(9, 9)
    before = {k: v.clone() for k, v in agent.state_dict().items()}
    with pytest.raises(BadInput) as caught:
        load_weights(agent, weights)
    one_sentence(caught, f"'{name}'")
    assert all(torch.equal(v, before[k]) for k, v in agent.state_dict().items())


def test_an_unknown_key_in_a_description_is_told():
    agent = make_trainer(None).agent
    about = describe_agent(agent, {}, 0)
    about["config"]["magic"] = 1
    with pytest.raises(BadInput, match="'magic'.*newer wmlib") as caught:
        build_agent(agent.state_dict(), about)
    assert len(str(caught.value)) < 100  # not all the keys that there are


# ---------------------------------------------------------------- one run, one process

HOLD = """
import sys, time
from wmlib.checkpoint import lock_run
with lock_run(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """Let another process use a run; returns the process."""
    processes = []

    def start(run):
        words = [sys.executable, "-c", HOLD, str(run)]
        processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "locked\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_run_in_use_is_left_alone_until_its_process_is_gone(run, hold):
    process, trainer = hold(run), make_trainer(run)
    before = contents(run)
    for use in (trainer.resume, lambda: trainer.run(4, progress=False)):
        with pytest.raises(BadInput) as caught:
            use()
        one_sentence(caught, f"{run} is in use by process {process.pid}")
    assert contents(run) == before
    process.kill()  # it cannot tidy up
    process.wait()
    assert (run / "lock").exists()
    trainer.resume()
    trainer.run(trainer.steps + 2, progress=False)
    assert not (run / "lock").exists()


def test_a_fresh_run_has_its_directory_for_itself(tmp_path, hold):
    process = hold(tmp_path / "run")
    with (
        pytest.raises(BadInput, match=f"in use by process {process.pid}"),
        lock_run(tmp_path / "run"),
    ):
        pytest.fail("two at once")
    with lock_run(tmp_path / "other"):
        assert (tmp_path / "other" / "lock").read_text() == f"{os.getpid()}\n"
        with lock_run(tmp_path / "other"):  # a trainer within `train`
            open_run(tmp_path / "other", {})
        assert (tmp_path / "other" / "lock").exists()
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["run.json"]


@pytest.mark.parametrize("left", ["", "1", "nonsense", "4194304\n"])
def test_a_lock_that_nobody_holds_is_taken_over(left, tmp_path):
    (tmp_path / "lock").write_text(left)
    with lock_run(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EROFS, BadInput), (errno.EACCES, BadInput), (errno.ENOSPC, OSError)]
)
def test_a_run_that_cannot_be_written_is_told_before_anything_else(number, kind, run, monkeypatch):
    before = contents(run)

    def refused(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoint, "_locked", refused)
    with pytest.raises(kind) as caught:
        make_trainer(run).resume()
    assert one_sentence(caught) == f"Cannot write to {run} ({os.strerror(number)})."
    assert contents(run) == before


LEFTOVERS = [["run.json"], ["run.json", "metrics.csv"], ["lock"], ["checkpoints/draft.tmp/a"], []]


@pytest.mark.parametrize("names", LEFTOVERS, ids=str)
def test_where_a_run_never_saved_another_can_begin(names, tmp_path):
    out = tmp_path / "run"
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("half")
    if "run.json" in names:
        with pytest.raises(BadInput, match="never saved and can be started anew"):
            make_trainer(out).resume()
    with lock_run(out):
        open_run(out, {"seed": 1})
    assert {p.name: b for p, b in contents(out).items()} == {"run.json": b'{\n  "seed": 1\n}\n'}


@pytest.mark.parametrize("name", ["mine.txt", "checkpoints/step-0000000600-copy2/a", "a/run.json"])
def test_where_anything_else_is_no_run_begins(name, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("keep")
    (tmp_path / "run.json").write_text("{}")
    before = contents(tmp_path)
    with pytest.raises(BadInput) as caught:
        open_run(tmp_path, {})
    one_sentence(caught, tmp_path)
    assert contents(tmp_path) == before


def test_gaps_stay_gaps(tmp_path):
    path = tmp_path / "metrics.csv"
    wmlib.checkpoint.write_metrics(
        path, [{"steps": 1, "score": float("nan")}, {"steps": 2, "score": 0.123456789}]
    )
    assert path.read_text().splitlines()[1:] == ["1,,,,,", "2,,,,0.123457,"]
    assert np.isnan(wmlib.read_metrics(path)["score"][0])
