"""The tug-of-war: pulls that are gradients, and who moves under which weights."""

import numpy as np
import pytest
import torch

from wmlib.distributions import unimix_probs
from wmlib.errors import BadInput
from wmlib.losses import kl_balance
from wmlib.widgets import TugOfWar
from wmlib.widgets.tug_of_war import LR, POSTERIOR, PRIOR, compute, draw

ON_PAGE = "TugOfWar()"


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("weights", [(1.0, 0.1), (0.3, 2.0)])
@pytest.mark.parametrize("free", [0.0, 1.0])
def test_pulls_are_those_of_the_loss(steps, weights, free):
    ends = torch.tensor([POSTERIOR, PRIOR], dtype=torch.float32).unsqueeze(1).requires_grad_()
    for _ in range(steps + 1):
        q, p = unimix_probs(ends[0]), unimix_probs(ends[1])
        dyn, rep = kl_balance(q, p, free)
        (grad,) = torch.autograd.grad(weights[0] * dyn + weights[1] * rep, ends)
        before, ends = ends, (ends - LR * grad).detach().requires_grad_()
    r = compute(*weights, free, steps)
    q, p = (unimix_probs(end)[0].detach().numpy() for end in before)
    np.testing.assert_allclose(r.posterior, q, atol=1e-5)
    np.testing.assert_allclose(r.prior, p, atol=1e-5)
    np.testing.assert_allclose(r.posterior_pull, -grad[0, 0], atol=1e-5)
    np.testing.assert_allclose(r.prior_pull, -grad[1, 0], atol=1e-5)
    assert r.kl[-1] == pytest.approx(float((q * np.log(q / p)).sum()), abs=1e-5)


def test_only_the_weighted_side_moves():
    both, dyn, rep = compute(1, 0.1, 0, 30), compute(1, 0, 0, 30), compute(0, 1, 0, 30)
    assert dyn.posterior_moved == 0 and dyn.prior_moved > 0.5
    assert rep.prior_moved == 0 and rep.posterior_moved > 0.3
    assert both.prior_moved > 5 * both.posterior_moved > 0
    for r in (both, dyn, rep):
        assert len(r.kl) == 31 and (np.diff(r.kl) < 0).all()


def test_free_nats_stop_both():
    r = compute(1, 1, 4, 50)
    assert r.clipped and r.posterior_moved == r.prior_moved == 0
    assert not r.posterior_pull.any() and not r.prior_pull.any()
    r = compute(1, 0.1, 1, 200)
    assert r.clipped and 0.7 < r.kl[-1] < 1  # it coasts to just below the limit, and stays


def test_bad_input_is_told():
    with pytest.raises(BadInput, match="must not be negative"):
        compute(1, -1, 0, 3)
    with pytest.raises(BadInput, match="the same K classes"):
        compute(1, 1, 0, 3, (0.0, 1.0), (0.0, 1.0, 2.0))


def test_bars_are_as_tall_as_their_probabilities():
    r = compute(1, 0.1, 0, 5)
    image = np.asarray(draw(r))[::2, ::2].astype(int)
    slate = (abs(image - np.array([0x47, 0x55, 0x69])).sum(-1) == 0)[36:140]
    for k, p in enumerate(r.posterior):
        column = slate[:, round(48 + (k + 0.5) * 384 / 6)]
        assert abs(column.sum() - 92 * p) <= 3.5  # the line of the start may hide some


def test_sliders_are_obeyed():
    widget = TugOfWar(steps=0)
    before = widget.image.value
    assert widget.result.posterior_moved == 0
    widget.steps.value = 40
    assert widget.result.steps == 40 and widget.image.value != before
    widget.beta_dyn.value, widget.beta_rep.value = 0, 1
    assert widget.result.prior_moved == 0 and widget.result.posterior_moved > 0.3
    widget.free.value = 3
    assert widget.failure is None and widget.message.value == ""
