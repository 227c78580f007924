"""Every exercise is tested: its solution, its untouched stub, and answers that are wrong.

All three take the place of the stub and are checked by the notebook's own check cell, in a module
in which the cells tagged setup, export and equiv have run.
"""

import ast
import contextlib
import io
import re
import types
from dataclasses import dataclass

import course
import matplotlib
import pytest
from course import NOTEBOOKS, Exercise, code, markdown, sample_exercise
from wrong_answers import wrong_answers

import wmlib.checks
from wmlib.checks import exercises as registry

matplotlib.use("Agg")

COURSE = {path.stem: course.load(path) for path in NOTEBOOKS}
TASKS = [
    pytest.param(title, exercise, id=f"{title[:2]}-{exercise.key}")
    for title, notebook in COURSE.items()
    for exercise in course.exercises(notebook)
    if not exercise.faults  # those are told by test_notebooks.py
]


@dataclass
class Verdict:
    """What the check cell returned and printed."""

    value: bool | None
    said: str


def judge(notebook: dict, exercise: Exercise, answer: str, name: str) -> Verdict:
    """Run setup cells, an answer in the place of the stub, and the check cell."""
    returned = []

    def check(*arguments: object) -> None:
        returned.append(registry.verdict(*arguments))

    with course.module(name) as scope, contextlib.redirect_stdout(io.StringIO()) as out:
        course.prepare(notebook, scope)
        course.run(answer, scope, f"{name} answer {abs(hash(answer))}")
        scope.check = check
        begin = out.tell()
        course.run(_own_check(exercise.check), scope, f"{name} check")
    assert len(returned) == 1, "the check cell calls check once"
    return Verdict(returned[0], out.getvalue()[begin:])


def _own_check(text: str) -> str:
    """A check cell without its import of `check`."""
    return re.sub(r"^from wmlib.checks import check$", "", text, flags=re.M)


def stub_faults(notebook: dict, exercise: Exercise) -> list[str]:
    """An untouched stub is not attempted, and nothing more is said."""
    verdict = judge(notebook, exercise, exercise.stub, f"stub_{exercise.key}")
    wanted = Verdict(None, f"Exercise {exercise.key}: not attempted yet.\n")
    return [] if verdict == wanted else [f"the stub of {exercise.key} gives {verdict}"]


def solution_faults(notebook: dict, exercise: Exercise) -> list[str]:
    """The solution is correct, and fills the very blanks of the stub."""
    found = []
    names = [set(dict(course.defined(ast.parse(t)))) for t in (exercise.stub, exercise.solution)]
    if not names[0] <= names[1]:
        found.append(f"the solution of {exercise.key} does not define {names[0] - names[1]}")
    verdict = judge(notebook, exercise, exercise.solution, f"solution_{exercise.key}")
    if verdict.value is not True or not verdict.said.startswith(
        f"Exercise {exercise.key}: correct."
    ):
        found.append(f"the solution of {exercise.key} gives {verdict}")
    return found


def wrong_faults(notebook: dict, exercise: Exercise, wrong: list[tuple[str, str]]) -> list[str]:
    """Wrong answers, two or more, are told apart and answered by a helpful sentence."""
    found = []
    if len({text for text, _ in wrong}) < 2:
        found.append(f"{exercise.key} has {len(wrong)} wrong answers, not two or more")
    for text, phrase in wrong:
        verdict = judge(notebook, exercise, text, f"wrong_{exercise.key}")
        helpful = len(verdict.said.split()) >= 8 and len(phrase) >= 8 and phrase in verdict.said
        if verdict.value is not False or not helpful:
            found.append(f"{exercise.key}: {text!r} gives {verdict}, not '{phrase}'")
        if re.match(r"Exercise \S+: not yet\. [a-z]", verdict.said):
            found.append(f"{exercise.key}: a sentence begins with a small letter: {verdict.said}")
    return found


def registry_faults(number: str, keys: list[str], wrong: dict) -> list[str]:
    """Exercises of a notebook, checks and wrong answers belong together one to one."""
    with contextlib.suppress(wmlib.BadInput):
        registry._find(f"{number}.1")
    checks = {key for key in registry.EXERCISES if key.startswith(number)}
    found = [f"{key} has no check" for key in keys if key not in checks]
    found += [f"{key} has a check but is in no notebook" for key in sorted(checks - set(keys))]
    found += [f"{key} has wrong answers but is in no notebook" for key in wrong if key not in keys]
    return found


@pytest.fixture(autouse=True)
def as_in_a_kernel(monkeypatch):
    monkeypatch.chdir(course.ROOT / "notebooks")
    monkeypatch.setenv("WMLIB_PROGRESS", "")


# ---------------------------------------------------------------- the notebooks of the course


@pytest.mark.parametrize(("title", "exercise"), TASKS)
def test_an_untouched_stub_is_not_attempted(title, exercise):
    assert stub_faults(COURSE[title], exercise) == []


@pytest.mark.parametrize(("title", "exercise"), TASKS)
def test_the_solution_is_correct(title, exercise):
    assert solution_faults(COURSE[title], exercise) == []


@pytest.mark.parametrize(("title", "exercise"), TASKS)
def test_wrong_answers_are_helped(title, exercise):
    wrong = wrong_answers(title[:2]).get(exercise.key, [])
    assert wrong_faults(COURSE[title], exercise, wrong) == []


def test_exercises_checks_and_wrong_answers_belong_together():
    found = []
    for number in sorted({title[:2] for title in COURSE}):
        notebooks = [notebook for title, notebook in COURSE.items() if title[:2] == number]
        keys = [task.key for notebook in notebooks for task in course.exercises(notebook)]
        found += registry_faults(number, keys, wrong_answers(number))
    assert found == []


