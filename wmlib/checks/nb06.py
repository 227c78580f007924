"""Checks of notebook 06: the losses."""

from collections.abc import Callable
from typing import Any

import torch

from wmlib.checks.exercises import Wrong, array, exercise, number, require
from wmlib.config import Config
from wmlib.distributions import symexp_bins

LOSSES = {"rec", "rew", "con", "dyn", "rep"}


@exercise("06.1")
def bill(answer: Callable) -> str:
    """Nats above the entropy of the world."""
    torch.manual_seed(0)
    nll = torch.rand(50, 8)
    kl = 2 * torch.rand(50, 8)
    entropy = torch.rand(8)
    found = number(answer(nll.clone(), kl.clone(), entropy.clone()), "the excess")
    want = float((nll + kl).sum(1).mean() - entropy.sum())
    per_frame = float((nll + kl).mean() - entropy.mean())
    require(abs(found - per_frame) > 1e-4, "That is per frame; the nats of an episode add up.")
    require(abs(found + want) > 1e-4, "The sign is turned round: the model pays more, not less.")
    require(
        abs(found - float((nll + kl).sum() - entropy.sum())) > 1e-3,
        "That is the sum over all episodes; an episode is asked for, on average.",
    )
    for name, part in (("NLL", nll), ("KL", kl)):
        only = float(part.sum(1).mean() - entropy.sum())
        require(abs(found - only) > 1e-4, f"That counts the {name} alone; the bill has two parts.")
    require(abs(found - want) < 1e-3, "Add both costs over the frames, average, subtract H.")
    return "It is never negative, up to the noise of the average."


@exercise("06.2")
def spread(answer: Callable) -> str:
    """The full vector of two-hot weights."""
    for bins in (symexp_bins(41), torch.tensor([-3.0, -1.0, 0.5, 4.0, 10.0])):
        top = float(min(bins[-1], torch.tensor(500.0)))
        for x in (0.1, -2.7, 3.0, top):
            w = torch.as_tensor(answer(x, bins.clone()), dtype=torch.float32)
            array(w, (len(bins),), "the vector")
            require(bool(w.any()), "All weights are zero; write them into the vector.")
            require(bool((w >= -1e-6).all()), "A weight is negative: are left and right swapped?")
            require(
                abs(float(w.sum()) - 1) < 1e-4, f"The weights sum to {float(w.sum()):.3f}, not 1."
            )
            used = w.nonzero().flatten()
            close = len(used) <= 2 and int(used[-1] - used[0]) <= 1
            require(close, "More than two bins, or two that are no neighbours, have a weight.")
            mean = float((w * bins).sum())
            slack = 1e-3 * max(1.0, abs(x))
            if abs(mean - x) > slack:
                mirrored = float((w.flip(0) * bins.flip(0)).sum())
                swapped = w.clone()
                swapped[used] = w[used].flip(0)
                if abs(float((swapped * bins).sum()) - x) <= slack and len(used) == 2:
                    raise Wrong("The two weights are swapped: the nearer bin gets more.")
                require(
                    len(used) == 2 or mirrored == x,
                    f"For x = {x} only one bin is used, so the mean is {mean:.3f}.",
                )
                raise Wrong(f"The mean of the bins is {mean:.3f} where x is {x}: no lever yet.")
    return "The mean of the bins gives the number back, wherever it lies."


@exercise("06.3")
def free_bits(answer: Callable) -> str:
    """Sum over latents, clip, mean."""
    torch.manual_seed(0)
    kl = torch.rand(6, 5, 4) ** 3
    kl[0] += 1.5
    for nats in (0.0, 1.0, 2.0):
        found = torch.as_tensor(answer(kl.clone(), nats), dtype=torch.float32)
        require(found.ndim == 0, f"A single number is asked for, not a tensor of {found.shape}.")
        each = kl.clamp(min=nats).sum(-1).mean()
        late = kl.sum(-1).mean().clamp(min=nats)
        want = kl.sum(-1).clamp(min=nats).mean()
        if abs(float(found - want)) < 1e-4:
            continue
        require(abs(float(found - each)) > 1e-4, "Each latent is clipped; sum over them first.")
        require(abs(float(found - late)) > 1e-4, "The mean is clipped; clip every row, then mean.")
        require(
            abs(float(found - kl.mean(-1).clamp(min=nats).mean())) > 1e-4,
            "The latents are averaged; their nats add up.",
        )
        raise Wrong("Sum over the latents, clip from below, then take the mean over all rows.")
    return "The allowance belongs to a row, not to a latent and not to the batch."


