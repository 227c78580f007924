"""Losses of one row or one window."""

from reference.distributions import coin_nats, kl


def held(probs, sg):
    return [[sg(p) for p in latent] for latent in probs]


def kl_balance(q, p, free_nats, sg):
    """Dynamics and representation loss of one row, from two lists of S lists of K."""
    dyn = max(free_nats, kl(held(q, sg), p))
    rep = max(free_nats, kl(q, held(p, sg)))
    return dyn, rep


def continue_loss(logit, is_terminal, gamma):
    return coin_nats(logit, (1 - is_terminal) * gamma)


def lambda_return(reward, boot, term, last, gamma, lam):
    """Returns of one window: one less than it has rows."""
    steps = len(reward)
    following = boot[steps - 1]
    returns = [0.0] * (steps - 1)
    for t in range(steps - 2, -1, -1):
        live = (1 - term[t + 1]) * gamma
        cont = (1 - last[t + 1]) * lam
        following = reward[t + 1] + (1 - cont) * live * boot[t + 1] + live * cont * following
        returns[t] = following
    return returns


def total(losses, scales):
    """Weighted sum of means; every loss is a list of numbers."""
    return sum(scales[name] * sum(loss) / len(loss) for name, loss in losses.items())
