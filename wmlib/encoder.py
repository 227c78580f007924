"""Observation encoder e_t = enc(o_t) and its decoder: vectors, images, classes, or several parts.

Shapes: `...` any batch axes (B, T), images (..., height, width, channels) with channels last.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmlib.config import Config
from wmlib.distributions import bernoulli_nats, symexp, symlog
from wmlib.errors import BadInput
from wmlib.nets import MLP, NLN, BlockLinear, NormSiLU, init_weight, linear
from wmlib.spaces import Space, Tree, classes, halvings, obs_kind, offsets, one_hot, readable

__all__ = [
    "ClassDecoder",
    "ClassEncoder",
    "Conv",
    "DictDecoder",
    "DictEncoder",
    "ImageDecoder",
    "ImageEncoder",
    "VectorDecoder",
    "VectorEncoder",
    "make_decoder",
    "make_encoder",
    "stage_channels",
]


def stage_channels(shape: tuple[int, ...], depth: int) -> list[int]:
    """Channels after each halving of the image, down to sides of 3 to 16: depth * (2, 3, 4, 4)."""
    if not readable(shape):
        raise BadInput(f"Images of {shape[0]}x{shape[1]} do not halve down to sides of 3 to 16.")
    return [depth * m for m in (2, 3, 4, 4)[: halvings(shape)]]


class Conv(nn.Module):
    """A convolution on channels-last tensors: (N, H, W, in) -> (N, H', W', out).

    `down` halves the image with a 4x4 kernel of stride 2, `up` doubles it by the transpose of that;
    otherwise a 5x5 kernel keeps the size.
    """

    def __init__(self, inputs: int, outputs: int, mode: str = "same"):
        super().__init__()
        size = 5 if mode == "same" else 4
        self.mode = mode
        channels = (inputs, outputs) if mode == "up" else (outputs, inputs)
        self.weight = nn.Parameter(torch.empty(*channels, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        taps = 4 if mode == "up" else size * size  # a transposed 4x4 reaches each pixel by 2x2
        init_weight(self.weight, taps * inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; permuting to (N, C, H, W) and back moves no data, it only renames the axes."""
        x = x.permute(0, 3, 1, 2)
        if self.mode == "same":
            y = F.conv2d(x, self.weight, self.bias, padding=2)
        elif self.mode == "down":
            y = F.conv2d(x, self.weight, self.bias, stride=2, padding=1)
        else:
            y = F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)
        return y.permute(0, 2, 3, 1)


# ---------------------------------------------------------------- encoders


class VectorEncoder(nn.Module):
    """Apply symlog, then three NLN. (..., features) -> (..., units)."""

    def __init__(self, space: Space, config: Config):
        super().__init__()
        self.mlp = MLP(space.shape[0], config.units, 3)
        self.outputs = config.units

    def forward(self, obs: Tensor) -> Tensor:
        """Encode raw observations."""
        return self.mlp(symlog(obs.float()))


class ClassEncoder(nn.Module):
    """Make one-hots, then three NLN. Integers (...) or (..., elements) -> (..., units)."""

    begin: Tensor

    def __init__(self, space: Space, config: Config):
        super().__init__()
        self.space = space
        self.mlp = MLP(int(classes(space).sum()), config.units, 3)
        self.outputs = config.units
        self.register_buffer("begin", offsets(space), persistent=False)  # a copy would wait

    def forward(self, obs: Tensor) -> Tensor:
        """Encode raw observations."""
        return self.mlp(one_hot(obs, self.space, self.begin))


