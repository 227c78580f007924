import math

import numpy as np
import pytest
import torch
from conftest import np_sigmoid, np_unimix
from torch.distributions import Categorical, Normal
from torch.distributions import kl_divergence as torch_kl

from wmlib.distributions import (
    DiscretePolicy,
    NormalPolicy,
    bernoulli_nats,
    entropy,
    kl_divergence,
    sample_onehot,
    straight_through,
    symexp,
    symexp_bins,
    symlog,
    twohot,
    twohot_loss,
    twohot_mean,
    unimix_probs,
)

BINS = symexp_bins()
POST = torch.tensor([[2, -1, 0.5], [-0.5, 1.5, 0]])
PRIOR = torch.tensor([[0, 1, -1], [1, -0.5, 0.5]])


def dense_twohot(x, bins=BINS):
    """The target as a full vector over the bins."""
    lower, weight = twohot(torch.as_tensor(x, dtype=torch.float32), bins)
    full = torch.zeros(*lower.shape, len(bins))
    full.scatter_(-1, lower.unsqueeze(-1), (1 - weight).unsqueeze(-1))
    return full.scatter_(-1, lower.unsqueeze(-1) + 1, weight.unsqueeze(-1))


# ---------------------------------------------------------------- symlog


def test_symexp_is_the_inverse_of_symlog():
    x = torch.tensor([-1e6, -3.0, -1e-3, 0.0, 1e-3, 0.7, 250.0, 1e6])
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-5, atol=1e-7)
    assert symlog(torch.tensor(math.e - 1)).item() == pytest.approx(1, abs=1e-6)


def test_symlog_is_odd_and_leaves_small_numbers_alone():
    x = torch.linspace(0, 50, 101)
    assert torch.equal(symlog(-x), -symlog(x))
    torch.testing.assert_close(symlog(x / 1e5), x / 1e5, rtol=1e-3, atol=0)


# ---------------------------------------------------------------- two-hot


def test_bins_fixture():
    assert len(BINS) == 255
    expected = torch.tensor([0, 0.1705577, 0.3702054])
    torch.testing.assert_close(BINS[127:130], expected, atol=2e-6, rtol=0)
    assert BINS[-1].item() == pytest.approx(math.expm1(20), rel=1e-5)


@pytest.mark.parametrize("count", [41, 63, 255])
def test_bins_are_exactly_antisymmetric_and_increasing(count):
    bins = symexp_bins(count)
    assert torch.equal(bins, -bins.flip(0))
    assert (bins.diff() > 0).all()
    assert bins[count // 2] == 0


@pytest.mark.parametrize(
    "x, expected",
    [
        (0.1, {127: 0.413688, 128: 0.586312}),
        (1.0, {131: 0.617329, 132: 0.382671}),
        (100.0, {156: 0.710529, 157: 0.289471}),
        (1e9, {254: 1.0}),
        (-1e9, {0: 1.0}),
        (-1.0, {123: 0.617329, 122: 0.382671}),
        (0.0, {127: 1.0}),
    ],
)
def test_twohot_target_fixture(x, expected):
    target = dense_twohot(x)
    found = {i: target[i].item() for i in target.nonzero().flatten().tolist()}
    assert found == pytest.approx(expected, abs=2e-6)


def test_the_expected_bin_of_a_twohot_target_is_the_number():
    x = torch.cat([torch.randn(200), 100 * torch.randn(200), 1e4 * torch.randn(50), BINS[60:190]])
    lower, weight = twohot(x, BINS)
    assert ((weight >= 0) & (weight <= 1)).all()
    left, right, share = BINS[lower].double(), BINS[lower + 1].double(), weight.double()
    torch.testing.assert_close((1 - share) * left + share * right, x.double(), rtol=1e-6, atol=1e-6)
    mean = twohot_mean(dense_twohot(x).log(), BINS)
    torch.testing.assert_close(mean, x, rtol=2e-5, atol=2e-6)


def test_mean_of_a_uniform_prediction_is_exactly_zero():
    for level in (0.0, 0.3, -7.0):
        assert twohot_mean(torch.full((4, 255), level), BINS).tolist() == [0.0] * 4


def test_mean_of_a_symmetric_prediction_is_exactly_zero():
    logits = torch.randn(8, 128)
    logits = torch.cat([logits, logits[:, :-1].flip(-1)], -1)
    assert twohot_mean(logits, BINS).tolist() == [0.0] * 8


def test_mean_equals_the_float64_expectation():
    logits = 3 * torch.randn(50, 255) - 0.5 * torch.linspace(-20, 20, 255).abs()
    p = torch.softmax(logits.double(), -1)
    tolerance = 1e-5 * (p * BINS.abs()).sum(-1)
    assert ((twohot_mean(logits, BINS) - (p * BINS).sum(-1)).abs() <= tolerance).all()


def test_loss_of_a_zero_initialised_head_is_the_log_of_the_number_of_bins():
    loss = twohot_loss(torch.zeros(3, 255), torch.tensor([0.0, -3.0, 1e6]), BINS)
    torch.testing.assert_close(loss, torch.full((3,), 5.541264), atol=2e-6, rtol=0)


def test_loss_is_the_cross_entropy_and_its_gradient_prediction_minus_target():
    logits = torch.randn(20, 255, requires_grad=True)
    x = 50 * torch.randn(20)
    target = dense_twohot(x)
    loss = twohot_loss(logits, x, BINS)
    torch.testing.assert_close(loss, -(target * logits.log_softmax(-1)).sum(-1))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, (logits.softmax(-1) - target).detach())


