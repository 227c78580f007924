"""Notebook 09: LaProp tensor by tensor, with clipping and warm-up."""

import torch
from torch import nn

from equivalents import equivalent


@equivalent("wmlib.optim.LaProp")
def laprop(ours, theirs):
    outputs = []
    for kind in (ours, theirs):
        paths = []
        for settings in ({}, {"warmup": 3}, {"agc": 0}, {"warmup": 0, "betas": (0.5, 0.9)}):
            torch.manual_seed(1)
            params = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.zeros(5))]
            optimizer = kind(params, 0.1, **settings)
            for _ in range(6):
                for p in params:
                    p.grad = 3 * torch.randn_like(p)
                optimizer.step()
                paths += [p.detach().clone() for p in params]
        outputs.append(paths)
    return tuple(outputs)
