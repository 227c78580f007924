"""Notebooks find the files of the course from any directory, or say in one sentence what to do."""

import ast
import errno
import json
import os
import re
import subprocess
import sys
from unittest.mock import Mock

import course as notebooks
import pytest
from course import NOTEBOOKS, ROOT, code_cells, module, python, source, tags

import wmlib
from wmlib import course
from wmlib.checkpoint import describe_agent, latest, write_checkpoint
from wmlib.errors import BadInput

ELSEWHERE = re.compile(
    r"""["'](?:results|mine|runs|notebooks)/|["'](?:results|mine)["']|["']\.\./"""
)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Work in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clone(elsewhere):
    """Another copy of the course, in the working directory."""
    (elsewhere / "notebooks" / "results").mkdir(parents=True)
    (elsewhere / "notebooks" / "00_first.ipynb").touch()
    return elsewhere


@pytest.fixture
def nowhere(elsewhere, monkeypatch):
    """No course here, and none beside the package."""
    monkeypatch.setattr(
        course, "__file__", str(elsewhere / "site-packages" / "wmlib" / "course.py")
    )


# ---------------------------------------------------------------- where


@pytest.mark.parametrize("place", [".", "notebooks", "notebooks/results", "wmlib/envs"])
def test_the_course_is_found_from_inside(place, monkeypatch):
    monkeypatch.chdir(ROOT / place)
    assert course.home() == ROOT


def test_the_course_is_found_from_elsewhere(elsewhere):
    assert course.home() == ROOT
    assert (course.results() / "curtain.csv").is_file()


def test_the_copy_one_works_in_is_used(clone, monkeypatch):
    monkeypatch.chdir(clone / "notebooks")
    assert course.home() == clone


def test_other_notebooks_with_results_are_no_course(clone, monkeypatch):
    (clone / "notebooks" / "00_first.ipynb").rename(clone / "notebooks" / "thesis.ipynb")
    monkeypatch.chdir(clone / "notebooks")
    assert course.home() == ROOT


def test_no_course_is_one_sentence(nowhere):
    with pytest.raises(BadInput, match="notebooks/results"):
        course.results()


# ---------------------------------------------------------------- writing


def test_what_is_kept_goes_into_the_course(clone, capsys):
    assert course.writable("runs") == clone / "runs"
    assert list((clone / "runs").iterdir()) == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize("obstacle", ["a file", "no permission", "a read-only disk", "no course"])
def test_a_course_that_cannot_be_written(obstacle, clone, capsys, request, monkeypatch):
    if obstacle == "a file":
        (clone / "runs").write_text("keep")
    elif obstacle == "no permission":
        if os.name == "nt" or os.geteuid() == 0:
            pytest.skip("this user may write everywhere")
        clone.chmod(0o500)
        request.addfinalizer(lambda: clone.chmod(0o700))
    elif obstacle == "a read-only disk":
        refused = OSError(errno.EROFS, "Read-only file system")
        monkeypatch.setattr("tempfile.TemporaryFile", Mock(side_effect=refused))
    else:
        (clone / "notebooks" / "results").rmdir()
        request.getfixturevalue("nowhere")
    folder = course.writable("runs")
    assert clone not in folder.parents
    (folder / "dream.gif").write_text("film")
    said = capsys.readouterr().out
    assert str(folder) in said and said.count("\n") == 1
    (folder / "dream.gif").unlink()
    folder.rmdir()


# ---------------------------------------------------------------- the reader's own agent


@pytest.fixture
def mine(clone):
    """Where notebook 07 puts its model."""
    return course.writable("notebooks/mine") / "nb07"


def store(folder, world="wmlib/Curtain-v0"):
    env = wmlib.make_env(world, 2, 0)
    small = wmlib.preset("tiny", deter=16, hidden=16, units=16, depth=8, stoch=2, classes=4)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, small)
    about = describe_agent(agent, env.spec, seed=0)
    write_checkpoint(folder, 1000, {"agent": (agent.state_dict(), about)})


