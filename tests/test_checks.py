"""Guesses and exercises: whatever a reader writes, one helpful line and no exception."""

import functools
import json
import linecache
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import wmlib.checks as checks
from wmlib.checks import exercises
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
    assert checks.check(key, answer) is verdict
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
    assert checks.check("99.2", written(source)) is verdict
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
    assert checks.check("99.2", written(source, hidden=True)) is verdict


def test_a_partial_is_looked_into(registry):
    blank = written("def answer(y, x):\n    z = x.sum()\n    return ...")
    assert checks.check("99.2", functools.partial(blank, 1)) is None


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
    law = registry["99.1"]
    assert checks.exercise("99.1")(law) is law
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
    assert checks.check("97.1", 1) is True
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        checks.check("96.1", 1)


def test_importing_checks_is_light():
    code = (
        "import sys, wmlib; a = set(sys.modules); import wmlib.checks; b = set(sys.modules) - a; "
    )
    code += "print(sorted(m for m in b if not m.startswith('wmlib.checks')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- guesses


@pytest.fixture
def desk(monkeypatch, tmp_path):
    """A fresh kernel in an empty directory; calling it starts another kernel there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WMLIB_GUESSES", raising=False)
    module = sys.modules["wmlib.checks.guesses"]

    def restart():
        monkeypatch.setattr(module, "_session", {})
        return tmp_path

    restart()
    return restart


def said(capsys):
    return capsys.readouterr().out.rstrip("\n")


def test_a_guess_is_kept_revealed_and_scored(desk, capsys):
    assert checks.guess("01.entropy", 3.0) == 3.0
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
    assert checks.guess("01.a", None) is None and checks.guess("01.a", ...) is None
    assert said(capsys).count("none yet") == 2
    checks.reveal("01.a", 0.5, unit="nats")
    assert said(capsys) == "01.a: measured 0.5 nats (no guess recorded)."
    checks.score()
    assert said(capsys) == "No guess has been recorded and revealed yet."
    assert list(desk().iterdir()) == [] and checks.guesses() == {}


@pytest.mark.parametrize("value", [object(), math.nan, math.inf, {"a": 1}, [1, None], {1}])
def test_what_cannot_be_kept_is_told(value, desk, capsys):
    assert checks.guess("01.a", value) is value
    assert "cannot be kept" in said(capsys) and checks.guesses() == {}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"01.b": 3}', "\x00"])
def test_a_damaged_file_is_replaced(text, desk):
    (desk() / "guesses.json").write_text(text)
    assert checks.guesses() == {}
    checks.guess("01.a", 1)
    assert json.loads((desk() / "guesses.json").read_text()) == {"01.a": {"guess": 1}}


@pytest.mark.parametrize("place", ["", "no/such/directory/guesses.json", "."])
def test_without_a_file_guesses_last_until_the_kernel_stops(place, desk, monkeypatch, capsys):
    monkeypatch.setenv("WMLIB_GUESSES", place)
    checks.guess("01.a", "left")
    checks.reveal("01.a", "Left ")
    assert said(capsys).endswith("you guessed left, measured Left : close.")
    assert list(desk().iterdir()) == [] and checks.guesses() == {}


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
