import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import (
    BUTTONS,
    IMAGE,
    MINI,
    STICKS,
    SYMBOL,
    VECTOR,
    array,
    make_sample,
    np_head,
    np_nln,
    np_sigmoid,
    np_softmax,
    np_twohot,
    np_unimix,
    pick_argmax,
    randomise,
)

import wmlib.actor_critic
import wmlib.agent
import wmlib.distributions
import wmlib.losses
import wmlib.rssm
import wmlib.world_model
from wmlib.actor_critic import Critic, ReturnScale
from wmlib.agent import Dreamer
from wmlib.config import preset
from wmlib.distributions import DiscretePolicy, kl_divergence, straight_through, symlog
from wmlib.errors import BadInput
from wmlib.nets import Head
from wmlib.rssm import RSSM, Observed, State
from wmlib.spaces import action_size, encode_action
from wmlib.world_model import WorldModel

WORLDS = {
    "vector, buttons": (VECTOR, BUTTONS, {}),
    "vector, sticks": (VECTOR, STICKS, {}),
    "pooled image": (IMAGE, BUTTONS, {}),
    "strided image": (IMAGE, STICKS, {"coder": "strided"}),
    "strided image in nats": (IMAGE, BUTTONS, {"coder": "strided", "likelihood": "bernoulli"}),
    "symbol": (SYMBOL, BUTTONS, {}),
}
every_world = pytest.mark.parametrize("world", WORLDS)


def build(world="vector, buttons", steps=8, **changes):
    """An agent for a small world, and a batch of its random rows."""
    obs, act, more = WORLDS[world]
    torch.manual_seed(0)
    agent = Dreamer(obs, act, MINI.replace(**more, **changes))
    batch, start = agent.tensors(make_sample(obs, act, steps=steps))
    assert start is None
    return agent, batch


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, module):
    """Names of the parameters and buffers that are no longer the same."""
    now = module.state_dict()
    return [name for name, value in before.items() if not torch.equal(value, now[name])]


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    "name, obs, actions, expected",
    [
        ("size1m", (24,), 6, 640_867),
        ("size1m", (4,), 2, 637_381),
        ("size12m", (4,), 2, 9_724_165),
        ("size1m", (64, 64, 3), 17, 687_875),
        ("size12m", (64, 64, 3), 17, 10_498_259),
    ],
)
def test_parameter_count_fixture(name, obs, actions, expected):
    act = gym.spaces.Box(-1, 1, (6,)) if actions == 6 else gym.spaces.Discrete(actions)
    space = gym.spaces.Box(0, 255, obs, np.uint8 if len(obs) == 3 else np.float32)
    with torch.device("meta"):
        agent = Dreamer(space, act, preset(name))
    count = sum(p.numel() for p in agent.parameters() if p.requires_grad)
    assert count == expected == sum(agent.summary().values())
    groups = agent.optimizer.param_groups
    assert sum(p.numel() for group in groups for p in group["params"]) == expected
    if actions == 6:
        parts = [10_112, 364_416, 51_096, 57_663, 41_153, 50_316, 66_111]
        assert list(agent.summary().values()) == parts


# ---------------------------------------------------------------- rows and losses of the model


