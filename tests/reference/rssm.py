"""The recurrent state-space model on one window, with lists of numbers.

`weights` maps the names of the parameters to nested lists; `sizes` has blocks, stoch, classes and
unimix. The drawn classes come from outside, so that both sides dream the same dream.
"""

import math

from reference.distributions import sigmoid, straight_through, unimix


def linear(x, weight, bias):
    """One number for each row of the matrix."""
    return [
        b + sum(w * v for w, v in zip(row, x, strict=True))
        for row, b in zip(weight, bias, strict=True)
    ]


def norm_silu(x, gain):
    size = math.sqrt(sum(v * v for v in x) / len(x) + 1e-4)
    scaled = [g * v / size for g, v in zip(gain, x, strict=True)]
    return [v * sigmoid(v) for v in scaled]


def nln(x, weights, name):
    y = linear(x, weights[f"{name}.linear.weight"], weights[f"{name}.linear.bias"])
    return norm_silu(y, weights[f"{name}.norm.gain"])


def block(x, weights, name, k):
    """Block k of a block-diagonal linear layer, whose matrices are stored (in, out)."""
    columns = [list(column) for column in zip(*weights[f"{name}.weight"][k], strict=True)]
    return linear(x, columns, weights[f"{name}.bias"][k])


def core(weights, blocks, h, z, action, sg):
    """The next h, from the lists h (D), flat z (S*K) and action (A)."""
    action = [a / sg(max(1.0, abs(a))) for a in action]
    x0 = nln(h, weights, "core.from_h")
    x1 = nln(z, weights, "core.from_z")
    x2 = nln(action, weights, "core.from_a")
    share = len(h) // blocks
    mixed = []
    for k in range(blocks):
        v = h[k * share : (k + 1) * share] + x0 + x1 + x2
        mixed += block(v, weights, "core.mix", k)
    y = norm_silu(mixed, weights["core.norm.gain"])
    following = []
    for k in range(blocks):
        gates = block(y[k * share : (k + 1) * share], weights, "core.gates", k)
        for i in range(share):
            reset, candidate, update = gates[i], gates[share + i], gates[2 * share + i]
            following.append(gru(reset, candidate, update, h[k * share + i]))
    return following


def gru(reset, candidate, update, h):
    """One unit of the recurrent core."""
    r = sigmoid(reset)
    c = math.tanh(r * candidate)
    u = sigmoid(update - 1)
    return u * c + (1 - u) * h


def latents(logits, sizes):
    """Probabilities of S latents, from S*K logits."""
    count = sizes.classes
    rows = [logits[s * count : (s + 1) * count] for s in range(sizes.stoch)]
    return [unimix(row, sizes.unimix) for row in rows]


def prior(weights, sizes, h):
    y = nln(nln(h, weights, "prior_net.0"), weights, "prior_net.1")
    return latents(linear(y, weights["prior_net.2.weight"], weights["prior_net.2.bias"]), sizes)


def posterior(weights, sizes, h, embed):
    y = nln(h + embed, weights, "posterior_net.0")
    layer = weights["posterior_net.1.weight"], weights["posterior_net.1.bias"]
    return latents(linear(y, *layer), sizes)


def draw(probs, classes, sg):
    """Flat z: the given class of each latent, with the gradient of its probabilities."""
    z = []
    for p, chosen in zip(probs, classes, strict=True):
        z += straight_through([float(k == chosen) for k in range(len(p))], p, sg)
    return z


def observe(weights, sizes, embed, action, is_first, drawn, start, sg):
    """Follow T rows from start = (h, flat z).

    Lists embed (T, E), action (T, A), is_first (T) and drawn (T, S), the classes of the latents.
    Returns for every row (h, flat z, posterior, prior).
    """
    h, z = start
    rows = []
    for t in range(len(embed)):
        previous = action[t]
        if is_first[t]:
            h, z, previous = [0.0] * len(h), [0.0] * len(z), [0.0] * len(previous)
        h = core(weights, sizes.blocks, h, z, previous, sg)
        q = posterior(weights, sizes, h, embed[t])
        z = draw(q, drawn[t], sg)
        rows.append((h, z, q, prior(weights, sizes, h)))
    return rows


def step(weights, sizes, h, z, action, drawn, sg):
    """One step with eyes closed: next (h, flat z, prior)."""
    h = core(weights, sizes.blocks, h, z, action, sg)
    p = prior(weights, sizes, h)
    return h, draw(p, drawn, sg), p
