"""Execute notebooks as other machines would: `make shake`.

Each sweep shifts all seeds, picks an instruction-set level and a number of threads, runs every
notebook in a copy of the course, and goes on after errors. What `expect` measured goes to
`runs/shake/`, one file per notebook and sweep, so that an interrupted shake resumes; a notebook
whose code has changed is run again, and where only bounds have changed, one run says the new ones.
`notebooks/results/shake.csv` has one row per expectation.

    python tests/shake_notebooks.py                      # the ten sweeps of `SWEEPS`, all notebooks
    python tests/shake_notebooks.py 07 10 --more 10      # two notebooks, and ten more seed shifts
    python tests/shake_notebooks.py --tests              # pytest at the SSE and AVX2 levels
    python tests/shake_notebooks.py --report             # only shake.csv, from what is stored
"""

import argparse
import ast
import csv
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import torch
from course import NOTEBOOKS, ROOT, code_cells, python
from nbclient import NotebookClient

OUT = ROOT / "runs" / "shake"
TABLE = ROOT / "notebooks" / "results" / "shake.csv"
LEVELS = {
    "native": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}
COLUMNS = [
    "notebook",
    "cell",
    "what",
    "runs",
    "mean",
    "sd",
    "smallest",
    "largest",
    "low",
    "high",
    "margin_in_sd",
    "outside",
]


class Sweep(NamedTuple):
    """One way to run everything."""

    level: str
    threads: int
    shift: int

    def __str__(self) -> str:
        return f"{self.level}-{self.threads}-{self.shift}"


SWEEPS = [
    Sweep("native", 1, 0),
    Sweep("native", 2, 1000),
    Sweep("native", 1, 2000),
    Sweep("sse", 2, 3000),
    Sweep("avx2", 2, 4000),
    Sweep("native", 1, 5000),
    Sweep("native", 2, 6000),
    Sweep("native", 1, 7000),
    Sweep("avx2", 1, 0),
    Sweep("sse", 1, 0),
]


def shift_seeds(offset: int) -> None:
    """Add `offset` to every seed that is given to NumPy's or torch's generators from now on.

    To be called in a fresh process, before the package is imported.
    """

    def shifted(seed: object) -> object:
        if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
            return int(seed) + offset
        if isinstance(seed, (list, tuple)) and seed:
            return [shifted(seed[0]), *seed[1:]]
        return seed

    class SeedSequence(np.random.SeedSequence):
        def __init__(self, entropy: object = None, **more: object):
            super().__init__(shifted(entropy), **more)

    class Generator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(shifted(seed))

    fresh_rng, seed_legacy, seed_torch = np.random.default_rng, np.random.seed, torch.manual_seed
    np.random.default_rng = lambda seed=None: fresh_rng(shifted(seed))
    np.random.seed = lambda seed=None: seed_legacy(shifted(seed))
    np.random.SeedSequence = SeedSequence
    torch.manual_seed = lambda seed: seed_torch(shifted(seed))
    torch.Generator = Generator


class _Unbounded(ast.NodeTransformer):
    """Take the bounds out of every `expect`."""

    def visit_Call(self, call: ast.Call) -> ast.Call:
        self.generic_visit(call)
        if isinstance(call.func, ast.Name) and call.func.id == "expect":
            call.args, call.keywords = call.args[:2], []
        return call


def code_of(notebook: nbformat.NotebookNode, bounds: bool = False) -> str:
    """A short hash of what a notebook computes: its code without comments, and without bounds."""
    trees = [ast.parse(python(cell)) for cell in code_cells(notebook)]
    if not bounds:
        trees = [_Unbounded().visit(tree) for tree in trees]
    return hashlib.sha256("\0".join(map(ast.dump, trees)).encode()).hexdigest()[:16]


def place_of(path: Path, sweep: Sweep) -> Path:
    """Where the result of a notebook in a sweep is kept."""
    return OUT / f"{path.stem}--{sweep}.json"


