"""Simpler forms in notebook 02: the norm without its hand-written derivative, blocks on their own.

Both sides get the same parameters, so only the computation is compared, gradients included.
"""

import torch

from equivalents import equivalent


def outputs(layer, x):
    """What a layer gives, and the gradients it sends to its input and its parameters."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    return y, x.grad, [parameter.grad for parameter in layer.parameters()]


def twins(ours, theirs):
    """The same random parameters in both."""
    theirs.load_state_dict({k: torch.randn_like(v) for k, v in theirs.state_dict().items()})
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@equivalent("wmlib.nets.NormSiLU")
def norm(ours, theirs):
    x = torch.randn(3, 4, 6)
    return tuple(outputs(layer, x) for layer in twins(ours(6), theirs(6)))


@equivalent("wmlib.nets.BlockLinear")
def blocks(ours, theirs):
    x = torch.randn(3, 4, 5)
    torch.manual_seed(1)
    first = ours(20, 12, 4)
    torch.manual_seed(1)
    second = theirs(20, 12, 4)
    return outputs(first, x), outputs(second, x)
