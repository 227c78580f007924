"""Pictures: sizes, and the colours that say what is real (slate) and what is imagined (amber)."""

import io
import itertools
import re
from pathlib import Path

import gymnasium as gym
import matplotlib
import numpy as np
import pytest
import torch
from conftest import randomise, shake
from gymnasium.spaces import Box, Discrete
from PIL import Image, ImageColor

import wmlib
from wmlib.checkpoint import describe_agent
from wmlib.errors import BadInput
from wmlib.figures import (
    AMBER,
    FAINT,
    INK,
    PAPER,
    SLATE,
    SOFT,
    Picture,
    dream_frames,
    film_strip,
    learning_curve,
    picture,
    plotted,
    write_dream,
)
from wmlib.figures.base import BLUE, CYCLE, GREEN, GRID, png
from wmlib.figures.sheet import AMBER_LINE, AMBER_SOFT, AMBER_TINT, SLATE_TINT
from wmlib.widgets.base import ALERT, LINE, TINT
from wmlib.widgets.counterfactual_tree import shade

matplotlib.use("Agg")

SIDE, GAP, LEFT, TOP, RIM = 64, 12, 248, 44, 6  # pixels, two for each pixel of the page
SMALL = dict(deter=16, hidden=16, units=16, depth=8, stoch=2, classes=4)


def rgb(color):
    return ImageColor.getrgb(color)


def make_agent(env_id="wmlib/Curtain-v0", **settings):
    torch.manual_seed(0)
    env = wmlib.make_env(env_id, **settings)
    config = wmlib.preset("tiny", **SMALL)
    agent = wmlib.Dreamer(env.single_observation_space, env.single_action_space, config)
    return agent, env.spec


# ---------------------------------------------------------------- film strips


def test_a_picture_keeps_colours_and_repeats_grey():
    colors = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    big = np.asarray(picture(colors, 8))
    assert big.shape == (8, 8, 3)
    np.testing.assert_array_equal(big[::4, ::4], colors)
    grey = np.array([[[0.0], [1.0]], [[0.5], [2.0]]])
    np.testing.assert_array_equal(np.asarray(picture(grey, 2))[..., 1], [[0, 255], [127, 255]])
    see_through = np.dstack([colors, np.full((2, 2, 1), 7, np.uint8)])
    np.testing.assert_array_equal(np.asarray(picture(see_through, 2)), colors)


