"""Guesses, exercises, progress: whatever a reader does, one helpful line and nothing lost."""

import functools
import json
import linecache
import math
import random
import re
import subprocess
import sys

import course
import ipywidgets
import nbformat
import numpy as np
import pytest
import torch
from course import NOTEBOOKS

import wmlib.course
from wmlib import checks
from wmlib.checks import exercises, records
from wmlib.errors import BadInput


def written(source: str, name: str = "answer", hidden: bool = False):
    """What a reader's cell defines; `hidden`: its source cannot be found."""
    filename = f"<cell {abs(hash(source))}>"
    if not hidden:
        lines = source.splitlines(True)
        linecache.cache[filename] = (len(source), None, lines, filename)
    scope = {"torch": torch, "np": np}
    exec(compile(source, filename, "exec"), scope)
    return scope[name]


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch):
    monkeypatch.setenv("WMLIB_PROGRESS", "")


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(exercises, "EXERCISES", {})

    @checks.exercise("99.1")
    def seven(answer):
        checks.require(checks.number(answer) == 7, "Add the two sides\nof the cube.")
        return "Opposite sides of a die."

    @checks.exercise("99.2")
    def double(function):
        found = checks.array(function(torch.ones(3)), (3,), "the result")
        checks.require(found == 2, "Multiply by two.")

    @checks.exercise("99.3")
    def careless(answer):
        checks.require(answer.shape == (2,), "Two numbers.")

    return exercises.EXERCISES


# ---------------------------------------------------------------- check


@pytest.mark.parametrize(
    ("key", "answer", "verdict", "line"),
    [
        ("99.1", 7, True, "correct. Opposite sides of a die."),
        ("99.1", np.float32(7), True, "correct."),
        ("99.1", torch.tensor([7.0], requires_grad=True), True, "correct."),
        ("99.1", 8, False, "not yet. Add the two sides of the cube."),
        ("99.1", "seven", False, "not yet. The answer should be numbers, and is a str."),
        ("99.1", True, False, "should be numbers, and is a bool"),
        ("99.1", math.nan, False, "not finite"),
        ("99.1", [1, [2, 3]], False, "should be numbers, and is a list"),
        ("99.1", np.zeros((2, 3)), False, "one number, and is an array of shape (2, 3)"),
        ("99.1", object, False, "should be numbers"),
        ("99.1", None, None, "not attempted yet."),
        ("99.1", ..., None, "not attempted yet."),
        ("99.1", (1, ...), None, "not attempted yet."),
        ("99.1", {"a": ...}, None, "not attempted yet."),
        ("99.3", "ab", False, "The answer is a str; the check cannot use that (AttributeError"),
        ("99.3", np.zeros(2), True, "correct."),
    ],
)
def test_any_answer_gets_one_line(key, answer, verdict, line, registry, capsys):
    assert exercises.verdict(key, answer) is verdict
    out = capsys.readouterr().out
    assert out.startswith(f"Exercise {key}: ") and out.count("\n") == 1
    assert line in out


@pytest.mark.parametrize(
    ("source", "verdict", "line"),
    [
        ("def answer(x):\n    return 2 * x", True, "correct."),
        ("def answer(x):\n    return 2 * x[...]", True, "correct."),  # an index is no blank
        ("answer = lambda x: x + x", True, "correct."),
        ("def answer(x):\n    return x", False, "Multiply by two."),
        ("def answer(x):\n    pass", False, "The result is None; is a return missing?"),
        ("def answer(x):\n    return x[:2]", False, "should have shape (3), and has (2,)"),
        (
            "def answer(x):\n    y = 1\n    return y / 0",
            False,
            "Your code raised ZeroDivisionError",
        ),
        ("def answer(x):\n    y = 1\n    return y / 0", False, "(line 3 of answer)"),
        ("def answer(x):\n    return torch.cat(x)", False, "(line 2 of answer)"),
        ("def answer():\n    return 2", False, "the check cannot use that"),
        ("def answer(x):\n    return answer(x)", False, "RecursionError"),
        ("def answer(x):\n    raise SystemExit", False, "SystemExit"),
        ("class E(Exception):\n  def __str__(self): 1/0\ndef answer(x): raise E", False, "E (line"),
        ("def answer(x):\n    raise ValueError('a\\nb' * 999)", False, "ValueError: a ba b"),
        ("def answer(x):\n    ...", None, "not attempted yet."),
        ("def answer(x):\n    'Doubles.'\n    return ...", None, "not attempted yet."),
        ("def answer(x):\n    y = ...\n    return y * x", None, "not attempted yet."),
        ("class answer:\n    def f(self):\n        return ...", None, "not attempted yet."),
        (
            "class A:\n    def f(self):\n        return ...\nanswer = A()",
            None,
            "not attempted yet.",
        ),
        ("class A:\n    def f(self): ...\nanswer = A().f", None, "not attempted yet."),
    ],
)
def test_any_code_gets_one_line(source, verdict, line, registry, capsys):
    assert exercises.verdict("99.2", written(source)) is verdict
    out = capsys.readouterr().out
    assert out.startswith("Exercise 99.2: ") and out.count("\n") == 1 and len(out) < 500
    assert line in out


