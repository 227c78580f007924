"""The workflow runs what the Makefile runs; what failed is executed once more, to be looked at."""

import json
import re
import shlex

import failed_notebooks
import nbformat
import pytest
from course import ROOT, code

WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
MAKE = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")


def commands(text: str) -> set[str]:
    """Calls of pytest, ruff and pyright, each on one line with single spaces."""
    text = re.sub(r'cd "[^"]*" &&|"?\$\(BIN\)/python"?', lambda m: "python" * ("BIN" in m[0]), text)
    text = re.sub(r">-\n", "", text)
    text = re.sub(r"(python -m pytest --nbval[^\n]*)\n\s+(--nbval)", r"\1 \2", text)
    found = re.findall(r"python -m (?:pytest|ruff|pyright)(?: [^\n&]*)?", text)
    return {" ".join(shlex.split(command)) for command in found}


def test_the_workflow_runs_the_commands_of_the_makefile():
    assert commands(WORKFLOW) == commands(MAKE)
    assert len(commands(MAKE)) == 5


def test_the_notebooks_run_in_the_environment_of_the_makefile():
    recipe = re.search(r"^\t.*--nbval.*$", MAKE, re.M)[0]
    for name, value in re.findall(r"\b(WMLIB_\w+)=(\S*)", recipe):
        assert f'{name}: "{value}"' in WORKFLOW
        assert f'{name}="{value}"' in (ROOT / "tests" / "failed_notebooks.py").read_text()


def test_no_registry_is_named():
    assert not re.search(r"https?://|index-url", WORKFLOW)


# ---------------------------------------------------------------- what failed


@pytest.fixture
def last(tmp_path):
    """pytest's memory of a run in which a notebook and a test failed."""
    path = tmp_path / "lastfailed"
    keys = ["notebooks/05_b.ipynb::Cell 3", "notebooks/05_b.ipynb::Cell 4", "tests/test_x.py::y"]
    path.write_text(json.dumps(dict.fromkeys(["notebooks/02_a.ipynb::Cell 0", *keys], True)))
    return path


def test_failed_notebooks_are_named_once(last, tmp_path):
    names = [path.relative_to(ROOT).as_posix() for path in failed_notebooks.rejected(last)]
    assert names == ["notebooks/02_a.ipynb", "notebooks/05_b.ipynb"]
    assert failed_notebooks.rejected(tmp_path / "nothing") == []


def test_they_are_executed_to_their_end_and_left_alone(tmp_path):
    cells = [code("1 + 1", name="a"), code("1 / 0", name="b"), code("print(3)", name="c")]
    stored = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path = tmp_path / "sums.ipynb"
    path.write_text(json.dumps(stored))
    before = path.read_bytes()
    failed_notebooks.execute([path], tmp_path / "out" / "deep")
    assert path.read_bytes() == before
    outputs = [c.outputs for c in nbformat.read(tmp_path / "out" / "deep" / "sums.ipynb", 4).cells]
    assert outputs[1][0].ename == "ZeroDivisionError" and outputs[2][0].text == "3\n"
