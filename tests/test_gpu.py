"""`python -m wmlib gpu` on a CPU: all its parts at toy size, and what it makes of faults."""

import json
import signal
import types
from dataclasses import replace

import pytest
import torch

from wmlib import config
from wmlib.__main__ import main
from wmlib.agent import Dreamer
from wmlib.config import preset
from wmlib.experiments import bench, gpu
from wmlib.trainer import Trainer

CPU = torch.device("cpu")
SMALL = dict(deter=16, hidden=8, units=8, depth=8, batch_size=2, batch_length=4, horizon=2)
SHORT = SMALL | dict(num_envs=4, random_steps=40, model_updates=2)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(Dreamer, "compile_parts", lambda _: None)  # it takes minutes
    monkeypatch.setattr(gpu, "can_compile", lambda _: True)
    toy = preset("size1m", **SMALL)
    for size in ("toy", "big"):
        monkeypatch.setitem(config.PRESETS, size, toy)
    monkeypatch.setitem(gpu.SPACES, "image", bench.image_space(16, 3))
    cases = {kind: (space, bench.DISCRETE(5), toy) for kind, space in gpu.SPACES.items()}
    monkeypatch.setattr(bench, "CASES", cases)
    monkeypatch.setattr(gpu, "PEAK_CALLS", {"cpu": (64, 5)})
    short = {k: replace(v, episodes=4, changes=v.changes | SHORT) for k, v in gpu.TRAININGS.items()}
    monkeypatch.setattr(gpu, "TRAININGS", short)


@pytest.fixture
def command(tmp_path, capsys):
    """Run the command; returns its exit code, the line of JSON, the stored report, and stderr."""

    def run(*words):
        options = ["--device", "cpu", "--out", str(tmp_path), "--seconds", "0.01"]
        code = main(["gpu", *options, *words])
        out, err = capsys.readouterr()
        report = json.loads((tmp_path / "gpu-cpu.json").read_text())
        assert [path.name for path in tmp_path.iterdir()] == ["gpu-cpu.json"]
        return code, json.loads(out or "null"), report, err

    return run


# ---------------------------------------------------------------- the report


def test_the_report_is_complete(command, monkeypatch):
    compiled = []
    monkeypatch.setattr(Dreamer, "compile_parts", compiled.append)
    code, line, report, err = command("--sizes", "toy", "--minutes", "0.02")
    assert code == 0, err
    assert line == report and report["ok"] and report["complete"]
    assert report["machine"]["card"] == "cpu" and report["machine"]["torch"] == torch.__version__
    pairs = [(part["observations"], part["precision"]) for part in report["against_cpu"]]
    assert pairs == [(kind, name) for kind in gpu.SPACES for name in gpu.PRECISIONS]
    assert all(set(part["worst"]) == set(part["limits"]) for part in report["against_cpu"])
    pairs = [(part["observations"], part["mode"]) for part in report["speed"]]
    assert pairs == [(kind, mode) for kind in gpu.SPACES for mode in ("eager", "compiled")]
    assert len(compiled) == 2
    for part in report["speed"]:
        assert part["update_ms"] > 0 and part["gflop"] > 0 and part["memory_mb"] > 0
        share = part["gflop"] / part["update_ms"] * 1e3 / report["peak_gflops"]["float32"]
        assert part["peak_fraction"]["float32"] == pytest.approx(share, rel=0.2, abs=1e-4)
    assert [part["name"] for part in report["training"]] == list(gpu.TRAININGS)
    for part in report["training"]:
        assert part["updates"] > 0
        assert set(part["return"]) == {"random", "untrained", "sampled", "mode"}
    assert err.count("No CUDA device") == 1
    rows = [row.split() for row in err.splitlines() if row.startswith("toy, image, compiled")]
    assert rows[-1][4] == str(report["speed"][-1]["update_ms"])


def test_an_agent_that_cannot_be_compiled_is_measured_without(command, monkeypatch):
    monkeypatch.setattr(gpu, "can_compile", lambda _: False)
    _, _, report, _ = command("--sizes", "toy", "--minutes", "0")
    assert [part["mode"] for part in report["speed"]] == ["eager", "eager"]
    assert report["training"] == [] and report["complete"]


