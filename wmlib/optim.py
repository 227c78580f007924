"""LaProp with adaptive gradient clipping, the optimiser of DreamerV3 (section "Optimizer")."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["LaProp"]


class LaProp:
    """Normalise the gradient by its running size first, then average (Adam does the reverse).

    Every tensor's gradient is first clipped to `agc` times that tensor's own norm (but at least
    1e-3). The learning rate rises linearly over `warmup` updates. Pass warmup=0 and agc=0 to turn
    either off. The parameters in `slower` learn at `slowdown` times the rate (our deviation).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        warmup: int = 1000,
        agc: float = 0.3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
        slower: Iterable[nn.Parameter] = (),
        slowdown: float = 1.0,
    ):
        self.params = [p for p in params if p.requires_grad]
        reduced = {id(p) for p in slower}
        self.factors = [slowdown if id(p) in reduced else 1.0 for p in self.params]
        self.lr, self.warmup, self.agc, self.betas, self.eps = lr, warmup, agc, betas, eps
        self.updates = 0
        self.mean = [torch.zeros_like(p) for p in self.params]
        self.square = [torch.zeros_like(p) for p in self.params]

    def clip(self, grads: list[Tensor]) -> list[Tensor]:
        """g / max(1, |g| / (agc * max(1e-3, |p|))), tensor by tensor."""
        limits = torch._foreach_norm(self.params)
        torch._foreach_clamp_min_(limits, 1e-3)
        torch._foreach_mul_(limits, self.agc)
        excess = torch._foreach_div(torch._foreach_norm(grads), limits)
        torch._foreach_clamp_min_(excess, 1.0)
        return torch._foreach_div(grads, excess)

    @torch.no_grad()
    def step(self) -> None:
        """Apply one update with the parameters' gradients, then clear them."""
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]
        if self.agc:
            grads = self.clip(grads)
        lr = self.lr * min(1.0, self.updates / self.warmup) if self.warmup else self.lr
        self.updates += 1
        beta1, beta2 = self.betas
        torch._foreach_mul_(self.square, beta2)
        torch._foreach_addcmul_(self.square, grads, grads, 1 - beta2)
        size = torch._foreach_div(self.square, 1 - beta2**self.updates)
        torch._foreach_sqrt_(size)
        torch._foreach_add_(size, self.eps)
        torch._foreach_lerp_(self.mean, torch._foreach_div(grads, size), 1 - beta1)
        rate = lr / (1 - beta1**self.updates)
        torch._foreach_add_(self.params, torch._foreach_mul(self.mean, self._rates(rate)))
        for p in self.params:
            p.grad = None

    def _rates(self, rate: float) -> list[float]:
        return [-rate * factor for factor in self.factors]

    def state_dict(self) -> dict[str, Tensor]:
        """Both moments by parameter number, and the update count."""
        moments = {f"mean.{i}": m for i, m in enumerate(self.mean)}
        moments |= {f"square.{i}": s for i, s in enumerate(self.square)}
        return moments | {"updates": torch.tensor(self.updates)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        for i, (mean, square) in enumerate(zip(self.mean, self.square, strict=True)):
            mean.copy_(state[f"mean.{i}"]), square.copy_(state[f"square.{i}"])
        self.updates = int(state["updates"])
