"""Widgets in their three situations: stored by a headless run, compared by nbval, and alive."""

import ast
import dataclasses
import inspect
import io
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import ipywidgets
import nbformat
import numpy as np
import pytest
from course import widget_examples
from PIL import Image, ImageColor
from store_notebooks import store

import wmlib
from wmlib.figures import PAPER
from wmlib.widgets import DreamConsole, LatentMixer, NatsCounter, TugOfWar, Widget, WorldPlayer
from wmlib.widgets.base import LINE, Canvas, signed

TESTS = Path(__file__).parent
VIEW = "application/vnd.jupyter.widget-view+json"
BEGIN = "import wmlib, numpy as np\nfrom wmlib.widgets import *\nwmlib.set_threads(1)"
MAKE = {
    "console": "DreamConsole(wmlib.load_pretrained('curtain'))",
    "player": "WorldPlayer(p=0.7)",
    "counter": "NatsCounter({(k, 8, 1.0): NatsEntry(np.eye(16)[..., None], "
    "np.eye(16)[..., None] / k, 1 / k, 3.5, 3.4) for k in (1, 2)})",
    "tug": "TugOfWar()",
    "mixer": "LatentMixer(wmlib.load_pretrained('curtain'))",
}


def public_widgets():
    """Names of all widgets of the package."""
    kinds = {name: getattr(wmlib.widgets, name) for name in wmlib.widgets.__all__}
    return [
        name
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, Widget) and kind is not Widget
    ]


