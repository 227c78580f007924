"""LaProp with adaptive gradient clipping, the optimiser of DreamerV3 (section "Optimizer")."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["LaProp"]


class LaProp:
    """Normalise the gradient by its running size first, then average (Adam does the reverse).

    Every tensor's gradient is first clipped to `agc` times that tensor's own norm (but at least
    1e-3). The learning rate rises linearly over `warmup` updates. Pass warmup=0 and agc=0 to turn
    either off. Two deviations, off by default: the parameters in `slower` learn at
    `slowdown` times the rate, and the rate falls as 1 / (1 + n / decay) at update n.
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
        decay: int = 0,
    ):
        self.params = [p for p in params if p.requires_grad]
        reduced = {id(p) for p in slower}
        self.factors = [slowdown if id(p) in reduced else 1.0 for p in self.params]
        self.lr, self.warmup, self.agc, self.betas, self.eps = lr, warmup, agc, betas, eps
        self.decay = decay
        self.updates = [0] * len(self.params)  # per tensor: some join later than others
        self.mean = [torch.zeros_like(p) for p in self.params]
        self.square = [torch.zeros_like(p) for p in self.params]

    def clip(self, params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """g / max(1, |g| / (agc * max(1e-3, |p|))), tensor by tensor."""
        limits = torch._foreach_norm(params)
        torch._foreach_clamp_min_(limits, 1e-3)
        torch._foreach_mul_(limits, self.agc)
        excess = torch._foreach_div(torch._foreach_norm(grads), limits)
        torch._foreach_clamp_min_(excess, 1.0)
        return torch._foreach_div(grads, excess)

    @torch.no_grad()
    def step(self) -> None:
        """Apply one update with the parameters' gradients, then clear them.

        A parameter without gradient is left alone: its moments and its count of updates stay.
        """
        active = [i for i, p in enumerate(self.params) if p.grad is not None]
        if not active:
            return
        params = [self.params[i] for i in active]
        mean, square = self._moments(active)
        grads = [p.grad for p in params]
        if self.agc:
            grads = self.clip(params, grads)
        done = [self.updates[i] for i in active]
        beta1, beta2 = self.betas
        torch._foreach_mul_(square, beta2)
        torch._foreach_addcmul_(square, grads, grads, 1 - beta2)
        size = torch._foreach_div(square, [1 - beta2 ** (n + 1) for n in done])
        torch._foreach_sqrt_(size)
        torch._foreach_add_(size, self.eps)
        torch._foreach_lerp_(mean, torch._foreach_div(grads, size), 1 - beta1)
        rates = [self.rate(i) / (1 - beta1 ** (n + 1)) for i, n in zip(active, done, strict=True)]
        torch._foreach_sub_(params, torch._foreach_mul(mean, rates))
        for i, p in zip(active, params, strict=True):
            self.updates[i] += 1
            p.grad = None

    def rate(self, i: int) -> float:
        """Learning rate of tensor i at its next update."""
        n = self.updates[i]
        rise = min(1.0, n / self.warmup) if self.warmup else 1.0
        fall = 1 / (1 + n / self.decay) if self.decay else 1.0
        return self.lr * self.factors[i] * rise * fall

    def _moments(self, active: list[int]) -> tuple[list[Tensor], list[Tensor]]:
        """Moments of these tensors, on the tensors' device."""
        for moments in (self.mean, self.square):
            for i in active:
                moments[i] = moments[i].to(self.params[i].device)
        return [self.mean[i] for i in active], [self.square[i] for i in active]

    def state_dict(self) -> dict[str, Tensor]:
        """Both moments by parameter number, and the update counts."""
        moments = {f"mean.{i}": m for i, m in enumerate(self.mean)}
        moments |= {f"square.{i}": s for i, s in enumerate(self.square)}
        return moments | {"updates": torch.tensor(self.updates, device="cpu")}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        for i, (mean, square) in enumerate(zip(self.mean, self.square, strict=True)):
            mean.copy_(state[f"mean.{i}"]), square.copy_(state[f"square.{i}"])
        self.updates = state["updates"].tolist()
