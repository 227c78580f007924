"""Wrong answers to the exercises of notebook 02."""

WRONG = {
    "02.2": [
        ("def undo(y):\n    return torch.exp(y) - 1", "symlog keeps the sign"),
        ("def undo(y):\n    return torch.sign(y) * torch.exp(torch.abs(y))", "solve y = ln(1 + x)"),
        ("def undo(y):\n    return torch.exp(y)", "(0) must be 0: symlog"),
    ],
    "02.1": [
        (
            "def nats(p, x):\n    return F.binary_cross_entropy(p, x, reduction='none')"
            ".mean((-3, -2, -1))",
            "not their mean",
        ),
        (
            "def nats(p, x):\n    return -(x * torch.log(p)).sum((-3, -2, -1))",
            "A dark pixel has to be paid for",
        ),
        (
            "def nats(p, x):\n    return F.binary_cross_entropy(p, x, reduction='sum')",
            "One number per frame",
        ),
        ("def nats(p, x):\n    return (p - x).square().sum((-3, -2, -1))", "where it is bright"),
    ],
    "02.3": [
        (
            "def size(side, depth):\n"
            "    return depth * (2, 3, 4, 4)[round(math.log2(side / 4)) - 1]",
            "each of them at 4 × 4 places",
        ),
        ("def size(side, depth):\n    return 16 * depth * 4", "which multiplier is the last"),
        ("def size(side, depth):\n    return side * side", "which multiplier is the last"),
    ],
    "02.4": [
        (
            "def beta_max(places, pixels):\n    q = 1 / places\n"
            "    coin = -q * math.log(q) - (1 - q) * math.log(1 - q)\n"
            "    return pixels * coin / math.log(places)",
            "all their pixels are in doubt",
        ),
        (
            "def beta_max(places, pixels):\n    q = 1 / places\n"
            "    return places * pixels * q * (1 - q) / math.log(places)",
            "the entropy of a coin",
        ),
        (
            "def beta_max(places, pixels):\n    q = 1 / places\n"
            "    coin = -q * math.log(q) - (1 - q) * math.log(1 - q)\n"
            "    return places * pixels * coin",
            "divide it by what the code costs",
        ),
    ],
    "02.5": [
        (
            "def code(ball, paddle):\n    q = torch.zeros(2, 8)\n    q[0, ball] = 1\n"
            "    q[1, paddle] = 1\n    return q\n\nprior = torch.full((2, 8), 1 / 8)",
            "classes that never occur",
        ),
        (
            "def code(ball, paddle):\n    q = torch.zeros(2, 8)\n    q[:, ball] = 1\n"
            "    return q\n\nprior = torch.full((2, 8), 1 / 8)",
            "can get the same code",
        ),
        (
            "def code(ball, paddle):\n    return torch.full((2, 8), 1 / 8)\n\n"
            "prior = torch.ones(2, 8)",
            "has to sum to 1",
        ),
    ],
}