@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        ("def answer(x):\n    'Doubles.'\n    ...", None),
        ("def answer(x):\n    return ...", None),
        ("def answer(x):\n    y = ...\n    return y", None),
        ("def answer(x):\n    y = ...\n    return y * x", None),
        ("def answer(x):\n    return 2", False),
        ("def answer(x):\n    return 2 * x[...]", True),
    ],
)
def test_blanks_are_found_without_the_source(source, verdict, registry):
    assert exercises.verdict("99.2", written(source, hidden=True)) is verdict


def test_names_of_code_keep_their_small_letter(registry, capsys):
    @checks.exercise("99.5")
    def half(answer):
        checks.require(checks.number(answer, "half(2)") == 1, "half(2) should be 1.")
        return "half(4) is 2."

    for answer, line in (
        (None, "not attempted yet."),
        ("one", "not yet. The value of half(2) should be numbers, and is a str."),
        (math.inf, "not yet. The value of half(2) is not finite: it holds NaN or infinity."),
        (2, "not yet. half(2) should be 1."),
        (1, "correct. half(4) is 2."),
    ):
        checks.check("99.5", answer)
        assert capsys.readouterr().out == f"Exercise 99.5: {line}\n"


def test_a_partial_is_looked_into(registry):
    blank = written("def answer(y, x):\n    z = x.sum()\n    return ...")
    assert exercises.verdict("99.2", functools.partial(blank, 1)) is None


def test_the_random_state_is_left_alone_and_checks_are_repeatable(registry):
    drawn = []

    @checks.exercise("99.4")
    def draw(answer):
        drawn.append((random.random(), np.random.random(), torch.rand(1).item()))  # noqa: NPY002

    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    checks.check("99.4", 1)
    torch.manual_seed(5)
    checks.check("99.4", 1)
    assert drawn[0] == drawn[1]
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()  # noqa: NPY002


@pytest.mark.parametrize("key", ["99.9", "98.1", "1", "", "../../x", None])
def test_an_unknown_exercise_is_the_authors_error(key, registry):
    with pytest.raises(BadInput, match="There is no exercise") as caught:
        checks.check(key, 1)
    assert "\n" not in str(caught.value)
    assert ("99.1, 99.2" in str(caught.value)) == (key == "99.9")


def test_the_check_must_fit_its_call(registry):
    with pytest.raises(BadInput, match=r"99\.1"):
        checks.check("99.1", 1, 2)


def test_registering_twice_is_an_error_but_reloading_is_not(registry):
    entry = registry["99.1"]
    assert checks.exercise("99.1")(entry) is entry
    with pytest.raises(BadInput, match="two checks"):
        checks.exercise("99.1")(lambda answer: None)
    with pytest.raises(BadInput, match="two digits"):
        checks.exercise("one")


def test_checks_of_a_notebook_are_imported_when_needed(monkeypatch, tmp_path, registry):
    (tmp_path / "nb97.py").write_text(
        "from wmlib.checks import exercise\n@exercise('97.1')\ndef law(answer): return 'Good.'\n"
    )
    (tmp_path / "nb96.py").write_text("import no_such_module\n")
    import wmlib.checks as package

    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert exercises.verdict("97.1", 1) is True
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        checks.check("96.1", 1)


def test_importing_checks_is_light():
    code = (
        "import sys, wmlib; a = set(sys.modules); import wmlib.checks; b = set(sys.modules) - a; "
    )
    code += "print(sorted(m for m in b if not m.startswith(('wmlib.checks', 'wmlib.course'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- guesses


