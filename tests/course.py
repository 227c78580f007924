"""Reading notebooks for the tests: cells, tags, exercises; and running their code without a kernel.

An exercise is four cells in a row: a task (`### 01.2 Title · exercise ●●○ · 5 min`; the table of
contents cuts long lines and shows no markup), a stub (tag `exercise`, the blank is `...`), a check
(tag `check`), and folded hints and solution.
"""

import ast
import json
import linecache
import re
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

HEADING = re.compile(r"### (\d\d\.\d+) (\w[^$`<>\[\]*]*) · exercise (●○○|●●○|●●●) · (\d+) min")
_TASK = re.compile(r"### (\d\d\.\d|.*[Ee]xercise)")
FOLD = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.S)
FENCE = re.compile(r"^```python\n(.*?)^```$", re.S | re.M)


def load(path: Path) -> dict:
    """A notebook as the dictionary it is stored as."""
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    """The text of a cell."""
    return "".join(cell["source"])


def tags(cell: dict) -> list[str]:
    """The tags of a cell."""
    return cell.get("metadata", {}).get("tags", [])


def code_cells(notebook: dict) -> list[dict]:
    """All code cells that hold something."""
    return [c for c in notebook["cells"] if c["cell_type"] == "code" and source(c).strip()]


def python(cell: dict) -> str:
    """The code of a cell without magics, lines kept in their places."""
    lines = source(cell).splitlines()
    return "\n".join("" if line.startswith("%") else line for line in lines) + "\n"


def widget_examples() -> dict[str, str]:
    """Code that shows each widget, from the constant `ON_PAGE` of the widgets' own tests.

    `ON_PAGE` is a cell, or several, which ends by making one widget. By the widget's name.
    """
    found = {}
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ON_PAGE":
                value = ast.literal_eval(statement.value)
                for cell in (value,) if isinstance(value, str) else value:
                    found[ast.unparse(ast.parse(cell).body[-1].value.func)] = cell
    return found


def lines_of(cell: dict) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for line in source(cell).splitlines())


def prose(notebook: dict) -> list[str]:
    """The markdown cells."""
    return [source(c) for c in notebook["cells"] if c["cell_type"] == "markdown"]


def anchors(notebook: dict) -> set[str]:
    """What links to its headings end with, as JupyterLab makes it: the text, blanks as dashes."""
    text = re.sub(r"^```.*?^```$", "", "\n".join(prose(notebook)), flags=re.S | re.M)
    return {
        title.replace("`", "").replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }


# ---------------------------------------------------------------- exercises


@dataclass
class Exercise:
    """One exercise of a notebook, and what is wrong with its form."""

    key: str
    title: str = ""
    stub: str = ""
    check: str = ""
    hints: list[str] = field(default_factory=list)
    solution: str = ""
    faults: list[str] = field(default_factory=list)


def exercises(notebook: dict) -> list[Exercise]:
    """All exercises in order; cells that belong to none are reported as one without a key."""
    cells, found, used = notebook["cells"], [], set()
    for at, cell in enumerate(cells):
        if cell["cell_type"] != "markdown" or not _TASK.match(source(cell)):
            continue
        found.append(_exercise(cells[at : at + 4]))
        used.update(range(at, at + 4))
    stray = Exercise("")
    for at, cell in enumerate(cells):
        if at not in used and {"exercise", "check"}.intersection(tags(cell)):
            stray.faults.append(f"cell {cell.get('id', at)} is tagged but belongs to no exercise")
        if at not in used and FOLD.search(source(cell)) and "Solution" in source(cell):
            stray.faults.append(f"cell {cell.get('id', at)} holds a solution to no exercise")
    return [*found, stray] if stray.faults else found


