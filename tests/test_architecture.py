"""The house of wmlib: arrows point one way, and nobody reaches through the front door."""

import ast
import graphlib

import pytest
from course import NOTEBOOKS, ROOT, code_cells, load, python

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "wmlib").rglob("*.py")
}
# From the ground up. What is not named is the core; a module may import from its own floor and
# from those below.
FLOORS = (
    ("diagnostics", "figures"),
    ("experiments",),
    ("checks", "widgets", "machine"),
    ("__main__",),
)
DRAWING = ("matplotlib", "PIL", "ipywidgets", "IPython")


def floor(module: str) -> int:
    """Number of the floor of a module; the core is 0."""
    room = "__main__" if module.endswith("__main__") else module.split(".")[1]
    return next((k for k, rooms in enumerate(FLOORS, 1) if room in rooms), 0)


def imports(module: str, everywhere: bool) -> set[str]:
    """What a module imports: at its top, or within its functions as well."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"wmlib"}))
def test_imports_point_downwards(module):
    own = {name for name in imports(module, everywhere=True) if name in MODULES}
    assert "wmlib" not in own, f"{module} imports the package root"
    assert {name for name in own if floor(name) > floor(module)} == set()


@pytest.mark.parametrize("module", [m for m in sorted(MODULES) if m != "wmlib" and not floor(m)])
def test_the_core_knows_nothing_of_drawing(module):
    used = {name.split(".")[0] for name in imports(module, everywhere=True)}
    assert used.isdisjoint(DRAWING)


def test_there_is_no_circle():
    graph = {
        module: {name for name in imports(module, everywhere=False) if name in MODULES}
        for module in MODULES
        if module != "wmlib"
    }
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


VAGUE = {"law", "look", "me", "told"}  # as variables: they say nothing of what they hold


def vague_names(source: str) -> set[str]:
    """Variables and arguments of a source whose names say nothing."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return VAGUE & (names | {n.arg for n in nodes if isinstance(n, ast.arg)})


@pytest.mark.parametrize("path", [*MODULES.values(), *(ROOT / "tests").rglob("*.py")], ids=str)
def test_names_say_what_they_hold(path):
    assert vague_names(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_names_in_notebooks_say_what_they_hold(path):
    sources = {cell["id"]: vague_names(python(cell)) for cell in code_cells(load(path))}
    assert {name: found for name, found in sources.items() if found} == {}


def test_vague_names_are_found():
    assert vague_names("def f(me): return [told for told in me]") == {"me", "told"}
    assert vague_names("me.law = look(told)") == set()