def test_no_gradient_flows_into_the_target():
    logits, x = torch.randn(5, 255, requires_grad=True), torch.randn(5, requires_grad=True)
    twohot_loss(logits, x, BINS).sum().backward()
    assert x.grad is None


def test_the_best_prediction_of_rewards_0_or_100_has_mean_50_while_symlog_says_9():
    rewards = torch.tensor([0.0, 100.0])
    best = dense_twohot(rewards).mean(0).log()  # minimises the mean cross-entropy
    assert twohot_mean(best, BINS).item() == pytest.approx(50, abs=1e-3)
    assert symexp(symlog(rewards).mean()).item() == pytest.approx(9.05, abs=5e-3)


def test_twohot_works_in_float32_on_bfloat16_logits():
    logits = torch.randn(4, 255).bfloat16()
    assert twohot_loss(logits, torch.ones(4), BINS).dtype == torch.float32
    assert twohot_mean(logits, BINS).dtype == torch.float32


# ---------------------------------------------------------------- latents


def test_kl_fixture():
    post, prior = unimix_probs(POST), unimix_probs(PRIOR)
    assert kl_divergence(post, prior).item() == pytest.approx(1.916351, abs=2e-6)
    assert kl_divergence(prior, post).item() == pytest.approx(2.401409, abs=2e-6)
    plain = kl_divergence(POST.softmax(-1), PRIOR.softmax(-1))
    assert plain.item() == pytest.approx(1.960662, abs=2e-6)


def test_unimix_bounds_the_kl_of_one_latent():
    sure = 1e4 * torch.eye(4)
    worst = kl_divergence(unimix_probs(sure[:1]), unimix_probs(sure[1:2]))
    assert worst.item() == pytest.approx(5.9241, abs=5e-5)
    q, p = (unimix_probs(30 * torch.randn(2000, 1, 4)) for _ in range(2))
    assert kl_divergence(q, p).max() <= 5.9242


def test_unimix_is_099_softmax_plus_001_over_k():
    logits = 5 * torch.randn(20, 7)
    expected = torch.from_numpy(np_unimix(logits.double().numpy())).float()
    torch.testing.assert_close(unimix_probs(logits), expected)
    torch.testing.assert_close(unimix_probs(logits).sum(-1), torch.ones(20))
    assert unimix_probs(torch.tensor([1e4, 0, 0, 0])).min().item() == pytest.approx(0.0025)


def test_kl_and_entropy_agree_with_torch_distributions():
    q, p = unimix_probs(torch.randn(10, 4, 6)), unimix_probs(torch.randn(10, 4, 6))
    expected = torch_kl(Categorical(probs=q), Categorical(probs=p)).sum(-1)
    torch.testing.assert_close(kl_divergence(q, p), expected)
    torch.testing.assert_close(entropy(q), Categorical(probs=q).entropy())
    assert kl_divergence(q, q).abs().max() == 0


def test_samples_are_one_hot_and_their_frequencies_are_the_probabilities():
    probs = torch.tensor([[0.5, 0.0025, 0.2, 0.2975], [0.01, 0.01, 0.01, 0.97]])
    draws = sample_onehot(probs.expand(100_000, 2, 4))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(draws.sum(-1), torch.ones(100_000, 2))
    torch.testing.assert_close(draws.mean(0), probs, atol=0.006, rtol=0)


