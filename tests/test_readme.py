"""README and its companions: links lead somewhere, tables agree with the notebooks."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import course
import lab_server
import nbformat
import pytest
import yaml
from PIL import Image

import wmlib

ROOT = Path(__file__).parents[1]
README, RESULTS, QUESTIONS = (
    ROOT / name
    for name in ("README.md", "notebooks/results/README.md", "notebooks/results/questions.md")
)
CONTRIBUTING, CHANGELOG = ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"
DOCUMENTS = [README, RESULTS, QUESTIONS, CONTRIBUTING, CHANGELOG]
BOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def text_of(path):
    return path.read_text(encoding="utf-8")


def links(path):
    return sorted(set(re.findall(r"\]\(([^)\s]+)\)", text_of(path))))


def anchors(path):
    """Anchors of a document's headings: as Jupyter makes them, or GitHub."""
    if path.suffix == ".md":
        titles = re.findall(r"^#+ (.*)$", text_of(path), re.M)
        return {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}
    cells = nbformat.read(path, 4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    return {h.replace(" ", "-") for h in re.findall(r"^#+ (.*)$", "\n".join(texts), re.M)}


def rows():
    """The table of the notebooks: file name -> cells of its line."""
    lines = re.findall(r"^\| \[.*\]\(notebooks/(\S+\.ipynb)\) \|(.*)\|$", text_of(README), re.M)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


def reading_minutes(path):
    """120 words of prose and 12 visible lines of code a minute, and a minute for each figure.

    Exercises (their minutes stand beside them) and folded hints do not count.
    """
    words = lines = figures = 0
    for cell in course.load(path)["cells"]:
        text = course.source(cell)
        if course.HEADING.match(text) or {"exercise", "check"}.intersection(course.tags(cell)):
            continue
        if cell["cell_type"] == "markdown":
            words += len(
                re.findall(r"[^\W\d_][\w'’-]*|\$[^$]*\$|\d[\d.,]*", course.FOLD.sub("", text))
            )
            continue
        hidden = cell["metadata"].get("jupyter", {}).get("source_hidden")
        if not hidden and "setup" not in course.tags(cell):
            lines += course.lines_of(cell)
        figures += any("image/png" in o.get("data", {}) for o in cell["outputs"])
    return words / 120 + lines / 12 + figures


@pytest.mark.parametrize(
    ("path", "link"), [(p, link) for p in DOCUMENTS for link in links(p) if "://" not in link]
)
def test_links_lead_somewhere(path, link):
    name, _, anchor = link.partition("#")
    there = path.parent / name if name else path
    assert there.exists()
    if anchor:
        assert unquote(anchor) in anchors(there)


def test_every_notebook_is_on_the_map_once_and_in_order():
    assert list(rows()) == BOOKS


@pytest.mark.parametrize("name", BOOKS)
def test_reading_times_are_those_of_the_notebooks(name):
    read = rows()[name][1]
    assert abs(int(read.removesuffix(" min")) - reading_minutes(ROOT / "notebooks" / name)) <= 10


@pytest.mark.parametrize("path", [README, RESULTS])
def test_pictures_have_alternative_texts(path):
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text_of(path))
    assert len(pictures) >= 3 and all(len(alt) > 10 for alt, _ in pictures)


def test_the_first_screen_moves_and_starts():
    first = text_of(README)[:2200]
    assert "imgs/curtain_dream.gif" in first and "make lab" in first and "make test" in first


def test_the_other_documents_are_one_link_away():
    assert {p.relative_to(ROOT).as_posix() for p in DOCUMENTS[1:]} < set(links(README))


def test_the_loop_with_a_shipped_agent_runs_as_it_is_written():
    blocks = re.findall(r"^```python\n(.*?)^```", text_of(README), re.M | re.S)
    (code,) = (block for block in blocks if 'load_policy("cartpole"' in block)
    assert len([line for line in code.splitlines() if line]) <= 11
    names = {}
    exec(code, names)
    assert names["total"] >= 450  # of 500


SMALL = "deter=16, hidden=16, units=16, random_steps=64, model_updates=1, batch_size=4"


def test_a_world_of_ones_own_is_trained_evaluated_dreamt_shared_and_acted_in(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", text_of(README), re.M | re.S)
    (world,) = (block for block in blocks if "class Drone" in block)
    (script,) = (block for block in blocks if "import Drone" in block)
    assert len(world.splitlines()) <= 40 and len(script.splitlines()) <= 30
    (tmp_path / "drone.py").write_text(world)
    assert "minutes=5" in script and '"tiny", ' in script
    short = script.replace("minutes=5", "steps=700").replace('"tiny", ', f'"tiny", {SMALL}, ')
    (tmp_path / "fly.py").write_text(short)
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "fly.py"],
        cwd=tmp_path,
        env=os.environ | path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    assert "camera" in done.stdout and float(said["return"]) < 50 and float(said["one flight"]) < 50
    with Image.open(tmp_path / "drone.gif") as film:
        assert film.n_frames > 5
    assert wmlib.load_agent(tmp_path / "drone.safetensors", "cpu")[0].act_space.shape == (3,)
    assert wmlib.load_agent(tmp_path / "runs/drone", "cpu")[1]["updates"] > 0


def test_all_24_questions_are_answered_with_a_link():
    found = re.findall(
        r"^(\d+)\. \*\*(.*?)\*\* (.*?)(?=^\d+\. \*\*|\Z)", text_of(QUESTIONS), re.M | re.S
    )
    assert [int(number) for number, _, _ in found] == list(range(1, 25))
    for _, question, answer in found:
        assert re.search(r"\]\(\.\./\d\d_\w+\.ipynb#", answer), question


def test_windows_starts_jupyterlab_as_the_makefile_does():
    command = re.search(r"python -m jupyterlab (.*)$", text_of(README), re.M)[1]
    assert sorted(command.split()) == sorted(lab_server.flags())


def test_windows_runs_the_notebooks_as_the_makefile_does():
    make = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    here = re.search(r"-m pytest (--nbval [^`]*)`", text_of(README))[1].split()
    there = re.search(r"-m pytest (--nbval .*)$", make, re.M)[1].split()
    parallel = ["-n", "2", "--dist", "loadfile"]
    assert here == [word for word in there if word not in parallel]


def test_all_tags_in_use_are_explained():
    table = re.findall(r"^\| (`.*?) \|", text_of(CONTRIBUTING), re.M)
    known = {tag.partition(":")[0] for tag in re.findall(r"`([^`]+)`", " ".join(table))}
    cells = [cell for path in course.NOTEBOOKS for cell in course.load(path)["cells"]]
    used = {tag.partition(":")[0] for cell in cells for tag in course.tags(cell)}
    assert used and used <= known


def test_one_version_everywhere():
    cited = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    assert cited["cff-version"] == "1.2.0" and cited["title"] in text_of(README)
    packaged = re.search(r'^version = "(.*)"', text_of(ROOT / "pyproject.toml"), re.M)[1]
    logged = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", text_of(CHANGELOG), re.M)
    assert {str(cited["version"]), packaged, logged[0]} == {wmlib.__version__}
