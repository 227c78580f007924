import numpy as np
import pytest
import torch
from conftest import (
    MINI,
    array,
    np_blocks,
    np_linear,
    np_nln,
    np_sigmoid,
    np_silu_norm,
    np_unimix,
    pick_argmax,
    shake,
)

from wmlib.rssm import RSSM, RecurrentCore, State

EMBED, ACTIONS, G = 10, 3, MINI.blocks
FLAT = MINI.stoch * MINI.classes


@pytest.fixture
def rssm():
    model = shake(RSSM(EMBED, ACTIONS, MINI))
    with torch.no_grad():  # clear-cut classes: float32 and float64 take the same ones
        model.posterior_net[-1].weight.mul_(5)
        model.prior_net[-1].weight.mul_(5)
    return model


def rows(batch=3, steps=7):
    embed, action = torch.randn(batch, steps, EMBED), 2 * torch.randn(batch, steps, ACTIONS)
    is_first = torch.zeros(batch, steps, dtype=torch.bool)
    is_first[[0, 1, 2], [0, 3, 6]] = True
    return embed, action, is_first


def some_state(batch=3):
    z = pick_argmax(torch.randn(batch, MINI.stoch, MINI.classes))
    return State(torch.randn(batch, MINI.deter), z)


# ---------------------------------------------------------------- NumPy, from the formulas


def np_core(core, h, z, action):
    """One step of the block GRU."""
    action = action / np.maximum(1, np.abs(action))
    x = [np_nln(h, core.from_h), np_nln(z, core.from_z), np_nln(action, core.from_a)]
    old = np.split(h, G, -1)
    mixed = np_blocks([np.concatenate([block, *x], -1) for block in old], core.mix)
    y = np.split(np_silu_norm(np.concatenate(mixed, -1), core.norm), G, -1)
    new = []
    for block, gates in zip(old, np_blocks(y, core.gates), strict=True):
        reset, candidate, update = np.split(gates, 3, -1)
        candidate = np.tanh(np_sigmoid(reset) * candidate)
        update = np_sigmoid(update - 1)
        new.append(update * candidate + (1 - update) * block)
    return np.concatenate(new, -1)


def np_prior(rssm, h):
    x = np_linear(np_nln(np_nln(h, rssm.prior_net[0]), rssm.prior_net[1]), rssm.prior_net[2])
    return np_unimix(x.reshape(*h.shape[:-1], MINI.stoch, MINI.classes))


def np_posterior(rssm, h, embed):
    x = np_nln(np.concatenate([h, embed], -1), rssm.posterior_net[0])
    x = np_linear(x, rssm.posterior_net[1])
    return np_unimix(x.reshape(*h.shape[:-1], MINI.stoch, MINI.classes))


# ---------------------------------------------------------------- recurrent core


def test_gru_cell_fixture():
    core = RecurrentCore(deter=8, stoch=6, actions=2, hidden=4, blocks=2)
    with torch.no_grad():
        core.gates.weight.zero_()
        core.gates.bias.copy_(torch.tensor([0.5, 1.0, 0.2]).repeat_interleave(4).expand(2, 12))
    h = core(torch.full((1, 8), 0.3), torch.zeros(1, 6), torch.zeros(1, 4))
    torch.testing.assert_close(h, torch.full((1, 8), 0.378386243), atol=1e-6, rtol=0)


def test_the_core_remembers_by_default():
    core = RecurrentCore(deter=8, stoch=6, actions=2, hidden=4, blocks=2)
    with torch.no_grad():
        core.gates.weight.zero_()
    h = core(torch.ones(1, 8), torch.zeros(1, 6), torch.zeros(1, 4))  # candidate 0
    torch.testing.assert_close(h, torch.full((1, 8), 1 - 0.2689414), atol=1e-6, rtol=0)


def test_one_core_step_equals_the_formulas(rssm):
    h, z, action = some_state(5).h, some_state(5).z.flatten(-2), 3 * torch.randn(5, ACTIONS)
    found = rssm.core(h, z, rssm.core.embed_action(action))
    expected = np_core(rssm.core, array(h), array(z), array(action))
    np.testing.assert_allclose(array(found), expected, atol=5e-6)


def test_the_gradient_of_a_core_step_is_the_derivative_of_the_formulas(rssm):
    core, state = rssm.core, some_state(4)
    inputs = [state.h, torch.rand(4, FLAT), 0.9 * torch.rand(4, ACTIONS)]
    weight, tensors = torch.randn(4, MINI.deter), [*inputs, *core.parameters()]
    h, z, action = (x.requires_grad_() for x in inputs)
    found = torch.autograd.grad((weight * core(h, z, core.embed_action(action))).sum(), tensors)
    for tensor, gradient in zip(tensors, found, strict=True):
        direction, values = torch.randn(tensor.shape), []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(direction, alpha=sign * 2e-3)
                values.append((array(weight) * np_core(core, *map(array, inputs))).sum())
                tensor.sub_(direction, alpha=sign * 2e-3)
        slope = (values[0] - values[1]) / 4e-3
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=5e-3, abs=5e-3)


