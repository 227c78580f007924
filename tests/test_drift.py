"""Notebook and package do not drift apart.

A cell tagged `export:wmlib.rssm.RecurrentCore` holds the package's own definition: docstrings and
annotations aside, the syntax trees are equal. One tagged `equiv:...` holds a simpler form, which
computes the same. Once exported, a name is never defined again.
"""

import ast
import copy
import importlib
import importlib.util
from collections.abc import Iterator

import course
import numpy as np
import pytest
import torch
from course import NOTEBOOKS, code, code_cells, python
from equivalents import pairs_of

# ---------------------------------------------------------------- exports


class Bare(ast.NodeTransformer):
    """Without docstrings and annotations."""

    def _body(self, node):
        self.generic_visit(node)
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:] if isinstance(first.value.value, str) else node.body
        node.body = node.body or [ast.Pass()]
        return node

    visit_Module = _body

    def visit_FunctionDef(self, node):
        node.returns = None
        return self._body(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_ClassDef(self, node):
        if any(ast.unparse(base) == "nn.Module" for base in node.bases):  # it has no fields
            node.body = [
                part
                for part in node.body
                if not isinstance(part, ast.AnnAssign) or part.value is not None
            ]
        fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
        for part in fields:  # a field stays one, whatever its type
            part.annotation, part.kept = ast.Constant(None), True
        return self._body(node)

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        if node.value is None or hasattr(node, "kept"):
            return node
        return ast.copy_location(ast.Assign([node.target], node.value), node)


def normal(node: ast.AST) -> str:
    """A syntax tree as text, docstrings and annotations removed."""
    return ast.dump(Bare().visit(copy.deepcopy(node)))


def in_package(dotted: str) -> ast.stmt | None:
    """The definition of `wmlib.module.Name` or `wmlib.module.Class.method`, or None."""
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            spec = importlib.util.find_spec(".".join(parts[:cut]))
        except ModuleNotFoundError:
            spec = None
        if parts[0] == "wmlib" and spec and spec.origin:
            with open(spec.origin, encoding="utf-8") as file:
                node = ast.parse(file.read())
            for name in parts[cut:]:
                node = dict(course.defined(node)).get(name) if hasattr(node, "body") else None
            return node
    return None


def tagged(cell: dict, kind: str) -> list[str]:
    """Dotted names of the tags of one kind."""
    return [tag.partition(":")[2] for tag in course.tags(cell) if tag.startswith(kind + ":")]


def export_faults(cell: dict) -> list[str]:
    """How the exports of a cell differ from the package."""
    names, found = tagged(cell, "export"), []
    here = dict(course.defined(ast.parse(python(cell))))
    for dotted in names:
        ours, theirs = here.get(dotted.rpartition(".")[2]), in_package(dotted)
        if ours is None or theirs is None:
            found.append(f"{dotted} is not defined in {'the package' if ours else 'the cell'}")
        elif normal(ours) != normal(theirs):
            found.append(f"{dotted} is not what the package defines")
    known = {
        dotted.rpartition(".")[2] for kind in ("export", "equiv") for dotted in tagged(cell, kind)
    }
    for name, node in here.items():
        if names and name not in known and not isinstance(node, (ast.Assign, ast.AnnAssign)):
            found.append(f"{name} is defined beside an export and has no tag")
    return found


def redefinitions(notebooks: dict[str, dict]) -> list[str]:
    """Names that are defined again after their export; notebooks in the order of the course."""
    exported, found = {}, []
    for title, notebook in notebooks.items():
        for cell in code_cells(notebook):
            for name, _ in course.defined(ast.parse(python(cell))):
                if name in exported:
                    found.append(f"{title} defines {name} again (exported in {exported[name]})")
            for dotted in tagged(cell, "export"):
                if isinstance(in_package(dotted.rpartition(".")[0]), ast.ClassDef):
                    continue  # a method: its name belongs to its class
                exported[dotted.rpartition(".")[2]] = title
    return found


# ---------------------------------------------------------------- equivalents


def flat(value: object) -> Iterator[np.ndarray]:
    """All numbers of an output, in order."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from flat(part)
    else:
        plain = value.detach().cpu() if torch.is_tensor(value) else value
        yield np.asarray(plain, dtype=np.float64)


def equiv_faults(number: str, notebook: dict) -> list[str]:
    """How the simpler forms of a notebook differ from the package in what they compute."""
    found, pairs = [], pairs_of(number)
    wanted = [name for cell in code_cells(notebook) for name in tagged(cell, "equiv")]
    found += [f"{name} has a comparison but no cell" for name in pairs if name not in wanted]
    with course.module(f"notebook_{number}") as scope:
        for at, cell in enumerate(code_cells(notebook)):
            kinds = course.tags(cell)
            if any(tag == "setup" or tag.startswith(("export:", "equiv:")) for tag in kinds):
                course.run(python(cell), scope, f"{scope.__name__} cell {at}")
            for dotted in tagged(cell, "equiv"):
                if dotted not in pairs:
                    found.append(f"{dotted} has no comparison in tests/equivalents/nb{number}.py")
                    continue
                fault = difference(pairs[dotted], getattr(scope, dotted.rpartition(".")[2]), dotted)
                found += [f"{dotted}: {fault}"] if fault else []
    return found


def difference(pair, ours: object, dotted: str) -> str:
    """What two forms give differently, or nothing."""
    owner, _, name = dotted.rpartition(".")
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    outputs = pair(ours, getattr(importlib.import_module(owner), name))
    left, right = (list(flat(output)) for output in outputs)
    if not left or [a.shape for a in left] != [b.shape for b in right]:
        return f"shapes {[a.shape for a in left]} and {[b.shape for b in right]}"
    for a, b in zip(left, right, strict=True):
        if not np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True):
            return f"outputs differ by up to {np.abs(a - b).max():.2g}"
    return ""


# ---------------------------------------------------------------- one changed token

SWAP = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.USub: ast.UAdd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def mutants(source: str) -> Iterator[str]:
    """The code with one operator, number or name changed, one at a time."""
    tree = Bare().visit(ast.parse(source))
    for at, node in enumerate(ast.walk(tree)):
        changed = copy.deepcopy(tree)
        twin = next(n for k, n in enumerate(ast.walk(changed)) if k == at)
        if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.BoolOp)) and type(node.op) in SWAP:
            twin.op = SWAP[type(node.op)]()
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAP:
            twin.ops[0] = SWAP[type(node.ops[0])]()
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            twin.value = node.value + 1
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            twin.id = node.id + "_"
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            twin.attr = node.attr + "_"
        else:
            continue
        yield ast.unparse(ast.fix_missing_locations(changed))


# ---------------------------------------------------------------- the notebooks of the course

COURSE = {path.stem: course.load(path) for path in NOTEBOOKS}
EXPORTS = [
    pytest.param(cell, id=f"{title}-{cell['id']}")
    for title, notebook in COURSE.items()
    for cell in code_cells(notebook)
    if tagged(cell, "export")
]
FORMS = [
    title
    for title, notebook in COURSE.items()
    if any(tagged(cell, "equiv") for cell in code_cells(notebook)) or pairs_of(title[:2])
]


@pytest.mark.parametrize("cell", EXPORTS)
def test_an_exported_cell_is_the_packages_own(cell):
    assert export_faults(cell) == []


def test_what_is_exported_is_not_defined_again():
    assert redefinitions(COURSE) == []


def test_any_export_that_is_defined_again_is_noticed():
    for title, notebook in COURSE.items():
        for cell in code_cells(notebook):
            if tagged(cell, "export"):
                later = {"later": {"cells": [{**cell, "metadata": {}}]}}
                methods = all(
                    isinstance(in_package(n.rpartition(".")[0]), ast.ClassDef)
                    for n in tagged(cell, "export")
                )
                assert methods or redefinitions({title: notebook, **later}) != []


@pytest.mark.parametrize("title", FORMS)
def test_a_simpler_form_computes_the_same(title, monkeypatch):
    monkeypatch.chdir(course.ROOT / "notebooks")
    assert equiv_faults(title[:2], COURSE[title]) == []


@pytest.mark.parametrize("title", FORMS)
def test_a_changed_token_of_a_simpler_form_is_noticed(title, monkeypatch):
    monkeypatch.chdir(course.ROOT / "notebooks")
    for at, cell in enumerate(COURSE[title]["cells"]):
        if cell["cell_type"] == "code" and tagged(cell, "equiv"):
            assert noticed(title[:2], COURSE[title], at) >= 1


def noticed(number: str, notebook: dict, at: int) -> int:
    """How many of two changed forms of a cell are found out: one changed early, one late."""
    count = 0
    texts = list(mutants(python(notebook["cells"][at])))
    for text in (texts[len(texts) // 4], texts[3 * len(texts) // 4]):
        spoilt = copy.deepcopy(notebook)
        spoilt["cells"][at]["source"] = text
        try:
            count += bool(equiv_faults(number, spoilt))
        except Exception:  # it does not run any more
            count += 1
    return count


# ---------------------------------------------------------------- and if there were drift?

OWN = '''
def symlog(x):
    """Another docstring."""
    return torch.sign(x) * torch.log1p(torch.abs(x))
'''


def package_source(dotted: str) -> str:
    return ast.unparse(in_package(dotted))


@pytest.mark.parametrize(
    "dotted",
    [
        "wmlib.distributions.symlog",
        "wmlib.rssm.RecurrentCore",
        "wmlib.rssm.State",
        "wmlib.agent.Dream",
        "wmlib.config.PRESETS",
    ],
)
def test_the_packages_own_source_passes_and_its_mutants_fail(dotted):
    text = package_source(dotted)
    bare = ast.unparse(Bare().visit(ast.parse(text)))
    for form in (text, bare):
        assert export_faults(code(form, f"export:{dotted}")) == []
    changed = list(mutants(text))
    assert changed
    for mutant in changed:
        assert export_faults(code(mutant, f"export:{dotted}")) != [], mutant


def test_a_field_without_annotation_is_no_field():
    text = package_source("wmlib.config.Config").replace("deter: int = 512", "deter = 512")
    assert text != package_source("wmlib.config.Config")
    assert export_faults(code(text, "export:wmlib.config.Config")) != []


def test_several_definitions_share_a_cell_if_each_is_tagged():
    names = ["wmlib.distributions.symlog", "wmlib.distributions.symexp"]
    text = "import torch\n" + "\n".join(map(package_source, names)) + "\nprint(symlog(1))\nx = 3"
    labels = [f"export:{name}" for name in names]
    assert export_faults(code(text, *labels)) == []
    assert export_faults(code(text, labels[0])) == [
        "symexp is defined beside an export and has no tag"
    ]


def test_a_method_is_compared_with_that_of_its_class():
    text = package_source("wmlib.rssm.RSSM.prior")
    assert export_faults(code(text, "export:wmlib.rssm.RSSM.prior")) == []
    assert export_faults(code(text, "export:wmlib.rssm.RSSM.posterior")) != []


@pytest.mark.parametrize(
    ("text", "dotted", "where"),
    [
        ("x = 1", "wmlib.rssm.RSSM", "the cell"),
        ("", "wmlib.rssm.RSSN", "the cell"),
        ("class RSSN: pass", "wmlib.rssm.RSSN", "the package"),
        ("class RSSM: pass", "wmlib.no_such_module.RSSM", "the package"),
        ("def dumps(): pass", "json.dumps", "the package"),
    ],
)
def test_a_name_that_is_nowhere_is_told(text, dotted, where):
    assert export_faults(code(text, f"export:{dotted}")) == [f"{dotted} is not defined in {where}"]


@pytest.mark.parametrize(
    "again",
    [
        "def symlog(x): return x",
        "class symlog: pass",
        "symlog = abs",
        "a, symlog = 1, 2",
        "symlog: int = 3",
    ],
)
def test_a_second_definition_is_found_in_this_and_in_later_notebooks(again):
    first = code(package_source("wmlib.distributions.symlog"), "export:wmlib.distributions.symlog")
    one = {"cells": [first]}
    use = code("from wmlib.distributions import symlog\ny = symlog(2)\nf(symlog=1)")
    before = {"cells": [code(again), first]}  # a first, wrong version is welcome
    assert redefinitions({"02": one, "03": {"cells": [use]}}) == []
    assert redefinitions({"02": before}) == []
    for later in (
        {"02": {"cells": [first, code(again)]}},
        {"02": one, "06": {"cells": [code(again)]}},
        {"02": one, "06": {"cells": [code(again, "equiv:wmlib.distributions.symlog")]}},
        {"02": one, "06": one},
    ):
        found = redefinitions(later)
        assert len(found) == 1 and "symlog again (exported in 02)" in found[0]


def test_the_name_of_an_exported_method_stays_free():
    method = code(package_source("wmlib.rssm.RSSM.prior"), "export:wmlib.rssm.RSSM.prior")
    assert redefinitions({"05": {"cells": [method, code("prior = 1")]}}) == []


@pytest.fixture
def compared(monkeypatch):
    def pair(ours, theirs):
        x = torch.randn(50)
        return {"y": ours(x)}, {"y": [theirs(x)]}

    monkeypatch.setattr("equivalents.PAIRS", {("99", "wmlib.distributions.symlog"): pair})


SIMPLE = "import torch\ndef symlog(x):\n    return x.sign() * (1 + x.abs()).log()\n"


def test_a_simpler_form_is_compared_by_what_it_computes(compared):
    tag = "equiv:wmlib.distributions.symlog"
    notebook = {"cells": [code(SIMPLE, tag)]}
    assert equiv_faults("99", notebook) == []
    assert noticed("99", notebook, 0) >= 1
    wrong = {"cells": [code(SIMPLE.replace("1 +", "2 +"), tag)]}
    assert "outputs differ" in equiv_faults("99", wrong)[0]
    shape = {"cells": [code(SIMPLE.replace("log()", "log()[:3]").replace("x.sign() *", ""), tag)]}
    assert "shapes" in equiv_faults("99", shape)[0]


def test_a_form_without_comparison_and_a_comparison_without_form_are_told(compared):
    assert equiv_faults("99", {"cells": []}) == [
        "wmlib.distributions.symlog has a comparison but no cell"
    ]
    found = equiv_faults("98", {"cells": [code(SIMPLE, "equiv:wmlib.distributions.symlog")]})
    assert found == ["wmlib.distributions.symlog has no comparison in tests/equivalents/nb98.py"]
