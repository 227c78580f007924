"""Distributions of DreamerV3, as functions on tensors.

Shapes: `...` any batch axes, S latents, K classes, A actions, N bins.
Source of the formulas: arXiv 2301.04104v2, "Mastering Diverse Domains through World Models".
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "DiscretePolicy",
    "NormalPolicy",
    "bernoulli_nats",
    "entropy",
    "kl_divergence",
    "sample_onehot",
    "straight_through",
    "symexp",
    "symexp_bins",
    "symlog",
    "twohot",
    "twohot_loss",
    "twohot_mean",
    "unimix_probs",
]


def symlog(x: Tensor) -> Tensor:
    """Signed logarithm: compresses large values and leaves small ones alone (eq. 9)."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Tensor) -> Tensor:
    """Inverse of `symlog`."""
    return torch.sign(x) * torch.expm1(torch.abs(x))


# ---------------------------------------------------------------- categorical latents


def unimix_probs(logits: Tensor, mix: float = 0.01) -> Tensor:
    """Softmax mixed with a uniform: no class falls below mix/K. (..., K) -> (..., K)."""
    logits = logits.float()
    # softmax spelled out: on a CPU torch's own is several times slower for so few classes
    odds = torch.exp(logits - logits.detach().amax(-1, keepdim=True))
    probs = odds / odds.sum(-1, keepdim=True)
    if mix == 0:
        return probs.clamp(min=1e-30)  # keep log(p) finite
    return (1 - mix) * probs + mix / logits.shape[-1]


def sample_onehot(probs: Tensor) -> Tensor:
    """Draw one class each by inverting the cumulative sum. (..., K) -> one-hot (..., K)."""
    edges = probs.detach().cumsum(-1)[..., :-1]
    index = (edges < torch.rand_like(edges[..., :1])).sum(-1, keepdim=True)
    return torch.zeros_like(probs, requires_grad=False).scatter_(-1, index, 1.0)


def straight_through(onehot: Tensor, probs: Tensor) -> Tensor:
    """Value of the sample, gradient of the probabilities: onehot + probs - sg(probs)."""
    return onehot + (probs - probs.detach())


def entropy(probs: Tensor) -> Tensor:
    """Entropy in nats. (..., K) -> (...)."""
    return -(probs * probs.log()).sum(-1)


def kl_divergence(q: Tensor, p: Tensor) -> Tensor:
    """KL[q || p] in nats, summed over the S latents. (..., S, K), (..., S, K) -> (...)."""
    return (q * (q.log() - p.log())).sum((-2, -1))


# ---------------------------------------------------------------- two-hot regression


def symexp_bins(count: int = 255) -> Tensor:
    """`count` (odd) bin centres, evenly spaced in symlog from -20 to 20. Returns (N,) float32.

    Built by mirroring one half: symexp of a full linspace is not antisymmetric in float32.
    """
    half = symexp(torch.linspace(-20.0, 0.0, (count + 1) // 2))
    return torch.cat([half, -half[:-1].flip(0)])


def twohot(x: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Write a number as weights on its two neighbouring bins.

    (...) -> `lower`, the index of the left neighbour (...), and `weight`, the share of the right
    one (...): x = (1 - weight) * bins[lower] + weight * bins[lower + 1], x clipped to the bins.
    """
    x = x.float().clamp(bins[0], bins[-1])
    lower = (torch.searchsorted(bins, x, right=True) - 1).clamp(0, len(bins) - 2)
    left, right = bins[lower], bins[lower + 1]
    return lower, (x - left) / (right - left)


def twohot_loss(logits: Tensor, target: Tensor, bins: Tensor) -> Tensor:
    """Cross-entropy between the two-hot target and the predicted bins. (..., N), (...) -> (...).

    Several targets for the same prediction are stacked in front: (M, ...) -> (M, ...).
    """
    logits = logits.float()
    lower, weight = twohot(target.detach(), bins)
    pair = torch.stack([lower, lower + 1], -1)  # (..., 2)
    pair = logits.expand(*pair.shape[:-1], -1).gather(-1, pair)
    return logits.logsumexp(-1) - torch.lerp(pair[..., 0], pair[..., 1], weight)


def twohot_mean(logits: Tensor, bins: Tensor) -> Tensor:
    """Expected value of the predicted bins. (..., N) -> (...).

    Mirrored bins are subtracted before they are summed, so that a uniform prediction is exactly 0.
    """
    probs = torch.softmax(logits.float(), -1)
    middle = len(bins) // 2
    surplus = probs[..., middle + 1 :] - probs[..., :middle].flip(-1)  # P(+b) - P(-b)
    return (surplus * bins[middle + 1 :]).sum(-1)


# ---------------------------------------------------------------- pixels


def bernoulli_nats(logits: Tensor, target: Tensor) -> Tensor:
    """-log p(target) per pixel, each pixel a coin with the given logit. Same shape in and out."""
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")


# ---------------------------------------------------------------- policies


@dataclass
class DiscretePolicy:
    """Categorical policy over A actions, with 1 % unimix; actions are one-hot (..., A)."""

    logits: Tensor
    mix: float = 0.01

    @property
    def probs(self) -> Tensor:
        """Probabilities (..., A)."""
        return unimix_probs(self.logits, self.mix)

    def sample(self) -> Tensor:
        """Draw a one-hot action (..., A), without gradient."""
        return sample_onehot(self.probs)

    def mode(self) -> Tensor:
        """Most likely action, one-hot (..., A)."""
        best = self.logits.argmax(-1, keepdim=True)
        return torch.zeros_like(self.logits).scatter_(-1, best, 1.0)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability of a one-hot action. (..., A) -> (...)."""
        return (self.probs.log() * action).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats (...)."""
        return entropy(self.probs)


@dataclass
class MultiPolicy:
    """Several categorical policies at once; actions are their one-hots, in a row (..., A)."""

    groups: tuple[DiscretePolicy, ...]

    def sample(self) -> Tensor:
        """Draw an action (..., A), without gradient."""
        return torch.cat([group.sample() for group in self.groups], -1)

    def mode(self) -> Tensor:
        """Most likely action (..., A)."""
        return torch.cat([group.mode() for group in self.groups], -1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability of an action. (..., A) -> (...)."""
        chosen = action.split([group.logits.shape[-1] for group in self.groups], -1)
        pairs = zip(self.groups, chosen, strict=True)
        return torch.stack([group.log_prob(part) for group, part in pairs]).sum(0)

    def entropy(self) -> Tensor:
        """Sum of the entropies in nats (...)."""
        return torch.stack([group.entropy() for group in self.groups]).sum(0)


@dataclass
class NormalPolicy:
    """Bounded normal policy: mean in (-1, 1), standard deviation in (.1, 1); actions (..., A)."""

    raw_mean: Tensor
    raw_std: Tensor

    def __post_init__(self) -> None:
        self.mean = torch.tanh(self.raw_mean.float())
        self.std = 0.9 * torch.sigmoid(self.raw_std.float() + 2.0) + 0.1

    def sample(self) -> Tensor:
        """Draw an unclipped action (..., A), without gradient."""
        return (self.mean + self.std * torch.randn_like(self.mean)).detach()

    def mode(self) -> Tensor:
        """Mean action (..., A)."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density, summed over action dimensions. (..., A) -> (...)."""
        normal = torch.distributions.Normal(self.mean, self.std, validate_args=False)
        return normal.log_prob(action).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, summed over action dimensions (...)."""
        normal = torch.distributions.Normal(self.mean, self.std, validate_args=False)
        return normal.entropy().sum(-1)