# ---------------------------------------------------------------- and if one were not right?

STUB = "def answer(x):\n    return ... + x"
GOOD = "def answer(x):\n    return seven - x"


@pytest.fixture
def toy(monkeypatch):
    """A notebook with one exercise: the other side of a die."""

    def other_side(answer):
        for x in range(1, 7):
            wmlib.checks.require(answer(x) != "x", "x is a word, not a number of the die.")
            found = wmlib.checks.number(answer(x), "the other side")
            wmlib.checks.require(found == 7 - x, "Opposite sides of a die add up to seven.")
        return "They add up to seven."

    monkeypatch.setattr(registry, "EXERCISES", {"99.1": other_side})
    task = sample_exercise("99.1", STUB, GOOD)
    return {"cells": [code("seven = 7", "setup"), code("1 / 0"), *task]}


WRONG = [
    ("def answer(x):\n    return 6 - x", "add up to seven"),
    ("def answer(x):\n    return None", "is a return missing"),
    ("def answer(x):\n    return [1] + x", "Your code raised TypeError"),
]


def spoil(notebook: dict, stub: str = STUB, solution: str = GOOD, call: str = "answer") -> tuple:
    return notebook, Exercise("99.1", "", stub, f'check("99.1", {call})', [], solution)


def test_a_good_exercise_passes(toy):
    (task,) = course.exercises(toy)
    assert task.faults == []
    assert stub_faults(toy, task) == solution_faults(toy, task) == []
    assert wrong_faults(toy, task, WRONG) == []
    assert registry_faults("99", ["99.1"], {"99.1": WRONG}) == []
    imported = Exercise(**{**vars(task), "check": "from wmlib.checks import check\n" + task.check})
    assert solution_faults(toy, imported) == []


def test_a_stub_that_is_attempted_is_told(toy):
    assert stub_faults(*spoil(toy, stub="def answer(x):\n    return x")) != []
    assert stub_faults(*spoil(toy, stub=STUB + "\nprint('hello')")) == []  # not said by the check
    assert stub_faults(*spoil(toy, stub=GOOD)) != []


def test_a_solution_that_fails_is_told(toy):
    assert solution_faults(*spoil(toy, solution="def answer(x):\n    return x")) != []
    assert solution_faults(*spoil(toy, solution=STUB)) != []
    assert solution_faults(*spoil(toy, solution="answer2 = 1\nanswer = lambda x: 7 - x")) == []
    assert solution_faults(*spoil(toy, stub="other = ...", solution=GOOD)) != []


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        WRONG[:1],
        [WRONG[0], WRONG[0]],
        [*WRONG, (GOOD, "add up to seven")],
        [*WRONG, (STUB, "not attempted yet")],
        [*WRONG, (WRONG[0][0], "another phrase")],
        [*WRONG, (WRONG[0][0], "")],
        [*WRONG, ("def answer(x):\n    return 'x'", "x is a word, not a number")],
    ],
)
def test_wrong_answers_that_are_too_few_or_not_answered_are_told(wrong, toy):
    (task,) = course.exercises(toy)
    assert len(wrong_faults(toy, task, wrong)) == 1


def test_what_does_not_belong_together_is_told(toy):
    assert registry_faults("99", ["99.1", "99.2"], {}) == ["99.2 has no check"]
    assert registry_faults("99", [], {}) == ["99.1 has a check but is in no notebook"]
    assert registry_faults("98", [], {"98.1": []}) == [
        "98.1 has wrong answers but is in no notebook"
    ]


def test_setup_cells_are_run_and_no_others(toy):
    with course.module("toy") as scope:
        course.prepare(toy, scope)
        assert scope.seven == 7 and isinstance(scope, types.ModuleType)


# ---------------------------------------------------------------- the form of an exercise


def form(change) -> list[str]:
    cells = sample_exercise("01.2", STUB, GOOD)
    change(cells)
    return [fault for task in course.exercises({"cells": cells}) for fault in task.faults]


def edit(at: int, old: str, new: str):
    def change(cells):
        assert old in cells[at]["source"]
        cells[at]["source"] = cells[at]["source"].replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (edit(0, "●●○", "***"), "should be"),
        (edit(0, "5 min", "some time"), "should be"),
        (edit(0, "A task", "A $t$"), "should be"),
        (edit(0, "01.2 A task · exercise ●●○", "Exercise 01.2 ●●○"), "should be"),
        (edit(0, "Do it.", ""), "task is empty"),
        (edit(1, "...", "1"), "no blank"),
        (lambda c: c[1]["metadata"].clear(), "stub cell is missing"),
        (lambda c: c[2]["metadata"].clear(), "check cell is missing"),
        (edit(2, "01.2", "01.3"), "is not called"),
        (edit(3, "Hint 1", "Hint 2"), "the folds are"),
        (edit(3, "Hint 1", "Tip"), "hints, not 1 to 3"),
        (edit(3, "Think of a die.", ""), "a hint is empty"),
        (edit(3, "```python", "```"), "0 python blocks"),
        (edit(3, "It works because opposite sides add up.", "Yes."), "why it works"),
        (edit(3, "</summary>\n\n", "</summary>\n"), "blank line"),
        (edit(3, "add up.\n\n</details>", "add up."), "a fold is open"),
        (lambda c: c.insert(3, markdown("between")), "hints, not 1 to 3"),
        (lambda c: c.append(code("...", "exercise")), "belongs to no exercise"),
    ],
)
def test_a_fault_of_form_is_found(change, fault):
    assert form(lambda cells: None) == []
    found = form(change)
    assert any(fault in sentence for sentence in found), found
