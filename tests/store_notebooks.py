"""Execute notebooks as a reader would and store them with clean metadata: `make notebooks`.

python tests/store_notebooks.py notebooks/00_why_dream.ipynb ...
"""

import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LIVE = "application/vnd.jupyter.widget-view+json"


def clean(notebook: nbformat.NotebookNode) -> None:
    """Leave only what every run shares: tags, cell ids, and outputs that need no kernel.

    A stored widget view points at a state that no longer exists; its picture stays. Ids stay as
    they are; cells without one, or with one that is not unique, are called after their neighbour.
    """
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    before, used = "top", set()
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")}
        name, again = cell.get("id") or f"{before}-next", 2
        while name in used:
            name, again = f"{re.sub('-[0-9]+$', '', name)}-{again}", again + 1
        cell.id = before = name
        used.add(name)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(LIVE, None)


def store(path: Path) -> float:
    """Execute one notebook in its own directory, clean it, write it; returns the seconds."""
    notebook = nbformat.read(path, as_version=4)
    began = time.monotonic()
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": path.parent}}).execute()
    seconds = time.monotonic() - began
    clean(notebook)
    nbformat.write(notebook, path)
    return seconds


if __name__ == "__main__":
    os.environ["WMLIB_PROGRESS"] = ""  # somebody's own progress does not belong into the course
    for name in sys.argv[1:]:
        print(f"{name}: {store(Path(name)):.0f} s", file=sys.stderr)
