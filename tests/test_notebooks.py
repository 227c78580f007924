"""What nbval does not check: that notebooks were executed, in order, and hold nothing unwanted."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
LONGEST, BYTES = 45, 1_500_000
LOCAL = re.compile(r"(/(tmp|root|home|Users|work)/|[A-Z]:\\\\|at 0x[0-9a-f]{6,})")


def faults(notebook: dict) -> list[str]:
    """All hygiene faults of a notebook, as sentences."""
    found = []
    code = [c for c in notebook["cells"] if c["cell_type"] == "code" and "".join(c["source"])]
    if [c["execution_count"] for c in code] != list(range(1, len(code) + 1)):
        found.append("cells are not executed 1..n in order")
    for number, cell in enumerate(code, 1):
        source = "".join(cell["source"])
        lines = [line for line in source.splitlines() if line.strip()]
        if len(lines) > LONGEST:
            found.append(f"cell {number} has {len(lines)} lines")
        if any(line.lstrip().startswith(("!", "%pip", "%%bash")) for line in lines):
            found.append(f"cell {number} runs a shell")
        if any(o["output_type"] == "error" for o in cell["outputs"]):
            found.append(f"cell {number} holds an error")
        if any(o.get("name") == "stderr" for o in cell["outputs"]):
            found.append(f"cell {number} wrote to stderr")
        shown = [{k: v for k, v in o.items() if k != "data"} for o in cell["outputs"]]
        texts = [o.get("data", {}).get("text/plain", "") for o in cell["outputs"]]
        if LOCAL.search(json.dumps([shown, texts])):
            found.append(f"cell {number} shows a path or an address of one machine")
        if "image/svg+xml" in json.dumps(cell["outputs"]):
            found.append(f"cell {number} shows an SVG")
    if "widgets" in notebook["metadata"]:
        found.append("widget state is stored")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook_is_clean(path):
    assert faults(json.loads(path.read_text())) == []
    assert path.stat().st_size <= BYTES


def test_there_are_notebooks():
    assert NOTEBOOKS


CLEAN = {
    "metadata": {},
    "cells": [
        {"cell_type": "code", "source": ["1 + 1"], "execution_count": 1, "outputs": []},
        {"cell_type": "code", "source": ["2"], "execution_count": 2, "outputs": []},
    ],
}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda n: n["cells"][1].update(execution_count=3),
        lambda n: n["cells"][1].update(execution_count=None),
        lambda n: n["cells"][0].update(source=["x\n"] * 46),
        lambda n: n["cells"][0].update(source=["!ls"]),
        lambda n: n["cells"][0].update(outputs=[{"output_type": "error"}]),
        lambda n: n["cells"][0].update(outputs=[{"output_type": "stream", "name": "stderr"}]),
        lambda n: n["cells"][0].update(
            outputs=[{"output_type": "stream", "name": "stdout", "text": "in /home/me/x"}]
        ),
        lambda n: n["cells"][0].update(
            outputs=[{"output_type": "execute_result", "data": {"text/plain": "<X at 0x7f00aa11>"}}]
        ),
        lambda n: n["metadata"].update(widgets={}),
    ],
)
def test_every_fault_is_found(spoil):
    notebook = json.loads(json.dumps(CLEAN))
    assert faults(notebook) == []
    spoil(notebook)
    assert len(faults(notebook)) == 1
