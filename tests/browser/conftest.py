"""A real browser. Skipped without chromium and playwright, unless WMLIB_REQUIRE_BROWSER=1."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest

FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run "
FLAGS += "--disable-background-networking --disable-dev-shm-usage"
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def chromium():
    """A running browser; without one the test is skipped, or fails where one is required."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if not path or not sync_playwright:
        missing = "playwright" if path else "chromium"
        if os.environ.get("WMLIB_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{missing} is not installed, and WMLIB_REQUIRE_BROWSER is 1")
        pytest.skip(f"{missing} is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Make a course folder with this notebook, and places for what JupyterLab keeps of its own."""

    def make(cells: list[str]) -> tuple[Path, dict[str, str]]:
        home = tmp_path_factory.mktemp("course")
        for name in ("notebooks", "runtime", "settings", "spaces"):
            (home / name).mkdir()
        shutil.copytree(ROOT / "lab", home / "lab")
        cells = [nbformat.v4.new_code_cell(source) for source in cells]
        about = {"name": "python3", "display_name": "Python 3", "language": "python"}
        book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": about})
        nbformat.write(book, home / "notebooks/widgets.ipynb")
        return home, {
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "spaces"),
        }

    return make