def routes() -> dict[str, set[str]]:
    """Which loss moves which part, for one row: measured on a small world model."""
    import gymnasium as gym

    from wmlib.world_model import WorldModel

    torch.manual_seed(0)
    config = Config(deter=32, hidden=16, stoch=4, classes=4, units=16, free_nats=0.0)
    obs = gym.spaces.Box(-10, 10, (3,))
    model = WorldModel(obs, gym.spaces.Discrete(2), config)
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))  # nothing is exactly zero
    batch = {
        "obs": torch.randn(4, 1, 3),
        "prev_action": torch.zeros(4, 1, 2),
        "reward": torch.ones(4, 1),
        "is_first": torch.ones(4, 1),
        "is_terminal": torch.zeros(4, 1),
    }
    parts = {
        "posterior": model.rssm.posterior_net,
        "prior": model.rssm.prior_net,
        "decoder": model.decoder,
        "reward head": model.reward_head,
    }
    moved: dict[str, set[str]] = {name: set() for name in parts}
    for name in LOSSES:
        model.zero_grad()
        model.losses(batch, model.observe(batch))[name].mean().backward()
        for part, module in parts.items():
            grads = [p.grad for p in module.parameters() if p.grad is not None]
            if any(bool(g.any()) for g in grads):
                moved[part].add(name)
    return moved


@exercise("06.4")
def route(answer: Any) -> str:
    """Which losses move which part."""
    truth = routes()
    require(isinstance(answer, dict), "The answer should stay a dictionary with its four keys.")
    require(set(answer) == set(truth), "Keep the four keys as they are and fill in the values.")
    for part, names in answer.items():
        given = {names} if isinstance(names, str) else names
        require(isinstance(given, (set, list, tuple)), "Give a set of names for each part.")
        given = set(given)
        odd = sorted(str(n) for n in given - LOSSES)
        require(not odd, f"'{odd[0] if odd else ''}' is none of the five losses.")
        more = sorted(given - truth[part])
        less = truth[part] - given
        require(not more, f"No gradient of {', '.join(more)} arrives in the {part}.")
        require(not less, f"The {part} is moved by one more loss than you say.")
    return "A small world model was just X-rayed, and agrees."


@exercise("06.5")
def claim(sigma: Callable, weight: Callable) -> str:
    """Weight of a squared error and standard deviation."""
    for w in (0.5, 1.0, 30.0):
        s = number(sigma(w), "sigma(w)")
        variance = 1 / (2 * w)
        require(
            abs(s - variance) > 1e-6 or abs(s - variance**0.5) < 1e-6,
            "That is the variance; its root is asked for.",
        )
        require(abs(s - w**-0.5) > 1e-6, "There is a 2 in the exponent of a Gaussian.")
        torch.manual_seed(0)
        y = torch.randn(20, dtype=torch.float64)
        mean = 0.3
        place, width = torch.tensor([mean, max(s, 1e-9)], dtype=y.dtype)
        normal = torch.distributions.Normal(place, width)
        rest = -normal.log_prob(y) - w * (y - mean) ** 2
        require(float(rest.std()) < 1e-6, f"For w = {w} the NLL is not w times the squared error.")
        back = number(weight(s), "weight(s)")
        require(abs(back - w) < 1e-6 * w + 1e-9, "The value of weight(sigma(w)) should be w again.")
    return f"The value of weight(0.13) is {float(weight(0.13)):.0f}."
