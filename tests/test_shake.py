"""`make shake`: seeds that really move, and a table that counts what failed."""

import csv
import json
import math
import subprocess
import sys

import nbformat
import pytest
import shake_notebooks
from course import ROOT, code
from shake_notebooks import Sweep, code_of, execute, margin, report, to_run, within

DRAWS = """
import random, sys
sys.path.insert(0, "tests")
from shake_notebooks import shift_seeds
shift_seeds({})
import gymnasium, numpy, torch, wmlib
wmlib.seed_everything(1)
print(torch.rand(()).item(), numpy.random.rand())
print(torch.rand((), generator=torch.Generator().manual_seed(1)).item())
print(numpy.random.default_rng(1).random(), numpy.random.default_rng([1, 2]).random())
obs = wmlib.make_env("wmlib/Curtain-v0", num_envs=64).reset(seed=1).obs.ravel()
print(numpy.flatnonzero(obs).sum())
"""


def draws(offset):
    done = subprocess.run(
        [sys.executable, "-c", DRAWS.format(offset)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_every_generator_is_shifted_and_can_be_repeated():
    usual, moved = draws(0), draws(1000)
    assert len(usual) == 6
    assert all(a != b for a, b in zip(usual, moved, strict=True))
    assert moved == draws(1000)


def test_margins_are_in_standard_deviations():
    assert margin([1.0, 2.0, 3.0], None, 6.0) == pytest.approx(4)
    assert margin([1.0, 2.0, 3.0], 0.0, 6.0) == pytest.approx(2)
    assert margin([1.0, 2.0, 3.0], 2.5, None) == pytest.approx(-0.5)
    assert margin([1.0, 1.0], 0.0, None) == math.inf
    assert margin([1.0, 1.0], 2.0, None) == -math.inf


def test_nan_is_outside():
    assert not within(math.nan, None, 1)
    assert within(1, None, 1)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one notebook, which goes on after an error, and a place for results."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.from_dict(cell)
        for cell in (
            code("import numpy as np\nfrom wmlib.checks import expect", name="setup"),
            code("x = np.random.default_rng(0).random()", name="draw"),
            code("expect('x', x, high=2)\nexpect('x less 2', x - 2, low=0)", name="bounds"),
            code("1 / 0", name="broken"),
            code("expect('x', x, low=-1)", name="last"),
        )
    ]
    home = tmp_path / "notebooks"
    home.mkdir()
    nbformat.write(notebook, home / "05_tiny.ipynb")
    monkeypatch.setattr(shake_notebooks, "OUT", tmp_path / "out")
    monkeypatch.setattr(shake_notebooks, "TABLE", tmp_path / "shake.csv")
    (tmp_path / "out").mkdir()
    return home / "05_tiny.ipynb"


def test_a_sweep_goes_on_and_the_table_counts(course, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WMLIB_EXPECTATIONS", "")  # undone at the end
    monkeypatch.setenv("WMLIB_STRICT", "")
    for shift in (0, 1):
        sweep = Sweep("native", 1, shift)
        found = execute(course, sweep)
        assert [e["cell"] for e in found["expectations"]] == ["bounds", "bounds", "last"]
        assert [f["cell"] for f in found["failures"]] == ["broken"]
        shake_notebooks.place_of(course, sweep).write_text(json.dumps(found))
    report([course])
    assert "2 runs of 1 notebooks in 2 sweeps, 2 failing cells" in capsys.readouterr().out
    with (tmp_path / "shake.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["cell"], row["what"], row["outside"]) for row in rows] == [
        ("bounds", "x", "0"),
        ("bounds", "x less 2", "2"),
        ("last", "x", "0"),
    ]
    assert all(row["runs"] == "2" and row["smallest"] != row["largest"] for row in rows)


def test_runs_of_other_code_do_not_count(course, tmp_path, capsys):
    found = {"code": "other", "bounds": "", "sweep": "s", "expectations": [], "failures": [1]}
    shake_notebooks.place_of(course, Sweep("native", 1, 0)).write_text(json.dumps(found))
    report([course])
    assert "0 runs" in capsys.readouterr().out
    notebook = nbformat.read(course, as_version=4)
    before = code_of(notebook)
    notebook.cells[1].source += "  # a comment"
    assert code_of(notebook) == before
    notebook.cells[1].source += "\nx = 2 * x"
    assert code_of(notebook) != before


def test_new_bounds_need_one_run_and_hold_for_all(course, monkeypatch, tmp_path):
    monkeypatch.setenv("WMLIB_EXPECTATIONS", "")  # undone at the end
    monkeypatch.setenv("WMLIB_STRICT", "")
    sweeps = [Sweep("native", 1, shift) for shift in (0, 1, 2)]

    def run(sweep):
        shake_notebooks.place_of(course, sweep).write_text(json.dumps(execute(course, sweep)))

    assert to_run(course, sweeps) == sweeps
    run(sweeps[0])
    run(sweeps[1])
    assert to_run(course, sweeps) == sweeps[2:]
    notebook = nbformat.read(course, as_version=4)
    notebook.cells[2].source = notebook.cells[2].source.replace("low=0", "low=-2")
    nbformat.write(notebook, course)
    assert to_run(course, sweeps) == [sweeps[0], sweeps[2]]
    run(sweeps[0])
    assert to_run(course, sweeps) == sweeps[2:]
    report([course])
    with (tmp_path / "shake.csv").open() as stream:
        row = list(csv.DictReader(stream))[1]
    assert (row["what"], row["runs"], row["low"], row["outside"]) == ("x less 2", "2", "-2", "0")