def test_the_card_and_its_software_are_named(monkeypatch):
    card = dict(name="NVIDIA H100 80GB HBM3", total_memory=85e9, multi_processor_count=132)
    card = types.SimpleNamespace(**card, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    said = types.SimpleNamespace(stdout="570.1\n570.1\n")
    monkeypatch.setattr(gpu.subprocess, "run", lambda *_, **__: said)
    found = gpu.machine(torch.device("cuda"))
    assert (found["memory_gb"], found["capability"]) == (85.0, "9.0")
    assert (found["driver"], found["cuda"]) == ("570.1", "12.8")
    path = gpu.report_path(gpu.Path("out"), found["card"])
    assert path == gpu.Path("out/gpu-nvidia-h100-80gb-hbm3.json")


def test_a_missing_tool_of_the_driver_is_no_end(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert gpu.driver() is None


# ---------------------------------------------------------------- against the CPU


@pytest.mark.parametrize("kind", list(gpu.SPACES))
def test_an_equal_agent_computes_the_same_and_leaves_no_trace(kind):
    before = torch.rand_like, gpu.sample_onehot, Dreamer.losses
    found = gpu.compare(bench.CASES[kind], CPU, "float32")
    assert found["ok"] and found["beyond"] == []
    worst = {k: v for k, v in found["worst"].items() if k not in gpu.AT_LEAST}
    assert set(worst.values()) == {0.0} and found["worst"]["choices"] == 1.0
    names = {name for name, p in bench.build(bench.CASES[kind])[0].named_parameters()}
    assert found["gradients"].keys() == {n for n in names if not n.startswith("critic.slow")}
    import wmlib.distributions
    import wmlib.rssm

    assert before == (torch.rand_like, wmlib.rssm.sample_onehot, Dreamer.losses)
    assert gpu.sample_onehot is wmlib.distributions.sample_onehot


def test_bfloat16_is_another_computation_within_its_bounds():
    found = gpu.compare(bench.CASES["vector"], CPU, "bfloat16")
    assert found["ok"] and found["worst"]["losses"] > 1e-4 and found["worst"]["cosine"] < 1 - 1e-7


def weight(twin):
    with torch.no_grad():
        twin.world.rssm.core.gates.weight[0, 0, 0] += 0.5


def gradient(twin):
    twin.actor.out.weight.register_hook(lambda grad: -grad)


def optimiser(twin):
    twin.optimizer.param_groups[1]["lr"] *= 1.01


def moments(twin):
    twin.optimizer = twin.build_optimizer()


def loss(twin):
    twin.world.config = replace(twin.world.config, discount_horizon=50.0)


@pytest.mark.parametrize(
    ("fault", "precision", "where"),
    [
        (weight, "float32", "state"),
        (loss, "float32", "losses"),
        (gradient, "float32", "gradient"),
        (gradient, "bfloat16", "cosine"),
        (optimiser, "float32", "weights"),
        (moments, "bfloat16", "weights"),
    ],
)
def test_a_fault_on_the_device_is_found(monkeypatch, fault, precision, where):
    copy_to = gpu.copy_to

    def spoilt(agent, device):
        twin = copy_to(agent, device)
        fault(twin)
        return twin

    monkeypatch.setattr(gpu, "copy_to", spoilt)
    found = gpu.compare(bench.CASES["vector"], CPU, precision)
    assert not found["ok"] and where in found["beyond"]


def test_a_sampler_that_chooses_otherwise_is_found(monkeypatch):
    right = gpu.sample_onehot
    calls = []

    def sample(probs):
        calls.append(probs)
        return right(probs) if len(calls) <= count else right(probs.flip(-1))

    with gpu.same_chance() as drawn:
        agent, batch = bench.build(bench.CASES["vector"])
        agent.update(batch)
    count = len(drawn)
    monkeypatch.setattr(gpu, "sample_onehot", sample)
    found = gpu.compare(bench.CASES["vector"], CPU, "float32")
    assert found["beyond"] == ["choices"]


def test_a_fault_is_an_exit_code_and_a_line_of_the_table(command, monkeypatch):
    monkeypatch.setitem(gpu.LIMITS["bfloat16"], "losses", 0.0)
    code, line, report, err = command("--sizes", "toy", "--minutes", "0")
    assert code == 1 and not line["ok"] and report["complete"]
    assert [part["ok"] for part in report["against_cpu"]] == [True, False] * 2
    assert err.count("too far: losses") == 2


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB."), None, 0),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), None, 0),
        (MemoryError(), None, 0),
        (RuntimeError("an illegal memory access was encountered\nand more"), "an illegal", 1),
    ],
)
def test_a_size_that_does_not_fit_is_one_line(command, monkeypatch, error, said, code):
    build = bench.build

    def full(case, device=CPU):
        if case[2].name == "big":
            raise error
        return build(case, device)

    monkeypatch.setattr(bench, "build", full)
    monkeypatch.setattr(gpu, "PRECISIONS", {"float32": torch.float32})
    ended, _, report, err = command("--sizes", "big", "toy", "--minutes", "0")
    assert ended == code and report["complete"] and report["ok"] == (code == 0)
    lines = {part["size"]: part for part in report["speed"]}
    assert lines["big"]["error"].startswith(said or "out of memory")
    assert "error" not in lines["toy"] and f"big, image, eager: {said or 'out of memory'}" in err


def test_an_interruption_keeps_what_is_done(command, monkeypatch):
    speed = gpu.speed
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return speed(*args)

    monkeypatch.setattr(gpu, "speed", interrupted)
    code, line, report, err = command("--sizes", "toy")
    assert code == 1 and line is None and not report["complete"]
    assert len(report["against_cpu"]) == 4 and len(report["speed"]) == 1
    assert err.splitlines()[-1].startswith("wmlib: Interrupted; what was measured is in ")


def test_an_interrupted_training_is_not_in_the_report(command, monkeypatch):
    monkeypatch.setattr(gpu, "compare", lambda *_: {"error": "out of memory"})
    monkeypatch.setattr(Trainer, "learn", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    code, _, report, err = command("--sizes")
    assert code == 1 and report["training"] == [] and len(report["against_cpu"]) == 4
    assert err.splitlines()[-1].startswith("wmlib: Interrupted; what was measured is in ")


def test_an_interruption_before_the_first_answer_is_no_report(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "compare", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="nothing is measured"):
        gpu.gpu(CPU, tmp_path, ("toy",))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sizes", "huge"], "Unknown preset 'huge'"),
        (["--seconds", "0"], "--seconds is 0.0; it must be positive."),
        (["--minutes", "-1"], "--minutes is -1.0; it must be at least 0."),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_bad_input_is_one_sentence(capsys, tmp_path, options, said):
    assert main(["gpu", "--out", str(tmp_path), *options]) == 2
    assert said in capsys.readouterr().err and not any(tmp_path.iterdir())
