"""Both rulers against the functions of the package whose parts they show."""

import numpy as np
import pytest
import torch

from wmlib.errors import BadInput
from wmlib.losses import lambda_return
from wmlib.widgets import CreditRuler, Ruler
from wmlib.widgets.ruler import BINS, RETURNS, compute, credit, draw, draw_credit, place

ON_PAGE = "Ruler()", "CreditRuler()"


@pytest.mark.parametrize("count", BINS)
@pytest.mark.parametrize("pair", [(0, 1000), (-30, 3), (10, 10)])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_mean_of_the_bins_is_the_true_mean(count, pair, share):
    r = compute(*pair, share, count)
    assert r.weights.sum() == pytest.approx(1, abs=1e-6) and (r.weights > 0).sum() <= 4
    assert r.mean == pytest.approx(r.truth, rel=2e-3, abs=2e-3)
    assert r.truth == (1 - share) * pair[0] + share * pair[1]


def test_symlogs_belong_to_the_geometric_mean():
    r = compute(0, 1000, 0.5, 255)
    assert r.squashed == pytest.approx(1001**0.5 - 1, rel=1e-5) and r.mean == pytest.approx(500)
    assert compute(0, 1000, 0.4, 255).mode == 0
    assert compute(-100, 100, 0.5, 255).squashed == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
@pytest.mark.parametrize("horizon", [1, 4, 15])
def test_credit_is_the_gradient_of_the_lambda_return(lam, gamma, horizon):
    reward = torch.zeros(1, horizon + 1, dtype=torch.float64, requires_grad=True)
    value = torch.zeros(1, horizon + 1, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(1, horizon + 1, dtype=torch.float64)
    first = lambda_return(reward, value, none, none, gamma, lam)[0, 0]
    by_reward, by_value = torch.autograd.grad(first, (reward, value), allow_unused=True)
    r = credit(lam, gamma, horizon)
    np.testing.assert_allclose(r.reward, by_reward[0, 1:], atol=1e-6)
    np.testing.assert_allclose(r.value, by_value[0, 1:], atol=1e-6)


def test_limits_of_lambda():
    near, far = credit(0, 1, 15), credit(1, 1, 15)
    assert near.bootstrap == 1 and near.reach == 1  # one reward, then the critic
    assert far.bootstrap == pytest.approx(1 / 15) and far.reach > 8
    looks = [credit(lam, 0.997, 15).reach for lam in np.linspace(0, 1, 6)]
    assert (np.diff(looks) > 0).all()


def test_bad_input_is_told():
    with pytest.raises(BadInput, match="from 0 to 1"):
        compute(0, 1, 1.5, 255)
    with pytest.raises(BadInput, match="odd and at least 3"):
        compute(0, 1, 0.5, 64)
    for bad in ((1.1, 1, 5), (0.5, 0, 5), (0.5, 1, 0)):
        with pytest.raises(BadInput, match="Lambda must be 0 to 1"):
            credit(*bad)


def test_the_axis_keeps_order_and_ends():
    at = [place(x, 24, 430) for x in RETURNS]
    assert (np.diff(at) > 0).all() and at[0] >= 24 and at[-1] <= 454
    assert place(0, 24, 430) == pytest.approx(24 + 215)


def test_pictures_change_with_what_they_show():
    for make, a, b in (
        (draw, compute(0, 1000, 0.5, 255), compute(0, 1000, 0.4, 255)),
        (draw_credit, credit(0.95, 1, 15), credit(0.5, 1, 15)),
    ):
        assert make(a).size == make(b).size and make(a).tobytes() != make(b).tobytes()


def test_sliders_are_obeyed():
    widget = Ruler()
    widget.share.value = 0.25
    assert widget.result.truth == 250 and widget.result.mean == pytest.approx(250, rel=1e-3)
    widget.bins.value, widget.first.value = 31, -1000
    assert len(widget.result.bins) == 31 and widget.result.truth == -500
    ruler = CreditRuler()
    before = ruler.image.value
    ruler.lam.value = 0
    assert ruler.result.bootstrap == 1 and ruler.image.value != before
    assert widget.failure is None and ruler.failure is None