def test_gates_are_split_within_each_block():
    core = shake(RecurrentCore(deter=8, stoch=6, actions=2, hidden=4, blocks=2))
    h, token, z = torch.zeros(1, 8), torch.randn(1, 4), torch.randn(1, 6)
    before = core(h, z, token)
    with torch.no_grad():
        core.gates.bias[0] += 1  # the first block's reset, candidate and update
    changed = (core(h, z, token) != before)[0].tolist()
    assert changed == [True] * 4 + [False] * 4


def test_large_actions_are_scaled_to_one_element_by_element_and_small_ones_kept(rssm):
    embed = rssm.core.embed_action
    torch.testing.assert_close(
        embed(torch.tensor([[5.0, -0.3, -40.0]])), embed(torch.tensor([[1.0, -0.3, -1.0]]))
    )
    assert not torch.allclose(embed(torch.full((1, 3), 0.5)), embed(torch.ones(1, 3)))


def test_the_action_scale_has_no_gradient(rssm):
    action = torch.tensor([[5.0, 0.5, 2.0]], requires_grad=True)
    layer = rssm.core.from_a
    small = (action / torch.tensor([[5.0, 1.0, 2.0]])).detach().requires_grad_()
    (found,) = torch.autograd.grad(rssm.core.embed_action(action).sum(), action)
    (expected,) = torch.autograd.grad(layer(small).sum(), small)
    torch.testing.assert_close(found, expected / torch.tensor([[5.0, 1.0, 2.0]]))


# ---------------------------------------------------------------- prior and posterior


def test_prior_is_two_nln_and_a_linear_map_with_unimix(rssm):
    h = torch.randn(4, 2, MINI.deter)
    np.testing.assert_allclose(array(rssm.prior(h)), np_prior(rssm, array(h)), atol=1e-5)


def test_posterior_is_one_nln_of_h_and_e_with_unimix(rssm):
    h, embed = torch.randn(4, 2, MINI.deter), torch.randn(4, 2, EMBED)
    expected = np_posterior(rssm, array(h), array(embed))
    np.testing.assert_allclose(array(rssm.posterior(h, embed)), expected, atol=1e-5)


def test_temperature_divides_the_logits_before_unimix(rssm):
    h = torch.randn(4, MINI.deter)
    logits = array(rssm.prior_net(h)).reshape(4, MINI.stoch, MINI.classes)
    for temperature in (0.3, 1.0, 4.0):
        found = array(rssm.prior(h, temperature))
        np.testing.assert_allclose(found, np_unimix(logits / temperature), atol=1e-5)
    assert rssm.prior(h, 1e-3).min().item() == pytest.approx(0.01 / MINI.classes, rel=1e-3)


def test_feature_is_h_then_flat_z():
    state = some_state()
    assert torch.equal(state.feature[:, : MINI.deter], state.h)
    assert torch.equal(state.feature[:, MINI.deter :], state.z.reshape(3, FLAT))


def test_the_initial_state_is_zero(rssm):
    state = rssm.initial(2)
    assert state.h.shape == (2, MINI.deter) and state.z.shape == (2, MINI.stoch, MINI.classes)
    assert not state.h.any() and not state.z.any()


# ---------------------------------------------------------------- following rows


@pytest.mark.parametrize("stored", [False, True], ids=["zero start", "stored start"])
def test_observe_equals_a_numpy_loop(rssm, argmax_sampling, stored):
    embed, action, is_first = rows()
    start = some_state() if stored else None
    seen = rssm.observe(embed, action, is_first, start)
    state = start or rssm.initial(3)
    h, z = array(state.h), array(state.z).reshape(3, FLAT)
    for t in range(embed.shape[1]):
        keep = 1 - array(is_first[:, t, None])
        h = np_core(rssm.core, h * keep, z * keep, array(action[:, t]) * keep)
        post = np_posterior(rssm, h, array(embed[:, t]))
        onehot = np.eye(MINI.classes)[post.argmax(-1)]
        z = onehot.reshape(3, FLAT)
        np.testing.assert_allclose(array(seen.state.h[:, t]), h, atol=2e-5)
        np.testing.assert_allclose(array(seen.posterior[:, t]), post, atol=1e-4)
        np.testing.assert_allclose(array(seen.prior[:, t]), np_prior(rssm, h), atol=1e-4)
        np.testing.assert_array_equal(array(seen.state.z[:, t]), onehot)


def test_observe_equals_step_by_step_use_of_core_and_posterior(rssm, argmax_sampling):
    embed, action, is_first = rows()
    seen = rssm.observe(embed, action, is_first)
    h, z = rssm.initial(3)
    for t in range(embed.shape[1]):
        keep = ~is_first[:, t, None]
        token = rssm.core.embed_action(action[:, t] * keep)
        h = rssm.core(h * keep, z.flatten(-2) * keep, token)
        z = pick_argmax(rssm.posterior(h, embed[:, t]))
        torch.testing.assert_close(seen.state.h[:, t], h, atol=1e-5, rtol=1e-4)
        assert torch.equal(seen.state.z[:, t].detach(), z)


