"""Actor, critic and the scale of returns: how behaviour is learnt inside the dream.

Shapes: N dreams, H horizon, F features, A actions.
"""

import copy

import gymnasium as gym
import torch
from torch import Tensor, nn

from wmlib.config import Config
from wmlib.distributions import (
    DiscretePolicy,
    NormalPolicy,
    symexp_bins,
    twohot_loss,
    twohot_mean,
)
from wmlib.nets import MLP, Head, linear
from wmlib.world_model import action_size

__all__ = ["Actor", "Critic", "ReturnScale", "actor_loss", "dream_weights"]


class Actor(nn.Module):
    """Policy network: features (..., F) -> `DiscretePolicy` or `NormalPolicy` over A actions."""

    def __init__(self, feature: int, act_space: gym.Space, config: Config):
        super().__init__()
        actions = action_size(act_space)
        self.discrete = isinstance(act_space, gym.spaces.Discrete)
        self.unimix = config.unimix
        self.mlp = MLP(feature, config.units, 3)
        self.out = linear(config.units, actions, outscale=0.01)
        if not self.discrete:
            self.out_std = linear(config.units, actions, outscale=0.01)

    def forward(self, feature: Tensor) -> DiscretePolicy | NormalPolicy:
        """Return the distribution over actions."""
        x = self.mlp(feature)
        if self.discrete:
            return DiscretePolicy(self.out(x), self.unimix)
        return NormalPolicy(self.out(x), self.out_std(x))


class Critic(nn.Module):
    """Value of a state as a two-hot distribution, with a slow copy that steadies it."""

    def __init__(self, feature: int, config: Config):
        super().__init__()
        self.fast = Head(feature, config.units, 3, config.bins, outscale=0.0)
        self.slow = copy.deepcopy(self.fast).requires_grad_(False)
        self.rate = config.slow_rate
        self.register_buffer("bins", symexp_bins(config.bins), persistent=False)

    def forward(self, feature: Tensor) -> Tensor:
        """Logits of the fast critic. (..., F) -> (..., bins)."""
        return self.fast(feature)

    def mean(self, logits: Tensor) -> Tensor:
        """Expected value. (..., bins) -> (...)."""
        return twohot_mean(logits, self.bins)

    def loss(self, logits: Tensor, feature: Tensor, returns: Tensor) -> Tensor:
        """Cross-entropy to the return, plus to the slow critic's opinion.

        logits (B, T, bins), feature (B, T, F), returns (B, T-1) -> (B, T-1).
        """
        with torch.no_grad():
            slow = self.mean(self.slow(feature.detach()[:, :-1]))
        targets = torch.stack([returns, slow])  # (2, B, T-1)
        return twohot_loss(logits[:, :-1], targets, self.bins).sum(0)

    @torch.no_grad()
    def update_slow(self) -> None:
        """Move the slow copy a little towards the fast critic; call after every update."""
        slow, fast = list(self.slow.parameters()), list(self.fast.parameters())
        torch._foreach_lerp_(slow, fast, self.rate)


class ReturnScale(nn.Module):
    """S = max(1, running range of returns between their 5th and 95th percentile)."""

    def __init__(self, rate: float = 0.01):
        super().__init__()
        self.rate = rate
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    @torch.no_grad()
    def forward(self, returns: Tensor) -> Tensor:
        """Update the running percentiles with these returns, then give S, a scalar tensor."""
        self.low.lerp_(percentile(returns, 0.05), self.rate)
        self.high.lerp_(percentile(returns, 0.95), self.rate)
        return (self.high - self.low).clamp(min=1.0)


def percentile(x: Tensor, q: float) -> Tensor:
    """q-quantile of all entries, linearly interpolated (torch.quantile stops at 2**24 of them)."""
    x = x.flatten().float().sort().values
    place = q * (len(x) - 1)
    low = int(place)
    return torch.lerp(x[low], x[min(low + 1, len(x) - 1)], place - low)


def dream_weights(continues: Tensor) -> Tensor:
    """w_t: chance that the dream is still running at t, the start included. (N, H+1) -> (N, H)."""
    return continues[:, :-1].cumprod(1)


def actor_loss(
    policy: DiscretePolicy | NormalPolicy,
    action: Tensor,
    advantage: Tensor,
    weight: Tensor,
    entropy_scale: float,
) -> Tensor:
    """REINFORCE with an entropy bonus. action (N, H, A), advantage and weight (N, H) -> (N, H)."""
    score = policy.log_prob(action.detach()) * advantage.detach()
    return -weight.detach() * (score + entropy_scale * policy.entropy())
