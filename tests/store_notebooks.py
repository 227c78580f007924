"""Execute notebooks as a reader would and store them with clean metadata: `make notebooks`.

python tests/store_notebooks.py notebooks/00_why_dream.ipynb ...
"""

import hashlib
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def store(path: Path) -> float:
    """Execute one notebook in its own directory, normalise it, write it; returns the seconds."""
    notebook = nbformat.read(path, as_version=4)
    began = time.monotonic()
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": path.parent}}).execute()
    seconds = time.monotonic() - began
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        kept = {k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")}
        cell.metadata = kept
        cell.id = hashlib.sha1(f"{path.stem}-{number}".encode()).hexdigest()[:8]
    nbformat.write(notebook, path)
    return seconds


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {store(Path(name)):.0f} s", file=sys.stderr)