def _exercise(cells: list[dict]) -> Exercise:
    """Read one exercise from its four cells."""
    first = source(cells[0]).splitlines()[0]
    heading = HEADING.fullmatch(first)
    if not heading:
        return Exercise(first, faults=[f"'{first}' should be {HEADING.pattern}"])
    it = Exercise(heading[1], heading[2])

    def expect(condition: object, fault: str) -> None:
        if not condition:
            it.faults.append(f"exercise {it.key}: {fault}")

    expect(source(cells[0]).strip() != first, "the task is empty")
    stub, check, folded = (cells + [{"cell_type": "none", "source": ""}] * 3)[1:4]
    it.stub, it.check = python(stub), python(check)
    expect(stub["cell_type"] == "code" and "exercise" in tags(stub), "the stub cell is missing")
    expect("..." in it.stub, "the stub has no blank")
    expect(check["cell_type"] == "code" and "check" in tags(check), "the check cell is missing")
    expect(f'check("{it.key}",' in it.check, f'check("{it.key}", ...) is not called')
    expect(folded["cell_type"] == "markdown", "the folded hints are missing")
    folds = FOLD.findall(source(folded))
    names = [name for name, _ in folds]
    it.hints = [text.strip() for name, text in folds if name.startswith("Hint")]
    numbered = [f"Hint {k + 1}" for k in range(len(it.hints))]
    expect(1 <= len(it.hints) <= 3, f"{len(it.hints)} hints, not 1 to 3")
    expect(all(it.hints), "a hint is empty")
    expect(
        names == [*numbered, "Solution"], f"the folds are {names}, not {[*numbered, 'Solution']}"
    )
    expect(
        all(text.startswith("\n\n") or not set("`$*_").intersection(text) for _, text in folds),
        "markdown in a fold is not rendered without a blank line after its summary",
    )
    solutions = [text for name, text in folds if name == "Solution"]
    blocks = FENCE.findall(solutions[0]) if solutions else []
    expect(len(blocks) == 1, f"{len(blocks)} python blocks in the solution, not 1")
    it.solution = blocks[0] if blocks else ""
    why = FENCE.sub("", solutions[0]).split() if solutions else []
    expect(len(why) >= 5, "the solution does not say why it works")
    expect(not re.search(r"<details|</details>", FOLD.sub("", source(folded))), "a fold is open")
    return it


# ---------------------------------------------------------------- running cells


@contextmanager
def module(name: str) -> Iterator[types.ModuleType]:
    """An empty module that Python knows while it is being used, as `__main__` of a kernel is."""
    fresh = types.ModuleType(name)
    sys.modules[name] = fresh
    try:
        yield fresh
    finally:
        sys.modules.pop(name, None)


def run(code: str, scope: types.ModuleType, name: str) -> None:
    """Run code in a module; its source can be found again, as that of a notebook cell can."""
    filename = f"<{name}>"
    linecache.cache[filename] = (len(code), None, code.splitlines(True), filename)
    exec(compile(code, filename, "exec"), vars(scope))


def prepare(notebook: dict, scope: types.ModuleType) -> None:
    """Run the cells that exercises may build on: setup, export and equiv."""
    for number, cell in enumerate(code_cells(notebook)):
        if any(tag == "setup" or tag.startswith(("export:", "equiv:")) for tag in tags(cell)):
            run(python(cell), scope, f"{scope.__name__} cell {number}")


# ---------------------------------------------------------------- for the tests of the tests


def markdown(text: str, name: str = "text") -> dict:
    """A markdown cell."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def code(text: str, *labels: str, name: str = "code") -> dict:
    """A code cell with tags."""
    cell = {"cell_type": "code", "id": name, "metadata": {}, "source": text}
    cell |= {"execution_count": None, "outputs": []}
    if labels:
        cell["metadata"]["tags"] = list(labels)
    return cell


def sample_exercise(key: str, stub: str, solution: str, call: str = "answer") -> list[dict]:
    """The four cells of a well-formed exercise."""
    folds = (
        "<details><summary>Hint 1</summary>\n\nThink of a die.\n\n</details>\n\n"
        "<details><summary>Solution</summary>\n\n```python\n" + solution + "\n```\n\n"
        "It works because opposite sides add up.\n\n</details>"
    )
    return [
        markdown(f"### {key} A task · exercise ●●○ · 5 min\n\nDo it.", f"task-{key[-1]}"),
        code(stub, "exercise", name=f"stub-{key[-1]}"),
        code(f'check("{key}", {call})', "check", name=f"check-{key[-1]}"),
        markdown(folds, f"folds-{key[-1]}"),
    ]


def defined(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Names that top-level statements define: functions, classes and assignments."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                        yield part.id, node
