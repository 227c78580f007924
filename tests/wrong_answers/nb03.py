"""Plausible wrong answers to the exercises of notebook 03."""

STEP = """
def gate_step(r, c, u, h):
    candidate = {candidate}
    update = {update}
    return {mix}
"""
GOOD = {
    "candidate": "torch.tanh(torch.sigmoid(r) * c)",
    "update": "torch.sigmoid(u - 1)",
    "mix": "update * candidate + (1 - update) * h",
}


def step(**changed):
    return STEP.format(**{**GOOD, **changed})


JACOBIAN = """
def jacobian(W, h, steps):
    product = torch.eye(len(h))
    for _ in range(steps):
        h = torch.tanh(h @ W)
        product = {product}
    return {result}
"""

WRONG = {
    "03.1": [
        (step(mix="(1 - update) * candidate + update * h"), "the part that is overwritten"),
        (step(update="torch.sigmoid(u)"), "half of h is overwritten by default"),
        (step(candidate="torch.sigmoid(r) * torch.tanh(c)"), "stands inside the tanh"),
        (step(candidate="torch.tanh(r * c)"), "it becomes a gate by"),
        (step(update="torch.sigmoid(u) - 1"), "Compute three lines in order"),
        ("def gate_step(r, c, u, h):\n    h = u * c", "is a return missing"),
    ],
    "03.2": [
        ("def bias_for(steps):\n    return -1.0", "is left, not 0.5"),
        ("def bias_for(steps):\n    return 1 - 0.5 ** (1 / steps)", "which bias makes a sigmoid"),
        (
            "def bias_for(steps):\n    kept = 0.5 ** (1 / steps)\n"
            "    return math.log(kept / (1 - kept))",
            "The sign is wrong",
        ),
        ("def bias_for(steps):\n    return -math.log(steps)", "is left, not 0.5"),
    ],
    "03.3": [
        (
            JACOBIAN.format(product="(1 - h**2)[:, None] * W.T @ product", result="product.T"),
            "This is the transpose",
        ),
        (JACOBIAN.format(product="W.T @ product", result="product"), "The slope of the tanh"),
        (
            JACOBIAN.format(product="product @ ((1 - h**2)[:, None] * W.T)", result="product"),
            "newest step on the left",
        ),
        (
            "def jacobian(W, h, steps):\n    return torch.zeros(len(h), len(h))",
            "is the identity",
        ),
    ],
    "03.4": [
        (
            "def count(D, U, g):\n    return D * (D + 3 * U) + 3 * D * D",
            "the count of dense layers",
        ),
        (
            "def count(D, U, g):\n    return (D * D + 3 * U * D + 3 * D * D) // g",
            "its own weights for all 3U",
        ),
        ("def count(D, U, g):\n    return 3 * D * D // g", "mix is missing"),
        ("def count(D, U, g):\n    return 4 * D * D // g", "mix has 3584"),
    ],
    "03.5": [
        ("harmless, suffering = [0, 4, 5, 6], [3, 4]", "itself shows the ball"),
        ("harmless, suffering = [0, 1, 2, 4, 5, 6], [3, 4]", "has lost the lane"),
        ("harmless, suffering = [0, 1, 4, 5, 6], [4]", "whether the ball comes out"),
        ("harmless, suffering = [0, 1, 4, 5, 6], [3, 4, 5, 6, 7]", "as easy as before"),
        ("harmless, suffering = [1, 4, 5, 6], [3, 4]", "h is empty anyway"),
        ("harmless, suffering = 4, [3, 4]", "a list of whole numbers"),
    ],
}
