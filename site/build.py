"""Build the course as a static web site: python site/build.py [FOLDER]. No notebook is executed."""

import base64
import html
import json
import posixpath
import re
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote

from sphinx.cmd.build import main as sphinx

from wmlib.page import site_scripts

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LINK = re.compile(r"\[([^\[\]]*)\]\(([^()\s]+)\)")
PLAYERS = {"Dream console:": "console", "World player:": "world"}
PICTURES = {"image/png": "png", "image/gif": "gif"}
FOLDED = {"source_hidden": "input", "outputs_hidden": "output"}  # both: "cell"


def sources() -> dict[str, str]:
    """Files that become pages or pictures, from the root: where they are -> where they go."""
    found = {"README.md": "index.md", "site/glossary.md": "glossary.md"}
    for pattern in ("notebooks/*.ipynb", "notebooks/results/*.md", "imgs/*"):
        paths = sorted(ROOT.glob(pattern))
        found |= {
            path.relative_to(ROOT).as_posix(): path.relative_to(ROOT).as_posix() for path in paths
        }
    return found


def relinked(text: str, source: str, pages: dict[str, str]) -> str:
    """Markdown whose links fit the site; of files that are not on it only the words stay."""

    def link(match: re.Match[str]) -> str:
        words, target = match.groups()
        path, hash_, anchor = unquote(target).partition("#")
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if re.match(r"https?:|#", target) or not (ROOT / there).exists():
            return match[0]
        if there not in pages:
            return words
        anchor = re.sub(r"[^\w -]", "", anchor).lower().replace(" ", "-")  # JupyterLab's to ours
        start = posixpath.dirname(pages[source]) or "."
        return f"[{words}]({posixpath.relpath(pages[there], start)}{hash_}{anchor})"

    return LINK.sub(link, text)


def picture(output: dict, name: str, pictures: Path) -> str:
    """The picture of an output, written to a file, as HTML; empty where there is none."""
    kinds = [kind for kind in PICTURES if kind in output.get("data", {})]
    if not kinds:
        return ""
    file = pictures / f"{name}.{PICTURES[kinds[0]]}"
    file.write_bytes(base64.b64decode("".join(output["data"][kinds[0]])))
    about = output["metadata"].get(kinds[0], {})
    alt = about.get("alt") or "".join(output["data"].get("text/plain", ""))
    width = f' width="{about["width"]}"' if "width" in about else ""
    shown = f'<img src="../_pictures/{file.name}" alt="{html.escape(alt)}"{width}>'
    for start, player in PLAYERS.items():
        if alt.startswith(start):
            return f'<div class="wmlib-player" data-player="{player}">{shown}</div>'
    return shown


def prepared(text: str, source: str, pages: dict[str, str], pictures: Path) -> str:
    """A notebook, as JSON: what JupyterLab folds is folded, pictures are files with their words."""
    book = json.loads(text)
    for cell in book["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = relinked("".join(cell["source"]), source, pages)
        hidden = [FOLDED[key] for key, on in cell["metadata"].get("jupyter", {}).items() if on]
        fold = "cell" if len(hidden) == 2 else "".join(hidden)
        cell["metadata"]["tags"] = cell["metadata"].get("tags", []) + [f"hide-{fold}"] * bool(fold)
        for k, output in enumerate(cell.get("outputs", [])):
            shown = picture(output, f"{Path(source).stem[:2]}-{cell['id']}-{k}", pictures)
            if shown:
                output["data"] = {"text/html": shown}
    return json.dumps(book)


def build(out: Path) -> int:
    """Write the site into `out`, whose content is replaced; returns Sphinx's exit code."""
    pages = sources()
    with tempfile.TemporaryDirectory() as place:
        source, made = Path(place, "source"), Path(place, "made")
        pictures, static = made / "_pictures", made / "_static"
        pictures.mkdir(parents=True)
        static.mkdir()
        for name, text in site_scripts().items():
            (static / name).write_text(text, encoding="utf-8")
        for name, page in pages.items():
            path = source / page
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix not in (".md", ".ipynb"):
                shutil.copy(ROOT / name, path)
                continue
            text = (ROOT / name).read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                text = prepared(text, name, pages, pictures)
            else:
                text = relinked(text, name, pages)
            if page == "index.md":
                text += "\n" + (HERE / "contents.md").read_text(encoding="utf-8")
            path.write_text(text, encoding="utf-8")
        folders = [str(source), str(made), "-d", str(Path(place, "doctrees"))]
        code = sphinx(["-q", "-W", "--keep-going", "-b", "html", "-c", str(HERE), *folders])
        shutil.rmtree(made / ".doctrees", ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)
    return code


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "_build").resolve()
    code = build(folder)
    print(folder / "index.html")
    sys.exit(code)