def test_latents_are_drawn_independently_of_each_other():
    draws = sample_onehot(torch.full((50_000, 2, 2), 0.5))[..., 0]
    assert abs((draws[:, 0] * draws[:, 1]).mean().item() - 0.25) < 0.01
    assert abs((draws[:-1, 0] * draws[1:, 0]).mean().item() - 0.25) < 0.01


def test_samples_carry_no_gradient_of_their_own():
    probs = unimix_probs(torch.randn(4, 3, requires_grad=True))
    assert not sample_onehot(probs).requires_grad


def test_straight_through_has_the_value_of_the_sample_and_the_gradient_of_the_probabilities():
    logits, weight = torch.randn(6, 4, 5, requires_grad=True), torch.randn(6, 4, 5)
    probs = unimix_probs(logits)
    onehot = sample_onehot(probs)
    z = straight_through(onehot, probs)
    assert torch.equal(z.detach(), onehot)
    (found,) = torch.autograd.grad((weight * z).sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad((weight * probs).sum(), logits)
    assert torch.equal(found, expected) and found.abs().max() > 0


# ---------------------------------------------------------------- pixels


def test_bernoulli_nats_is_the_cross_entropy_of_a_coin():
    logit, target = torch.linspace(-4, 4, 9), torch.tensor([0, 1, 0.3] * 3)
    p, x = np_sigmoid(logit.double().numpy()), target.double().numpy()
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p))
    np.testing.assert_allclose(bernoulli_nats(logit, target), expected, rtol=1e-5)


# ---------------------------------------------------------------- policies


def test_normal_policy_fixture():
    policy = NormalPolicy(torch.tensor([0.5]), torch.tensor([0.0]))
    assert policy.log_prob(torch.tensor([1.3])).item() == pytest.approx(-1.2459155, abs=1e-6)
    assert policy.entropy().item() == pytest.approx(1.3054533, abs=1e-6)


def test_normal_policy_sums_over_action_dimensions_like_torch_distributions():
    raw_mean, raw_std, action = torch.randn(5, 3), torch.randn(5, 3), 2 * torch.randn(5, 3)
    policy = NormalPolicy(raw_mean, raw_std)
    normal = Normal(raw_mean.tanh(), 0.9 * (raw_std + 2).sigmoid() + 0.1)
    torch.testing.assert_close(policy.log_prob(action), normal.log_prob(action).sum(-1))
    torch.testing.assert_close(policy.entropy(), normal.entropy().sum(-1))
    torch.testing.assert_close(policy.mode(), raw_mean.tanh())


def test_normal_policy_samples_have_its_mean_and_deviation_and_are_not_clipped():
    policy = NormalPolicy(torch.full((100_000, 1), 0.8), torch.full((100_000, 1), -1.0))
    draws = policy.sample()
    assert draws.mean().item() == pytest.approx(math.tanh(0.8), abs=0.01)
    assert draws.std().item() == pytest.approx(0.9 / (1 + math.exp(-1)) + 0.1, abs=0.01)
    assert draws.max() > 1


def test_normal_policy_deviation_stays_between_a_tenth_and_one():
    policy = NormalPolicy(torch.zeros(2), torch.tensor([-100.0, 100.0]))
    torch.testing.assert_close(policy.std, torch.tensor([0.1, 1.0]))


def test_discrete_policy_is_a_categorical_with_unimix():
    logits = 4 * torch.randn(6, 5)
    policy, reference = DiscretePolicy(logits), Categorical(probs=unimix_probs(logits))
    index = reference.sample()
    action = torch.nn.functional.one_hot(index, 5).float()
    torch.testing.assert_close(policy.log_prob(action), reference.log_prob(index))
    torch.testing.assert_close(policy.entropy(), reference.entropy())
    assert torch.equal(policy.mode().argmax(-1), logits.argmax(-1))


def test_discrete_policy_never_rules_an_action_out():
    policy = DiscretePolicy(torch.tensor([1e4, 0.0]))
    assert policy.log_prob(torch.tensor([0.0, 1.0])).item() == pytest.approx(math.log(0.005))
    draws = DiscretePolicy(torch.tensor([1e4, 0.0]).expand(100_000, 2)).sample()
    assert draws[:, 1].mean().item() == pytest.approx(0.005, abs=0.001)


@pytest.mark.parametrize("kind", [DiscretePolicy, NormalPolicy])
def test_actions_are_sampled_without_gradient(kind):
    raw = [torch.randn(4, 3, requires_grad=True) for _ in range(1 + (kind is NormalPolicy))]
    assert not kind(*raw).sample().requires_grad
