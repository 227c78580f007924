"""Distributions: numbers, lists of class probabilities, lists of bins."""

import math


def symlog(x):
    return math.copysign(math.log1p(abs(x)), x)


def symexp(x):
    return math.copysign(math.expm1(abs(x)), x)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(logits):
    largest = max(logits)
    weights = [math.exp(logit - largest) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def log_softmax(logits):
    largest = max(logits)
    total = sum(math.exp(logit - largest) for logit in logits)
    return [logit - largest - math.log(total) for logit in logits]


def unimix(logits, mix=0.01):
    return [(1 - mix) * p + mix / len(logits) for p in softmax(logits)]


def straight_through(onehot, probs, sg):
    return [o + p - sg(p) for o, p in zip(onehot, probs, strict=True)]


def entropy(probs):
    return -sum(p * math.log(p) for p in probs if p > 0)


def kl_one(q, p):
    """KL[q || p] of one latent."""
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(q, p, strict=True) if a > 0)


def kl(q, p):
    """KL[q || p], summed over the latents: two lists of lists."""
    return sum(kl_one(a, b) for a, b in zip(q, p, strict=True))


def symexp_bins(count=255):
    middle = count // 2
    half = [symexp(-20 + 20 * i / middle) for i in range(middle + 1)]
    return half + [-b for b in reversed(half[:-1])]


def twohot(x, bins):
    """All weights, of which at most two are not zero."""
    x = min(max(x, bins[0]), bins[-1])
    target = [0.0] * len(bins)
    for i in range(len(bins) - 1):
        left, right = bins[i], bins[i + 1]
        if left <= x <= right:
            target[i] = (right - x) / (right - left)
            target[i + 1] = (x - left) / (right - left)
            return target
    raise AssertionError("a number between two bins")


def twohot_loss(logits, x, bins):
    target = twohot(x, bins)
    return -sum(t * logp for t, logp in zip(target, log_softmax(logits), strict=True) if t)


def twohot_mean(logits, bins):
    return math.fsum(p * b for p, b in zip(softmax(logits), bins, strict=True))


def coin_nats(logit, target):
    """Cross-entropy between a coin that shows 1 with probability `target` and the prediction."""
    return -(target * math.log(sigmoid(logit)) + (1 - target) * math.log(sigmoid(-logit)))


def discrete_log_prob(logits, action, mix=0.01):
    """Log-probability of a one-hot action."""
    return sum(a * math.log(p) for a, p in zip(action, unimix(logits, mix), strict=True) if a)


def discrete_entropy(logits, mix=0.01):
    return entropy(unimix(logits, mix))


def normal(m, q):
    """Mean and standard deviation of one action dimension."""
    return math.tanh(m), 0.9 * sigmoid(q + 2) + 0.1


def normal_log_prob(raw_mean, raw_std, action):
    total = 0.0
    for m, q, a in zip(raw_mean, raw_std, action, strict=True):
        mean, std = normal(m, q)
        total += -((a - mean) ** 2) / (2 * std**2) - math.log(std) - math.log(2 * math.pi) / 2
    return total


def normal_entropy(raw_mean, raw_std):
    pairs = zip(raw_mean, raw_std, strict=True)
    return sum(math.log(normal(m, q)[1]) + (1 + math.log(2 * math.pi)) / 2 for m, q in pairs)
