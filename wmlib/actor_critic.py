"""Actor, critic and the scale of returns: how behaviour is learnt inside the dream.

Shapes: N dreams, H horizon, F features, A actions; B windows of K real rows.
"""

import copy
from dataclasses import dataclass

import torch
from gymnasium.spaces import MultiDiscrete
from torch import Tensor, nn

from wmlib.config import Config
from wmlib.distributions import (
    DiscretePolicy,
    MultiPolicy,
    NormalPolicy,
    symexp_bins,
    twohot_loss,
    twohot_mean,
)
from wmlib.losses import lambda_return
from wmlib.nets import MLP, Head, linear
from wmlib.spaces import Space, act_kind, action_size, classes
from wmlib.world_model import Rollout

__all__ = [
    "Actor",
    "Critic",
    "DreamLosses",
    "MultiActor",
    "ReturnScale",
    "actor_loss",
    "dream_losses",
    "dream_weights",
    "make_actor",
    "replay_value_loss",
]


class Actor(nn.Module):
    """Policy network: features (..., F) -> `DiscretePolicy` or `NormalPolicy` over A actions."""

    def __init__(self, feature: int, act_space: Space, config: Config):
        super().__init__()
        actions = action_size(act_space)
        self.discrete = act_kind(act_space) == "discrete"
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


class MultiActor(Actor):
    """Policy network for several choices at once: features (..., F) -> `MultiPolicy`."""

    def __init__(self, feature: int, act_space: Space, config: Config):
        super().__init__(feature, act_space, config)
        self.sizes = classes(act_space).tolist()

    def forward(self, feature: Tensor) -> MultiPolicy:
        """Return the distribution over actions."""
        logits = self.out(self.mlp(feature)).split(self.sizes, -1)
        return MultiPolicy(tuple(DiscretePolicy(part, self.unimix) for part in logits))


def make_actor(feature: int, act_space: Space, config: Config) -> Actor:
    """Pick the policy network for an action space."""
    kind = MultiActor if isinstance(act_space, MultiDiscrete) else Actor
    return kind(feature, act_space, config)


class Critic(nn.Module):
    """Value of a state as a two-hot distribution, with a slow copy that steadies it."""

    bins: Tensor

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
        torch._foreach_lerp_(slow, fast, self.rate)  # pyright: ignore[reportCallIssue, reportArgumentType]


class ReturnScale(nn.Module):
    """S = max(1, running range of returns between their 5th and 95th percentile)."""

    low: Tensor
    high: Tensor

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
    """Quantile q of all entries, linearly interpolated (torch.quantile stops at 2**24 of them)."""
    x = x.flatten().float().sort().values
    place = q * (len(x) - 1)
    low = int(place)
    return torch.lerp(x[low], x[min(low + 1, len(x) - 1)], place - low)


def dream_weights(continues: Tensor) -> Tensor:
    """Chance w_t that the dream is still running at t, start included. (N, H+1) -> (N, H)."""
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


@dataclass(frozen=True)
class DreamLosses:
    """What actor and critic learn from N dreams of H steps; only the two losses have a gradient."""

    policy: Tensor  # (N, H)
    value: Tensor  # (N, H)
    returns: Tensor  # (N, H)
    weight: Tensor  # (N, H), chance that the dream is still running
    entropy: Tensor  # (N, H), of the policy, in nats
    scale: Tensor  # scalar, of the returns


def dream_losses(
    actor: Actor,
    critic: Critic,
    return_scale: ReturnScale,
    dream: Rollout,
    reward: Tensor,
    continues: Tensor,
    config: Config,
) -> DreamLosses:
    """Losses of actor and critic in N dreams whose states carry no gradient.

    reward and continues (N, H+1) are what the dream pays and the chance that it goes on.
    """
    feature = dream.feature  # (N, H+1, F)
    logits = critic(feature)  # (N, H+1, bins)
    with torch.no_grad():
        value = critic.mean(logits)  # (N, H+1)
        never = torch.zeros_like(continues)
        returns = lambda_return(reward, value, 1 - continues, never, 1.0, config.lam)  # (N, H)
        weight = dream_weights(continues)
        scale = return_scale(returns)
        advantage = (returns - value[:, :-1]) / scale
    policy = actor(feature[:, :-1].contiguous())
    return DreamLosses(
        policy=actor_loss(policy, dream.action, advantage, weight, config.entropy_scale),
        value=weight * critic.loss(logits, feature, returns),
        returns=returns,
        weight=weight,
        entropy=policy.entropy().detach(),
        scale=scale,
    )


def replay_value_loss(
    critic: Critic, batch: dict[str, Tensor], feature: Tensor, bootstrap: Tensor, config: Config
) -> Tensor:
    """Critic loss on the last K real rows, each bootstrapped with its own dream. -> (B, K-1).

    feature (B, K, F) keeps its gradient: what the value needs to know, the model must hold.
    bootstrap (B, K) is the return of the dream that begins in each row.
    """
    k = bootstrap.shape[1]
    reward = batch["reward"][:, -k:]
    terminal, last = (batch[name][:, -k:].float() for name in ("is_terminal", "is_last"))
    returns = lambda_return(reward, bootstrap, terminal, last, config.gamma, config.lam)
    loss = critic.loss(critic(feature), feature, returns)
    return (1 - last[:, :-1]) * loss