def execute(path: Path, sweep: Sweep) -> dict:
    """Run one notebook in this process's environment; its expectations and failing cells."""
    notebook = nbformat.read(path, as_version=4)
    found = {"code": code_of(notebook), "bounds": code_of(notebook, bounds=True)}
    found |= {"sweep": str(sweep), "expectations": [], "failures": []}
    found["printed"] = {}  # by cell, to compare with the numbers that the prose quotes
    first = (
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from shake_notebooks import shift_seeds\nshift_seeds({sweep.shift})\n"
        "sys.path.pop(0)"
    )
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "notebooks"
        shutil.copytree(path.parent, home, ignore=shutil.ignore_patterns("*.ipynb", "mine"))
        shutil.copytree(ROOT / "imgs", Path(folder) / "imgs")
        log = Path(folder) / "expectations.jsonl"
        log.touch()
        read = 0

        def executed(cell: nbformat.NotebookNode, **_: object) -> None:
            nonlocal read
            lines = log.read_text(encoding="utf-8").splitlines()
            for line in lines[read:]:
                found["expectations"].append({"cell": cell["id"], **json.loads(line)})
            read = len(lines)
            for output in cell.get("outputs", []):
                if output["output_type"] == "stream":
                    printed = found["printed"].get(cell["id"], "")
                    found["printed"][cell["id"]] = printed + output["text"]
                if output["output_type"] == "error":
                    text = f"{output['ename']}: {output['evalue']}"[:300]
                    found["failures"].append({"cell": cell["id"], "error": text})

        os.environ["WMLIB_EXPECTATIONS"] = str(log)
        NotebookClient(
            notebook,
            timeout=1800,
            allow_errors=True,
            on_cell_executed=executed,
            resources={"metadata": {"path": home}},
        ).execute()
    return found


def run(job: tuple[Path, Sweep]) -> None:
    """Run one notebook of a sweep in a process of its own, and keep what it measured."""
    path, sweep = job
    place = place_of(path, sweep)
    environment = {
        **os.environ,
        **LEVELS[sweep.level],
        "PYTHONPATH": str(ROOT),
        "WMLIB_THREADS": str(sweep.threads),
        "WMLIB_PROGRESS": "",
        "WMLIB_STRICT": "",
    }
    command = [sys.executable, __file__, "--single", str(path), *map(str, sweep)]
    for _ in range(3):  # a kernel may fail to start where another one takes its port
        began = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if not done.returncode:
            break
    else:
        print(f"{path.stem} {sweep} died:\n{done.stderr[-2000:]}", file=sys.stderr, flush=True)
        return
    found = {**json.loads(done.stdout.splitlines()[-1]), "seconds": time.monotonic() - began}
    draft = place.with_suffix(".tmp")
    draft.write_text(json.dumps(found, indent=1), encoding="utf-8")
    draft.replace(place)
    said = [f"{f['cell']}: {f['error']}" for f in found["failures"]]
    missed = [e for e in found["expectations"] if not within(e["value"], e["low"], e["high"])]
    said += [f"{e['cell']}: {e['what']} is {e['value']:.4g}" for e in missed]
    print(f"{path.stem} {sweep} {found['seconds']:.0f} s", *said, sep="\n    ", flush=True)


def within(value: float, low: float | None, high: float | None) -> bool:
    """Is the value inside its bounds? None is no bound; NaN is outside."""
    return (low is None or value >= low) and (high is None or value <= high)


def margin(values: list[float], low: float | None, high: float | None) -> float:
    """Distance of the mean from the nearer bound, in standard deviations of two or more values."""
    mean, spread = np.mean(values), np.std(values, ddof=1)
    gaps = [mean - low] if low is not None else []
    gaps += [high - mean] if high is not None else []
    return float(min(gaps) / spread) if spread else math.copysign(math.inf, min(gaps))


def stored(path: Path) -> list[dict]:
    """The stored runs of what a notebook computes at present; those with its bounds come last."""
    notebook = nbformat.read(path, as_version=4)
    code, bounds = code_of(notebook), code_of(notebook, bounds=True)
    places = sorted(OUT.glob(f"{path.stem}--*.json"))
    found = [json.loads(place.read_text(encoding="utf-8")) for place in places]
    return sorted((f for f in found if f["code"] == code), key=lambda f: f["bounds"] == bounds)


