"""The nats counter: sums, bounds and settings, for single frames and for whole episodes."""

import numpy as np
import pytest

import wmlib
from wmlib.envs.curtain import make_rules
from wmlib.envs.oracle import entropy_per_step
from wmlib.errors import BadInput
from wmlib.widgets import NatsCounter, NatsEntry, model_entry
from wmlib.widgets.base import Canvas
from wmlib.widgets.nats_counter import BLUE, GREEN, compute

ON_PAGE = (
    "f = np.eye(16)[..., None]\n"
    "NatsCounter({(k, 8, 1.0): NatsEntry(f, f / k, 1 / k, 3.5, 3.4) for k in (1, 2, 4)})"
)

FRAME = np.random.default_rng(0).integers(0, 256, (16, 16, 1)).astype(np.uint8)


def entry(nll, kl, entropy=3.0, drawn=None):
    return NatsEntry(FRAME, FRAME / 255 if drawn is None else drawn, nll, kl, entropy)


ENTRIES = {(2, 4, 1.0): entry(1.5, 2.0), (2, 8, 1.0): entry(0.5, 3.0), (4, 8, 0.1): entry(0.1, 6.0)}


def test_one_frame():
    r = compute({(2, 4, 1.0): entry(1.5, 2.0, drawn=FRAME / 510)}, (2, 4, 1.0))
    assert (r.latents, r.classes, r.beta, r.t) == (2, 4, 1.0, 0)
    assert r.total == pytest.approx(3.5) and r.gap == pytest.approx(0.5)
    np.testing.assert_allclose(r.frame, FRAME / 255)
    np.testing.assert_allclose(r.error, FRAME / 510)


def test_an_episode():
    frames = np.stack([FRAME, 255 - FRAME, FRAME // 2])
    nll, kl, exact = np.array([1.0, 0.0, 0.25]), np.array([3.0, 0.5, 0.0]), np.array([3.0, 0, 0.2])
    entries = {(1, 2, 1.0): NatsEntry(frames, frames / 255, nll, kl, exact)}
    for t in range(3):
        r = compute(entries, (1, 2, 1.0), t)
        np.testing.assert_allclose(r.frame, frames[t] / 255)
        assert r.total == pytest.approx(4.75) and r.gap == pytest.approx(1.55)
    with pytest.raises(BadInput, match="0 to 2, not 3"):
        compute(entries, (1, 2, 1.0), 3)


def test_beta_does_not_weigh_the_bars():
    """NLL + KL >= entropy holds without beta only, so beta may not enter the sum."""
    same = {(2, 4, beta): entry(1.5, 2.0) for beta in (0.1, 1.0, 5.0)}
    assert {compute(same, setting).total for setting in same} == {3.5}


def test_the_scale_is_common_and_cropped():
    tops = [compute(ENTRIES, setting).top for setting in ENTRIES]
    np.testing.assert_allclose(tops, 6.1)
    wild = ENTRIES | {(1, 2, 1.0): entry(90.0, 0.0)}
    assert {compute(wild, setting).top for setting in wild} == {9.0}


def test_an_unknown_setting_is_told_with_the_known_ones():
    with pytest.raises(BadInput, match="L = 9, K = 4, β = 1; there is L = 2, K = 4, β = 1,"):
        compute(ENTRIES, (9, 4, 1.0))


def test_parts_that_do_not_fit_are_told():
    with pytest.raises(BadInput, match="do not fit"):
        compute({(2, 4, 1.0): entry(np.ones(2), np.ones(2))}, (2, 4, 1.0))
    with pytest.raises(BadInput, match="do not fit"):
        compute({(2, 4, 1.0): entry(1, 1, drawn=np.zeros((8, 8, 1)))}, (2, 4, 1.0))


@pytest.mark.parametrize("nll, kl, exact", [(1.5, 2.0, 3.0), (0.2, 4.0, 2.0), (0.0, 1.0, 3.0)])
def test_bars_are_as_tall_as_their_nats(nll, kl, exact):
    r = compute({(2, 4, 1.0): entry(nll, kl, exact)}, (2, 4, 1.0))
    image = np.asarray(NatsCounter.draw(r))[::2, ::2]
    column = image[200:380, 234]  # through the middle of the one bar
    rgb = {name: tuple(int(name[i : i + 2], 16) for i in (1, 3, 5)) for name in (BLUE, GREEN)}
    blue, green = ((column == rgb[name]).all(-1).sum() for name in (BLUE, GREEN))
    assert abs(blue - 116 * nll / r.top) <= 3.5  # the entropy line may hide 3 pixels
    assert abs(green - 116 * kl / r.top) <= 3.5


def test_sliders_choose_among_what_there_is():
    widget = NatsCounter(ENTRIES, start=(2, 8, 1.0))
    assert [tuple(knob.options) for knob in widget.knobs] == [(2, 4), (4, 8), (0.1, 1.0)]
    before = widget.image.value
    widget.knobs[1].value = 4
    assert (widget.result.classes, widget.result.total) == (4, 3.5)
    assert widget.image.value != before and widget.failure is None
    widget.knobs[0].value = 4  # (4, 4, 1.0) was never trained
    assert "There is no model with L = 4, K = 4" in widget.message.value
    assert widget.result.latents == 2
    widget.knobs[0].value = 2
    assert widget.message.value == "" and widget.result.latents == 2


def test_a_function_is_asked_once_per_setting():
    asked = []

    def train(latents, classes, beta):
        asked.append((latents, classes, beta))
        return entry(1 / latents, classes)

    widget = NatsCounter(train, latents=(4, 2), classes=(2,), betas=(1.0,))
    assert asked == [(2, 2, 1.0)] and widget.result.nll[0] == 0.5
    widget.knobs[0].value = 4
    widget.knobs[0].value = 2
    assert asked == [(2, 2, 1.0), (4, 2, 1.0)]
    with pytest.raises(BadInput, match="with latents, classes and betas"):
        NatsCounter(train)
    with pytest.raises(BadInput, match="Give entries"):
        NatsCounter({})


def test_a_whole_model_pays_at_least_the_entropy():
    agent = wmlib.load_pretrained("curtain")
    exact = entropy_per_step(make_rules())
    rows = wmlib.play(agent, wmlib.make_env("wmlib/Curtain-v0", num_envs=128), 8)
    entry = model_entry(agent, rows, exact)
    assert np.shape(entry.frame) == np.shape(entry.reconstruction) == (8, 16, 16, 1)
    widget = NatsCounter({(agent.config.stoch, agent.config.classes, 1.0): entry}, t=4)
    r = widget.result
    assert (r.nll >= 0).all() and (r.kl > -1e-4).all()
    assert (np.cumsum(r.nll + r.kl) > np.cumsum(exact)).all()
    quiet = [1, 2, 3, 5, 6, 7]  # the world tosses no coin
    assert (r.nll + r.kl)[quiet].max() < 0.5 < (r.nll + r.kl)[4]
    widget.step.value = 0
    assert widget.result.t == 0 and widget.failure is None
    np.testing.assert_allclose(widget.result.frame, rows["obs"][0, 0] / 255)


def test_squared_errors_are_no_nats():
    with pytest.raises(BadInput, match="Bernoulli"):
        model_entry(wmlib.load_pretrained("cartpole"), {}, np.zeros(8))


def test_empty_bars_draw_nothing():
    canvas = Canvas(20, 20)
    before = canvas.image.copy()
    canvas.box(5, 5, 0, 8, BLUE)
    canvas.box(5, 5, 8, 0.2, BLUE)
    assert canvas.image == before
