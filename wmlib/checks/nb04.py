"""Exercises of notebook 04: the stochastic latent."""

import itertools
import math

import numpy as np
import torch

from wmlib.checks.exercises import Wrong, array, exercise, number, require
from wmlib.distributions import kl_divergence, unimix_probs


@exercise("04.1")
def capacity(answer):
    """Capacity S ln K, for any S and K."""
    found = number(answer(4, 8), "capacity(4, 8)")
    require(abs(found - 12) > 1e-3, "That is in bits; the course counts in nats, with ln.")
    require(found > 0, "A capacity is not negative.")
    require(
        abs(found - 8 * math.log(4)) > 1e-3 and abs(found - math.log(32)) > 1e-3,
        "S dice with K faces have K to the power S states, not S to the power K nor S times K.",
    )
    require(abs(found - 4 * math.log(8)) < 1e-4, "4 dice of 8 faces hold ln(8**4) = 8.318 nats.")
    for stoch, classes in ((1, 2), (3, 5), (32, 96), (1000, 1000)):
        found = number(answer(stoch, classes), f"capacity({stoch}, {classes})")
        wanted = stoch * math.log(classes)
        require(
            abs(found - wanted) < 1e-6 * wanted + 1e-4,
            f"{stoch} dice of {classes} faces hold another number of nats; is K**S too large "
            "to be computed?",
        )
    return "The logarithm turns the power into a product."


@exercise("04.2")
def face_at(answer):
    """Every u falls on the piece it lies in, for any number of dice at once."""
    probs = torch.tensor([0.2, 0.5, 0.3])
    u = (torch.arange(1000) + 0.5) / 1000
    found = array(answer(probs.expand(1000, 3), u), what="face_at(probs, u)")
    require(
        found.shape == (1000,),
        f"For 1,000 dice the result should have shape (1000,), and has {found.shape}.",
    )
    require(found == np.round(found), "Faces are whole numbers.")
    require(
        (found >= 0) & (found <= 2),
        "Three faces are numbered 0, 1, 2; yours leave that range: count only the ends passed.",
    )
    share = np.bincount(found.astype(int), minlength=3) / 1000
    require(
        np.abs(share - probs.numpy()).max() < 0.002,
        f"Evenly spread u should give faces as often as probs says, and give {share.tolist()}.",
    )
    require(
        (np.diff(found) >= 0) & (np.diff(found) <= 1),
        "As u grows from 0 to 1, the face should go 0, 1, 2: lay the pieces in their order.",
    )
    many = torch.rand(50, 4, 6).softmax(-1)
    luck = torch.rand(50, 4)
    found = array(answer(many, luck), (50, 4), "the faces of 50 x 4 dice")
    ends = many.double().cumsum(-1).numpy()
    low = np.concatenate([np.zeros((50, 4, 1)), ends[..., :-1]], -1)
    at = found.astype(int)[..., None]
    inside = (np.take_along_axis(low, at, -1)[..., 0] <= luck.numpy() + 1e-5) & (
        luck.numpy() <= np.take_along_axis(ends, at, -1)[..., 0] + 1e-5
    )
    require(inside, "With dice that differ from each other, some u fall on another die's piece.")
    return "Each end that u has passed moves it one piece on."


@exercise("04.3")
def pretend(answer):
    """The value is the throw, the gradient that of the probabilities."""
    logits = torch.randn(5, 2, 3, requires_grad=True)
    probs = logits.softmax(-1)
    onehot = torch.eye(3)[torch.randint(3, (5, 2))]
    weight = torch.randn(5, 2, 3)
    (wanted,) = torch.autograd.grad((probs * weight).sum(), logits, retain_graph=True)
    z = answer(onehot, probs)
    require(torch.is_tensor(z), "The result should be a tensor of the shape of onehot.")
    value = array(z, (5, 2, 3), "the result")
    require(
        np.abs(value - onehot.numpy()).max() < 1e-5,
        "The value is not the throw: whatever you add to onehot must be zero as a number.",
    )
    require(
        z.requires_grad, "The value is right, but no gradient flows: probs must appear undetached."
    )
    (found,) = torch.autograd.grad((z * weight).sum(), logits, allow_unused=True)
    if found is None:
        raise Wrong("The value is right, but its gradient does not reach probs.")
    require(
        torch.allclose(found, wanted, atol=1e-5),
        "The gradient reaches probs, but it is not the one that probs itself would have.",
    )
    return "A number minus itself is zero, and detach hides one of the two from the gradient."