GUESSES = sys.modules["wmlib.checks.guesses"]  # the name `guesses` is a function's too


@pytest.fixture
def desk(monkeypatch, tmp_path):
    """A fresh kernel and an empty folder for progress; calling it starts another kernel there."""
    monkeypatch.setenv("WMLIB_PROGRESS", str(tmp_path / "progress.json"))

    def restart():
        monkeypatch.setattr(records, "_session", records.Progress())
        monkeypatch.setattr(GUESSES, "_shown", set())
        return tmp_path

    restart()
    return restart


@pytest.fixture
def live(monkeypatch):
    """A notebook; returns what its cells have displayed, one dictionary each."""
    shown = []
    monkeypatch.setattr(GUESSES, "_in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    monkeypatch.setattr(GUESSES, "_panel", keep_panel(GUESSES._panel, shown))
    return shown


def keep_panel(build, shown):
    def panel(*arguments):
        view = build(*arguments)
        shown.append(view)
        return view

    return panel


def said(capsys):
    return capsys.readouterr().out.rstrip("\n")


def test_a_guess_is_kept_revealed_and_scored(desk, capsys):
    assert checks.guess("01.entropy", 3.0) is None
    assert said(capsys) == "Guess 01.entropy: 3, noted."
    desk()
    checks.reveal("01.entropy", np.float64(3.4657), unit="nats", digits=2)
    assert said(capsys) == "01.entropy: you guessed 3 nats, measured 3.47 nats: close."
    checks.guess("02.pixels", 10)
    checks.reveal("02.pixels", torch.tensor(12345))
    assert said(capsys).endswith("02.pixels: you guessed 10, measured 12,345.")
    checks.guess("03.never", 1)
    desk(), said(capsys)
    checks.score()
    lines = said(capsys).splitlines()
    assert lines[1].split() == ["01.entropy", "3", "3.466", "nats", "close"]
    assert lines[2].split() == ["02.pixels", "10", "12,345"]
    assert lines[3:] == ["1 of 2 guesses were close."]


def test_no_guess_writes_nothing(desk, capsys):
    checks.guess("01.a", low=0, high=2, step=0.1, unit="nats")
    assert said(capsys) == "Guess 01.a: from 0 to 2 (nats). Run this cell to make it."
    checks.reveal("01.a", 0.5, unit="nats")
    assert said(capsys) == "01.a: measured 0.5 nats (no guess recorded)."
    checks.score()
    assert said(capsys) == "No guess has been recorded and revealed yet."
    assert list(desk().iterdir()) == [] and checks.guesses() == {}


@pytest.mark.parametrize("value", [object(), math.nan, math.inf, {"a": 1}, [1, None], {1}])
def test_what_cannot_be_kept_is_told(value, desk, capsys):
    checks.guess("01.a", value)
    assert "cannot be kept" in said(capsys) and checks.guesses() == {}


def test_a_guess_after_the_reveal_does_not_count(desk, capsys):
    checks.guess("01.a", 3)
    checks.reveal("01.a", 10)
    checks.guess("01.a", 10)
    assert said(capsys).endswith("the measured value is out, and your guess of 3 stays.")
    checks.reveal("01.a", 10)
    assert said(capsys) == "01.a: you guessed 3, measured 10."
    checks.reveal("01.b", 7)
    checks.guess("01.b", 7)
    assert said(capsys).endswith("the measured value is out, so this guess does not count.")
    assert list(checks.guesses()) == ["01.a"]
    desk()  # another day: 01.b was not guessed yet, 01.a was
    checks.guess("01.a", 10), checks.guess("01.b", 6)
    assert [record["guess"] for record in checks.guesses().values()] == [3, 6]


@pytest.mark.parametrize(
    ("options", "control", "entered", "kept"),
    [
        ({"low": 0, "high": 24}, ipywidgets.IntSlider, 6, 6),
        ({"low": 0, "high": 1, "step": 0.01}, ipywidgets.FloatSlider, 0.25, 0.25),
        ({"low": -1.2, "high": 1}, ipywidgets.FloatSlider, -0.2, -0.2),
        ({"choices": range(1, 8)}, ipywidgets.ToggleButtons, 4, 4),
        ({"choices": ["luck", "error"]}, ipywidgets.ToggleButtons, "luck", "luck"),
        ({}, ipywidgets.Text, "1e3", 1000),
        ({}, ipywidgets.Text, "−0.5", -0.5),
    ],
)
def test_moving_a_control_notes_the_guess(options, control, entered, kept, desk, live):
    checks.guess("01.a", unit="nats", **options)
    view, data = live
    name, moved, unit, state = view.children
    assert type(moved) is control and name.value == "01.a" and unit.value == "nats ·"
    assert data["text/plain"].startswith("Guess 01.a: ") and "nats" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data and checks.guesses() == {}
    moved.value = entered
    assert checks.guesses() == {"01.a": {"guess": kept}} and "noted" in state.value
    desk()
    checks.guess("01.a", unit="nats", **options)  # the next day it is where it was left
    again, same = live[2:]
    kept = str(float(kept)) if control is ipywidgets.Text else kept
    assert again.children[1].value == kept
    assert same["text/plain"] == data["text/plain"]


def test_a_control_refuses_what_is_no_number_and_what_comes_too_late(desk, live):
    checks.guess("01.a")
    field, state = live[0].children[1], live[0].children[3]
    for text in ("ten", "1,5", ""):
        field.value = text
        assert state.value == "please write a number, such as 1000 or 0.5" or not text
    field.value = "nan"
    assert "cannot be kept" in state.value and checks.guesses() == {}
    field.value = "12"
    checks.reveal("01.a", 13)
    field.value = "13"
    assert state.value.endswith("your guess of 12 stays.")
    assert checks.guesses()["01.a"]["guess"] == 12
    checks.guess("01.a")
    assert live[-2].children[1].disabled and live[-2].children[1].value == "12.0"


@pytest.mark.parametrize("kept", ["left", [1, 2], 10**9])
def test_a_kept_guess_that_a_control_cannot_show_is_told(kept, desk, live):
    checks.guess("01.a", kept)
    checks.guess("01.a", low=0, high=3)
    assert live[0].children[3].value.startswith("your guess: ")


def test_the_measured_value_is_behind_a_button(desk, live, capsys):
    checks.reveal("01.a<b>", 3.5, unit="nats & more", digits=1)
    (data,) = live
    assert data["text/plain"] == "01.a<b>: measured 3.5 nats & more (no guess recorded)."
    shown = data["text/html"]
    assert re.fullmatch(r"<details><summary [^<>]*>[^<>]*</summary><p>[^<>]*</p></details>", shown)
    assert "3.5" not in shown.partition("</summary>")[0] and said(capsys) == ""


@pytest.mark.parametrize(
    ("value", "measured", "close", "hit"),
    [
        (8, 10, None, True),
        (7, 10, None, False),
        (-0.8, -0.843, None, True),
        (9.5, 10, 0.1, False),
        (0, 0.05, 0.1, True),
        ([1, 2], np.array([1.1, 2.1]), None, True),
        ([1, 9], np.array([1.1, 2.1]), None, False),
        ([1], [1, 2], None, False),
        (1, [1], None, False),
        ([1], 1, None, False),
        (True, True, None, True),
        ("about 3", 3.0, None, False),
        (3, "three", None, False),
    ],
)
def test_when_a_guess_is_close(value, measured, close, hit, desk, capsys):
    checks.guess("01.a", value)
    checks.reveal("01.a", measured, close=close)
    assert said(capsys).endswith("close.") is hit


# ---------------------------------------------------------------- progress


def stored(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_solved_exercises_and_guesses_share_a_file(desk, registry, capsys):
    assert checks.check("99.1", 8) is None and checks.check("99.1", None) is None
    assert list(desk().iterdir()) == []
    assert checks.check("99.1", 7) is None
    checks.guess("05.blind", 0.5)
    kept = {"guesses": {"05.blind": {"guess": 0.5}}, "solved": ["99.1"]}
    assert stored(desk() / "progress.json") == kept
    checks.check("99.1", 8)  # once solved, solved
    records.note_solved("05.2"), records.note_solved("05.2")
    assert stored(desk() / "progress.json")["solved"] == ["05.2", "99.1"]
    said(capsys)
    checks.progress("05"), checks.progress("06"), checks.progress()
    lines = said(capsys).splitlines()
    assert lines[0] == "Notebook 05: 1 of 5 exercises solved, 1 of 3 guesses made."
    assert lines[1] == "Notebook 06: 0 of 5 exercises solved, 0 of 3 guesses made."
    assert lines[2].startswith("The course: 1 of ") and ", 1 of " in lines[2]
    with pytest.raises(BadInput, match="no notebook '5'"):
        checks.progress("5")


DAMAGED = [b"", b"{", b"[1]", b"{}", b"\x00", b"\xff\xfe", b'{"guesses": {"a": 3}, "solved": []}']
DAMAGED += [b'{"guesses": {}, "solved": [1]}', b'{"guesses": [], "solved": []}', b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_set_aside_and_its_backup_taken(content, desk, capsys):
    checks.guess("01.a", 1), checks.guess("01.b", 2)  # the backup holds the first of them
    folder = desk()
    (folder / "progress.json").write_bytes(content)
    assert list(checks.guesses()) == ["01.a"]
    said(capsys)
    checks.guess("01.c", 3)
    (aside,) = folder.glob("progress.json.damaged-*")
    assert aside.read_bytes() == content and aside.name in said(capsys)
    assert list(stored(folder / "progress.json")["guesses"]) == ["01.a", "01.c"]
    assert list(stored(folder / "progress.json.bak")["guesses"]) == ["01.a"]
    assert len(list(folder.iterdir())) == 3


def test_a_byte_order_mark_is_no_damage(desk):
    checks.guess("01.a", 1)
    path = desk() / "progress.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    checks.guess("01.b", 2)
    assert list(stored(path)["guesses"]) == ["01.a", "01.b"]
    assert not list(desk().glob("*.damaged*"))


def test_a_write_that_fails_half_way_changes_nothing(desk, monkeypatch):
    checks.guess("01.a", 1)
    before = stored(desk() / "progress.json")

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    checks.guess("01.b", 2)
    assert list(checks.guesses()) == ["01.a", "01.b"]
    assert stored(desk() / "progress.json") == before


def test_guesses_of_an_older_version_are_read_in_once(desk):
    old = desk() / "guesses.json"
    old.write_text('{"01.a": {"guess": 1, "measured": 2, "unit": "", "close": null}}')
    checks.guess("01.b", 2)
    assert list(stored(desk() / "progress.json")["guesses"]) == ["01.a", "01.b"]
    old.write_text('{"01.c": {"guess": 1}}')
    assert list(checks.guesses()) == ["01.a", "01.b"]


@pytest.mark.parametrize("place", ["", "no/such/directory/progress.json", "."])
def test_without_a_file_progress_lasts_until_the_kernel_stops(place, desk, monkeypatch, capsys):
    monkeypatch.chdir(desk())
    monkeypatch.setenv("WMLIB_PROGRESS", place)
    checks.guess("01.a", "left")
    checks.reveal("01.a", "Left ")
    assert said(capsys).endswith("you guessed left, measured Left : close.")
    assert list(checks.guesses()) == ["01.a"]
    assert list(desk().iterdir()) == [] and checks.guesses() == {}


def test_the_file_is_beside_the_notebooks_wherever_python_starts(tmp_path, monkeypatch):
    monkeypatch.delenv("WMLIB_PROGRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert records._path() == NOTEBOOKS[0].parent / "progress.json"
    monkeypatch.setattr("wmlib.course.__file__", str(tmp_path / "wmlib/course.py"))  # no clone
    assert records._path() == tmp_path / "progress.json"


def test_notebooks_are_read_as_the_tests_read_them():
    books = wmlib.course.notebooks()
    assert [book.path for book in books.values()] == NOTEBOOKS
    for book in books.values():
        notebook = course.load(book.path)
        code = "\n".join(map(course.source, course.code_cells(notebook)))
        assert set(book.guesses) == set(re.findall(r'\bguess\("([^"]+)"', code))
        assert list(book.exercises) == [e.key for e in course.exercises(notebook) if e.key]


def test_a_readers_own_notebooks_are_no_obstacle(monkeypatch, tmp_path, capsys):
    (tmp_path / "notebooks/results").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    texts = {"00_new": "*Time to run: about 1 minute.*", "01_mine": "mine"}
    for name, text in texts.items():
        cells = [nbformat.v4.new_markdown_cell(text)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), f"notebooks/{name}.ipynb")
    (tmp_path / "notebooks/02_half.ipynb").write_text('{"cells": [')
    books = wmlib.course.notebooks()
    assert {key: book.seconds for key, book in books.items()} == {"00": 60, "01": None, "02": None}
    checks.progress("02")
    assert "0 of 0 exercises" in capsys.readouterr().out