class ImageEncoder(nn.Module):
    """Halve the image four times (64 -> 4) and flatten. uint8 (..., H, W, C) -> (..., outputs).

    pooled: conv 5x5, 2x2 max-pool, RMSNorm, SiLU (the paper's code). strided: conv 4x4 of stride 2.
    """

    def __init__(self, space: Space, config: Config):
        super().__init__()
        channels = stage_channels(space.shape, config.depth)
        self.pooled = config.coder == "pooled"
        mode = "same" if self.pooled else "down"
        inputs = [space.shape[-1], *channels[:-1]]
        self.convs = nn.ModuleList(Conv(i, o, mode) for i, o in zip(inputs, channels, strict=True))
        self.norms = nn.ModuleList(NormSiLU(o) for o in channels)
        halved = 2 ** len(channels)
        self.outputs = (space.shape[0] // halved) * (space.shape[1] // halved) * channels[-1]

    def forward(self, obs: Tensor) -> Tensor:
        """Encode raw images."""
        x = obs.flatten(0, -4).float() / 255 - 0.5  # (N, H, W, C)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x)
            if self.pooled:
                x = F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
            x = norm(x)
        return x.reshape(*obs.shape[:-3], -1)


# ---------------------------------------------------------------- decoders


class VectorDecoder(nn.Module):
    """Predict symlog observations. h (..., D), z (..., S*K) -> (..., features)."""

    def __init__(self, space: Space, config: Config):
        super().__init__()
        self.scale = config.vector_scale
        self.mlp = MLP(config.stoch * config.classes + config.deter, config.units, 3)
        self.out = linear(config.units, space.shape[0])

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """Return the raw prediction that `loss` and `mean` read."""
        return self.out(self.mlp(torch.cat([z, h], -1)))

    def loss(self, prediction: Tensor, obs: Tensor) -> Tensor:
        """Squared error to symlog(o), summed over features. -> (...)."""
        return self.scale * (prediction.float() - symlog(obs.float())).square().sum(-1)

    def mean(self, prediction: Tensor) -> Tensor:
        """Predicted observation in its own units."""
        return symexp(prediction.float())


class ClassDecoder(nn.Module):
    """Predict the class of every element. h (..., D), z (..., S*K) -> logits (..., elements, K).

    K is the largest number of classes; what an element does not have gets the logit -inf. A
    Discrete has no axis of elements.
    """

    missing: Tensor

    def __init__(self, space: Space, config: Config):
        super().__init__()
        counts = classes(space)
        missing = np.arange(counts.max()) >= counts[..., None]  # (*elements, K)
        self.mlp = MLP(config.stoch * config.classes + config.deter, config.units, 3)
        self.out = linear(config.units, missing.size)
        self.register_buffer("missing", torch.as_tensor(missing), persistent=False)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """Return the logits that `loss` and `mean` read."""
        logits = self.out(self.mlp(torch.cat([z, h], -1))).unflatten(-1, self.missing.shape)
        return logits.masked_fill(self.missing, -torch.inf)

    def loss(self, prediction: Tensor, obs: Tensor) -> Tensor:
        """Cross-entropy, summed over the elements. -> (...)."""
        logp = F.log_softmax(prediction.float(), -1)
        nats = -logp.gather(-1, obs.long().unsqueeze(-1)).squeeze(-1)
        return nats.flatten(-self.missing.ndim + 1).sum(-1) if self.missing.ndim > 1 else nats

    def mean(self, prediction: Tensor) -> Tensor:
        """Probabilities of the classes. -> (..., elements, K)."""
        return prediction.float().softmax(-1)


class ImageDecoder(nn.Module):
    """Draw an image from the model state. h (..., D), z (..., S*K) -> logits (..., H, W, C)."""

    def __init__(self, space: Space, config: Config):
        super().__init__()
        channels = stage_channels(space.shape, config.depth)
        rows, cols = (side // 2 ** len(channels) for side in space.shape[:2])
        self.tiles = (config.blocks, rows, cols, channels[-1] // config.blocks)  # (g, 4, 4, C/g)
        if channels[-1] % config.blocks:
            raise BadInput(
                f"The image decoder starts from {channels[-1]} channels, which {config.blocks} "
                f"blocks do not divide; choose a depth that does (depth is {config.depth})."
            )
        size = rows * cols * channels[-1]
        self.from_h = BlockLinear(config.deter, size, config.blocks)
        self.from_z = nn.Sequential(
            NLN(config.stoch * config.classes, 2 * config.units), linear(2 * config.units, size)
        )
        self.pooled, self.bernoulli = config.coder == "pooled", config.likelihood == "bernoulli"
        mode = "same" if self.pooled else "up"
        ins, outs = channels[::-1], [*channels[-2::-1], space.shape[-1]]
        self.norms = nn.ModuleList(NormSiLU(i) for i in ins)
        self.convs = nn.ModuleList(Conv(i, o, mode) for i, o in zip(ins, outs, strict=True))

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """Return pixel logits; `mean` squashes them to [0, 1]."""
        g, rows, cols, width = self.tiles
        x = self.from_h(h.unflatten(-1, (g, -1)))  # (..., g, 4*4*C/g): one tile per block
        x = x.reshape(-1, g, rows, cols, width).permute(0, 2, 3, 1, 4)  # tiles side by side in C
        x = x.reshape(-1, rows, cols, g * width)
        x = x + self.from_z(z).reshape(x.shape)  # (N, 4, 4, C)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = norm(x)
            if self.pooled:
                x = x.repeat_interleave(2, 1).repeat_interleave(2, 2)
            x = conv(x)
        return x.reshape(*h.shape[:-1], *x.shape[1:])

    def loss(self, prediction: Tensor, obs: Tensor) -> Tensor:
        """Squared error (or Bernoulli nats), summed over the pixels. -> (...)."""
        target = obs.float() / 255
        if self.bernoulli:
            return bernoulli_nats(prediction, target).sum((-3, -2, -1))
        return (self.mean(prediction) - target).square().sum((-3, -2, -1))

    def mean(self, prediction: Tensor) -> Tensor:
        """Predicted image in [0, 1]."""
        return torch.sigmoid(prediction.float())


# ---------------------------------------------------------------- several parts


class DictEncoder(nn.Module):
    """An encoder for every part; their outputs side by side. Dict of (..., *) -> (..., outputs)."""

    def __init__(self, space: Space, config: Config):
        super().__init__()
        self.keys = list(space.spaces)  # names may hold dots, which a ModuleDict forbids
        parts = [make_encoder(part, config) for part in space.spaces.values()]
        self.parts = nn.ModuleList(parts)
        self.outputs: int = sum(part.outputs for part in parts)

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        """Encode raw observations."""
        found = [part(obs[key]) for key, part in zip(self.keys, self.parts, strict=True)]
        return torch.cat(found, -1)


class DictDecoder(nn.Module):
    """A decoder for every part; the loss is the sum of theirs, as in the official code."""

    def __init__(self, space: Space, config: Config):
        super().__init__()
        self.keys = list(space.spaces)
        self.parts = nn.ModuleList(make_decoder(part, config) for part in space.spaces.values())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Name and decoder of every part."""
        return zip(self.keys, self.parts, strict=True)

    def forward(self, h: Tensor, z: Tensor) -> Tree:
        """Return the raw predictions that `loss` and `mean` read."""
        return {key: part(h, z) for key, part in self.items()}

    def loss(self, prediction: Tree, obs: Tree) -> Tensor:
        """Sum of the losses of the parts. -> (...)."""
        losses = [part.loss(prediction[key], obs[key]) for key, part in self.items()]
        return torch.stack(losses).sum(0)

    def mean(self, prediction: Tree) -> Tree:
        """What is predicted of every part, in its own units."""
        return {key: part.mean(prediction[key]) for key, part in self.items()}


Encoder: TypeAlias = VectorEncoder | ClassEncoder | ImageEncoder | DictEncoder
Decoder: TypeAlias = VectorDecoder | ClassDecoder | ImageDecoder | DictDecoder


def make_encoder(space: Space, config: Config) -> Encoder:
    """Pick the encoder for an observation space."""
    kinds = {"vector": VectorEncoder, "discrete": ClassEncoder, "image": ImageEncoder}
    return kinds.get(obs_kind(space), DictEncoder)(space, config)


def make_decoder(space: Space, config: Config) -> Decoder:
    """Pick the decoder for an observation space."""
    kinds = {"vector": VectorDecoder, "discrete": ClassDecoder, "image": ImageDecoder}
    return kinds.get(obs_kind(space), DictDecoder)(space, config)
