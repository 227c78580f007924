"""`python -m wmlib check`: what it measures, what it objects to, and what it makes of both."""

import importlib.metadata
import json
import re
import types

import pytest
import torch
from course import ROOT

from wmlib import course, machine
from wmlib.__main__ import main

PINS = machine.pinned((ROOT / "requirements.txt").read_text())


@pytest.fixture(autouse=True)
def healthy(monkeypatch):
    """A machine on which nothing is wrong: twice as fast as the reference, and ours alone."""
    versions = {"jupyterlab_widgets": "3.0.17", **PINS}
    monkeypatch.setattr(machine, "installed", versions.get)
    monkeypatch.setattr(machine, "memory_gb", lambda: 16.0)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=50e9))
    twice = 2 * machine.REFERENCE_RATE
    monkeypatch.setattr(machine, "training_rate", lambda _: (twice, 0.99))


@pytest.fixture
def versions(monkeypatch):
    """Change what is installed."""

    def change(**other):
        now = {"jupyterlab_widgets": "3.0.17", **PINS, **other}
        monkeypatch.setattr(machine, "installed", now.get)

    return change


def checked(capsys):
    """Run the command: exit code, JSON, and the lines on stderr."""
    code = main(["check", "--seconds", "0.01"])
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    return code, json.loads(out), err.splitlines()


# ---------------------------------------------------------------- all well


def test_a_healthy_machine_passes(capsys):
    code, found, lines = checked(capsys)
    assert code == 0 and found["ok"] and found["problems"] == found["notes"] == []
    assert 8 <= len(lines) <= 12
    assert lines[-1].startswith("This machine can run the course;")
    assert found["threads"] == 1 and found["device"] in ("cpu", "cuda", "mps")
    assert found["instructions"] == torch.backends.cpu.get_cpu_capability()


def test_estimates_scale_with_the_rate(capsys):
    _, found, lines = checked(capsys)
    half = {key: round(book.seconds / 2) for key, book in course.notebooks().items()}
    assert found["notebook_seconds"] == half
    shown = re.findall(r"(\d\d) (\d+) (s|min)", " ".join(lines))
    assert [key for key, _, _ in shown][: len(half)] == list(half)
    assert ("00", "10", "s") in shown and ("11", "2", "min") in shown


def test_the_table_of_the_readme_holds_the_times_of_the_notebooks():
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| \[(\d\d) .*\| (\d+) (s|min) \|$", text, re.M)
    said = {key: int(count) * {"s": 1, "min": 60}[unit] for key, count, unit in rows}
    assert said == {key: book.seconds for key, book in course.notebooks().items()}


# ---------------------------------------------------------------- something wrong


def no_course(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine.course, "__file__", str(tmp_path / "wmlib" / "course.py"))


def no_training(_):
    raise RuntimeError("could not create a primitive\nand more lines")


WRONG = {
    "memory": (lambda m, _: m.setattr(machine, "memory_gb", lambda: 1.2), "1.2 GB of memory"),
    "disk": (
        lambda m, _: m.setattr(
            machine.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=3e8)
        ),
        "0.3 GB free on the disk",
    ),
    "python": (lambda m, _: m.setattr(machine, "OLDEST", (9, 0)), "Python is"),
    "course": (no_course, "git clone"),
    "training": (lambda m, _: m.setattr(machine, "training_rate", no_training), "primitive"),
}


@pytest.mark.parametrize("what", WRONG)
def test_every_problem_is_one_sentence_and_code_1(what, monkeypatch, tmp_path, capsys):
    spoil, named = WRONG[what]
    spoil(monkeypatch, tmp_path)
    code, found, lines = checked(capsys)
    assert code == 1 and not found["ok"]
    (problem,) = found["problems"]
    assert named in problem and "\n" not in problem
    assert any(problem in line for line in lines)
    assert lines[-1].startswith("This machine cannot run the course yet")


@pytest.mark.parametrize("name", ["matplotlib", "jupyterlab", "jupyterlab_widgets", "ipywidgets"])
def test_a_missing_package_is_named(name, versions, capsys):
    versions(**{name: None})
    code, found, lines = checked(capsys)
    assert code == 1 and len(found["problems"]) == 1 and name in found["problems"][0]
    assert any(name in line for line in lines)


def test_what_only_tests_need_may_be_missing(versions, capsys):
    versions(nbval=None)
    code, found, _ = checked(capsys)
    assert code == 0 and len(found["notes"]) == 1 and "nbval" in found["notes"][0]


def test_another_version_is_named_and_allowed(versions, capsys):
    versions(torch="2.0.1")
    code, found, lines = checked(capsys)
    (note,) = found["notes"]
    assert code == 0 and "torch" in note and "2.0.1" in note and PINS["torch"] in note
    assert any(note in line for line in lines) and "note" in lines[-1]


def test_a_busy_machine_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(machine, "training_rate", lambda _: (2.0, 0.3))
    code, found, _ = checked(capsys)
    assert code == 0 and len(found["notes"]) == 1 and "Other programs" in found["notes"][0]


def test_seconds_must_be_positive(capsys):
    assert main(["check", "--seconds", "0"]) == 2
    assert "--seconds" in capsys.readouterr().err


# ---------------------------------------------------------------- what is measured


@pytest.mark.parametrize("limit", ["2000000000\n", "max\n"])
def test_the_memory_is_that_of_the_container(limit, monkeypatch, tmp_path):
    monkeypatch.undo()
    bare = machine.memory_gb()
    assert bare is None or bare > 0.1
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(machine, "CONTAINER", tmp_path)
    limited = machine.memory_gb()
    assert limited == 2.0 if limit[0] == "2" else limited is None or limited >= (bare or 0)


def test_the_training_is_one(monkeypatch):
    monkeypatch.undo()
    updates = []
    update = machine.bench.Dreamer.update
    monkeypatch.setattr(
        machine.bench.Dreamer, "update", lambda self, batch: updates.append(update(self, batch))
    )
    rate, share = machine.training_rate(0.01)
    assert len(updates) >= 5 and rate > 0 and 0 < share <= 1


def test_versions_are_read_without_their_local_part(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cpu")
    assert machine.installed("torch") == "2.13.0"
    monkeypatch.undo()
    assert machine.installed("no-such-package-here") is None


def test_what_the_package_needs_is_pinned():
    assert machine.own_requirements() - {"jupyterlab_widgets"} <= PINS.keys()
