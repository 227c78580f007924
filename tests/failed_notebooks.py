"""Execute the notebooks that nbval rejected once more, going on after errors, to be looked at.

nbval reports cells but stores nothing. After a failed run of it:

    python tests/failed_notebooks.py FOLDER
"""

import json
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
LAST = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"


def rejected(last: Path = LAST) -> list[Path]:
    """The notebooks among what the last run of pytest found failing."""
    if not last.is_file():
        return []
    names = {key.partition("::")[0] for key in json.loads(last.read_text(encoding="utf-8"))}
    return sorted(ROOT / name for name in names if name.endswith(".ipynb"))


def execute(paths: list[Path], out: Path) -> None:
    """Execute notebooks where they are; the results go to `out`, errors and all."""
    out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        where = {"metadata": {"path": path.parent}}
        NotebookClient(notebook, timeout=600, allow_errors=True, resources=where).execute()
        nbformat.write(notebook, out / path.name)
        print(out / path.name)


if __name__ == "__main__":
    os.environ.update(WMLIB_STRICT="1", WMLIB_THREADS="1", WMLIB_PROGRESS="")  # as they failed
    execute(rejected(), Path(sys.argv[1]))
