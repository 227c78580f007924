"""LaProp with adaptive gradient clipping, the optimiser of DreamerV3 (section "Optimizer")."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LaProp", "clip", "gradients", "rate"]


class LaProp(torch.optim.Optimizer):
    """Normalise the gradient by its running size first, then average (Adam does the reverse).

    Every tensor's gradient is first clipped to `agc` times that tensor's own norm (but at least
    1e-3). The learning rate rises linearly over `warmup` updates. Pass warmup=0 and agc=0 to turn
    either off. One deviation, off by default: the rate falls as 1 / (1 + n / decay) at update n.

    A parameter without gradient is left alone: its moments and its count of updates stay.

    Args:
        params: tensors, or groups of them as every torch optimiser takes them: dicts with "params"
            and any of the settings below.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        warmup: int = 1000,
        agc: float = 0.3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
        decay: int = 0,
    ):
        settings = {"lr": lr, "warmup": warmup, "agc": agc, "betas": betas, "eps": eps}
        super().__init__(params, settings | {"decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Apply one update with the parameters' gradients, which stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if params:
                self.move(params, group)
        return loss

    def move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Update these tensors, which all have gradients, with the settings of their group."""
        grads = clip(params, gradients(params), group["agc"])
        updates, mean, square = self.moments(params)
        beta1, beta2 = group["betas"]
        torch._foreach_mul_(square, beta2)
        torch._foreach_addcmul_(square, grads, grads, 1 - beta2)
        size = torch._foreach_div(square, [1 - beta2**n for n in updates])
        torch._foreach_sqrt_(size)
        torch._foreach_add_(size, group["eps"])
        torch._foreach_lerp_(mean, torch._foreach_div(grads, size), 1 - beta1)
        rates = [rate(group, n) / (1 - beta1**n) for n in updates]
        torch._foreach_sub_(params, torch._foreach_mul(mean, rates))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; what is given stays its owner's."""
        super().load_state_dict(copy.deepcopy(state_dict))

    def moments(self, params: list[Tensor]) -> tuple[list[int], list[Tensor], list[Tensor]]:
        """Count an update of these tensors; their numbers of updates and their two averages."""
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                state |= {"step": 0, "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
            state["step"] += 1  # per tensor: some join later than others
        steps = [state["step"] for state in states]
        return steps, [state["mean"] for state in states], [state["square"] for state in states]


def gradients(params: list[Tensor]) -> list[Tensor]:
    """Gradients of these tensors, which all have one."""
    return [p.grad for p in params if p.grad is not None]


def rate(group: dict[str, Any], update: int) -> float:
    """Learning rate of the given update; the first is number 1."""
    done = update - 1
    rise = min(1.0, done / group["warmup"]) if group["warmup"] else 1.0
    fall = 1 / (1 + done / group["decay"]) if group["decay"] else 1.0
    return group["lr"] * rise * fall


def clip(params: list[Tensor], grads: list[Tensor], agc: float) -> list[Tensor]:
    """Clip to g / max(1, |g| / (agc * max(1e-3, |p|))), tensor by tensor; agc = 0 does not clip."""
    if not agc:
        return grads
    limits = torch._foreach_norm(params)
    torch._foreach_clamp_min_(limits, 1e-3)
    torch._foreach_mul_(limits, agc)
    excess = torch._foreach_div(torch._foreach_norm(grads), limits)
    torch._foreach_clamp_min_(excess, 1.0)
    return list(torch._foreach_div(grads, excess))