def test_a_model_of_ones_own_is_used(mine):
    store(mine)
    assert course.own_agent("nb07").config.deter == 16


def test_without_one_nothing_is_said(mine, capsys):
    assert course.own_agent("nb07") is None and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "damage", ["empty", "truncated", "a file", "no checksums", "unreadable", "another world"]
)
def test_a_damaged_one_is_one_sentence(damage, mine, capsys, monkeypatch):
    if damage == "unreadable":
        refused = PermissionError(errno.EACCES, "Permission denied", str(mine))
        monkeypatch.setattr("pathlib.Path.exists", Mock(side_effect=refused))
    elif damage == "another world":
        store(mine, "CartPole-v1")
    elif damage == "empty":
        mine.mkdir()
    elif damage == "a file":
        mine.write_text("nonsense")
    else:
        store(mine)
        part = latest(mine) / ("agent.safetensors" if damage == "truncated" else "checksums.json")
        part.write_bytes(part.read_bytes()[:5])
    assert course.own_agent("nb07") is None
    said = capsys.readouterr().out
    assert "nb07" in said and said.count("\n") == 1


# ---------------------------------------------------------------- the notebooks


def setup(path):
    """The cell that imports what a notebook needs."""
    found = [c for c in code_cells(notebooks.load(path)) if "setup" in tags(c)]
    return next(c for c in found if "torch.__version__" in source(c))


def readers(path):
    """Top-level statements that read stored results."""
    for cell in code_cells(notebooks.load(path)):
        if "setup" not in tags(cell):
            for node in ast.parse(python(cell)).body:
                if any(isinstance(n, ast.Name) and n.id == "RESULTS" for n in ast.walk(node)):
                    yield node


READING = [path for path in NOTEBOOKS if list(readers(path))]


def test_some_notebooks_read_results():
    assert {"00", "06", "07", "09", "10", "11"} <= {path.stem[:2] for path in READING}


@pytest.mark.parametrize("path", READING, ids=lambda path: path.stem)
def test_results_are_read_from_any_directory(path, elsewhere, capsys):
    with module(f"read_{path.stem}") as scope:
        notebooks.run(python(setup(path)), scope, path.stem)
        assert scope.RESULTS == ROOT / "notebooks" / "results"
        for node in readers(path):
            notebooks.run(ast.unparse(node), scope, path.stem)
            if isinstance(node, ast.FunctionDef):
                assert len(getattr(scope, node.name)("curtain")) >= 5
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_path_depends_on_the_working_directory(path):
    found = [
        line
        for cell in code_cells(notebooks.load(path))
        for line in source(cell).splitlines()
        if ELSEWHERE.search(line) and "course.writable(" not in line
    ]
    assert found == []


ALONE = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
hidden = json.loads(sys.argv[1])
if hidden:
    sys.modules["wmlib"] = None
else:
    from wmlib import course
    course.__file__ = sys.argv[2]
for line in sys.stdin:
    print("====")
    print("failed" if shell.run_cell(json.loads(line)).error_in_exec else "ran")
"""


@pytest.mark.parametrize("hidden", [True, False], ids=["package", "results"])
def test_what_is_missing_is_said_in_one_sentence(hidden, elsewhere):
    books = NOTEBOOKS if hidden else READING
    cells = "".join(json.dumps(source(setup(path))) + "\n" for path in books)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(hidden), str(elsewhere / "wmlib" / "x.py")],
        input=cells,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(elsewhere), "IPYTHONDIR": str(elsewhere)},
    )
    answers = done.stdout.split("====\n")[1:]
    assert len(answers) == len(books)
    for answer in answers:
        sentence, failed = answer.strip().splitlines()
        assert failed == "failed" and "Traceback" not in answer
        assert "git clone" in sentence and "pip install -e ." in sentence
        assert ("wmlib" if hidden else "notebooks/results") in sentence


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cell_of_imports_is_folded(path):
    assert setup(path)["metadata"]["jupyter"]["source_hidden"]
