"""Laws for the exercises of notebook 02: symexp, nats, shapes, and the price of an object."""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F

from wmlib.checks.exercises import array, exercise, number, require

H = math.log(4) + math.log(8)  # entropy of Curtain's first frame


@exercise("02.2")
def inverse_of_symlog(undo):
    """Inverse: undo(symlog(x)) = x, for both signs, small and large."""
    x = torch.tensor([-5000.0, -3.0, -0.25, 0.0, 0.25, 3.0, 5000.0], dtype=torch.float64)
    y = torch.sign(x) * torch.log1p(torch.abs(x))
    found = array(undo(y), (7,), "undo(y)")
    require(
        abs(found[3]) < 1e-6, "The value of undo(0) must be 0: symlog has a 1 inside the logarithm."
    )
    near = abs(found - x.numpy()) <= 1e-4 * (1 + abs(x.numpy()))
    require(near[4:], "For positive numbers symlog is ln(1 + x); solve y = ln(1 + x) for x.")
    require(near[:3], "Positive numbers come back, negative ones do not: symlog keeps the sign.")
    return "It undoes symlog on both sides of zero."


@exercise("02.1")
def nats_of_a_reconstruction(nats):
    """Nats -ln p(x), summed over pixels, one number per frame."""
    p = torch.rand(3, 4, 4, 1) * 0.9 + 0.05
    x = (torch.rand(3, 4, 4, 1) < 0.5).float()
    right = F.binary_cross_entropy(p, x, reduction="none")
    raw = nats(p, x)
    if torch.is_tensor(raw) and raw.ndim == 0:
        require(False, "One number per frame is asked for, shape (3,) for three frames.")
    found = array(raw, (3,), "nats(p, x)")
    want = right.sum((1, 2, 3)).numpy()
    bright = (right * x).sum((1, 2, 3)).numpy()
    require(
        abs(found - want / 16).max() > 1e-4,
        "Nats of independent pixels add up: use the sum over the pixels, not their mean.",
    )
    require(
        abs(found - bright).max() > 1e-4,
        "A dark pixel has to be paid for too: it has probability 1 - p.",
    )
    require(abs(found + want).max() > 1e-4, "Nats are -ln p, and so never negative.")
    require(
        abs(found - want).max() < 1e-3,
        "Each pixel costs -ln p where it is bright and -ln (1 - p) where it is dark.",
    )
    return "These are the nats that the decoder's loss counts."


@exercise("02.3")
def size_of_the_embedding(size):
    """Places (16) times the channels of the last stage."""
    widths = {8: 2, 16: 3, 32: 4, 64: 4}
    for depth, side in itertools.product((4, 8, 16), widths):
        found = number(size(side, depth), f"the size for side {side}, depth {depth}")
        want = 16 * depth * widths[side]
        stages = round(math.log2(side / 4))
        report = f"For side {side} and depth {depth} you get {found:g}. "
        require(
            found != depth * widths[side],
            report + "That many channels are left, each of them at 4 × 4 places.",
        )
        require(
            found == want,
            report
            + f"Halving {side} down to 4 takes {stages} stages; which multiplier is the last?",
        )
    return "A larger picture needs more stages, and ends as the same 4 × 4."


@exercise("02.4")
def price_at_which_an_object_vanishes(beta_max):
    """Nats saved over nats paid."""
    for places, pixels in ((4, 4), (8, 2), (2, 1), (16, 9)):
        q = 1 / places
        coin = -q * math.log(q) - (1 - q) * math.log(1 - q)
        saved, paid = places * pixels * coin, math.log(places)
        found = number(beta_max(places, pixels), f"beta for {places} places, {pixels} pixels")
        report = f"For {places} places and {pixels} pixels you get {found:.3g}. "
        require(
            abs(found - pixels * coin / paid) > 1e-3,
            report + "The object may be in any of its places: all their pixels are in doubt.",
        )
        require(
            abs(found - saved) > 1e-3 or abs(paid - 1) < 1e-3,
            report + "That is what the code saves; divide it by what the code costs, ln of places.",
        )
        require(
            abs(found - saved / paid) < 1e-3 * saved / paid,
            report
            + "A pixel that is bright in one of n frames costs the entropy of a coin of 1/n.",
        )
    return "Above this price the best thing a model can do is forget."


@exercise("02.5")
def code_at_the_entropy(code, prior):
    """A code of two latents with 8 classes that is lossless and costs ln 32 nats on average."""
    p = array(prior, (2, 8), "prior")
    require(p >= 0, "A probability in the prior is negative.")
    require(abs(p.sum(-1) - 1) < 1e-4, "Each of the two rows of the prior has to sum to 1.")
    frames = list(itertools.product(range(2, 6), range(8)))
    q = [array(code(ball, paddle), (2, 8), "code(ball, paddle)") for ball, paddle in frames]
    for row in q:
        require(row >= 0, "A probability in the code is negative.")
        require(abs(row.sum(-1) - 1) < 1e-4, "Each of the two rows of a code has to sum to 1.")
    for (a, left), (b, right) in itertools.combinations(zip(frames, q, strict=True), 2):
        require(
            (left * right).sum(-1).prod() < 1e-6,
            f"Frames {a} and {b} (ball, paddle) can get the same code: the decoder cannot tell "
            "which of them to draw.",
        )
    require(
        all((p[row > 1e-9] > 0).all() for row in q),
        "The code uses a class to which the prior gives no chance: its KL is infinite.",
    )
    kl = [float((r[r > 1e-9] * np.log(r[r > 1e-9] / p[r > 1e-9])).sum()) for r in q]
    mean = sum(kl) / len(kl)
    require(
        mean < H + 2e-3,
        f"Lossless, but it costs {mean:.3f} nats and the world only {H:.3f}. Does the prior give "
        "its chances to classes that never occur?",
    )
    return f"It costs {mean:.3f} nats, the entropy of the world: no code can be cheaper."
