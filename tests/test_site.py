"""The web site: complete, small, without requests to anywhere, and folded as in JupyterLab."""

import importlib.util
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from course import NOTEBOOKS, ROOT, code_cells, load

PAGES = ["index", "glossary", "search", "notebooks/results/README", "notebooks/results/questions"]
PAGES += [f"notebooks/{path.stem}" for path in NOTEBOOKS]
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page holds: ids, links, what it loads, pictures without words, its text."""

    def __init__(self, path):
        super().__init__()
        self.ids = set()
        self.links, self.loads, self.mute, self.classes, self.text = [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids.add(found.get("id"))
        self.classes.append((tag, found.get("class") or ""))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        unused = tag == "link" and found.get("rel") in ("index", "search", "next", "prev")
        if tag in LOADS and found.get(LOADS[tag]) and not unused:
            self.loads.append(found[LOADS[tag]])
        if tag == "img" and not (found.get("alt") or "").strip():
            self.mute.append(found)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def pages(site):
    return {name: Page(site / f"{name}.html") for name in PAGES}


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("site_build", ROOT / "site" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def there(site, name, target):
    return (site / name).parent / unquote(urlsplit(target).path)


def test_all_notebooks_and_the_search_index_are_there(site, pages):
    assert len(NOTEBOOKS) == 12
    index = (site / "searchindex.js").read_text()
    assert all(f'"notebooks/{path.stem}"' in index for path in NOTEBOOKS)
    for before, after in zip(NOTEBOOKS, NOTEBOOKS[1:], strict=False):
        assert f"{after.stem}.html" in pages[f"notebooks/{before.stem}"].links


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_only_what_is_here_and_little_of_it(site, pages, name):
    assert not [load for load in pages[name].loads if re.match(r"(https?:)?//", load)]
    files = {there(site, name, load) for load in pages[name].loads if load[:5] != "data:"}
    assert sum(path.stat().st_size for path in files) + (site / f"{name}.html").stat().st_size < 3e6


def test_no_style_or_script_names_another_place(site):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 25e6
    for path in site.rglob("*.css"):
        assert not re.search(
            r"(url\(|@import)[\s\"']*(https?:)?//", path.read_text(encoding="utf-8")
        ), path


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(site, pages, name):
    parsed = {site / f"{other}.html": page for other, page in pages.items()}
    for link in pages[name].links:
        if re.match(r"https?:|mailto:", link) or link == "#":
            continue
        path, anchor = there(site, name, link), unquote(urlsplit(link).fragment)
        path = (path if urlsplit(link).path else site / f"{name}.html").resolve()
        assert path.is_file(), link
        if anchor and path in parsed:
            assert anchor in parsed[path].ids, link
        assert path.suffix not in (".ipynb", ".md"), link


@pytest.mark.parametrize("name", PAGES)
def test_no_picture_is_without_words(pages, name):
    assert not pages[name].mute


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_folded_in_a_notebook_is_folded_here(pages, path):
    keys = [cell["metadata"].get("jupyter", {}) for cell in code_cells(load(path))]
    folds = sum(bool(key.get("source_hidden") or key.get("outputs_hidden")) for key in keys)
    found = [name for tag, name in pages[f"notebooks/{path.stem}"].classes if tag == "details"]
    assert folds == sum("hide" in name.split() for name in found) and folds > 0
    folded_text = sum("<details" in "".join(c["source"]) for c in load(path)["cells"])
    assert found.count("") >= folded_text > 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_stored_picture_is_on_the_page(pages, path):
    outputs = [o for cell in code_cells(load(path)) for o in cell["outputs"]]
    stored = sum(bool({"image/png", "image/gif"} & o.get("data", {}).keys()) for o in outputs)
    shown = [load for load in pages[f"notebooks/{path.stem}"].loads if "_pictures/" in load]
    assert len(shown) == len(set(shown)) == stored > 0


def test_only_pages_with_a_player_load_the_players(pages):
    with_player = {n for n, p in pages.items() if ("div", "wmlib-player") in p.classes}
    loading = {n for n, p in pages.items() if "wmlib-player.js" in " ".join(p.loads)}
    assert with_player == loading and "notebooks/00_why_dream" in loading and len(loading) < 6


def test_no_noise_is_shown(pages):
    for page in pages.values():
        assert not re.search(r"Traceback \(most|WMLIB_\w+=\S+ not|\$\$", "".join(page.text))


def test_links_fit_the_site(builder):
    pages = builder.sources()
    source, kept = "notebooks/01_world_and_replay.ipynb", "x[0](y) [c](https://d.e)"
    found = builder.relinked(
        f"[a](../LICENSE) [b](06_losses.ipynb#KL,-twice) {kept}", source, pages
    )
    assert found == f"a [b](06_losses.ipynb#kl-twice) {kept}"


def test_a_picture_becomes_a_player_by_its_words(builder, tmp_path):
    kinds = {"Dream console: x": "console", 'World player: "y"': "world", "Bars": ""}
    for alt, kind in kinds.items():
        output = {"data": {"image/png": "AAAA"}, "metadata": {"image/png": {"alt": alt}}}
        shown = builder.picture(output, "00-a-0", tmp_path)
        assert ("data-player" in shown) == bool(kind)
        assert f'data-player="{kind}"' in shown or not kind
        assert "_pictures/00-a-0.png" in shown and json.dumps(alt)[1:4] in shown


def test_the_workflow_publishes_what_the_makefile_builds():
    workflow = (ROOT / ".github/workflows/pages.yml").read_text(encoding="utf-8")
    assert "python site/build.py" in workflow and "path: site/_build" in workflow
    assert '"$(BIN)/python" site/build.py' in (ROOT / "Makefile").read_text(encoding="utf-8")
