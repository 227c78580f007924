"""Behaviour: return scale, dream weights, actor and critic losses."""

import math

from reference.distributions import log_softmax, twohot, twohot_mean
from reference.losses import lambda_return
from reference.rssm import linear, nln


def percentile(values, q):
    """Linear interpolation between the two nearest of the sorted values."""
    values = sorted(values)
    place = q * (len(values) - 1)
    left = math.floor(place)
    right = min(left + 1, len(values) - 1)
    return values[left] + (place - left) * (values[right] - values[left])


class ReturnScale:
    """Running percentiles, from 0, without debiasing."""

    def __init__(self):
        self.low = self.high = 0.0

    def update(self, returns):
        self.low = 0.99 * self.low + 0.01 * percentile(returns, 0.05)
        self.high = 0.99 * self.high + 0.01 * percentile(returns, 0.95)
        return max(1.0, self.high - self.low)


def dream_weights(continues):
    """Of H+1 states: for the first H, the chance that the dream has not ended, start included."""
    weights, alive = [], 1.0
    for c in continues[:-1]:
        alive *= c
        weights.append(alive)
    return weights


def actor_loss(log_prob, entropy, advantage, weight, entropy_scale, sg):
    """Loss of one dreamt step."""
    return sg(weight) * (-log_prob * sg(advantage) - entropy_scale * entropy)


def head(x, weights, name, layers=3):
    """Outputs of a head with hidden layers."""
    for layer in range(layers):
        x = nln(x, weights, f"{name}.mlp.{layer}")
    return linear(x, weights[f"{name}.out.weight"], weights[f"{name}.out.bias"])


def cross_entropy(logits, x, bins):
    return -sum(t * p for t, p in zip(twohot(x, bins), log_softmax(logits), strict=True) if t)


def critic_loss(fast_logits, slow_logits, value, bins, sg):
    """Loss of one row: towards its return and towards the slow critic's opinion."""
    slow = sg(twohot_mean(slow_logits, bins))
    return cross_entropy(fast_logits, sg(value), bins) + cross_entropy(fast_logits, slow, bins)


def replay_value_loss(rows, features, boot, weights, bins, gamma, lam, sg):
    """Losses of one window of real rows: lists reward, is_terminal, is_last of K numbers."""
    reward, term, last = rows
    returns = lambda_return(reward, boot, term, last, gamma, lam)
    losses = []
    for t, value in enumerate(returns):
        fast = head(features[t], weights, "fast")
        slow = [sg(logit) for logit in head(features[t], weights, "slow")]
        losses.append((1 - last[t]) * critic_loss(fast, slow, value, bins, sg))
    return losses


def slow_critic(slow, fast):
    return [0.98 * s + 0.02 * f for s, f in zip(slow, fast, strict=True)]


def dream_return(reward, continues, value, lam):
    """Returns of one dream: H+1 numbers each in, H out; the discount is inside `continues`."""
    ended = [1 - c for c in continues]
    return lambda_return(reward, value, ended, [0.0] * len(reward), 1.0, lam)
