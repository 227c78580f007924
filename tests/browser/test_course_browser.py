"""The course as a reader meets it: every notebook opened, and a widget met again the next day."""

import json
import shutil
from urllib.parse import unquote, urlsplit

import pytest
from lab_server import ROOT, lab_server

pytestmark = pytest.mark.browser

NAMES = [path.name for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
NO_KERNEL = ("ensure_native_kernel=False", "allowed_kernelspecs=none")
QUICK = [f"--KernelSpecManager.{setting}" for setting in NO_KERNEL]
QUICK += ["--LabApp.expose_app_in_browser=True"]
OPEN = """path => window.jupyterapp.restored.then(() => window.jupyterapp.commands.execute(
    'docmanager:open', {path})).then(panel => panel.context.ready.then(() => panel))"""
READY = """panel => [...panel.node.querySelectorAll('.jp-MarkdownCell')].every(
    cell => cell.querySelector('.jp-RenderedMarkdown')?.childElementCount)
    && [...panel.node.querySelectorAll('img')].every(image => image.complete)"""
FOUND = """panel => { const all = selector => [...panel.node.querySelectorAll(selector)]; return {
    cells: all('.jp-Cell').length,
    images: all('img').map(image => [image.getAttribute('src').slice(0, 80), image.naturalWidth]),
    stored: all('.jp-RenderedImage img').map(image => image.alt),
    links: all('.jp-RenderedMarkdown a[href]:not(.jp-InternalAnchorLink)').map(a => a.href),
    anchors: all('[data-jupyter-id]').map(node => node.dataset.jupyterId),
} }"""
PICTURES = "[...document.querySelectorAll('.jupyter-widgets img')]"


@pytest.fixture(scope="module")
def seen(chromium, course):
    """What JupyterLab shows of each notebook: its images, links, and places to link to."""
    home, places = course([])
    skip = shutil.ignore_patterns("__pycache__", "mine", ".*")
    for name in ("imgs", "notebooks", "tests", "wmlib"):
        shutil.copytree(ROOT / name, home / name, ignore=skip, dirs_exist_ok=True)
    for path in (p for p in ROOT.iterdir() if p.is_file()):
        shutil.copy(path, home)
    (home / "settings/@jupyterlab/notebook-extension").mkdir(parents=True)
    tracker = home / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    tracker.write_text(json.dumps({"windowingMode": "none"}))  # all cells are in the page
    found = {"course": home}
    with lab_server(home, home / "runtime", *QUICK, **places) as lab:
        page = chromium.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{lab['url']}lab?token={lab['token']}")
        page.wait_for_function("window.jupyterapp")
        for name in NAMES:
            panel = page.evaluate_handle(OPEN, f"notebooks/{name}")
            page.wait_for_function(READY, arg=panel)
            found[name] = panel.evaluate(FOUND)
            panel.evaluate("panel => panel.dispose()")
        page.close()
        yield {**found, "url": lab["url"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_of_a_notebook_loads(seen, name):
    count = len(json.loads((ROOT / "notebooks" / name).read_text())["cells"])
    assert seen[name]["cells"] == count and len(seen[name]["images"]) > 2
    broken = [source for source, width in seen[name]["images"] if not width]
    assert not broken


@pytest.mark.parametrize("name", NAMES)
def test_every_stored_picture_has_its_sentence(seen, name):
    cells = json.loads((ROOT / "notebooks" / name).read_text())["cells"]
    unfolded = [c for c in cells if not c["metadata"].get("jupyter", {}).get("outputs_hidden")]
    outputs = [output for cell in unfolded for output in cell.get("outputs", [])]
    sentences = [
        output["metadata"][kind]["alt"]
        for output in outputs
        for kind in output.get("data", {})
        if kind in ("image/png", "image/gif")
    ]
    assert len(sentences) > 2 and all(sentences)
    assert seen[name]["stored"] == sentences


@pytest.mark.parametrize("name", NAMES)
def test_every_link_of_a_notebook_leads_somewhere(seen, name):
    for link in seen[name]["links"]:
        if not link.startswith(seen["url"]):
            assert urlsplit(link).scheme == "https", link
            continue
        place = urlsplit(link)
        path, anchor = unquote(place.path), unquote(place.fragment)
        if path.startswith("/files/"):
            path = path.removeprefix("/files/")
            if path.startswith("runs/"):
                continue  # there once the notebook has run
            assert (seen["course"] / path).exists(), link
            target = path.removeprefix("notebooks/")
        else:
            target = name  # within the notebook
        if anchor and target.endswith(".ipynb"):
            assert anchor in seen[target]["anchors"], link


DAYS = [
    "import wmlib\nfrom wmlib.widgets import *\nwmlib.set_threads(1)",
    "TugOfWar()",
    "DreamConsole(wmlib.load_pretrained('curtain'))",
]
ONE = f"{PICTURES}.filter(image => image.naturalWidth).length == 1"
# An image whose source has just been replaced is not complete: decode() would fail.
PIXELS = f"""async () => {{ const found = []; for (const image of {PICTURES}) {{
    while (!image.complete) await new Promise(requestAnimationFrame);
    const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    canvas.getContext('2d').drawImage(image, 0, 0); found.push(canvas.toDataURL()); }}
    return found; }}"""


def save(page, path):
    """Save the notebook and wait until it is written."""
    written = path.stat().st_mtime_ns
    page.get_by_text("File", exact=True).first.click()
    page.get_by_text("Save Notebook", exact=True).click()
    for _ in range(200):
        if path.stat().st_mtime_ns != written:
            return
        page.wait_for_timeout(50)
    pytest.fail("the notebook was not saved")


def seen_of(page):
    """The pixels of the pictures, and what the dream console shows."""
    dream = page.locator("#dream canvas").evaluate("canvas => canvas.toDataURL()")
    return [*page.evaluate(PIXELS), dream, page.locator("#frame").inner_text()]


def first_day(page, path):
    """Run, move a slider, press a button, save, restart the kernel, save again."""
    page.get_by_text("Run", exact=True).first.click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.wait_for_function(ONE)
    page.locator("#test.good").wait_for()
    before = seen_of(page)
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="◀ left").click()
    for _ in range(200):
        after = seen_of(page)
        if all(new != old for new, old in zip(after, before, strict=True)):
            break
        page.wait_for_timeout(50)
    else:
        pytest.fail("the widgets did not react")
    save(page, path)
    page.get_by_text("Kernel", exact=True).first.click()
    page.get_by_text("Restart Kernel…", exact=True).click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.locator(".jupyter-widgets-disconnected").first.wait_for()
    assert seen_of(page) == after
    save(page, path)
    page.get_by_text("| Idle").first.wait_for()  # a server does not stop while a kernel restarts
    return after


def another_day(page, path):
    """Look, run nothing, save."""
    page.wait_for_function(ONE)
    page.locator("#test.good").wait_for()
    assert page.get_by_text("Error displaying widget").count() == 0
    assert page.locator(".wmlib-widget.jupyter-widgets-disconnected").count() == 2
    found = seen_of(page)
    save(page, path)
    return found


def test_the_next_days_widgets_show_their_last_picture(chromium, course):
    home, places = course(DAYS)
    path, shown = home / "notebooks/widgets.ipynb", []
    for visit in (first_day, another_day, another_day):
        with lab_server(home, home / "runtime", **places) as lab:
            page = chromium.new_page(viewport={"width": 1280, "height": 1600})
            page.set_default_timeout(60_000)
            page.goto(f"{lab['url']}lab/tree/notebooks/widgets.ipynb?token={lab['token']}")
            page.get_by_text("| Idle").first.wait_for()
            shown.append(visit(page, path))
            page.close()
    assert shown[0] == shown[1] == shown[2]
