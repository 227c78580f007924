"""The README: every link leads somewhere, every notebook is on its map, every question answered."""

import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
LINKS = sorted(set(re.findall(r"\]\(([^)\s]+)\)", TEXT)))
BOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def headings(path):
    """Anchors of a notebook's headings, as Jupyter makes them."""
    cells = nbformat.read(path, 4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    return {h.replace(" ", "-") for h in re.findall(r"^#+ (.*)$", "\n".join(texts), re.M)}


@pytest.mark.parametrize("link", [link for link in LINKS if "://" not in link])
def test_links_lead_somewhere(link):
    path, _, anchor = link.partition("#")
    assert (ROOT / path).exists()
    if anchor:
        assert unquote(anchor) in headings(ROOT / path)


@pytest.mark.parametrize("name", BOOKS)
def test_every_notebook_is_on_the_map(name):
    assert re.search(rf"^\| \[.*\]\(notebooks/{name}\) \|", TEXT, re.M)


def test_pictures_have_alternative_texts():
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", TEXT)
    assert len(pictures) >= 5 and all(len(alt) > 10 for alt, _ in pictures)


def test_all_24_questions_are_answered_with_a_link():
    part = TEXT.partition("## Questions that learners ask")[2].partition("\n## ")[0]
    rows = re.findall(r"^(\d+)\. \*\*(.*?)\*\* (.*?)(?=^\d+\. \*\*|\Z)", part, re.M | re.S)
    assert [int(number) for number, _, _ in rows] == list(range(1, 25))
    for _, question, answer in rows:
        assert "](notebooks/" in answer and "#" in answer, question