@exercise("04.4")
def reinforce_loss(answer):
    """Unbiased over all pairs of throws, and less noisy than without a baseline."""
    logits = torch.tensor([0.3, -0.4, 0.8], dtype=torch.float64)
    cost = torch.tensor([5.0, 6.0, 9.0], dtype=torch.float64)
    probs = logits.softmax(-1)
    exact = probs * (cost - (probs * cost).sum())

    def gradients(loss):
        """Mean and mean square of the gradient over all outcomes of two throws."""
        mean = torch.zeros(3, dtype=torch.float64)
        square = 0.0
        for pair in itertools.product(range(3), repeat=2):
            leaf = logits.clone().requires_grad_()
            logp = leaf.log_softmax(-1)[list(pair)]
            value = loss(cost[list(pair)], logp)
            require(
                torch.is_tensor(value) and value.numel() == 1,
                "The result should be one number, a tensor that carries a gradient.",
            )
            require(value.requires_grad, "No gradient flows: logp must appear in the loss.")
            (grad,) = torch.autograd.grad(value.sum(), leaf)
            chance = probs[list(pair)].prod()
            mean = mean + chance * grad
            square = square + chance * grad.square().sum()
        return mean, square

    mean, square = gradients(answer)
    _, plain = gradients(lambda c, logp: (c * logp).mean())
    ratio = float((mean @ exact) / (exact @ exact))
    off = float((mean - exact).norm() / exact.norm())
    if off > 1e-3 and float((mean - ratio * exact).norm() / exact.norm()) < 1e-3:
        require(ratio > 0, "The gradient points the wrong way: the cost is to be lowered.")
        raise Wrong(
            f"The mean over all pairs of throws is {ratio:.2f} times the exact gradient: it is "
            "biased. Does your baseline contain the throw's own cost, or is there a sum for a mean?"
        )
    require(
        off < 1e-3,
        "The mean over all pairs of throws is not the exact gradient: the estimate is biased.",
    )
    require(
        float(square) < 0.9 * float(plain),
        "It is unbiased, but as noisy as without a baseline: subtract from each cost what the "
        "other throws cost.",
    )
    return "The other throws know nothing of this one, so their mean adds no bias."


@exercise("04.5")
def largest_kl(answer):
    """The KL of two dice that are sure of different faces."""
    found = number(answer(4, 0.01), "largest_kl(4, 0.01)")
    require(
        abs(found + math.log(0.01 / 4)) > 1e-3,
        "Close: -ln(mix / K) takes q as entirely sure, but q has unimix too.",
    )
    high = 1 - 0.01 + 0.01 / 4
    require(
        abs(found - high * math.log(high / 0.0025)) > 1e-3,
        "One face is missing: q also has mix / K where p is sure, and that term is negative.",
    )
    require(
        abs(found - 0.99 * math.log(0.99 / 0.0025)) > 1e-3,
        "A sure face has 1 - mix + mix / K, not 1 - mix: the uniform part adds to it as well.",
    )
    for classes, mix in ((4, 0.01), (8, 0.01), (2, 0.1), (32, 0.001)):
        ends = 80 * torch.eye(classes)[:2].unsqueeze(1)
        wanted = float(kl_divergence(unimix_probs(ends[0], mix), unimix_probs(ends[1], mix)))
        found = number(answer(classes, mix), f"largest_kl({classes}, {mix})")
        require(
            abs(found - wanted) < 1e-3,
            f"For K = {classes} and mix = {mix} two dice that are sure of different faces are "
            f"{wanted:.3f} nats apart, and yours gives {found:.3f}.",
        )
    return "However wrong the prior, a latent of four classes costs at most 5.92 nats."
