import numpy as np
import pytest
import torch
from conftest import (
    BUTTONS,
    MINI,
    STICKS,
    array,
    np_head,
    np_linear,
    np_nln,
    np_softmax,
    np_twohot,
    shake,
)

from wmlib.actor_critic import Actor, Critic, ReturnScale, actor_loss, dream_weights
from wmlib.actor_critic import percentile as quantile
from wmlib.config import preset
from wmlib.distributions import DiscretePolicy, NormalPolicy

FEATURE = 9


# ---------------------------------------------------------------- scale of returns


def test_return_scale_fixture():
    scale = ReturnScale()
    # of 101 evenly spaced numbers, the 6th and the 96th are the two percentiles
    for (low, high), expected in zip([(0, 10), (0, 10), (-5, 400)], [1, 1, 4.24701], strict=True):
        step = (high - low) / 90
        returns = low + step * (torch.arange(101.0) - 5)
        assert scale(returns[torch.randperm(101)]).item() == pytest.approx(expected, abs=2e-6)


def test_percentiles_are_linearly_interpolated_over_all_entries():
    x = torch.randn(7, 11)
    for q in (0.0, 0.05, 0.5, 0.95, 1.0):
        assert quantile(x, q).item() == pytest.approx(np.percentile(array(x), 100 * q), abs=1e-6)
    assert quantile(torch.tensor([3.0]), 0.95).item() == 3


def test_small_returns_are_not_blown_up():
    scale = ReturnScale()
    assert [scale(1e-3 * torch.randn(50)).item() for _ in range(3)] == [1.0] * 3


def test_after_many_updates_the_scale_is_the_range_of_the_returns():
    scale, returns = ReturnScale(), 100 * torch.randn(64)
    for _ in range(1500):
        found = scale(returns)
    low, high = np.percentile(array(returns), [5, 95])
    assert found.item() == pytest.approx(high - low, rel=1e-3)


def test_the_scale_is_part_of_the_checkpoint():
    scale, copy = ReturnScale(), ReturnScale()
    for _ in range(50):
        scale(100 * torch.randn(64))
    copy.load_state_dict(scale.state_dict())
    returns = torch.randn(64)
    assert copy(returns) == scale(returns) > 1


# ---------------------------------------------------------------- weights and actor loss


def test_dream_weights_multiply_the_continues_the_start_included():
    continues = torch.rand(4, 6)
    weights = dream_weights(continues)
    expected = np.stack([array(continues)[:, : t + 1].prod(1) for t in range(5)], 1)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_a_dream_that_starts_at_a_terminal_state_has_no_weight():
    continues = torch.ones(1, 4)
    continues[0, 0] = 0
    assert not dream_weights(continues).any()


