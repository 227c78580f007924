"""Plausible wrong answers to the exercises of notebook 06."""

SPREAD = """
def spread(x, bins):
    weights = torch.zeros(len(bins))
    left = (torch.searchsorted(bins, torch.tensor(x), right=True) - 1).clamp(0, len(bins) - 2)
    {body}
    return weights
"""
LEVER = "r = (x - bins[left]) / (bins[left + 1] - bins[left])\n    "
ROUTE = """
answer = {{"posterior": {}, "prior": {}, "decoder": {}, "reward head": {}}}
"""
POSTERIOR = '{"rec", "rew", "con", "rep"}'
SIGMA = """
def sigma(w):
    return {}


def weight(s):
    return {}
"""

WRONG = {
    "06.1": [
        (
            "def excess(nll, kl, entropy):\n    return (nll + kl).mean() - entropy.mean()",
            "per frame",
        ),
        (
            "def excess(nll, kl, entropy):\n    return nll.sum(1).mean() - entropy.sum()",
            "NLL alone",
        ),
        (
            "def excess(nll, kl, entropy):\n    return entropy.sum() - (nll + kl).sum(1).mean()",
            "sign is turned",
        ),
        (
            "def excess(nll, kl, entropy):\n    return (nll + kl).sum() - entropy.sum()",
            "sum over all episodes",
        ),
    ],
    "06.2": [
        (SPREAD.format(body="weights[left] = 1"), "only one bin is used"),
        (
            SPREAD.format(body=LEVER + "weights[left], weights[left + 1] = r, 1 - r"),
            "weights are swapped",
        ),
        (SPREAD.format(body="weights[left], weights[left + 1] = 0.5, 0.5"), "no lever yet"),
        (SPREAD.format(body="weights[left], weights[left + 1] = 1, 1"), "weights sum to"),
        (SPREAD.format(body="weights[:] = 1 / len(bins)"), "no neighbours"),
    ],
    "06.3": [
        (
            "def free_bits(kl, nats):\n    return kl.clamp(min=nats).sum(-1).mean()",
            "Each latent is clipped",
        ),
        (
            "def free_bits(kl, nats):\n    return kl.sum(-1).mean().clamp(min=nats)",
            "The mean is clipped",
        ),
        (
            "def free_bits(kl, nats):\n    return kl.mean(-1).clamp(min=nats).mean()",
            "latents are averaged",
        ),
        ("def free_bits(kl, nats):\n    return kl.sum(-1).clamp(min=nats)", "single number"),
    ],
    "06.4": [
        (ROUTE.format(POSTERIOR, '{"dyn", "rep"}', '{"rec"}', '{"rew"}'), "No gradient of rep"),
        (
            ROUTE.format('{"rec", "rew", "con"}', '{"dyn"}', '{"rec"}', '{"rew"}'),
            "one more loss than you say",
        ),
        (
            ROUTE.format('{"rec", "rew", "con", "dyn", "rep"}', '{"dyn"}', '{"rec"}', '{"rew"}'),
            "No gradient of dyn",
        ),
        (ROUTE.format(POSTERIOR, '{"kl"}', '{"rec"}', '{"rew"}'), "none of the five losses"),
    ],
    "06.5": [
        (SIGMA.format("1 / (2 * w)", "1 / (2 * s)"), "That is the variance"),
        (SIGMA.format("w ** -0.5", "1 / s**2"), "a 2 in the exponent"),
        (SIGMA.format("(2 * w) ** -0.5", "2 * s**2"), "should be w again"),
    ],
}