def test_a_reset_inside_the_window_forgets_h_z_and_the_action(rssm, argmax_sampling):
    embed, action, is_first = rows()
    one = rssm.observe(embed[1:2], action[1:2], is_first[1:2], some_state(1))
    fresh = rssm.observe(embed[1:2, 3:], action[1:2, 3:] * 0, is_first[1:2, 3:] * False)
    torch.testing.assert_close(one.state.h[:, 3:4], fresh.state.h[:, :1], atol=1e-6, rtol=1e-5)
    other = action[1:2].clone()
    other[:, 3] += 1
    again = rssm.observe(embed[1:2], other, is_first[1:2], some_state(1))
    assert torch.equal(again.state.h[:, 3], one.state.h[:, 3])


def test_the_one_hot_action_of_index_0_is_not_the_reset_action(rssm, argmax_sampling):
    embed, action, never = torch.randn(1, 1, EMBED), torch.zeros(1, 1, ACTIONS), torch.zeros(1, 1)
    nothing = rssm.observe(embed, action, never).state.h
    action[..., 0] = 1
    assert (rssm.observe(embed, action, never).state.h - nothing).abs().max() > 1e-2
    assert torch.equal(rssm.observe(embed, action, never + 1).state.h, nothing)


def test_the_core_still_runs_on_the_first_row(rssm, argmax_sampling):
    embed, action, is_first = (part[:, :1] for part in rows())
    h = rssm.observe(embed, action, is_first | True, some_state()).state.h[:, 0]
    zeros = np.zeros((3, MINI.deter)), np.zeros((3, FLAT)), np.zeros((3, ACTIONS))
    np.testing.assert_allclose(array(h), np_core(rssm.core, *zeros), atol=1e-5)
    assert h.abs().max() > 1e-2


def test_a_state_depends_on_earlier_rows_only(rssm, argmax_sampling):
    embed, action, is_first = rows()
    before = rssm.observe(embed, action, is_first).state
    embed[:, 5] += 3
    action[:, 5] += 3
    after = rssm.observe(embed, action, is_first).state
    assert torch.equal(before.h[:, :5], after.h[:, :5])
    assert not torch.equal(before.h[:, 5], after.h[:, 5])
    embed[:, 5] += 3
    last = rssm.observe(embed, action, is_first).state  # e_t enters z_t, and h only from t + 1 on
    assert torch.equal(last.h[:, 5], after.h[:, 5])


def test_windows_do_not_touch_each_other(rssm, argmax_sampling):
    embed, action, is_first = rows()
    together = rssm.observe(embed, action, is_first).state.h
    for b in range(3):
        alone = rssm.observe(embed[b : b + 1], action[b : b + 1], is_first[b : b + 1]).state.h
        torch.testing.assert_close(alone[0], together[b], atol=1e-5, rtol=1e-4)


def test_observed_latents_are_one_hot_with_the_gradient_of_the_posterior(rssm):
    embed, action, is_first = rows()
    seen = rssm.observe(embed.requires_grad_(), action, is_first)
    assert torch.equal(seen.state.z.detach().sum(-1), torch.ones(3, 7, MINI.stoch))
    assert set(seen.state.z.unique().tolist()) == {0.0, 1.0}
    weight = torch.randn(3, MINI.stoch, MINI.classes)
    (found,) = torch.autograd.grad((weight * seen.state.z[:, -1]).sum(), embed, retain_graph=True)
    (expected,) = torch.autograd.grad((weight * seen.posterior[:, -1]).sum(), embed)
    torch.testing.assert_close(found, expected)
    assert found[:, -1].abs().max() > 0


def test_observed_latents_are_drawn_from_the_posterior(rssm):
    embed, action = torch.randn(1, 1, EMBED), torch.randn(1, 1, ACTIONS)
    many = [x.expand(20_000, 1, -1) for x in (embed, action)]
    with torch.no_grad():
        seen = rssm.observe(*many, torch.zeros(20_000, 1))
    mean = seen.state.z.mean(0)
    torch.testing.assert_close(mean, seen.posterior[0], atol=0.015, rtol=0)


# ---------------------------------------------------------------- dreaming


def test_a_dreamt_step_is_the_core_and_a_draw_from_the_prior(rssm, argmax_sampling):
    state, action = some_state(), torch.randn(3, ACTIONS)
    after = rssm.step(state, action)
    h = np_core(rssm.core, array(state.h), array(state.z).reshape(3, FLAT), array(action))
    np.testing.assert_allclose(array(after.h), h, atol=1e-5)
    np.testing.assert_array_equal(array(after.z).argmax(-1), np_prior(rssm, h).argmax(-1))


def test_dreamt_latents_are_drawn_from_the_prior(rssm):
    state = some_state(1)
    many = State(*(part.expand(20_000, *part.shape[1:]) for part in state))
    action = torch.randn(1, ACTIONS).expand(20_000, -1)
    with torch.no_grad():
        after = rssm.step(many, action, temperature=2.0)
        expected = rssm.prior(after.h[0], 2.0)
    torch.testing.assert_close(after.z.mean(0), expected, atol=0.015, rtol=0)
