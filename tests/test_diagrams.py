"""Drawings: every block of the map lights up, no words collide, colours keep their word."""

import itertools
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageColor

from wmlib import figures
from wmlib.errors import BadInput
from wmlib.figures import diagrams, training
from wmlib.figures.sheet import default_look

DREAMT_ONLY, REAL_ONLY = {"imagination"}, {"world", "replay", "encoder", "posterior"}


def count(picture, color):
    pixels = np.asarray(picture.image)
    return int((pixels == ImageColor.getrgb(color)).all(-1).sum())


@pytest.fixture(scope="module")
def maps():
    return {name: figures.agent_map(name) for name in figures.BLOCKS}


def test_every_block_lights_up_in_its_own_place_and_colour(maps):
    for name, drawn in maps.items():
        assert (count(drawn, figures.SLATE) > 500) == (name not in DREAMT_ONLY), name
        assert (count(drawn, figures.AMBER) > 500) == (name not in REAL_ONLY), name
    for one, other in itertools.combinations(maps.values(), 2):
        assert (np.asarray(one.image) != np.asarray(other.image)).any()


def test_blocks_add_up(maps):
    pair = figures.agent_map("encoder", "actor")
    encoder, actor = (count(maps[name], figures.SLATE) for name in ("encoder", "actor"))
    assert count(pair, figures.SLATE) > max(encoder, actor) + 500
    assert count(pair, figures.AMBER) == count(maps["actor"], figures.AMBER)
    everything = np.asarray(figures.agent_map().image)
    assert (everything == np.asarray(figures.agent_map(*figures.BLOCKS).image)).all()


def test_the_map_says_what_it_shows(maps):
    for name, drawn in maps.items():
        assert drawn.alt.endswith(f"Lit here: {name}.") and drawn.image.size == (1920, 880)
    assert figures.agent_map().alt.endswith("Lit here: everything.")


def test_an_unknown_block_is_told():
    with pytest.raises(BadInput, match="no block 'decorder'; it has world, replay"):
        figures.agent_map("encoder", "decorder")


def collisions(sheet) -> list[str]:
    """Words that leave the page or run into other words."""
    sheet.canvas.draw()
    page, found = sheet.figure.bbox, []
    boxes = [(text.get_text(), text.get_window_extent()) for text in sheet.ax.texts]
    for words, box in boxes:
        if box.x0 < 4 or box.y0 < 4 or box.x1 > page.x1 - 4 or box.y1 > page.y1 - 4:
            found.append(f"{words} leaves the page")
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        if across > 2 and down > 6:  # line boxes are taller than the letters in them
            found.append(f"{one} runs into {other}")
    return found


def test_no_words_of_the_map_collide():
    with default_look():
        drawing = diagrams._Map(frozenset(figures.BLOCKS))
        drawing.draw()
        assert collisions(drawing.page) == []
        drawing.page.text((268, 348), "decoder")
        drawing.page.text((1, 200), "outside")
        assert len(collisions(drawing.page)) == 2  # it would be noticed


@pytest.fixture(scope="module")
def structure():
    return figures.training_structure()


def differences(stored: Image.Image, drawn: Image.Image) -> list[str]:
    """How a stored drawing differs from what the code draws; fonts may be hinted differently."""
    if stored.size != drawn.size:
        return [f"the size is {stored.size}, not {drawn.size}"]
    apart = np.asarray(stored.convert("RGB"), float) - np.asarray(drawn.convert("RGB"), float)
    share = (np.abs(apart).max(-1) > 64).mean()
    return [f"{share:.2%} of the pixels differ"] if share > 0.001 else []


def test_the_stored_structure_of_training_is_what_the_code_draws(structure):
    stored = Image.open(Path(__file__).parent.parent / "imgs" / "WM_training.png")
    assert differences(stored, structure.image) == []
    spoilt = stored.convert("RGB")
    spoilt.paste("white", (1080, 843, 1307, 901))  # one block less
    assert differences(spoilt, structure.image) != []
    assert differences(stored.resize((900, 420)), structure.image) != []


def test_the_structure_of_training_keeps_the_colours_apart(structure):
    pixels = np.asarray(structure.image)
    half = pixels.shape[1] * 714 // 1326
    amber = (pixels == ImageColor.getrgb(figures.AMBER)).all(-1)
    slate = (pixels == ImageColor.getrgb(figures.SLATE)).all(-1)
    assert amber[:, :half].sum() == 0 and amber[:, half:].sum() > 10_000
    assert slate[:, :half].sum() > 20 * slate[:, half:].sum() > 0  # one real state starts the dream


def test_no_words_of_the_structure_collide():
    with default_look():
        drawing = training._Training()
        drawing.draw(*[[Image.new("RGB", (8, 8))] * 3] * 2)
        assert collisions(drawing.page) == []


def test_drawings_are_written_by_one_command(tmp_path):
    command = [sys.executable, "-m", "wmlib.figures", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    assert Image.open(tmp_path / "WM_training.png").size == (2652, 1252)
    assert (tmp_path / "WM_training.png").stat().st_size < 150_000
    for name in ("blindfold.png", "counterfactual_tree.png"):
        assert Image.open(tmp_path / name).size[0] == 1440


def test_drawing_does_not_depend_on_the_notebooks_look_nor_change_it():
    wanted = np.asarray(figures.agent_map("prior").image)
    with matplotlib.rc_context():
        figures.style()
        matplotlib.rcParams.update({"font.size": 30, "lines.linewidth": 9, "text.color": "red"})
        before = dict(matplotlib.rcParams)
        assert (np.asarray(figures.agent_map("prior").image) == wanted).all()
        assert dict(matplotlib.rcParams) == before


def test_style_puts_slate_before_amber():
    with matplotlib.rc_context():
        figures.style()
        colors = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
        assert colors[:2] == [figures.SLATE, figures.AMBER] and len(set(colors)) == len(colors)
        assert matplotlib.rcParams["axes.grid"] and matplotlib.rcParams["figure.dpi"] == 100