def test_actor_loss_is_weighted_reinforce_with_an_entropy_bonus():
    logits, action = torch.randn(3, 4, 5), torch.eye(5)[torch.randint(0, 5, (3, 4))]
    advantage, weight = torch.randn(3, 4), torch.rand(3, 4)
    p = 0.99 * np_softmax(array(logits)) + 0.002
    score = np.log((p * array(action)).sum(-1)) * array(advantage)
    expected = -array(weight) * (score - 0.7 * (p * np.log(p)).sum(-1))
    found = actor_loss(DiscretePolicy(logits), action, advantage, weight, 0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_expected_reinforce_gradient_is_the_gradient_of_the_expected_advantage():
    logits, gain = torch.randn(4, requires_grad=True), torch.tensor([1.0, -2.0, 0.5, 3.0])
    policy = DiscretePolicy(logits.expand(1, 4, 4))
    every = torch.eye(4).unsqueeze(0)
    loss = actor_loss(policy, every, gain.unsqueeze(0), torch.ones(1, 4), 0.0)
    probs = DiscretePolicy(logits).probs
    (found,) = torch.autograd.grad((probs.detach() * loss[0]).sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-(probs * gain).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_only_the_policy_gets_a_gradient_from_the_actor_loss():
    raw = [torch.randn(2, 3, 2, requires_grad=True) for _ in range(2)]
    data = [torch.randn(s, requires_grad=True) for s in ((2, 3, 2), (2, 3), (2, 3))]
    actor_loss(NormalPolicy(*raw), *data, 0.1).sum().backward()
    assert all(x.grad.any() for x in raw)
    assert all(x.grad is None for x in data)


# ---------------------------------------------------------------- networks


def test_discrete_actor_has_three_layers_and_a_small_output():
    actor, x = Actor(FEATURE, BUTTONS, MINI), torch.randn(50, FEATURE)
    assert len(actor.mlp) == 3
    assert (actor(x).probs - 1 / 3).abs().max() < 0.02
    shake(actor)
    logits = np_head(array(x), actor)
    np.testing.assert_allclose(array(actor(x).logits), logits, atol=1e-4)


def test_continuous_actor_has_two_small_outputs_on_one_trunk():
    actor, x = Actor(FEATURE, STICKS, MINI), torch.randn(50, FEATURE)
    fresh = actor(x)
    assert fresh.mean.abs().max() < 0.1
    torch.testing.assert_close(fresh.std, torch.full((50, 2), 0.8927), atol=0.01, rtol=0)
    shake(actor)
    hidden, policy = array(x), actor(x)
    for layer in actor.mlp:
        hidden = np_nln(hidden, layer)
    mean = np.tanh(np_linear(hidden, actor.out))
    std = 0.9 / (1 + np.exp(-np_linear(hidden, actor.out_std) - 2)) + 0.1
    np.testing.assert_allclose(array(policy.mean), mean, atol=1e-4)
    np.testing.assert_allclose(array(policy.std), std, atol=1e-4)


def test_output_layers_are_initialised_at_a_hundredth():
    config = preset("size12m")
    for actor in (Actor(100, BUTTONS, config), Actor(100, STICKS, config)):
        for name, layer in actor.named_children():
            if name != "mlp":
                expected = 0.01 * config.units**-0.5
                assert layer.weight.std().item() == pytest.approx(expected, rel=0.15)
                assert not layer.bias.any()


def test_a_fresh_critic_says_zero():
    critic = Critic(FEATURE, MINI)
    assert len(critic.fast.mlp) == 3
    assert critic.mean(critic(100 * torch.randn(20, FEATURE))).tolist() == [0.0] * 20


def test_the_slow_critic_starts_as_a_copy_and_is_frozen():
    critic = Critic(FEATURE, MINI)
    fast, slow = critic.fast.state_dict(), critic.slow.state_dict()
    assert fast.keys() == slow.keys()
    assert all(torch.equal(fast[k], slow[k]) for k in fast)
    assert not any(p.requires_grad for p in critic.slow.parameters())
    assert all(a is not b for a in critic.fast.parameters() for b in critic.slow.parameters())


def test_the_slow_critic_moves_two_percent_of_the_way():
    critic = Critic(FEATURE, MINI)
    old = [p.clone() for p in critic.slow.parameters()]
    shake(critic.fast)
    fast = [p.detach().clone() for p in critic.fast.parameters()]
    critic.update_slow()
    for before, target, after in zip(old, fast, critic.slow.parameters(), strict=True):
        torch.testing.assert_close(after, 0.98 * before + 0.02 * target)
    assert all(torch.equal(a, b) for a, b in zip(fast, critic.fast.parameters(), strict=True))


def test_critic_loss_is_cross_entropy_to_the_return_and_to_the_slow_critics_mean():
    critic, x = Critic(FEATURE, MINI), torch.randn(6, 4, FEATURE)
    shake(critic.fast, seed=1), shake(critic.slow, seed=2)
    with torch.no_grad():
        critic.slow.out.bias.sub_(torch.linspace(-20, 20, MINI.bins).abs())
    returns, bins = 10 * torch.randn(6, 3), array(critic.bins)  # the last state has none
    slow = (np_softmax(np_head(array(x), critic.slow)) * bins).sum(-1)[:, :-1]
    logp = np.log(np_softmax(np_head(array(x), critic.fast)))[:, :-1]
    target = np_twohot(array(returns), bins) + np_twohot(slow, bins)
    found = critic.loss(critic(x), x, returns)
    np.testing.assert_allclose(array(found), -(target * logp).sum(-1), rtol=1e-4)


def test_critic_loss_trains_the_fast_critic_only():
    critic, x = Critic(FEATURE, MINI), torch.randn(6, 4, FEATURE)
    shake(critic)
    returns = torch.randn(6, 3, requires_grad=True)
    critic.loss(critic(x), x, returns).sum().backward()
    assert all(p.grad.any() for p in critic.fast.parameters())
    assert all(p.grad is None for p in critic.slow.parameters())
    assert returns.grad is None
