import numpy as np
import pytest
import torch

from wmlib.distributions import kl_divergence, unimix_probs
from wmlib.losses import continue_loss, kl_balance, lambda_return, total


def probabilities(*shape):
    return unimix_probs(2 * torch.randn(*shape))


def coins_with_kl(nats):
    """Posterior and prior of one two-class latent whose KL is the given number."""
    low, high = 0.5, 1 - 1e-9
    for _ in range(100):
        middle = (low + high) / 2
        kl = middle * np.log(middle / 0.5) + (1 - middle) * np.log((1 - middle) / 0.5)
        low, high = (middle, high) if kl < nats else (low, middle)
    return torch.tensor([low, 1 - low]), torch.tensor([0.5, 0.5])


# ---------------------------------------------------------------- KL


def test_dynamics_and_representation_have_the_same_value():
    q, p = probabilities(4, 6, 3, 5), probabilities(4, 6, 3, 5)
    dyn, rep = kl_balance(q, p)
    assert torch.equal(dyn, rep) and dyn.shape == (4, 6)
    torch.testing.assert_close(dyn, kl_divergence(q, p).clamp(min=1))


def test_dynamics_trains_only_the_prior_and_representation_only_the_posterior():
    q, p = (torch.randn(2, 3, 8, 5).mul(3).requires_grad_() for _ in range(2))
    dyn, rep = kl_balance(unimix_probs(q), unimix_probs(p))
    assert dyn.min() > 1
    grads = [torch.autograd.grad(x.sum(), (q, p), allow_unused=True) for x in (dyn, rep)]
    assert grads[0][0] is None and grads[0][1].abs().max() > 0
    assert grads[1][1] is None and grads[1][0].abs().max() > 0
    (full,) = torch.autograd.grad(kl_divergence(unimix_probs(q), unimix_probs(p)).sum(), q)
    torch.testing.assert_close(grads[1][0], full)


def test_free_nats_clip_the_sum_over_latents_not_each_latent():
    q, p = (x.expand(1, 1, 4, 2) for x in coins_with_kl(0.4))
    for loss in kl_balance(q, p):
        assert loss.item() == pytest.approx(1.6, abs=1e-5)


def test_free_nats_clip_each_step_not_the_mean_over_steps():
    pairs = [coins_with_kl(0.05), coins_with_kl(0.6)]
    q, p = (torch.stack(x).view(1, 2, 1, 2).expand(1, 2, 4, 2) for x in zip(*pairs, strict=True))
    for loss in kl_balance(q, p):
        np.testing.assert_allclose(loss, [[1.0, 2.4]], atol=1e-5)


def test_below_the_free_nats_there_is_no_gradient():
    q, p = (torch.zeros(1, 1, 2, 3).normal_(0, 0.01).requires_grad_() for _ in range(2))
    dyn, rep = kl_balance(unimix_probs(q), unimix_probs(p))
    (dyn + rep).sum().backward()
    assert dyn.item() == rep.item() == 1.0
    assert not q.grad.any() and not p.grad.any()


# ---------------------------------------------------------------- continue


def test_continue_target_is_soft():
    logit = torch.randn(2, 5)
    terminal = torch.tensor([[0, 0, 1, 0, 1], [0, 1, 0, 0, 0]], dtype=torch.bool)
    y, p = (1 - terminal.double()) * (1 - 1 / 333), logit.double().sigmoid()
    expected = -(y * p.log() + (1 - y) * (1 - p).log())
    found = continue_loss(logit, terminal, 1 - 1 / 333)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)


def test_the_best_continue_prediction_is_the_discount():
    logit = torch.tensor([np.log(332.0)], dtype=torch.float32, requires_grad=True)
    continue_loss(logit, torch.zeros(1), 1 - 1 / 333).sum().backward()
    assert abs(logit.grad.item()) < 1e-6


# ---------------------------------------------------------------- lambda-returns


def returns(reward, boot, gamma, lam, term=(), last=()):
    flags = torch.zeros(2, 1, 4)
    flags[0, 0, list(term)] = 1
    flags[1, 0, list(last)] = 1
    reward, boot = (torch.tensor([x], dtype=torch.float32) for x in (reward, boot))
    return lambda_return(reward, boot, *flags, gamma, lam)[0].tolist()


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, [9.71488, 10.604, 10.2]),
        ({"term": [2]}, [3.52, 2, 10.2]),
        ({"last": [2]}, [8.056, 8.3, 10.2]),
        ({"lam": 1.0}, [11.062, 11.18, 10.2]),
        ({"lam": 0.0}, [6.4, 8.3, 10.2]),
    ],
    ids=["plain", "terminal at 2", "truncated at 2", "Monte Carlo", "one step"],
)
def test_lambda_return_fixture(change, expected):
    arguments = {"gamma": 0.9, "lam": 0.8} | change
    for first_reward in (9, -1e6):  # it never enters
        found = returns([first_reward, 1, 2, 3], [5, 6, 7, 8], **arguments)
        assert found == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, [9.8125, 15.25, 23]),
        ({"term": [2], "last": [2]}, [6.5, 2, 23]),
        ({"last": [2]}, [10.25, 17, 23]),
    ],
    ids=["plain", "terminal at 2", "truncated at 2"],
)
def test_replay_value_fixture(change, expected):
    found = returns([0, 1, 2, 3], [10, 20, 30, 40], 0.5, 0.5, **change)
    assert found == pytest.approx(expected, abs=2e-5)


def test_lambda_return_equals_the_recursion_for_soft_terminations():
    rng = np.random.default_rng(0)
    reward, boot = rng.normal(0, 3, (2, 5, 9))
    term = rng.uniform(0, 1, (5, 9))
    last = rng.integers(0, 2, (5, 9))
    expected, later = np.zeros((5, 8)), boot[:, -1]
    for t in reversed(range(8)):
        live, cont = (1 - term[:, t + 1]) * 0.97, (1 - last[:, t + 1]) * 0.9
        later = reward[:, t + 1] + live * ((1 - cont) * boot[:, t + 1] + cont * later)
        expected[:, t] = later
    tensors = [torch.from_numpy(x).float() for x in (reward, boot, term, last)]
    np.testing.assert_allclose(lambda_return(*tensors, 0.97, 0.9), expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- total


def test_total_is_the_weighted_sum_of_means():
    losses = {"a": torch.tensor([1.0, 3.0]), "b": torch.full((2, 2), 10.0)}
    assert total(losses, {"a": 2.0, "b": 0.1}).item() == pytest.approx(5)


@pytest.mark.parametrize("scales", [{"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}])
def test_every_loss_needs_a_scale_and_every_scale_a_loss(scales):
    with pytest.raises(ValueError, match="do not match"):
        total({"a": torch.ones(1), "b": torch.ones(1)}, scales)