def to_run(path: Path, sweeps: list[Sweep]) -> list[Sweep]:
    """Sweeps of which nothing is stored; the first one again if its bounds are not the present."""
    found = stored(path)
    done = {f["sweep"] for f in found}
    bounds = code_of(nbformat.read(path, as_version=4), bounds=True)
    if found and found[-1]["bounds"] != bounds:
        done.discard(str(sweeps[0]))
    return [sweep for sweep in sweeps if str(sweep) not in done]


def report(paths: list[Path]) -> None:
    """Write the table of all stored runs of the notebooks' present code, and print a summary."""
    rows, failing, runs, sweeps = [], 0, 0, set()
    for path in paths:
        values = defaultdict(list)
        for found in stored(path):
            runs += 1
            sweeps.add(found["sweep"])
            failing += len(found["failures"])
            count = defaultdict(int)
            for e in found["expectations"]:
                count[e["cell"], e["what"]] += 1
                values[e["cell"], e["what"], count[e["cell"], e["what"]]].append(e)
        for (cell, what, _), entries in values.items():
            numbers = [e["value"] for e in entries]
            low, high = entries[-1]["low"], entries[-1]["high"]
            rows.append(
                {
                    "notebook": path.stem,
                    "cell": cell,
                    "what": what,
                    "runs": len(numbers),
                    "mean": f"{np.mean(numbers):.4g}",
                    "sd": f"{np.std(numbers, ddof=1):.2g}" if len(numbers) > 1 else "",
                    "smallest": f"{min(numbers):.4g}",
                    "largest": f"{max(numbers):.4g}",
                    "low": "" if low is None else f"{low:g}",
                    "high": "" if high is None else f"{high:g}",
                    "margin_in_sd": f"{margin(numbers, low, high):.1f}" if len(numbers) > 1 else "",
                    "outside": sum(not within(number, low, high) for number in numbers),
                }
            )
    with TABLE.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(f"{runs} runs of {len(paths)} notebooks in {len(sweeps)} sweeps, {failing} failing cells")
    known = [row for row in rows if row["margin_in_sd"]]
    for row in sorted(known, key=lambda row: float(row["margin_in_sd"]))[:8]:
        print(f"{row['margin_in_sd']:>6} sd  {row['notebook'][:2]} {row['cell']}: {row['what']}")


def shake_tests() -> int:
    """Run pytest once at each level that is not this machine's own; the worst exit status."""
    status = 0
    for level in ("sse", "avx2"):
        print(f"pytest, {level}", flush=True)
        command = [sys.executable, "-m", "pytest", "-m", "not browser", "-n", "2"]
        command += ["--dist", "loadfile"]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **LEVELS[level]}, check=False)
        status = max(status, done.returncode)
    return status


def main() -> int:
    """Read the command line and shake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="numbers such as 07; default: all")
    parser.add_argument("--more", type=int, default=0, help="so many further shifts, native")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at the same time")
    parser.add_argument("--report", action="store_true", help="only the table")
    parser.add_argument("--tests", action="store_true", help="pytest at other levels instead")
    parser.add_argument("--single", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.single:
        path, level, threads, shift = options.single
        print(json.dumps(execute(Path(path), Sweep(level, int(threads), int(shift)))))
        return 0
    if options.tests:
        return shake_tests()
    chosen = [p for p in NOTEBOOKS if not options.notebooks or p.name[:2] in options.notebooks]
    OUT.mkdir(parents=True, exist_ok=True)
    if not options.report:
        more = [Sweep("native", 1, 8000 + 1000 * k) for k in range(options.more)]
        sweeps = [*SWEEPS, *more]
        missing = {path: to_run(path, sweeps) for path in chosen}
        jobs = [  # the longest notebook is the last: begin with it
            (path, s) for s in sweeps for path in reversed(chosen) if s in missing[path]
        ]
        for threads in sorted({sweep.threads for _, sweep in jobs}):  # never more than processors
            alike = [job for job in jobs if job[1].threads == threads]
            with ThreadPoolExecutor(max(1, options.jobs // threads)) as pool:
                list(pool.map(run, alike))
    report(NOTEBOOKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
