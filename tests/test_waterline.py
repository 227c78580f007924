"""The water line: what the free bits leave of the KL is what the loss of the package leaves."""

import numpy as np
import pytest
import torch

from wmlib.errors import BadInput
from wmlib.losses import kl_balance
from wmlib.widgets import Waterline
from wmlib.widgets.waterline import FAINT, SLATE, compute, draw

ON_PAGE = "Waterline(np.random.default_rng(0).gamma(1, 1, (50, 8)), np.ones(8))"

ENTROPY = np.array([3.466, 0, 0, 0, 0.693, 0, 0, 0])


@pytest.mark.parametrize("free", [0.0, 0.3, 1.0])
def test_clips_as_the_package_does(free):
    torch.manual_seed(0)
    q, p = (torch.softmax(torch.randn(20, 8, 2, 4), -1).double() for _ in range(2))
    q.requires_grad_()
    _, rep = kl_balance(q, p, free)  # (20, 8)
    (grad,) = torch.autograd.grad(rep.sum(), q)
    kl = (q * (q / p).log()).sum((-2, -1)).detach().numpy()
    r = compute(kl, ENTROPY, 1.0, 0.1, free)
    np.testing.assert_allclose(r.dyn, rep.detach().mean(0), rtol=1e-6)
    np.testing.assert_allclose(r.awake, grad.flatten(2).any(-1).double().mean(0))
    assert r.loss == pytest.approx(1.1 * float(rep.detach().mean()))


def test_no_setting_goes_below_its_floor():
    kl = np.random.default_rng(0).gamma(1, 1, (50, 8))
    for free in (0.0, 0.5, 3.0):
        for weights in ((1.0, 0.1), (0.0, 2.0)):
            r = compute(kl, ENTROPY, *weights, free)
            assert r.loss >= r.floor == pytest.approx(sum(weights) * free)
    assert compute(kl, ENTROPY, 1, 1, 0).awake.min() == 1
    drowned = compute(kl, ENTROPY, 1, 1, kl.max())
    assert not drowned.awake.any() and drowned.loss == pytest.approx(drowned.floor)


def test_bad_input_is_told():
    with pytest.raises(BadInput, match=r"must be \(N, T\) and the entropy \(T,\)"):
        compute(np.ones(8), ENTROPY, 1, 1, 1)
    with pytest.raises(BadInput, match=r"must be \(N, T\) and the entropy \(T,\)"):
        compute(np.ones((3, 7)), ENTROPY, 1, 1, 1)
    with pytest.raises(BadInput, match="must not be negative"):
        compute(np.ones((3, 8)), ENTROPY, 1, 1, -0.1)


def test_bars_end_at_the_water():
    r = compute(np.full((5, 8), 2.0), ENTROPY, 1, 0.1, 0.5)
    image = np.asarray(draw(r))[::2, ::2].astype(int)
    column = image[40:236, 52 + 2 * 48 + 10 + 14]  # the middle of the bar of frame 2

    def count(color):
        rgb = [int(color[k : k + 2], 16) for k in (1, 3, 5)]
        return (abs(column - rgb).sum(-1) == 0).sum()

    # 190 pixels for 2 nats; lines of the grid and of the entropy hide a few
    assert abs(count(SLATE) - 142) <= 5 and abs(count(FAINT) - 48) <= 5


def test_sliders_are_obeyed():
    widget = Waterline(np.full((4, 8), 0.8), ENTROPY)
    before = widget.image.value
    assert not widget.result.awake.any()
    widget.free.value = 0.5
    assert widget.result.awake.all() and widget.image.value != before
    widget.beta_rep.value = 1.0
    assert widget.result.loss == pytest.approx(1.6)
    assert widget.failure is None
