"""Several processes that learn one agent do what one process would do with all of their windows."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import BUTTONS, IMAGE, MINI, STICKS, VECTOR, make_sample, pick_argmax, randomise

from wmlib import distributed
from wmlib.__main__ import main
from wmlib.agent import Dreamer
from wmlib.checkpoint import latest, load_agent, load_tree, part_names, read_metrics
from wmlib.distributions import NormalPolicy
from wmlib.errors import BadInput

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch is built without gloo"
)
WORLDS = {"vector, buttons": (VECTOR, BUTTONS), "image, sticks": (IMAGE, STICKS)}
WINDOWS = 16
UPDATES = 3


def build(world, seed=0):
    torch.manual_seed(seed)
    return randomise(Dreamer(*WORLDS[world], MINI.replace(deter=16)), seed)


def windows(world, update, part=slice(None)):
    sample = make_sample(*WORLDS[world], WINDOWS, seed=update)
    return {name: values[part] for name, values in sample.items()}


def without_chance(patch):
    """Sample the same for a window whoever else is in its batch."""
    patch.setattr("wmlib.rssm.sample_onehot", pick_argmax)
    patch.setattr("wmlib.distributions.sample_onehot", pick_argmax)
    patch.setattr(NormalPolicy, "sample", lambda self: (self.mean + self.std / 2).detach())


def updates(agent, world, part=slice(None)):
    """Take some updates; the weights, and the metrics of the last one."""
    for update in range(UPDATES):
        metrics, _ = agent.update(*agent.tensors(windows(world, update, part)))
    return agent.state_dict(), metrics


def joined(rank, count, folder, work, *given):
    """One process: do some work among the others, and keep what it returns."""
    torch.set_num_threads(1)
    os.environ["WORLD_SIZE"] = str(count)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=count)
    torch.save(work(rank, *given), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def spawned(folder, work, *given, count=2):
    """What a function returns in each of several processes."""
    mp.spawn(joined, (count, str(folder), work, *given), nprocs=count)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def learn(rank):
    """In every world: updates on half of the windows, then one that is spoilt for rank 1."""
    results = {}
    with pytest.MonkeyPatch.context() as patch:
        without_chance(patch)
        for world in WORLDS:
            agent, part = build(world, seed=rank), slice(8 * rank, 8 * rank + 8)
            distributed.learn_together(agent)
            weights, metrics = updates(agent, world, part)
            before = {name: value.clone() for name, value in weights.items()}
            batch, _ = agent.tensors(windows(world, UPDATES, part))
            batch["reward"][0, 3] += float("nan") if rank == 1 else 0
            with pytest.raises(FloatingPointError) as error:
                agent.update(batch)
            after = agent.state_dict()
            results[world] = (before, metrics, after, str(error.value))
    return results


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    return spawned(tmp_path_factory.mktemp("learnt"), learn)


@pytest.mark.parametrize("world", WORLDS)
def test_two_processes_of_8_windows_are_one_of_16(world, learnt, monkeypatch):
    """Weights, slow critic, range of returns and metrics; only rank 0 began with these weights."""
    (one, metrics, *_), (two, *_) = (results[world] for results in learnt)
    assert all(torch.equal(one[name], two[name]) for name in one)
    without_chance(monkeypatch)
    agent = build(world)
    first = {name: value.clone() for name, value in agent.state_dict().items()}
    whole, wanted = updates(agent, world)
    for name, value in whole.items():
        moved = (value - first[name]).abs().max()
        assert (one[name] - value).abs().max() < 1e-3 * moved, name
    for name in wanted:
        torch.testing.assert_close(metrics[name], wanted[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("world", WORLDS)
def test_a_number_that_is_not_finite_on_one_rank_stops_all_and_changes_nothing(world, learnt):
    words = [results[world][-1] for results in learnt]
    assert words[0] == words[1] and "rew" in words[0]
    for before, _, after, _ in (results[world] for results in learnt):
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_alone_nothing_happens():
    x = torch.arange(6.0)
    before = x.clone()
    distributed.average([x])
    assert torch.equal(x, before) and distributed.gather(x) is x
    assert distributed.total([0.1, 2]) == [0.1, 2]
    assert distributed.together(lambda: 5) == [5]
    assert distributed.own_seed(7) == 7
    agent = build("vector, buttons")
    names = set(vars(agent))
    distributed.learn_together(agent)
    assert set(vars(agent)) == names and not agent.return_scale._forward_pre_hooks


def test_every_process_has_a_gpu_and_a_seed_of_its_own(monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", lambda number: None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.own_device(torch.device("cuda")) == torch.device("cuda", 1)
    assert distributed.own_device(torch.device("cpu")) == torch.device("cpu")
    seeds = {seed: distributed.own_seed(seed) for seed in range(20)}
    assert len(set(seeds.values()) | set(seeds)) == 40 and max(seeds.values()) < 2**31
    with pytest.raises(BadInput, match="'cuda:0' was asked for"):
        distributed.own_device(torch.device("cuda:0"))
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(BadInput, match="at most --nproc-per-node 2"):
        distributed.own_device(torch.device("cuda"))


# ---------------------------------------------------------------- the command line

WORDS = ["--num-envs", 4, "--batch-size", 4, "--random-steps", 0, "--model-updates", 0]
WORDS += ["--deter", 16, "--hidden", 16, "--units", 16, "--stoch", 2, "--classes", 4, "--ratio", 16]
WORDS += ["--batch-length", 8, "--horizon", 4, "--imagine-last", 2, "--warmup", 2]
WORDS += ["--eval-episodes", 2]
TORCHRUN = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]


def torchrun(*words):
    """Two processes; their numbers of threads are those of this one."""
    words = [sys.executable, "-m", *TORCHRUN, "--nproc-per-node", 2, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, words)), **pipes)


def finished(process):
    """What it wrote to stdout and stderr, and its exit code; nothing of it is left running."""
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends its processes
        out, err = process.communicate()
    return out, err, process.returncode


def test_a_signal_to_torchrun_saves_the_run_of_both_processes(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["CartPole-v1", *WORDS, "--minutes", 5, "--out", run]
    process = torchrun("-m", "wmlib", "train", *words)
    for _ in range(6000):
        if (run / "metrics.csv").exists() or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err, _ = finished(process)
    result = json.loads(out)  # one line
    assert result["interrupted"] and result["updates"] > 0, err
    assert load_agent(run)[1]["steps"] == result["steps"]
    assert read_metrics(run / "metrics.csv")["steps"][-1] == result["steps"]
    again = f"torchrun --nproc-per-node 2 -m wmlib train CartPole-v1 --resume {run}"
    assert err.count("saving ...") == err.count(again) == 1
    parts = {"agent", "training", "replay-00000", "rank1-training", "rank1-replay-00000"}
    assert set(part_names(latest(run))) == parts
    assert main(["train", "CartPole-v1", "--resume", str(run)]) == 2
    assert "of 2 processes, not of 1" in capsys.readouterr().err


SEVERAL = """
    import json, os, sys
    from pathlib import Path
    import gymnasium as gym
    from gymnasium.envs.classic_control import CartPoleEnv
    from wmlib.__main__ import main
    from wmlib.distributed import joined

    class Weak(CartPoleEnv):
        left = 60

        def step(self, action):
            Weak.left -= os.environ["RANK"] == "1"
            if Weak.left == 0:
                raise OSError("the simulator is gone")
            return super().step(action)

    gym.register("test/Weak-v0", Weak)
    with joined():
        codes = [main(words) for words in json.loads(sys.argv[1])]
    assert codes == [0, 0, 0, 2, 2], codes
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in threads), threads
"""


def flat(tree, prefix=""):
    """Nested dicts -> {path: bytes or value}."""
    if isinstance(tree, dict):
        return {k: v for n, sub in tree.items() for k, v in flat(sub, f"{prefix}/{n}").items()}
    return {prefix: tree.numpy().tobytes() if isinstance(tree, torch.Tensor) else tree}


def test_two_processes_resume_exactly_and_fail_together(tmp_path):
    one, two, weak = (str(tmp_path / name) for name in ("one", "two", "weak"))
    commands = [
        ["CartPole-v1", *WORDS, "--steps", 96, "--out", one],
        ["CartPole-v1", "--resume", one, "--steps", 192, "--eval-episodes", 2],
        ["CartPole-v1", *WORDS, "--steps", 192, "--out", two],
        ["test/Weak-v0", *WORDS, "--steps", 999, "--out", weak],
        ["CartPole-v1", *WORDS, "--batch-size", 5, "--steps", 96],
    ]
    script = tmp_path / "several.py"
    script.write_text(textwrap.dedent(SEVERAL))
    words = [["train", *map(str, command)] for command in commands]
    out, err, code = finished(torchrun(script, json.dumps(words)))
    assert code == 0, err
    first, resumed, whole = map(json.loads, out.splitlines())
    assert 96 <= first["steps"] < 192 <= resumed["steps"] < 200
    kept = ("steps", "updates", "eval_return_mean")
    assert {name: resumed[name] for name in kept} == {name: whole[name] for name in kept}
    for part in ("agent", "training", "rank1-training", "rank1-replay-00000"):
        trees = [flat(load_tree(latest(run) / f"{part}.safetensors")[0]) for run in (one, two)]
        assert trees[0] | {"/seconds": 0} == trees[1] | {"/seconds": 0}, part
    rows = [
        load_tree(latest(one) / f"{rank}replay-00000.safetensors")[0] for rank in ("", "rank1-")
    ]
    assert not torch.equal(rows[0]["obs"], rows[1]["obs"])
    assert "simulator is gone" in err and err.count("is saved at") == 1
    assert load_agent(weak)[1]["steps"] > 0
    assert "batch_size is 5; 2 processes need a multiple of 2" in err