def test_a_film_strip_frames_every_picture_in_its_colour():
    black = np.zeros((3, 16, 16, 1), np.uint8)
    white = np.ones((2, 16, 16, 3))
    strip = film_strip([black, white], ["real", "dream"], [SLATE, [SLATE, AMBER]], SIDE // 2)
    assert strip.size == (LEFT + 3 * (SIDE + GAP) + GAP, TOP + 2 * (SIDE + GAP) + GAP)
    wanted = {(0, 0): (SLATE, 0), (0, 1): (SLATE, 0), (0, 2): (SLATE, 0)}
    wanted |= {(1, 0): (SLATE, 255), (1, 1): (AMBER, 255)}
    for (i, t), (edge, inside) in wanted.items():
        x, y = LEFT + t * (SIDE + GAP), TOP + i * (SIDE + GAP)
        for corner in ((x - 1, y - 1), (x + SIDE, y + SIDE), (x - RIM, y + SIDE // 2)):
            assert strip.getpixel(corner) == rgb(edge), (i, t, corner)
        for corner in ((x, y), (x + SIDE - 1, y + SIDE - 1)):
            assert strip.getpixel(corner) == (inside,) * 3, (i, t, corner)
    x, y = LEFT + 2 * (SIDE + GAP), TOP + SIDE + GAP  # the shorter film has no third frame
    assert strip.getpixel((x, y)) == rgb(PAPER)


def test_every_film_needs_a_label_and_a_colour():
    film = np.zeros((1, 16, 16, 1), np.uint8)
    with pytest.raises(ValueError):
        film_strip([film, film], ["one"], [SLATE, AMBER])


# ---------------------------------------------------------------- curves


def test_a_learning_curve_shows_what_is_known_and_the_levels():
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots()
    steps, returns = np.array([0.0, 10, 20, 30]), np.array([1.0, np.nan, 3, 4])
    learning_curve(ax, steps, returns, "agent", {"optimal": 5.0}, color=AMBER)
    curve, level = ax.lines
    np.testing.assert_array_equal(curve.get_xydata(), [[0, 1], [20, 3], [30, 4]])
    assert (curve.get_label(), curve.get_color()) == ("agent", AMBER)
    assert list(level.get_ydata()) == [5.0, 5.0]
    assert [text.get_text() for text in ax.texts] == ["optimal"]
    assert ax.get_xlabel() and ax.get_ylabel()
    plt.close(figure)


# ---------------------------------------------------------------- dreams


def test_eyes_open_after_every_reset_and_then_close():
    agent, spec = make_agent()  # episodes of 8 rows
    real, model, dreamt, shown = dream_frames(agent, spec, 3, 20, 0)
    assert dreamt == ([False] * 3 + [True] * 5) * 3
    assert len(real) == len(model) == len(shown) == 24 and shown == [None] * 24
    assert real[0].shape == model[0].shape == (16, 16, 1)
    agent, spec = make_agent("Pendulum-v1")  # episodes far longer than the stretches
    real, model, dreamt, shown = dream_frames(agent, spec, 2, 4, 0)
    assert dreamt == [False, False, True, True, True, True] * 2
    assert real[0].shape == model[0].shape == (3,) and shown[0].ndim == 3


@pytest.mark.parametrize(("spoilt", "matters"), [(range(2, 8), False), (range(1, 2), True)])
def test_with_eyes_closed_what_happens_is_not_seen(spoilt, matters, monkeypatch):
    agent, spec = make_agent()
    shake(randomise(agent).world.decoder)
    wanted = dream_frames(agent, spec, 2, 6, 0)
    act, calls = agent.act, itertools.count()

    def confused(obs, *args):
        return act(255 - obs if next(calls) % 8 in spoilt else obs, *args)

    monkeypatch.setattr(agent, "act", confused)
    found = dream_frames(agent, spec, 2, 6, 0)
    same = [np.array_equal(a, b) for a, b in zip(found[1], wanted[1], strict=True)]
    assert all(same) != matters


def test_dreams_are_repeatable_and_leave_the_random_state_alone():
    agent, spec = make_agent()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = dream_frames(agent, spec, 2, 3, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = dream_frames(agent, spec, 2, 3, 0), dream_frames(agent, spec, 2, 3, 1)
    for a, b in zip(first[0] + first[1], again[0] + again[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first[0], other[0], strict=False))


def test_a_written_dream_is_slate_where_real_and_amber_where_dreamt(tmp_path):
    agent, spec = make_agent()
    count = write_dream(agent, spec, tmp_path / "dream.gif", 2, 6)
    assert count == 16  # two episodes
    edges = []
    with Image.open(tmp_path / "dream.gif") as gif:
        assert gif.size == (204, 408)
        for frame in range(gif.n_frames):
            gif.seek(frame)
            picture = gif.convert("RGB")
            for _ in range(gif.info["duration"] // 250):
                edges.append([np.array(picture.getpixel((100, y)), int) for y in (2, 405)])
    assert len(edges) == count
    for t, (upper, lower) in enumerate(edges):
        wanted = AMBER if t % 8 >= 2 else SLATE
        assert abs(upper - rgb(SLATE)).max() <= 8, t  # a GIF has 256 colours
        assert abs(lower - rgb(wanted)).max() <= 8, t


class Unseen(gym.Env):
    """Nobody can draw it: `count` numbers, or one of so many classes, that run in a circle."""

    def __init__(self, count=3, classes=False, error="nothing to see", render_mode=None):
        self.observation_space = Discrete(count) if classes else Box(-np.inf, np.inf, (count,))
        self.action_space = Discrete(2)
        self.error, self.classes, self.count = error, classes, count

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        self.time += 1
        return self._obs(), 0.0, False, False, {}

    def _obs(self):
        if self.classes:
            return self.time % self.count
        return np.sin(self.time + np.arange(self.count)).astype(np.float32)

    def render(self):
        raise RuntimeError(self.error)


class Unlit(Unseen):
    """It could be drawn, if there were a screen."""

    metadata = {"render_modes": ["rgb_array"]}


@pytest.fixture
def unseen(monkeypatch):
    for kind in (Unseen, Unlit):
        spec = gym.envs.registration.EnvSpec(f"test/{kind.__name__}-v0", kind)
        monkeypatch.setitem(gym.registry, spec.id, spec)


def frames(path):
    """Every frame of a GIF, as often as it is shown."""
    with Image.open(path) as gif:
        for number in range(gif.n_frames):
            gif.seek(number)
            image = np.array(gif.convert("RGB"), int)
            yield from [image] * (gif.info["duration"] // 250)


def marked(image, color):
    """Share of each row of pixels, within the frame's edge, that has this colour."""
    inner = image[8:-8, 8:-8]
    return (abs(inner - rgb(color)).max(-1) <= 24).mean(1)


def test_a_world_without_a_picture_shows_its_numbers(unseen, tmp_path, capsys):
    agent, spec = make_agent("test/Unseen-v0", count=12)
    count = write_dream(agent, spec, tmp_path / "dream.gif", 4, 6)
    shown = list(frames(tmp_path / "dream.gif"))
    assert count == len(shown) == 20 and "numbers instead" in capsys.readouterr().err
    for t, image in enumerate(shown):
        assert image.shape == (408, 396, 3)
        edge = AMBER if t % 10 >= 4 else SLATE
        assert abs(image[2, 200] - rgb(edge)).max() <= 8
        assert (marked(image, AMBER).any() == (t >= 4)) or t == 0
    bands = np.array_split(marked(shown[-1], SLATE), 8)  # eight of the twelve numbers
    assert all(band.any() for band in bands)
    assert (np.diff([marked(image, SLATE).sum() for image in shown]) >= -0.2).all()  # it grows


def test_classes_are_drawn_as_steps(unseen, tmp_path):
    agent, spec = make_agent("test/Unseen-v0", count=3, classes=True)
    write_dream(agent, spec, tmp_path / "dream.gif", 6, 1)
    *_, last = frames(tmp_path / "dream.gif")
    levels = marked(last, SLATE)
    flat = np.flatnonzero(levels > 0.2)  # three heights at which the line lies still
    assert len(np.split(flat, np.flatnonzero(np.diff(flat) > 3) + 1)) == 3
    between = levels[flat[0] : flat[-1]]
    assert 0 < between.min() < 0.05  # and nothing but upright lines between them


@pytest.mark.parametrize(
    ("error", "hinted"),
    [
        ("gladLoadGL error", True),
        ("no DISPLAY", True),
        ("no glGetError", True),
        ("GLIDER lost", False),
    ],
)
def test_a_missing_screen_is_told_with_what_helps(error, hinted, unseen, tmp_path, capsys):
    agent, spec = make_agent("test/Unlit-v0", error=error)
    write_dream(agent, spec, tmp_path / "dream.gif", 1, 1)
    printed = capsys.readouterr().err
    assert error in printed and printed.count("\n") == 1 and ("MUJOCO_GL=egl" in printed) == hinted


@pytest.mark.parametrize(
    ("world", "width"), [("Pendulum-v1", 192), ("CartPole-v1", 288), ("CliffWalking-v1", 384)]
)
def test_square_frames_stay_square_and_long_ones_keep_their_shape(world, width, tmp_path):
    agent, spec = make_agent(world)
    write_dream(agent, spec, tmp_path / "dream.gif", 1, 1)
    image = next(frames(tmp_path / "dream.gif"))
    assert image.shape == (408, width + 12, 3)
    if world == "CliffWalking-v1":  # three times as wide as high: paper above and below
        above, middle = image[8:38, 20:-20], image[92:112, 20:-20]
        assert (abs(above - rgb(PAPER)) <= 8).all() and not (abs(middle - rgb(PAPER)) <= 8).all()


@pytest.mark.parametrize(
    ("name", "context", "horizon"),
    [
        ("dream.png", 1, 1),
        ("dream", 1, 1),
        ("no/dream.gif", 1, 1),
        ("a.gif", 0, 1),
        ("a.gif", 1, 0),
    ],
)
def test_a_dream_that_cannot_be_written_is_told(name, context, horizon, tmp_path):
    agent, spec = make_agent()
    with pytest.raises(BadInput) as caught:
        write_dream(agent, spec, tmp_path / name, context, horizon)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_an_agent_dreams_only_of_its_own_world(tmp_path):
    agent, _ = make_agent()
    spec = describe_agent(*make_agent("CartPole-v1"), 0)["env"]
    with pytest.raises(BadInput, match="was built for"):
        write_dream(agent, spec, tmp_path / "dream.gif", 1, 1)


def test_a_picture_shows_itself_or_its_sentence():
    bundle, size = Picture(Image.new("RGB", (4, 2)), "a black box")._repr_mimebundle_()
    assert bundle["text/plain"] == "a black box"
    assert Image.open(io.BytesIO(bundle["image/png"])).size == (4, 2)
    assert size == {"image/png": {"width": 2, "alt": "a black box"}}  # sharp where pixels are small


def test_a_stored_picture_is_small_and_keeps_the_frequent_colours():
    noise = np.random.default_rng(0).integers(0, 256, (300, 20, 3), np.uint8)  # 6,000 colours
    image = Image.new("RGB", (400, 300), AMBER)
    image.paste(Image.fromarray(noise), (0, 0))
    image.paste(SLATE, (200, 0, 400, 300))
    back = Image.open(io.BytesIO(png(image)))
    assert back.mode == "P"
    found, wanted = (np.asarray(i.convert("RGB")).astype(int) for i in (back, image))
    np.testing.assert_array_equal(found[:, 20:], wanted[:, 20:])
    assert abs(found[:, :20] - wanted[:, :20]).mean() < 16
    many = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    assert Image.open(io.BytesIO(png(many))).size == (200, 200)  # more colours than are counted


def test_a_plot_becomes_a_picture_and_is_closed():
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(3, 2), dpi=100)
    ax.axhspan(0, 1, color=AMBER)
    shown = plotted(figure, "An amber band.")
    assert (shown.image.size, shown.alt) == ((600, 400), "An amber band.")
    assert shown.image.getpixel((300, 200)) == rgb(AMBER)
    assert plt.get_fignums() == []


def test_a_long_label_gets_the_room_it_needs():
    film = np.zeros((1, 16, 16, 1), np.uint8)
    short, long = (film_strip([film], ["x" * n], [SLATE], SIDE // 2) for n in (4, 40))
    assert short.width == LEFT + SIDE + 2 * GAP < long.width


# ---------------------------------------------------------------- contrast, as WCAG 2 measures it


def luminance(color):
    share = np.array(rgb(color)) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


GROUNDS = [PAPER, TINT]
WORDS = [(ink, ground) for ink in (INK, SOFT, SLATE, ALERT, BLUE) for ground in GROUNDS]
WORDS += [(ink, ground) for ink in (INK, SOFT) for ground in (SLATE_TINT, AMBER_TINT)]
WORDS += [(INK, AMBER), (PAPER, SLATE)]
MARKS = [(mark, ground) for mark in (SLATE, AMBER, FAINT, BLUE, GREEN) for ground in GROUNDS]
MARKS += [(mark, PAPER) for mark in [*CYCLE, *(shade(x) for x in np.linspace(-1, 1, 21))]]
MARKS += [(mark, AMBER_TINT) for mark in (AMBER, AMBER_LINE, AMBER_SOFT)]
MARKS += [(mark, SLATE_TINT) for mark in (SLATE, SOFT, FAINT)]
QUIET = {LINE, GRID}  # rules, which no number depends on


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(("pairs", "least"), [(WORDS, 4.5), (MARKS, 3.0)])
def test_words_and_marks_stand_out_from_their_ground(pairs, least):
    assert {pair: contrast(*pair) for pair in pairs if contrast(*pair) < least} == {}


def test_no_colour_escapes_the_measurement():
    known = QUIET.union(*WORDS, *MARKS)
    root = Path(wmlib.__file__).parent
    for path in (*root.glob("widgets/*.py"), *root.glob("figures/*.py")):
        used = set(re.findall('"(#[0-9A-Fa-f]{6})"', path.read_text(encoding="utf-8")))
        assert used <= known, path.name
