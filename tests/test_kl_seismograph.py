"""The KL seismograph: recordings over the exact entropy of the world."""

import numpy as np
import pytest

from wmlib.envs import oracle
from wmlib.envs.curtain import make_rules
from wmlib.errors import BadInput
from wmlib.widgets import KLSeismograph
from wmlib.widgets.kl_seismograph import compute, draw, film

ON_PAGE = (
    "k = [4.5, .3, .1, .1, 1.8, .2, .2, .4]\n"
    "KLSeismograph({(p, 0.0): [(0, [p] * 8), (9, k)] for p in (0.5, 0.9)})"
)

KL = [4.5, 0.3, 0.1, 0.1, 1.8, 0.2, 0.2, 0.4]
RECORDINGS = {
    (0.5, 0.0): [(0, [0.5] * 8), (100, [0.0] * 8), (1000, KL)],
    (0.9, 0.0): [(0, [0.5] * 8), (1000, [4.4, 0.2, 0.1, 0.1, 0.8, 0.1, 0.1, 0.3])],
    (0.5, 1.0): [(1000, [5.3, 0.8, 0.4, 0.3, 1.7, 0.4, 0.5, 7.5])],
}


@pytest.mark.parametrize("p", [0.5, 0.7, 0.9])
def test_the_truth_is_the_oracles(p):
    r = compute(p, 0.0, 10, KL)
    np.testing.assert_allclose(r.truth, oracle.entropy_per_step(make_rules(p=p)))
    assert r.coin == pytest.approx(1.8 - r.truth[4])
    assert r.elsewhere == pytest.approx(sum(KL) - 1.8 - np.log(32))


def test_bad_input_is_told():
    for kl in ([1.0] * 7, [float("nan")] * 8, [[1.0] * 8]):
        with pytest.raises(BadInput, match="8 finite numbers"):
            compute(0.5, 0, 0, kl)
    for recordings in ({}, {(0.5, 0.0): []}):
        with pytest.raises(BadInput, match="at least one recording"):
            KLSeismograph(recordings)


def test_bars_are_as_tall_as_their_nats():
    image = np.asarray(draw(compute(0.5, 0.0, 10, KL)))[::2, ::2].astype(int)
    slate = (abs(image - np.array([0x47, 0x55, 0x69])).sum(-1) == 0)[110:316]
    for t, nats in enumerate(KL):
        column = slate[:, round(56 + (t + 0.5) * 58)]
        assert abs(column.sum() - 190 * nats / 6) <= 5  # the tick may hide some


def test_the_film_is_an_episode():
    frames = film()
    assert frames.shape == (8, 16, 16, 1) and frames.dtype == np.uint8
    np.testing.assert_array_equal(frames[2, :8], frames[3, :8])  # behind the curtain


def test_controls_are_obeyed():
    widget = KLSeismograph(RECORDINGS)
    assert widget.result.updates == 1000 and widget.result.p == 0.5
    before = widget.image.value
    widget.snapshot.value = 0
    assert widget.result.updates == 0 and widget.image.value != before
    widget.p.value = 0.9
    assert widget.result.p == 0.9 and widget.result.truth[4] < 0.4
    widget.snapshot.value = 2  # fewer snapshots were taken: the last one
    assert widget.result.updates == 1000 and widget.failure is None


def test_a_recording_that_is_missing_is_a_line():
    widget = KLSeismograph(RECORDINGS)
    widget.free.value = 1.0
    assert widget.result.free == 1.0 and widget.failure is None
    widget.p.value = 0.9
    assert isinstance(widget.failure, BadInput)
    assert "no recording of p = 0.9" in widget.message.value
    widget.free.value = 0.0
    assert widget.failure is None and widget.result.p == 0.9
