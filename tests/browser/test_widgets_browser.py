"""The widgets in a real browser: JupyterLab runs a notebook, and somebody clicks.

Screenshots go to the directory WMLIB_SCREENSHOTS, if it is set.
"""

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from course import widget_examples
from lab_server import lab_server
from PIL import Image

from wmlib.widgets.blindfold import LEFT, PITCH

pytestmark = pytest.mark.browser

CONSOLE = {"DreamConsole": widget_examples()["DreamConsole"]}  # a page of its own, no picture
EXAMPLES = {
    **{name: cell for name, cell in widget_examples().items() if name not in CONSOLE},
    "a failing NatsCounter": "def train(l, k, b):\n"
    "    assert l < 2, 'only L = 1 can be trained'\n"
    "    return NatsEntry(np.eye(16)[..., None], np.eye(16)[..., None], 1.0, 3.0, 3.4)\n"
    "NatsCounter(train, (1, 2), (8,), (1.0,))",
}
CELLS = [
    "import wmlib, numpy as np\nfrom wmlib.widgets import *\nwmlib.set_threads(1)",
    *EXAMPLES.values(),
    *CONSOLE.values(),
]
PICTURES = len(EXAMPLES) + 2  # the cockpit has three, the others one
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


@pytest.fixture(scope="module", params=THEMES)
def page(request, chromium, course):
    """JupyterLab in this theme, with a notebook of all widgets executed."""
    home, places = course(CELLS)
    theme = home / "settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    theme.parent.mkdir(parents=True)
    theme.write_text(json.dumps({"theme": THEMES[request.param]}))
    with lab_server(home, home / "runtime", **places) as lab:
        page = chromium.new_page(viewport={"width": 1280, "height": 11000})
        page.set_default_timeout(60_000)
        page.goto(f"{lab['url']}lab/tree/notebooks/widgets.ipynb?token={lab['token']}")
        page.get_by_text("| Idle").first.wait_for()  # before that a dialog asks for the kernel
        page.get_by_text("Run", exact=True).first.click()
        page.get_by_text("Run All Cells", exact=True).click()
        images = "document.querySelectorAll('.jupyter-widgets img')"
        page.wait_for_function(f"{images}.length == {PICTURES}")
        page.wait_for_function(f"[...{images}].every(i => i.naturalWidth > 0)")
        page.locator("#test.good").last.wait_for()
        yield page
        if folder := os.environ.get("WMLIB_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"widgets-{request.param}.png")
        page.close()


class Shown:
    """A widget on the page."""

    def __init__(self, page, name):
        k = list(EXAMPLES).index(name)
        self.page = page
        self.root = page.locator(".jp-OutputArea-output", has=page.locator("img")).nth(k)
        self.image = self.root.locator("img").first

    def pixels(self):
        """What the browser draws, (height, width, 3)."""
        url = self.image.evaluate(
            """async i => {
            while (!(i.complete && i.naturalWidth)) await new Promise(r => setTimeout(r, 20));
            const c = document.createElement('canvas');
            c.width = i.naturalWidth; c.height = i.naturalHeight;
            c.getContext('2d').drawImage(i, 0, 0); return c.toDataURL('image/png'); }"""
        )
        data = base64.b64decode(url.partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def changes(self, act, times=1, seconds=15):
        """Act, then wait until the picture has changed so many times."""
        before = self.pixels()
        act()
        for _ in range(10 * seconds):
            now = self.pixels()
            if now.shape != before.shape or (now != before).any():
                before, times = now, times - 1
            if not times:
                return True
            self.page.wait_for_timeout(100)
        return False

    def rests(self, tries=10):
        """Wait until the picture has stayed the same for two seconds."""
        return any(not self.changes(lambda: None, seconds=2) for _ in range(tries))

    def button(self, name):
        return self.root.get_by_role("button", name=name, exact=True)

    def nudge(self, k, key="ArrowRight"):
        """Move the k-th slider by one step."""
        self.root.locator(".noUi-handle").nth(k).focus()
        self.page.keyboard.press(key)


def test_pictures_are_there_before_any_click_and_sharp(page):
    for name in EXAMPLES:
        shown = Shown(page, name)
        size = shown.image.evaluate("i => [i.clientWidth, i.clientHeight]")
        pixels = shown.pixels()
        assert size == [pixels.shape[1] // 2, pixels.shape[0] // 2] and size[0] > 600  # two to one
        assert shown.image.get_attribute("alt").endswith(".")
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    assert page.get_by_text("Error displaying widget").count() == 0


def test_no_description_is_cut_off(page):
    cut = """labels => labels.filter(l => l.scrollWidth > l.clientWidth).map(l => l.innerText)"""
    assert page.locator(".widget-label, .jupyter-button").evaluate_all(cut) == []


def test_the_theme_is_the_one_asked_for(page, request):
    light = page.evaluate("document.body.dataset.jpThemeLight") == "true"
    assert light == ("light" in request.node.callspec.id)


def test_the_dream_console_obeys(page):
    console = page.locator(".jp-OutputArea-output", has=page.locator("#player")).last
    frame, dream = console.locator("#frame"), console.locator("#dream canvas")
    assert frame.inner_text() == "5" and dream.get_attribute("aria-label").endswith("frame 5")
    before = dream.evaluate("canvas => canvas.toDataURL()")
    console.get_by_role("button", name="◀ left").click()
    assert frame.inner_text() == "6" and console.locator("#hand").inner_text() == "you play"
    assert dream.evaluate("canvas => canvas.toDataURL()") != before
    console.locator("#stage").click()  # has the focus, and a frame around it
    page.keyboard.press("ArrowRight")
    assert frame.inner_text() == "7"
    page.keyboard.press("n")
    page.keyboard.press("Space")
    page.wait_for_function("frame => frame.textContent > 3", arg=frame.element_handle())
    page.keyboard.press("Space")
    count = frame.inner_text()
    page.wait_for_timeout(500)
    assert frame.inner_text() == count
    light = page.evaluate("document.body.dataset.jpThemeLight") == "true"
    paper = console.locator("#player").evaluate("node => getComputedStyle(node).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if light else "rgb(18, 22, 29)")


def test_the_world_player_obeys(page):
    player = Shown(page, "WorldPlayer")
    assert player.changes(player.button("right ▶").click)
    assert player.changes(player.button("stay").click)
    for k in range(2):
        assert player.changes(player.root.locator("input[type=checkbox]").nth(k).click)
    assert player.changes(player.button("next ball").click)
    assert player.changes(lambda: player.nudge(0))


def test_the_nats_counter_obeys(page):
    counter = Shown(page, "NatsCounter")
    assert counter.changes(lambda: counter.nudge(0))


def test_the_memory_probe_obeys(page):
    probe = Shown(page, "MemoryProbe")
    assert probe.changes(probe.button("wipe h").click)
    assert probe.changes(lambda: probe.nudge(0))
    assert probe.changes(lambda: probe.nudge(1))
    assert probe.changes(probe.button("keep h").click)


def test_an_error_is_a_line_below_the_picture(page):
    counter = Shown(page, "a failing NatsCounter")
    before = counter.pixels()
    counter.nudge(0)
    counter.root.get_by_text("AssertionError: only L = 1 can be trained").wait_for()
    np.testing.assert_array_equal(counter.pixels(), before)


def test_the_tug_of_war_obeys(page):
    tug = Shown(page, "TugOfWar")
    for k in (0, 2, 3):
        assert tug.changes(lambda k=k: tug.nudge(k))


def test_the_latent_mixer_obeys(page):
    mixer = Shown(page, "LatentMixer")
    assert mixer.changes(mixer.button("swap h").click)
    assert mixer.changes(mixer.button("zero h").click)
    assert mixer.changes(lambda: mixer.nudge(0, "ArrowLeft"))


def test_the_blindfold_player_obeys(page):
    player = Shown(page, "BlindfoldPlayer")
    assert player.changes(lambda: player.nudge(0))  # eyes close later
    eyes = player.root.locator(".widget-toggle-button")
    assert eyes.count() == 8 and eyes.first.is_disabled()
    left = player.image.bounding_box()["x"]
    for k, box in enumerate(eye.bounding_box() for eye in eyes.all()):
        frame = left + LEFT + PITCH * k + 40  # the middle of its frame
        assert abs(box["x"] + box["width"] / 2 - frame) < 4
    assert player.changes(eyes.nth(2).click)
    assert player.changes(player.button("sample again").click)
    assert player.changes(player.button("next episode").click)


def test_the_cockpit_obeys(page):
    root = page.locator(".jp-OutputArea-output", has=page.locator(".lm-TabBar-tab")).last
    names = ["training", "blindfold", "dream console", "latent mixer"]
    assert root.locator(".lm-TabBar-tab").all_inner_texts() == names
    root.get_by_text("dream console", exact=True).click()
    root.get_by_role("button", name="step", exact=True).click()
    assert root.locator("#frame").inner_text() == "6"
    root.get_by_text("training", exact=True).click()
    assert root.locator("img:visible").count() == 1
    root.locator("img[alt^='Cockpit:']").wait_for()
    root.get_by_role("button", name="refresh all", exact=True).click()
    note = root.locator("#test", has_text="has learnt on")
    note.wait_for(state="attached")  # the weights of now have arrived
    root.get_by_text("dream console", exact=True).click()
    assert root.locator("img:visible").count() == 0 and root.locator("#dream canvas").is_visible()


def test_the_kl_seismograph_obeys(page):
    seismograph = Shown(page, "KLSeismograph")
    assert seismograph.changes(lambda: seismograph.nudge(0, "ArrowLeft"))
    assert seismograph.changes(seismograph.button("0.9").click)


def test_the_cheat_meter_obeys(page):
    meter = Shown(page, "CheatMeter")
    assert meter.changes(meter.button("bet").click)
    assert not meter.changes(meter.button("bet").click, seconds=2)  # once is enough
    for k in (0, 1, 2):
        assert meter.changes(lambda k=k: meter.nudge(k))


def test_the_waterline_and_the_rulers_obey(page):
    for name in ("Waterline", "Ruler", "CreditRuler"):
        shown = Shown(page, name)
        assert shown.changes(lambda shown=shown: shown.nudge(0, "ArrowLeft"))
        assert shown.changes(lambda shown=shown: shown.nudge(1, "ArrowLeft"))


def test_the_counterfactual_tree_obeys(page):
    tree = Shown(page, "CounterfactualTree")
    assert tree.changes(lambda: tree.nudge(0, "ArrowLeft"))
    assert tree.changes(lambda: tree.nudge(1))
    assert tree.changes(tree.root.locator("input[type=checkbox]").click)
    assert tree.changes(tree.button("other luck").click)


def test_the_case_sheet_obeys(page):
    sheet = Shown(page, "CaseSheet")
    assert sheet.changes(sheet.button("order").click)
    case = sheet.root.locator("select").nth(0)
    assert sheet.changes(lambda: case.select_option("C"))
    assert sheet.changes(sheet.button("diagnose").click)
    assert sheet.changes(sheet.button("next case").click)
    assert sheet.changes(lambda: case.select_option("C"))
    assert not sheet.changes(sheet.button("order").click, seconds=2)  # a closed case


KINDS = {
    "slider": ".noUi-handle",
    "button": ".jupyter-button:not(.widget-toggle-button)",
    "toggle": ".widget-toggle-button:enabled",
    "player": "#player",
    "checkbox": "input[type=checkbox]",
    "select": "select",
    "tab": ".lm-TabBar-tab",
}
KEYS = ("ArrowUp", "ArrowDown", "ArrowLeft", "a", "b", "d", "d", "x", "Enter", "Shift+Enter")


def test_keys_typed_at_a_widget_change_no_cell(page):
    cells = """() => [...document.querySelectorAll('.jp-Notebook .jp-Cell')].map(cell =>
        [cell.matches('.jp-mod-selected'), cell.querySelector('.jp-InputPrompt').innerText,
         cell.querySelector('.cm-content').innerText])"""
    tried = set()
    for k in range(page.locator(".jp-CodeCell").count()):
        for kind, selector in KINDS.items():
            control = page.locator(".jp-CodeCell").nth(k).locator(f"{selector} >> visible=true")
            if control.count():
                control.first.focus()
                before = page.evaluate(cells)
                for key in KEYS:
                    page.keyboard.press(key)
                assert page.evaluate(cells) == before, (kind, k)
                tried.add(kind)
    assert tried == set(KINDS)
    page.get_by_text("| Idle").first.wait_for()
    assert page.evaluate(cells) == before and page.locator(".jp-Dialog").count() == 0
