"""Layers shared by all parts: Linear -> RMSNorm -> SiLU, block-diagonal linear, small MLP heads."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MLP", "NLN", "BlockLinear", "Head", "NormSiLU", "init_weight", "linear", "rms_norm"]


def init_weight(weight: Tensor, fan_in: int, outscale: float = 1.0) -> None:
    """Fill with a normal of standard deviation 1/sqrt(fan_in), truncated at two sigma, in place.

    1.1368 makes up for the variance that the truncation takes away. outscale 0 gives zeros.
    """
    std = 1.1368 / math.sqrt(fan_in)
    if weight.is_meta:
        return
    with torch.no_grad():
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std).mul_(outscale)


def linear(inputs: int, outputs: int, outscale: float = 1.0) -> nn.Linear:
    """`nn.Linear` with our initialisation: truncated normal weights, zero bias."""
    layer = nn.Linear(inputs, outputs)
    init_weight(layer.weight, inputs, outscale)
    nn.init.zeros_(layer.bias)
    return layer


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Divide by the root mean square over the last axis, times a gain. (..., size) -> same."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain


class FastNormSiLU(torch.autograd.Function):
    """Function silu(rms_norm(x)), derivative written out: a third fewer passes over memory."""

    @staticmethod
    def forward(ctx, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        """Same value as F.silu(rms_norm(x, gain, eps))."""
        inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)  # (..., 1)
        unit = x * inverse
        y = unit * gain
        ctx.save_for_backward(unit, inverse, y, gain)
        return F.silu(y)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Chain rule: through SiLU, the gain, and the norm (which removes the part along x)."""
        unit, inverse, y, gain = ctx.saved_tensors
        grad = torch.ops.aten.silu_backward(grad, y)
        product = grad * unit
        along = (product @ gain / len(gain)).unsqueeze(-1)  # mean of grad * gain * unit
        dx = (grad * gain).addcmul_(unit, along, value=-1).mul_(inverse)
        return dx, product.reshape(-1, len(gain)).sum(0), None


class NormSiLU(nn.Module):
    """SiLU(RMSNorm(x)) over the last axis, with a learned gain. (..., size) -> same."""

    def __init__(self, size: int, eps: float = 1e-4):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Compute in float32 and return the input's dtype."""
        if torch.is_grad_enabled() and x.numel() > 2**16:  # below that the call itself costs more
            return FastNormSiLU.apply(x.float(), self.gain, self.eps).to(x.dtype)
        return F.silu(F.rms_norm(x.float(), self.gain.shape, self.gain, self.eps)).to(x.dtype)


class NLN(nn.Module):
    """SiLU(RMSNorm(Wx + b)): the layer every network here is made of. (..., in) -> (..., out)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = linear(inputs, outputs)
        self.norm = NormSiLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return self.norm(self.linear(x))


class BlockLinear(nn.Module):
    """`blocks` independent linear maps side by side: a block-diagonal matrix.

    Input (..., blocks, in/blocks), output (..., blocks, out/blocks). Parameters are 1/blocks of a
    dense layer's; the initialisation still counts all inputs as fan-in.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(blocks, outputs // blocks))
        init_weight(self.weight, inputs)

    def forward(self, x: Tensor, shared: Tensor | None = None) -> Tensor:
        """Multiply every block by its own matrix.

        `shared` (..., S) is seen by all blocks, as if it were appended to each one's input; it is
        one dense product, not `blocks` copies.
        """
        if shared is None:
            return torch.einsum("...gi,gio->...go", x, self.weight) + self.bias
        own, common = self.weight.split([x.shape[-1], shared.shape[-1]], 1)
        y = torch.einsum("...gi,gio->...go", x, own)
        return y + torch.einsum("...i,gio->...go", shared, common) + self.bias


class MLP(nn.Sequential):
    """`layers` times NLN. (..., in) -> (..., units)."""

    def __init__(self, inputs: int, units: int, layers: int):
        super().__init__(*[NLN(units if i else inputs, units) for i in range(layers)])


class Head(nn.Module):
    """MLP and one linear output layer. (..., in) -> (..., out)."""

    def __init__(self, inputs: int, units: int, layers: int, outputs: int, outscale: float = 1.0):
        super().__init__()
        self.mlp = MLP(inputs, units, layers)
        self.out = linear(units, outputs, outscale)

    def forward(self, x: Tensor) -> Tensor:
        """Predict from features."""
        return self.out(self.mlp(x))