def called(source):
    """Names of all functions and classes that a program calls."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {function.id for function in calls if isinstance(function, ast.Name)}


def test_the_browser_test_shows_every_widget():
    assert set(public_widgets()) == set(widget_examples())


def test_every_widget_has_a_unit_test():
    paths = [path for path in TESTS.glob("test_*.py") if path.name != Path(__file__).name]
    made = [called(path.read_text(encoding="utf-8")) for path in paths]
    assert set(public_widgets()) - set.union(*made) == set()


@pytest.mark.parametrize("name", public_widgets())
def test_every_widget_keeps_the_contract(name):
    kind = getattr(wmlib.widgets, name)
    assert kind.alt.endswith(".") and len(kind.alt) > 40
    for function in ("compute", "draw"):
        assert isinstance(inspect.getattr_static(kind, function), staticmethod)
    result = get_type_hints(kind.evaluate)["return"]
    assert dataclasses.is_dataclass(result) and result.__dataclass_params__.frozen
    assert get_type_hints(kind.compute)["return"] is result
    assert get_type_hints(kind.draw) == {"result": result, "return": Image.Image}
    assert get_type_hints(kind.refresh)["return"] is type(None)


class Echo(Widget):
    """Shows the brightness that its slider says, times a factor that no control changes."""

    alt = "A square as bright as a slider says."
    factor = 1

    def __init__(self):
        self.knob = ipywidgets.IntSlider(3, max=9)
        self.assemble([[self.knob]], self.evaluate(), refreshed_by=[self.knob])

    def evaluate(self):
        return self.factor * self.knob.value

    def draw(self, result):
        return Image.new("L", (4, 4), result)


def test_a_control_that_refreshes_shows_what_is_evaluated():
    widget = Echo()
    assert widget.result == 3
    widget.knob.value = 5
    assert widget.result == 5 and image_of(widget).getpixel((0, 0)) == (5,) * 3
    widget.factor = 2
    assert widget.result == 5
    widget.refresh()
    assert widget.result == 10 and image_of(widget).getpixel((0, 0)) == (10,) * 3


class Adder(Widget):
    """Adds what the slider says; fails at 3 and draws nothing at 4."""

    alt = "A square whose brightness is a sum."

    def __init__(self):
        self.knob = ipywidgets.IntSlider(max=9)
        self.press = ipywidgets.Button(description="go")
        self.assemble([[self.knob, self.press]], 0)
        self.on(self.knob, self.add)
        self.on(self.press, lambda _: 200)

    def add(self, number):
        if number == 3:
            raise ValueError("three is <not>\n allowed")
        return None if number == 4 else self.result + number

    def draw(self, result):
        return Image.new("L", (4, 4), result)


def image_of(widget):
    return Image.open(io.BytesIO(widget.image.value)).convert("RGB")


def test_a_control_gives_a_result_and_its_picture():
    widget = Adder()
    assert widget.result == 0 and image_of(widget).getpixel((0, 0)) == (0,) * 3
    widget.knob.value = 2
    widget.knob.value = 5
    assert widget.result == 7 and image_of(widget).getpixel((0, 0)) == (7,) * 3
    widget.press.click()
    assert widget.result == 200 and image_of(widget).getpixel((0, 0)) == (200,) * 3
    widget.knob.value = 4
    assert widget.result == 200


def test_an_error_becomes_one_readable_line_and_goes_away():
    widget = Adder()
    widget.knob.value = 3
    assert "ValueError: three is &lt;not&gt; allowed" in widget.message.value
    assert isinstance(widget.failure, ValueError)
    assert widget.result == 0 and image_of(widget).getpixel((0, 0)) == (0,) * 3
    widget.knob.value = 1
    assert widget.message.value == "" and widget.failure is None and widget.result == 1


def test_a_picture_that_cannot_be_drawn_leaves_the_old_result():
    widget = Adder()
    widget.draw = lambda result: 1 / 0
    widget.press.click()
    assert widget.result == 0 and "ZeroDivisionError" in widget.message.value


def test_the_bundle_holds_view_picture_and_a_constant_sentence():
    widget = Adder()
    before, metadata = widget._repr_mimebundle_()
    assert before["image/png"].startswith(b"\x89PNG")
    assert before["text/plain"] == Adder.alt
    assert before[VIEW]["model_id"] == widget.view.model_id
    assert metadata["image/png"] == {"width": 2, "alt": Adder.alt}
    assert f'data-alt="{Adder.alt}"' in widget.view.children[-1].value
    widget.knob.value = 2
    after, _ = widget._repr_mimebundle_()
    assert after["image/png"] != before["image/png"]
    assert after["text/plain"] == before["text/plain"]


def test_shown_again_the_controls_move_and_the_picture_stays():
    widget = Adder()
    first, second = (widget._repr_mimebundle_()[0][VIEW]["model_id"] for _ in range(2))
    assert first != second == widget.view.model_id
    left = ipywidgets.widgets.widget._instances[first]
    boxes = [[type(part) for part in view.children] for view in (left, widget.view)]
    assert ipywidgets.HBox not in boxes[0] and ipywidgets.HBox in boxes[1]
    assert widget.image in left.children and widget.image in widget.view.children
    widget.press.click()
    assert widget.result == 200


def test_a_busy_widget_drops_clicks():
    widget = WorldPlayer()
    before = widget.result
    widget.hold(True)
    widget.buttons[0].click()
    assert widget.result is before
    widget.hold(False)
    widget.buttons[0].click()
    assert widget.result is not before


def test_frames_stay_sharp_on_opaque_paper():
    canvas = Canvas(60, 50)
    frame = np.random.default_rng(0).random((16, 16, 1))
    canvas.frame(6, 8, frame, 32, "#FF0000")
    back = np.asarray(canvas.image)
    inside = back[16:80, 12:76]
    np.testing.assert_array_equal(inside[::4, ::4, 0], (frame[..., 0] * 255).astype(np.uint8))
    for i, j in np.ndindex(4, 4):
        np.testing.assert_array_equal(inside[i::4, j::4], inside[::4, ::4])  # no blur
    places = {(0, 0): LINE, (99, 119): LINE, (97, 117): PAPER, (2, 2): PAPER, (12, 40): "#FF0000"}
    for at, color in places.items():
        assert tuple(back[at]) == ImageColor.getrgb(color)


@pytest.mark.parametrize(
    "number, words", [(0.935, "+0.94"), (-0.02, "−0.02"), (-0.001, "0.00"), (0.0, "0.00")]
)
def test_signed_numbers(number, words):
    assert signed(number) == words


def make(name):
    known = {}
    exec(BEGIN, known)
    return eval(MAKE[name], known)


@pytest.mark.parametrize("name", MAKE)
def test_every_widget_is_opaque_and_fits_a_notebook(name):
    widget = make(name)
    image = image_of(widget)
    assert image.width <= 2 * 760 and image.height <= 2 * 480
    assert int(widget.image.width) == image.width // 2
    pixels = np.asarray(image)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edge == edge[0]).all()  # a closed border: nothing is drawn over it
    assert len(widget.alt) > 60 and not any(c.isdigit() for c in widget.alt.replace("16", ""))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A notebook with every widget and a moved slider, executed without a front end."""
    path = tmp_path_factory.mktemp("stored") / "widgets.ipynb"
    cells = [BEGIN, *MAKE.values(), "w = WorldPlayer(); w.p.value = 0.9; w"]
    cells = [nbformat.v4.new_code_cell(source) for source in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    store(path)
    return path


def test_a_stored_notebook_shows_pictures_without_a_kernel(stored):
    notebook = nbformat.read(stored, as_version=4)
    assert "widgets" not in notebook.metadata
    classes = DreamConsole, WorldPlayer, NatsCounter, TugOfWar, LatentMixer, WorldPlayer
    for cell, kind in zip(notebook.cells[1:], classes, strict=True):
        (output,) = cell.outputs
        assert output.data["text/plain"] == kind.alt
        assert output.data["image/png"].startswith("iVBOR")


def nbval(path):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval", "--rootdir"]
    command += [path.parent, "--nbval-current-env", path]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True)


def test_nbval_is_content_with_what_was_stored(stored, tmp_path):
    notebook = nbformat.read(stored, as_version=4)
    for cell in notebook.cells:
        for output in cell.outputs:
            output.get("data", {}).pop(VIEW, None)  # as `make notebooks` leaves it
    nbformat.write(notebook, tmp_path / "good.ipynb")
    done = nbval(tmp_path / "good.ipynb")
    assert done.returncode == 0 and "7 passed" in done.stdout, done.stdout
    notebook.cells[2].outputs[0].data["text/plain"] = "Another sentence."
    nbformat.write(notebook, tmp_path / "bad.ipynb")
    assert nbval(tmp_path / "bad.ipynb").returncode == 1