def test_the_losses_of_the_world_model_equal_the_formulas():
    agent, batch = build()
    randomise(agent)
    seen = agent.world.observe(batch)
    losses = agent.world.losses(batch, seen)
    feature, bins = array(seen.state.feature), array(agent.world.bins)
    h, z = array(seen.state.h), array(seen.state.z.flatten(-2))
    drawn = np_head(np.concatenate([z, h], -1), agent.world.decoder)
    target = np.sign(array(batch["obs"])) * np.log1p(np.abs(array(batch["obs"])))
    logp = np.log(np_softmax(np_head(feature, agent.world.reward_head)))
    alive = np_sigmoid(np_head(feature, agent.world.continue_head)[..., 0])
    goal = (1 - array(batch["is_terminal"])) * (1 - 1 / 333)
    q, p = array(seen.posterior), array(seen.prior)
    kl = np.maximum(1, (q * np.log(q / p)).sum((-2, -1)))
    expected = {
        "rec": ((drawn - target) ** 2).sum(-1),
        "rew": -(np_twohot(array(batch["reward"]), bins) * logp).sum(-1),
        "con": -goal * np.log(alive) - (1 - goal) * np.log(1 - alive),
        "dyn": kl,
        "rep": kl,
    }
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        np.testing.assert_allclose(array(loss), expected[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_the_total_weighs_the_losses_as_the_paper_does():
    agent, _ = build()
    ones = dict.fromkeys(("rec", "rew", "con", "policy", "value", "dyn"), 1.0)
    assert agent.scales() == ones | {"rep": 0.1, "repval": 0.3}
    for loss, scale in (("dyn_scale", "dyn"), ("rep_scale", "rep")):
        assert build(**{loss: 0.7})[0].scales()[scale] == 0.7


def test_every_loss_has_a_scale_and_every_scale_a_loss():
    agent, batch = build()
    assert agent.losses(batch)[0].keys() == agent.scales().keys()


def test_the_metric_kl_is_the_exact_one_before_free_nats():
    agent, batch = build(free_nats=100.0)
    torch.manual_seed(0)
    seen = agent.world.observe(batch)
    q, p = array(seen.posterior), array(seen.prior)
    expected = (q * np.log(q / p)).sum((-2, -1)).mean()
    torch.manual_seed(0)
    losses, metrics, _ = agent.losses(batch)
    assert metrics["kl"].item() == pytest.approx(expected, rel=1e-4)
    assert losses["dyn"].min() == 100


def test_stored_latents_start_the_window():
    agent, _ = build()
    sample = make_sample(VECTOR, BUTTONS)
    sample["is_first"][:2, 0] = False
    rng = np.random.default_rng(1)
    sample["deter"] = rng.normal(size=(4, MINI.deter)).astype(np.float16)
    sample["stoch"] = rng.integers(0, MINI.classes, (4, MINI.stoch)).astype(np.uint8)
    sample["index"] = np.arange(4)
    batch, start = agent.tensors(sample)
    assert not {"deter", "stoch", "index"} & batch.keys()
    assert start.h.dtype == start.z.dtype == torch.float32
    np.testing.assert_array_equal(array(start.z).argmax(-1), sample["stoch"])
    with_it, without = (agent.world.observe(batch, s).state.h[:, 0] for s in (start, None))
    assert (with_it - without).abs().amax(-1).gt(1e-3).tolist() == [True, True, False, False]


def test_actions_enter_as_one_hot_or_as_they_are():
    assert torch.equal(encode_action(torch.tensor([2, 0]), BUTTONS), torch.eye(3)[[2, 0]])
    action = torch.tensor([[3.0, -0.2]])
    assert torch.equal(encode_action(action, STICKS), action)
    assert (action_size(BUTTONS), action_size(STICKS)) == (3, 2)
    with pytest.raises(BadInput, match="Actions must be"):
        action_size(gym.spaces.Text(3))


# ---------------------------------------------------------------- behaviour, recomputed in NumPy


def np_lambda_return(reward, boot, live, cont):
    """R_t = r' + live'((1 - cont') boot' + cont' R'), where ' is the arrival state."""
    later, result = boot[:, -1], []
    for t in range(reward.shape[1] - 1, 0, -1):
        blend = (1 - cont[:, t]) * boot[:, t] + cont[:, t] * later
        later = reward[:, t] + live[:, t] * blend
        result.insert(0, later)
    return np.stack(result, 1)


def np_policy(agent, feature, action):
    """log-probability of the actions and entropy of the policy at the features."""
    if agent.actor.discrete:
        p = np_unimix(np_head(feature, agent.actor))
        return np.log((p * action).sum(-1)), -(p * np.log(p)).sum(-1)
    for layer in agent.actor.mlp:
        feature = np_nln(feature, layer)
    out = [
        feature @ array(x.weight).T + array(x.bias) for x in (agent.actor.out, agent.actor.out_std)
    ]
    mean, std = np.tanh(out[0]), 0.9 * np_sigmoid(out[1] + 2) + 0.1
    log_density = -(((action - mean) / std) ** 2) / 2 - np.log(std * np.sqrt(2 * np.pi))
    return log_density.sum(-1), np.log(std * np.sqrt(2 * np.pi * np.e)).sum(-1)


def np_behaviour(agent, batch, seen, dream, low, high):
    """The three behaviour losses, from the states, the dream and the networks' outputs alone."""
    bins, c = array(agent.world.bins), agent.config
    feature, action = array(dream.state.feature), array(dream.action)

    def mean(head, x):
        return (np_softmax(np_head(x, head)) * bins).sum(-1)

    def critic_loss(x, returns):
        logp = np.log(np_softmax(np_head(x, agent.critic.fast)))
        target = np_twohot(returns, bins) + np_twohot(mean(agent.critic.slow, x), bins)
        return -(target * logp).sum(-1)

    reward, value = mean(agent.world.reward_head, feature), mean(agent.critic.fast, feature)
    alive = np_sigmoid(np_head(feature, agent.world.continue_head)[..., 0])
    returns = np_lambda_return(reward, value, alive, np.full_like(alive, 0.95))
    weight = np.cumprod(alive, 1)[:, :-1]
    low = 0.99 * low + 0.01 * np.percentile(returns, 5)
    high = 0.99 * high + 0.01 * np.percentile(returns, 95)
    advantage = (returns - value[:, :-1]) / max(1, high - low)
    logp, entropy = np_policy(agent, feature[:, :-1], action)

    rows = batch["reward"].shape[0]
    boot = returns[:, 0].reshape(rows, -1)
    k = boot.shape[1]
    reward, terminal, last = (array(batch[n])[:, -k:] for n in ("reward", "is_terminal", "is_last"))
    real = np_lambda_return(reward, boot, (1 - terminal) * 0.996997, (1 - last) * 0.95)
    kept = array(seen.state.feature)[:, -k:][:, :-1]
    return {
        "policy": -weight * (logp * advantage + c.entropy_scale * entropy),
        "value": weight * critic_loss(feature[:, :-1], returns),
        "repval": (1 - last[:, :-1]) * critic_loss(kept, real),
    }


def check_behaviour(world="vector, buttons", **changes):
    """The behaviour losses of the agent equal those computed from the formulas."""
    agent, batch = build(world, **changes)
    randomise(agent)
    agent.critic.slow.load_state_dict(
        randomise(build(world, **changes)[0], 1).critic.slow.state_dict()
    )
    agent.return_scale.low.fill_(-2)
    agent.return_scale.high.fill_(3)
    dreams, imagine = [], agent.world.imagine
    agent.world.imagine = lambda *args: dreams.append(imagine(*args)) or dreams[-1]
    seen = agent.world.observe(batch)
    found, metrics = agent.behaviour_losses(batch, seen)
    expected = np_behaviour(agent, batch, seen, dreams[0], -2.0, 3.0)
    assert metrics["return_scale"] > 1
    for name, loss in found.items():
        np.testing.assert_allclose(array(loss), expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("world", ["vector, buttons", "vector, sticks"])
@pytest.mark.parametrize("last", [0, 3])
def test_behaviour_losses_equal_the_formulas(world, last):
    check_behaviour(world, imagine_last=last)


@pytest.mark.parametrize("last, starts", [(0, 32), (3, 12), (100, 32)])
def test_dreams_start_from_the_last_k_posterior_states_of_each_window(last, starts):
    agent, batch = build(imagine_last=last)
    dreams, imagine = [], agent.world.imagine
    agent.world.imagine = lambda *args: dreams.append(imagine(*args)) or dreams[-1]
    seen = agent.world.observe(batch)
    losses, _ = agent.behaviour_losses(batch, seen)
    first, k = dreams[0].state, starts // 4
    assert torch.equal(first.h[:, 0], seen.state.h[:, -k:].flatten(0, 1))
    assert torch.equal(first.z[:, 0], seen.state.z[:, -k:].flatten(0, 1))
    assert losses["policy"].shape == losses["value"].shape == (starts, MINI.horizon)
    assert losses["repval"].shape == (4, k - 1)


def test_the_last_row_of_an_episode_carries_no_replay_value_loss():
    agent, batch = build()
    loss = agent.losses(batch)[0]["repval"]
    assert torch.equal(loss == 0, batch["is_last"][:, :-1])


def test_a_dream_continues_its_start_step_by_step(argmax_sampling):
    agent, batch = build()
    randomise(agent)
    seen = agent.world.observe(batch).state.detach()
    start = State(seen.h[:, -1], seen.z[:, -1])
    dream = agent.world.imagine(lambda x: agent.actor(x).sample(), start, 3)
    state = start
    for t in range(3):
        action = pick_argmax(agent.actor(state.feature).probs)
        assert torch.equal(dream.action[:, t], action)
        h = agent.world.rssm.core(
            state.h, state.z.flatten(-2), agent.world.rssm.core.embed_action(action)
        )
        state = State(h, pick_argmax(agent.world.rssm.prior(h)))
        torch.testing.assert_close(dream.state.h[:, t + 1], h)
        assert torch.equal(dream.state.z[:, t + 1], state.z)


@pytest.mark.parametrize("world", ["vector, buttons", "vector, sticks"])
def test_rewards_times_1000_leave_the_normalised_actor_gradient_unchanged(world, monkeypatch):
    agent, batch = build(world, entropy_scale=0.0)
    randomise(agent)
    agent.return_scale.rate = 1.0  # the running percentiles are those of this batch
    seen = agent.world.observe(batch)
    start = State(*(part.detach().flatten(0, 1) for part in seen.state))
    dream = agent.world.imagine(lambda x: agent.actor(x).sample(), start, 4)
    monkeypatch.setattr(agent.world, "imagine", lambda *_: dream)
    reward, mean, grads = agent.world.reward, agent.critic.mean, []
    for size in (10.0, 10_000.0):
        monkeypatch.setattr(agent.world, "reward", lambda x, s=size: s * reward(x))
        monkeypatch.setattr(agent.critic, "mean", lambda x, s=size: s * mean(x))
        losses, metrics = agent.behaviour_losses(batch, seen)
        assert metrics["return_scale"] > 1
        grads.append(torch.autograd.grad(losses["policy"].mean(), list(agent.actor.parameters())))
    assert max(g.abs().max() for g in grads[0]) > 1e-4
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


# ---------------------------------------------------------------- gradient routing


def parts(agent):
    world = agent.world
    return {
        "encoder": world.encoder,
        "core": world.rssm.core,
        "posterior": world.rssm.posterior_net,
        "prior": world.rssm.prior_net,
        "decoder": world.decoder,
        "reward": world.reward_head,
        "continue": world.continue_head,
        "actor": agent.actor,
        "critic": agent.critic.fast,
        "slow": agent.critic.slow,
    }


ROUTES = {  # over time, dyn and rep reach the encoder through z_{t-1}
    "rec": {"encoder", "core", "posterior", "decoder"},
    "rew": {"encoder", "core", "posterior", "reward"},
    "con": {"encoder", "core", "posterior", "continue"},
    "dyn": {"encoder", "core", "posterior", "prior"},
    "rep": {"encoder", "core", "posterior"},
    "policy": {"actor"},
    "value": {"critic"},
    "repval": {"encoder", "core", "posterior", "critic"},
}


def reached(agent, loss):
    """Names of the parts that a loss sends a gradient into."""
    found = set()
    for name, module in parts(agent).items():
        params = [p.requires_grad_() for p in module.parameters()]
        grads = torch.autograd.grad(loss.mean(), params, retain_graph=True, allow_unused=True)
        if any(g is not None and g.any() for g in grads):
            found.add(name)
    return found


def check_routes(world="vector, buttons"):
    agent, batch = build(world)
    randomise(agent)
    agent.critic.slow.requires_grad_(True)  # even if it could be trained, nothing must reach it
    losses, metrics, _ = agent.losses(batch)
    assert metrics["kl"] > 1 and (losses["dyn"] > 1).all()
    assert {name: reached(agent, loss) for name, loss in losses.items()} == ROUTES


def check_kl_sides():
    """On one-step windows the dynamics loss ends at the prior, representation at the posterior."""
    agent, batch = build(steps=1)
    randomise(agent)
    losses = agent.losses(batch, behaviour=False)[0]
    assert (losses["dyn"] > 1).all()
    assert reached(agent, losses["dyn"]) == {"core", "prior"}
    assert reached(agent, losses["rep"]) == {"encoder", "core", "posterior"}


@pytest.mark.parametrize("world", ["vector, buttons", "vector, sticks", "pooled image", "symbol"])
def test_gradients_reach_exactly_the_parts_they_should(world):
    check_routes(world)


def test_the_two_kl_losses_end_on_their_own_side():
    check_kl_sides()


@every_world
def test_no_trainable_parameter_is_left_without_gradient(world):
    agent, batch = build(world)
    randomise(agent)
    sum(loss.mean() for loss in agent.losses(batch)[0].values()).backward()
    idle = [name for name, p in agent.named_parameters() if p.requires_grad and not p.grad.any()]
    assert idle == []


def test_a_dream_carries_no_gradient_even_if_its_start_does():
    agent, batch = build()
    seen = agent.world.observe(batch).state
    start = State(seen.h[:, -1], seen.z[:, -1])
    assert start.h.requires_grad
    dream = agent.world.imagine(lambda x: agent.actor(x).sample(), start, 3)
    assert not dream.state.h.requires_grad and not dream.state.z.requires_grad
    assert not dream.action.requires_grad


def test_the_states_handed_back_are_detached():
    agent, batch = build()
    _, state = agent.update(batch)
    assert state.h.shape == (4, 8, MINI.deter) and not state.h.requires_grad
    assert not state.z.requires_grad


# ---------------------------------------------------------------- fifteen mistakes


def check_rewards_stay_with_their_row():
    agent, batch = build()
    randomise(agent)
    seen = agent.world.observe(batch)
    before = agent.world.losses(batch, seen)["rew"]
    batch["reward"][:, 3] += 5
    moved = (agent.world.losses(batch, seen)["rew"] != before).any(0)
    assert moved.nonzero().flatten().tolist() == [3]


def check_the_action_before_the_row_is_fed():
    agent, batch = build(steps=4)

    def states(**change):
        torch.manual_seed(0)
        return agent.world.observe(batch | change).state.h

    assert torch.equal(states(action=batch["action"].roll(1, -1)), states())
    moved = (states(prev_action=batch["prev_action"].roll(1, -1)) != states()).any(-1)
    assert moved.tolist() == [[False, True, True, True]] * 4


def check_the_row_of_a_reset_knows_nothing_of_the_past():
    agent, batch = build()
    h = agent.world.observe(batch).state.h
    core = agent.world.rssm.core
    nothing = core.embed_action(torch.zeros(1, 3))
    expected = core(torch.zeros(1, MINI.deter), torch.zeros(1, 15), nothing)
    for row, step in batch["is_first"].nonzero().tolist():
        torch.testing.assert_close(h[row, step], expected[0], atol=1e-5, rtol=1e-4)


def check_a_time_limit_is_no_termination():
    agent, batch = build()
    seen = agent.world.observe(batch)
    before = agent.world.losses(batch, seen)["con"]
    after = agent.world.losses(batch | {"is_last": ~batch["is_last"]}, seen)["con"]
    assert torch.equal(before, after)
    flipped = batch | {"is_terminal": ~batch["is_terminal"]}
    assert (agent.world.losses(flipped, seen)["con"] != before).all()
    check_behaviour()


def check_free_nats_clip_the_kl_of_each_step():
    agent, batch = build()
    for layer in (agent.world.rssm.prior_net[-1], agent.world.rssm.posterior_net[-1]):
        layer.weight.data.mul_(1.3)
    seen = agent.world.observe(batch)
    kl = kl_divergence(seen.posterior, seen.prior)
    assert kl.min() < 1 < kl.max()
    losses = agent.world.losses(batch, seen)
    for name in ("dyn", "rep"):
        torch.testing.assert_close(losses[name], kl.clamp(min=1))


def check_no_class_is_ever_ruled_out():
    agent, _ = build()
    logits = 1e4 * torch.randn(6, 15)
    assert agent.world.rssm.probs(logits).min().item() == pytest.approx(0.01 / 5, rel=1e-4)
    assert agent.actor(torch.randn(2, 47)).mix == 0.01


def check_twohot_weighs_by_distance_in_raw_space():
    bins = wmlib.distributions.symexp_bins()
    lower, weight = wmlib.distributions.twohot(torch.tensor(100.0), bins)
    assert (lower.item(), weight.item()) == (156, pytest.approx(0.289471, abs=2e-6))


def check_fresh_predictions_are_zero():
    agent, batch = build(bins=255)
    feature = agent.world.observe(batch).state.feature
    assert not agent.world.reward(feature).any()
    assert not agent.critic.mean(agent.critic(feature)).any()
    losses = agent.losses(batch)[0]
    assert losses["rew"].mean().item() == pytest.approx(5.541264, abs=5e-6)
    kept = losses["repval"][~batch["is_last"][:, :-1]]
    assert kept.mean().item() == pytest.approx(2 * 5.541264, abs=1e-5)


def check_the_checkpoint_remembers_the_scale_of_returns():
    agent, batch = build()
    agent.return_scale.low.fill_(-7)
    agent.return_scale.high.fill_(80)
    other = build()[0]
    other.load_state_dict(agent.state_dict())
    assert (other.return_scale.low, other.return_scale.high) == (-7, 80)


def observe_loop(reset_state, reset_action):
    """A step-by-step `RSSM.observe` that may forget to forget."""

    def observe(self, embed, action, is_first, start=None):
        h, z = start or self.initial(len(embed))
        states, posts = [], []
        for t in range(embed.shape[1]):
            keep = 1 - is_first[:, t, None].float()
            keep_state = keep if reset_state else torch.ones_like(keep)
            token = self.core.embed_action(action[:, t] * (keep if reset_action else 1))
            h = self.core(h * keep_state, z.flatten(-2) * keep_state, token)
            posts.append(self.posterior(h, embed[:, t]))
            z = straight_through(wmlib.rssm.sample_onehot(posts[-1]), posts[-1])
            states.append(State(h, z))
        state = State(*(torch.stack(x, 1) for x in zip(*states, strict=True)))
        return Observed(state, torch.stack(posts, 1), self.prior(state.h))

    return observe


lambda_return = wmlib.losses.lambda_return
twohot_loss, twohot_mean = wmlib.distributions.twohot_loss, wmlib.distributions.twohot_mean
actor_loss, continues = wmlib.actor_critic.actor_loss, WorldModel.continues
critic_loss = Critic.loss
kl_balance, model_losses = wmlib.losses.kl_balance, WorldModel.losses


def late_reward_loss(logits, target, bins):
    return twohot_loss(logits, target.roll(-1, -1), bins)


def feed_the_next_action(self, batch, start=None):
    return self.rssm.observe(self.encoder(batch["obs"]), batch["action"], batch["is_first"], start)


def departure_value(reward, boot, *rest):
    return lambda_return(reward, torch.cat([boot[:, :1], boot[:, :-1]], 1), *rest)


def departure_reward(reward, *rest):
    return lambda_return(reward.roll(1, 1), *rest)


def score_at_the_outcome(policy, *rest):
    return actor_loss(DiscretePolicy(policy.logits.roll(-1, 1)), *rest)


def last_is_terminal(reward, boot, term, last, *rest):
    return lambda_return(reward, boot, torch.maximum(term, last), last, *rest)


def continue_learns_last(self, batch, seen):
    return model_losses(self, batch | {"is_terminal": batch["is_last"]}, seen)


def free_nats_per_latent(q, p, free=1.0):
    def clipped(q, p):
        return (q * (q / p).log()).sum(-1).clamp(min=free).sum(-1)

    return clipped(q.detach(), p), clipped(q, p.detach())


def free_nats_after_the_mean(q, p, free=1.0):
    dyn, rep = kl_balance(q, p, 0.0)
    return dyn.mean().clamp(min=free).expand_as(dyn), rep.mean().clamp(min=free).expand_as(rep)


def swapped_sides(*args):
    return kl_balance(*args)[::-1]


def twohot_in_symlog_space(x, bins):
    lower = (torch.searchsorted(bins, x, right=True) - 1).clamp(0, len(bins) - 2)
    left, right = symlog(bins[lower]), symlog(bins[lower + 1])
    return lower, (symlog(x) - left) / (right - left)


def naive_mean(logits, bins):
    return (logits.softmax(-1) * bins).sum(-1)


def ones_head(*args, outscale=1.0):
    return Head(*args)


class ForgetfulScale(ReturnScale):
    def __init__(self):
        super().__init__()
        self.register_buffer("low", torch.zeros(()), persistent=False)
        self.register_buffer("high", torch.zeros(()), persistent=False)


def double_discount(reward, boot, term, last, gamma, lam):
    return lambda_return(reward, boot, term, last, gamma * (1 - 1 / 333), lam)


def no_discount(self, feature):
    return continues(self, feature) / self.config.gamma


def trained_slow_critic(self, logits, feature, returns):
    return critic_loss(self, logits, feature, returns) + self.slow(feature).mean()


MISTAKES = [
    (
        "reward off by one",
        check_rewards_stay_with_their_row,
        "wmlib.world_model.twohot_loss",
        late_reward_loss,
    ),
    (
        "reward of the departure state",
        check_behaviour,
        "wmlib.actor_critic.lambda_return",
        departure_reward,
    ),
    (
        "a_t fed instead of a_{t-1}",
        check_the_action_before_the_row_is_fed,
        "wmlib.world_model.WorldModel.observe",
        feed_the_next_action,
    ),
    ("V(s_t) for V(s_{t+1})", check_behaviour, "wmlib.actor_critic.lambda_return", departure_value),
    (
        "log pi at the outcome state",
        check_behaviour,
        "wmlib.actor_critic.actor_loss",
        score_at_the_outcome,
    ),
    (
        "no reset inside a window",
        check_the_row_of_a_reset_knows_nothing_of_the_past,
        "wmlib.rssm.RSSM.observe",
        observe_loop(False, False),
    ),
    (
        "h and z reset but not the action",
        check_the_row_of_a_reset_knows_nothing_of_the_past,
        "wmlib.rssm.RSSM.observe",
        observe_loop(True, False),
    ),
    (
        "the action reset but not h and z",
        check_the_row_of_a_reset_knows_nothing_of_the_past,
        "wmlib.rssm.RSSM.observe",
        observe_loop(False, True),
    ),
    (
        "terminated = truncated in the return",
        check_a_time_limit_is_no_termination,
        "wmlib.actor_critic.lambda_return",
        last_is_terminal,
    ),
    (
        "terminated = truncated in the continue head",
        check_a_time_limit_is_no_termination,
        "wmlib.world_model.WorldModel.losses",
        continue_learns_last,
    ),
    (
        "free nats per latent",
        check_free_nats_clip_the_kl_of_each_step,
        "wmlib.world_model.kl_balance",
        free_nats_per_latent,
    ),
    (
        "free nats after the mean",
        check_free_nats_clip_the_kl_of_each_step,
        "wmlib.world_model.kl_balance",
        free_nats_after_the_mean,
    ),
    ("KL sides swapped", check_kl_sides, "wmlib.world_model.kl_balance", swapped_sides),
    (
        "unimix omitted",
        check_no_class_is_ever_ruled_out,
        "wmlib.rssm.unimix_probs",
        lambda logits, mix: logits.softmax(-1),
    ),
    (
        "two-hot in the wrong space",
        check_twohot_weighs_by_distance_in_raw_space,
        "wmlib.distributions.twohot",
        twohot_in_symlog_space,
    ),
    (
        "asymmetric mean",
        check_fresh_predictions_are_zero,
        "wmlib.world_model.twohot_mean",
        naive_mean,
    ),
    (
        "reward not zero-initialised",
        check_fresh_predictions_are_zero,
        "wmlib.world_model.Head",
        ones_head,
    ),
    (
        "critic not zero-initialised",
        check_fresh_predictions_are_zero,
        "wmlib.actor_critic.Head",
        ones_head,
    ),
    (
        "return normaliser inert",
        check_behaviour,
        "wmlib.actor_critic.ReturnScale.forward",
        lambda self, returns: torch.tensor(1.001),
    ),
    (
        "return normaliser missing from the checkpoint",
        check_the_checkpoint_remembers_the_scale_of_returns,
        "wmlib.agent.ReturnScale",
        ForgetfulScale,
    ),
    (
        "discount counted twice",
        check_behaviour,
        "wmlib.actor_critic.lambda_return",
        double_discount,
    ),
    (
        "discount never counted",
        check_behaviour,
        "wmlib.world_model.WorldModel.continues",
        no_discount,
    ),
    (
        "actor trains the world model",
        check_routes,
        "wmlib.world_model.WorldModel.imagine",
        WorldModel.imagine.__wrapped__,
    ),
    ("slow critic trained", check_routes, "wmlib.actor_critic.Critic.loss", trained_slow_critic),
]


@pytest.mark.parametrize(
    "check, place, wrong", [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_common_mistake_is_absent_and_would_be_caught(check, place, wrong, monkeypatch):
    """Each check passes on `wmlib` and fails once the mistake is put in.

    Of the fifteen, these belong to rows and replay and are caught in `test_rows.py` and
    `test_replay.py`: final observation lost on autoreset, windows across the ring head, ratio
    counted in frames; so is the side of off-by-one rewards and of terminated = truncated that
    arises where rows are written.
    """
    check()
    monkeypatch.setattr(place, wrong)
    with pytest.raises(AssertionError):
        check()


def test_the_step_by_step_loop_without_a_mistake_passes(monkeypatch):
    monkeypatch.setattr(RSSM, "observe", observe_loop(True, True))
    check_the_row_of_a_reset_knows_nothing_of_the_past()


# ---------------------------------------------------------------- a toy that finds most mistakes


def echo_rows(feed_the_next=False, rows=32, steps=3):
    """Rows of a world where o_{t+1} = a_t."""
    action = torch.randint(0, 3, (rows, steps + 1))
    before, after = encode_action(action[:, :-1], BUTTONS), encode_action(action[:, 1:], BUTTONS)
    batch = {
        "obs": action[:, :-1],
        "prev_action": after if feed_the_next else before,
        "action": after,
        "reward": (action[:, :-1] == 0).float(),
    }
    flags = ("is_first", "is_last", "is_terminal")
    return batch | {name: torch.zeros(rows, steps, dtype=torch.bool) for name in flags}


@pytest.mark.parametrize("mistake", [False, True], ids=["a_{t-1}", "a_t by mistake"])
def test_a_world_that_echoes_the_action_is_foreseen_only_from_the_action_before(mistake):
    torch.manual_seed(0)
    agent = Dreamer(BUTTONS, BUTTONS, MINI.replace(free_nats=0.0, lr=4e-3))
    for _ in range(100):
        agent.update(echo_rows(mistake), behaviour=False)
    batch = echo_rows(mistake, rows=500)
    with torch.no_grad():
        losses = agent.losses(batch, behaviour=False)[0]
    nats = (losses["rec"] + losses["dyn"])[:, 0].mean().item()  # an unforeseen symbol costs ln 3
    assert nats > 1.05 if mistake else nats < 0.3


# ---------------------------------------------------------------- learning end to end


@every_world
def test_updates_on_one_batch_lower_the_loss(world):
    agent, batch = build(world, lr=3e-3)
    history = []
    for _ in range(30):
        metrics, _ = agent.update(batch)
        history.append(sum(metrics[k].item() for k in ("rec", "rew", "con", "dyn", "rep")))
        assert all(torch.isfinite(value) for value in metrics.values())
    assert np.mean(history[-3:]) < 0.97 * np.mean(history[:3])


def test_the_first_update_of_a_warm_up_changes_no_weight():
    agent, batch = build(warmup=10)
    before = snapshot(agent.world)
    agent.update(batch)
    assert changed(before, agent.world) == []
    agent.update(batch)
    assert changed(before, agent.world)


def test_an_update_moves_everything():
    agent, batch = build()
    randomise(agent)
    before = snapshot(agent)
    agent.update(batch)
    assert set(before) == set(changed(before, agent))


def test_the_learning_rate_of_the_actor_is_its_own_and_leaves_the_rest_alone():
    moved = []
    for rate in (1.0, 0.25):
        agent, batch = build(actor_lr=rate)
        before = snapshot(agent)
        agent.update(batch)
        moved.append({k: agent.state_dict()[k] - v for k, v in before.items()})
    for name, step in moved[0].items():
        share = 0.25 if name.startswith("actor.") else 1.0
        torch.testing.assert_close(moved[1][name], share * step, rtol=1e-3, atol=1e-6)
    assert any(step.any() for name, step in moved[0].items() if name.startswith("actor."))


def test_the_slow_critic_follows_every_update_by_two_percent():
    agent, batch = build()
    randomise(agent)
    slow = [p.clone() for p in agent.critic.slow.parameters()]
    agent.update(batch)
    pairs = zip(slow, agent.critic.fast.parameters(), agent.critic.slow.parameters(), strict=True)
    for before, fast, after in pairs:
        torch.testing.assert_close(after, 0.98 * before + 0.02 * fast)


@pytest.mark.parametrize("earlier", [0, 2], ids=["fresh", "after full updates"])
def test_model_only_updates_leave_actor_and_critic_untouched(earlier):
    agent, batch = build()
    for _ in range(earlier):
        agent.update(batch)
    before = snapshot(agent)
    for _ in range(2):
        metrics, _ = agent.update(batch, behaviour=False)
    assert not {"policy", "value", "repval"} & metrics.keys()
    moved = changed(before, agent)
    assert moved and all(name.startswith("world.") for name in moved)


@pytest.mark.parametrize("key", ["obs", "reward"])
def test_a_nan_in_the_batch_is_an_error_and_changes_nothing(key):
    agent, batch = build()
    agent.update(batch)
    before = snapshot(agent)
    moments = copy.deepcopy(agent.optimizer.state_dict()["state"])
    bad = batch | {key: batch[key].clone()}
    bad[key].flatten()[20] = float("nan")
    with pytest.raises(FloatingPointError, match="not finite"):
        agent.update(bad)
    assert changed(before, agent) == []
    for number, state in agent.optimizer.state_dict()["state"].items():
        assert state["step"] == moments[number]["step"] == 1
        assert torch.equal(state["mean"], moments[number]["mean"])
        assert torch.equal(state["square"], moments[number]["square"])


def test_learning_goes_on_after_a_nan():
    agent, batch = build()
    with pytest.raises(FloatingPointError):
        agent.update(batch | {"obs": batch["obs"] * float("nan")})
    for _ in range(2):
        metrics, _ = agent.update(batch)
        assert all(torch.isfinite(value) for value in metrics.values())
    assert all(torch.isfinite(value).all() for value in agent.state_dict().values())


def test_a_single_imagined_row_leaves_no_replay_value_loss():
    try:
        agent, batch = build(imagine_last=1)
    except BadInput:
        return
    metrics, _ = agent.update(batch)
    assert metrics["repval"] == 0


@pytest.mark.parametrize("world", ["vector, buttons", "strided image"])
def test_the_same_seed_gives_bit_identical_updates(world):
    def run():
        agent, batch = build(world)
        for _ in range(3):
            agent.update(batch)
        return agent.state_dict()

    one, two = run(), run()
    assert all(torch.equal(one[name], two[name]) for name in one)


@every_world
def test_updates_work_in_bfloat16(world, monkeypatch):
    monkeypatch.setattr(wmlib.agent, "autocast", lambda _: torch.autocast("cpu", torch.bfloat16))
    agent, batch = build(world)
    randomise(agent)
    for _ in range(3):
        metrics, state = agent.update(batch)
        assert all(torch.isfinite(value) for value in metrics.values())
        assert all(metrics[name].dtype == torch.float32 for name in agent.scales())
    obs_space, act_space, _ = WORLDS[world]
    sample = make_sample(obs_space, act_space)
    action, memory = agent.act(sample["obs"][:, 0], np.ones(4, bool), agent.initial(4))
    agent.act(sample["obs"][:, 1], np.zeros(4, bool), memory)
    assert np.isfinite(action).all()
    assert np.isfinite(agent.imagine(sample, 3).reward).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@every_world
def test_an_agent_moved_to_cuda_learns_acts_and_dreams(world):
    agent, batch = build(world)
    agent.update(batch)
    agent = agent.to("cuda")
    batch = {k: v.to("cuda") for k, v in batch.items()}
    for _ in range(2):
        metrics, _ = agent.update(batch)
        assert all(torch.isfinite(value) for value in metrics.values())
    obs_space, act_space, _ = WORLDS[world]
    sample = make_sample(obs_space, act_space)
    agent.act(sample["obs"][:, 0], np.ones(4, bool), agent.initial(4))
    agent.imagine(sample, 3)


# ---------------------------------------------------------------- acting


@pytest.mark.parametrize("world", ["vector, buttons", "vector, sticks", "pooled image", "symbol"])
def test_acting_equals_observing_the_same_rows(world, argmax_sampling):
    agent, _ = build(world)
    randomise(agent)
    obs_space, act_space, _ = WORLDS[world]
    sample = make_sample(obs_space, act_space, rows=3, steps=7)
    memory, states, actions = agent.initial(3), [], [torch.zeros(3, action_size(act_space))]
    for t in range(7):
        chosen, memory = agent.act(sample["obs"][:, t], sample["is_first"][:, t], memory, mode=True)
        states.append(memory.state)
        actions.append(encode_action(torch.from_numpy(chosen), act_space))
        assert torch.equal(actions[-1], memory.action)
    rows = {
        "obs": torch.from_numpy(sample["obs"]),
        "prev_action": torch.stack(actions[:-1], 1),
        "is_first": torch.from_numpy(sample["is_first"]),
    }
    with torch.no_grad():
        seen = agent.world.observe(rows).state
    for t, state in enumerate(states):
        torch.testing.assert_close(state.h, seen.h[:, t], atol=1e-5, rtol=1e-4)
        assert torch.equal(state.z, seen.z[:, t])


def test_environments_act_independently_of_each_other(argmax_sampling):
    agent, _ = build()
    randomise(agent)
    sample = make_sample(VECTOR, BUTTONS, rows=3)
    together = agent.initial(3)
    alone = [agent.initial(1) for _ in range(3)]
    for t in range(8):
        obs, first = sample["obs"][:, t], sample["is_first"][:, t]
        _, together = agent.act(obs, first, together)
        for n in range(3):
            _, alone[n] = agent.act(obs[n : n + 1], first[n : n + 1], alone[n])
            torch.testing.assert_close(alone[n].state.h[0], together.state.h[n])


def test_actions_are_sampled_from_the_policy_and_mode_takes_the_likeliest():
    agent, _ = build()
    with torch.no_grad():
        agent.actor.out.weight.zero_()
        agent.actor.out.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    obs, first = np.zeros((20_000, 6), np.float32), np.ones(20_000, bool)
    action, memory = agent.act(obs, first, agent.initial(20_000))
    assert action.dtype == np.int64 and action.shape == (20_000,)
    expected = np_unimix(np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(np.bincount(action) / 20_000, expected, atol=0.012)
    np.testing.assert_array_equal(action, memory.action.argmax(-1))
    assert (agent.act(obs, first, agent.initial(20_000), mode=True)[0] == 2).all()


def test_continuous_actions_are_handed_out_unclipped():
    agent, _ = build("vector, sticks")
    with torch.no_grad():
        agent.actor.out.bias.fill_(2.0)
    obs, first = np.zeros((500, 6), np.float32), np.ones(500, bool)
    action, memory = agent.act(obs, first, agent.initial(500))
    assert action.dtype == np.float32 and action.shape == (500, 2)
    assert action.max() > 1
    np.testing.assert_array_equal(action, memory.action)


# ---------------------------------------------------------------- dreaming


@every_world
def test_a_dream_has_the_documented_shapes_and_units(world):
    agent, _ = build(world)
    obs_space, act_space, _ = WORLDS[world]
    dream = agent.imagine(make_sample(obs_space, act_space, rows=2, steps=6), horizon=5)
    shape = obs_space.shape or (5,)
    assert dream.observation.shape == (2, 6, *shape)
    assert dream.reconstruction.shape == (2, 6, *shape)
    assert dream.reward.shape == dream.continues.shape == dream.value.shape == (2, 6)
    assert dream.action.shape == (2, 5, action_size(act_space))
    assert (dream.continues >= 0).all() and (dream.continues <= 1).all()
    if obs_space is IMAGE:
        assert dream.observation.min() >= 0 and dream.observation.max() <= 1


@pytest.mark.parametrize("world", ["vector, buttons", "vector, sticks"])
def test_given_actions_are_followed(world):
    agent, _ = build(world)
    obs_space, act_space, _ = WORLDS[world]
    sample = make_sample(obs_space, act_space, rows=2)
    given = make_sample(obs_space, act_space, rows=2, steps=4, seed=5)["action"]
    dream = agent.imagine(sample, horizon=4, actions=given)
    expected = encode_action(torch.from_numpy(given), act_space)
    np.testing.assert_array_equal(dream.action, expected)


@pytest.mark.parametrize("steps", [2, 6])
def test_given_actions_must_be_as_many_as_the_steps_of_the_dream(steps):
    agent, _ = build()
    sample = make_sample(VECTOR, BUTTONS, rows=2)
    with pytest.raises(BadInput):
        agent.imagine(sample, horizon=4, actions=np.zeros((2, steps), np.int64))


def test_a_dream_begins_at_the_last_real_row(argmax_sampling):
    agent, _ = build()
    randomise(agent)
    dream = agent.imagine(make_sample(VECTOR, BUTTONS), horizon=2)
    np.testing.assert_allclose(dream.observation[:, 0], dream.reconstruction[:, -1], rtol=1e-5)


def test_temperature_sharpens_or_flattens_the_prior():
    agent, _ = build()
    randomise(agent)
    start = State(torch.randn(1, MINI.deter), torch.zeros(1, 3, 5))
    start = State(*(part.expand(5000, *part.shape[1:]) for part in start))
    press = torch.eye(3)[:1].expand(5000, 3)
    entropy = []
    for temperature in (0.1, 3.0, 30.0):
        z = agent.world.imagine(lambda _: press, start, 1, temperature).state.z[:, 1].mean(0)
        entropy.append(-(z * z.clamp(min=1e-9).log()).sum().item())
    assert entropy[0] + 0.3 < entropy[1] < entropy[2] - 0.3


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_temperature_reaches_the_prior_and_leaves_the_actor_alone(temperature, monkeypatch):
    agent, _ = build()
    with torch.no_grad():
        agent.actor.out.weight.zero_()
        agent.actor.out.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    used, step = [], agent.world.rssm.step
    monkeypatch.setattr(
        agent.world.rssm, "step", lambda s, a, t=1.0: used.append(t) or step(s, a, t)
    )
    sample = make_sample(VECTOR, BUTTONS, rows=5000, steps=1)
    dream = agent.imagine(sample, horizon=2, temperature=temperature)
    assert used == [temperature] * 2
    expected = np_unimix(np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(dream.action.mean((0, 1)), expected, atol=0.02)


def test_imagining_changes_nothing():
    agent, _ = build()
    before = snapshot(agent)
    agent.imagine(make_sample(VECTOR, BUTTONS), horizon=2)
    assert changed(before, agent) == []


# ---------------------------------------------------------------- spaces and checkpoints


def test_the_agents_own_spaces_are_accepted():
    for obs, act, _ in WORLDS.values():
        agent = Dreamer(obs, act, MINI)
        agent.check_spaces(obs, act)


@pytest.mark.parametrize(
    "obs, act",
    [
        (gym.spaces.Box(-1, 1, (7,)), BUTTONS),
        (IMAGE, BUTTONS),
        (SYMBOL, BUTTONS),
        (VECTOR, gym.spaces.Discrete(4)),
        (VECTOR, STICKS),
    ],
)
def test_other_spaces_are_refused(obs, act):
    with pytest.raises(BadInput, match="was built for"):
        build()[0].check_spaces(obs, act)


def test_an_agent_restored_from_its_state_goes_on_identically():
    agent, batch = build()
    agent.update(batch)
    other, _ = build()
    other.load_state_dict(agent.state_dict())
    other.optimizer.load_state_dict(agent.optimizer.state_dict())
    for one in (agent, other):
        torch.manual_seed(3)
        one.update(batch)
    assert changed(snapshot(agent), other) == []
