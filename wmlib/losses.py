"""Losses as pure functions on tensors.

Shapes: B batch, T time, S latents, K classes. sg is the stop-gradient (`.detach()`).
"""

import torch
from torch import Tensor

from wmlib.distributions import kl_divergence

__all__ = ["continue_loss", "kl_balance", "lambda_return", "total"]


def kl_balance(posterior: Tensor, prior: Tensor, free_nats: float = 1.0) -> tuple[Tensor, Tensor]:
    """Dynamics and representation loss, each (B, T), from probabilities (B, T, S, K) (eq. 5).

    dyn trains the prior towards the posterior, rep the posterior towards the prior. The KL is
    summed over the latents first; below `free_nats` it gives no gradient.
    """
    dyn = kl_divergence(posterior.detach(), prior).clamp(min=free_nats)
    rep = kl_divergence(posterior, prior.detach()).clamp(min=free_nats)
    return dyn, rep


def continue_loss(logit: Tensor, is_terminal: Tensor, gamma: float) -> Tensor:
    """Cross-entropy to the soft target (1 - is_terminal) * gamma, discount included. (...)."""
    target = (1 - is_terminal.float()) * gamma
    return torch.nn.functional.binary_cross_entropy_with_logits(
        logit.float(), target, reduction="none"
    )


def lambda_return(
    reward: Tensor, boot: Tensor, term: Tensor, last: Tensor, gamma: float, lam: float
) -> Tensor:
    """TD(lambda) returns R_0 .. R_{T-2}. All inputs (B, T); output (B, T-1).

    R_t = r_{t+1} + (1 - cont) * live * boot_{t+1} + live * cont * R_{t+1} with
    live = (1 - term_{t+1}) * gamma and cont = (1 - last_{t+1}) * lam, from R_{T-1} = boot_{T-1}.
    Reward and bootstrap value are those of the arrival state; reward[:, 0] never enters.
    `term` may be a probability (in imagination, 1 minus the predicted continue).
    """
    live = (1 - term.float())[:, 1:] * gamma
    cont = (1 - last.float())[:, 1:] * lam
    now = reward[:, 1:] + (1 - cont) * live * boot[:, 1:]
    keep = live * cont
    result = boot[:, -1]
    returns = []
    for t in reversed(range(now.shape[1])):
        result = now[:, t] + keep[:, t] * result
        returns.append(result)
    return torch.stack(returns[::-1], 1)


def total(losses: dict[str, Tensor], scales: dict[str, float]) -> Tensor:
    """Weighted sum of the losses' means; every loss needs a scale and every scale a loss."""
    if losses.keys() != scales.keys():
        raise ValueError(f"losses {sorted(losses)} and scales {sorted(scales)} do not match")
    return sum(scales[name] * loss.mean() for name, loss in losses.items())  # pyright: ignore[reportReturnType]
