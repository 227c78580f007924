"""The benchmark measures what it says; how long things take is never a test."""

import json
import os

import pytest
import torch

from wmlib import __main__ as cli
from wmlib.config import preset
from wmlib.experiments import bench

SMALL = dict(deter=16, hidden=8, units=8, depth=8, batch_size=2, batch_length=4, horizon=2)


@pytest.fixture
def small(monkeypatch):
    cases = {k: (o, a, preset("tiny", **SMALL)) for k, (o, a, _) in bench.CASES.items()}
    cases["image"] = (bench.image_space(16, 3), *cases["image"][1:])
    monkeypatch.setattr(bench, "CASES", cases)
    axis = ((1, 2), lambda n: (*cases["cartpole"][:2], preset("tiny", **SMALL | {"horizon": n})))
    monkeypatch.setattr(bench, "SCALING", {"horizon H": axis})
    return cases


@pytest.fixture(scope="module")
def result():
    return bench.bench(("cartpole",), 1, 0.01, axes=())


@pytest.mark.parametrize("name", list(bench.CASES))
def test_every_case_is_measured(small, name):
    line = bench.measure(name, torch.get_num_threads(), 0.01)
    assert line["rows"] == 8
    assert line["gflop"] >= 0 and 0 <= line["peak_fraction"] < 1
    assert set(line["phases_ms"]) == set(bench.PHASES)
    assert all(ms > 0 for ms in line["phases_ms"].values())
    assert sum(line["phases_ms"].values()) < 20 * line["update_ms"]
    kinds = line["kinds_percent"]
    assert set(kinds) == {*bench.KINDS, "elementwise"}
    assert all(share > 0 for share in kinds.values()) and abs(sum(kinds.values()) - 100) < 0.5
    json.dumps(line)


def test_kinds_of_work_are_told_apart(small):
    class Products:
        def update(self, batch):
            return batch @ batch

    class Sums(Products):
        def update(self, batch):
            return batch.exp().sum()

    square = torch.randn(400, 400)
    assert bench.kind_shares(Products(), square, 3)["products"] > 50
    shares = bench.kind_shares(Sums(), square, 3)
    assert shares["products"] == 0 and shares["elementwise"] > 50


def test_silenced_gives_stderr_back(capfd):
    with bench.silenced():
        os.write(2, b"lost")
    os.write(2, b"told")
    assert capfd.readouterr().err == "told"


def test_stopwatches_leave_the_agent_as_it_was(small):
    agent, batch = bench.build(small["cartpole"])
    before = agent.world.observe.__func__, agent.optimizer.step.__func__, torch.Tensor.backward
    bench.phase_times(agent, batch, 1)
    after = agent.world.observe.__func__, agent.optimizer.step.__func__, torch.Tensor.backward
    assert before == after


def test_the_arithmetic_of_a_known_layer_is_counted(small):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        torch.randn(3, 4) @ torch.randn(4, 5)
    assert counter.get_total_flops() == 2 * 3 * 4 * 5


def test_exponent_of_a_power_law():
    assert bench.exponent((1, 2, 4), [1.0, 4.0, 16.0]) == 2.0


def test_growth_is_measured(small):
    line = bench.scaling("horizon H", torch.get_num_threads(), 0.01)
    assert line["value"] == [1, 2] and len(line["update_ms"]) == 2


def test_full_size_case_in_its_own_process(result):
    assert result["cartpole"]["rows"] == 256 and result["cartpole"]["threads"] == 1
    assert result["cartpole_peak_fraction"] == result["cartpole"]["peak_fraction"] > 0.01
    assert "update_ms" in bench.table(result)


def test_picture(result):
    axis = {"value": [1, 2], "update_ms": [10.0, 20.0], "exponent": 1.0}
    shares, growth = bench.draw({**result, "scaling": {"horizon H": axis}}).axes
    (bars,) = {len(phase) for phase in shares.containers}
    phases = result["cartpole"]["phases_ms"]
    widths = {phase.get_label(): phase[0].get_width() for phase in shares.containers}
    total = sum(phases.values())
    assert widths == pytest.approx({name: 100 * ms / total for name, ms in phases.items()})
    assert sum(widths.values()) == pytest.approx(100)
    assert (
        bars == 1
        and f"{result['cartpole']['update_ms']:.0f} ms" in shares.get_yticklabels()[0].get_text()
    )
    assert growth.lines[0].get_xydata().tolist() == [[1, 10], [2, 20]]
    assert growth.get_xlabel() == "horizon H" and "1.0" in growth.get_title()


def test_command(monkeypatch, capsys, tmp_path, result):
    grown = {
        **result,
        "scaling": {"H": {"value": [1, 2], "update_ms": [1.0, 2.0], "exponent": 1.0}},
    }
    monkeypatch.setattr(bench, "bench", lambda *_: grown)
    assert cli.main(["bench", "--plot", str(tmp_path / "b.png")]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == grown and "peak_fraction" in err
    assert (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cases", "pong"], "Unknown case 'pong'"),
        (["--seconds", "0"], "must be positive"),
        (["--plot", "/nowhere/b.png"], "no directory"),
    ],
)
def test_bad_input_is_one_sentence(capsys, options, said):
    assert cli.main(["bench", *options]) == 2
    assert said in capsys.readouterr().err


def test_times_wait_for_the_device(monkeypatch):
    events = []
    monkeypatch.setattr(bench, "finish", lambda device: events.append(device.type))
    bench.timed(lambda: events.append("call"), 0, 2, torch.device("cuda"))
    assert events == ["call"] * 3 + ["cuda"] + ["call", "cuda"] * 2
    events.clear()
    monkeypatch.setattr(torch, "mm", lambda *_: events.append("call"))
    bench.matmul_peak(8)
    assert events == ["cpu", "call", "cpu"] * 5


@pytest.mark.parametrize("kind", ["cuda", "mps", "cpu"])
def test_each_device_is_waited_for_in_its_own_way(monkeypatch, kind):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(device.type))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    bench.finish(torch.device(kind))
    assert waited == ([] if kind == "cpu" else [kind])
