"""Wrong answers to the exercises of notebook 00."""

WRONG = {
    "00.1": [
        ("dream_a, dream_b, dream_c = 'luck', 'luck', 'error'", "leaves the curtain"),
        ("dream_a, dream_b, dream_c = 'error', 'error', 'error'", "Dream B is not error"),
        ("dream_a, dream_b, dream_c = 'error', 'luck', 'luck'", "stay in every step"),
        ("dream_a, dream_b, dream_c = 1, 2, 3", "one of the words"),
    ],
    "00.2": [
        ("def coin(exits):\n    return exits.mean(), exits.std()", "does not shrink"),
        ("def coin(exits):\n    return exits.mean(), exits.var() / len(exits)", "variance of the"),
        ("def coin(exits):\n    return exits.mean()", "Return two numbers"),
        ("def coin(exits):\n    return exits.mean(), 0.5 / len(exits) ** 0.5", "as estimated"),
    ],
    "00.3": [
        ("def kl(q, p):\n    return np.sum(p * np.log(p / q))", "taken over q"),
        ("def kl(q, p):\n    return np.sum(q * np.log2(q / p))", "This is in bits"),
        ("def kl(q, p):\n    return np.mean(q * np.log(q / p))", "add the terms up"),
        ("def kl(q, p):\n    return -np.sum(q * np.log(p))", "no divergence from itself"),
        ("def kl(q, p):\n    return np.sum(q * np.log(p / q))", "sign is wrong"),
    ],
    "00.4": [
        (
            "def held(steps, returns, goal):\n    return steps[np.flatnonzero(returns >= goal)[0]]",
            "falls back below",
        ),
        (
            "def held(steps, returns, goal):\n"
            "    return steps[np.flatnonzero(returns < goal)[-1] + 1]",
            "index 4 is out of bounds",
        ),
        (
            "def held(steps, returns, goal):\n    return np.flatnonzero(returns < goal)[-1] + 1",
            "not its place",
        ),
    ],
    "00.5": [
        (
            "def reinforce(pi, actions, rewards, baseline):\n"
            "    return rewards[:, None] * (np.eye(3)[actions] - pi)",
            "is the baseline used",
        ),
        (
            "def reinforce(pi, actions, rewards, baseline):\n"
            "    return (rewards - baseline)[:, None] * np.eye(3)[actions]",
            "must sum to 0",
        ),
        (
            "def reinforce(pi, actions, rewards, baseline):\n"
            "    return (baseline - rewards)[:, None] * (np.eye(3)[actions] - pi)",
            "sign is wrong",
        ),
        (
            "def reinforce(pi, actions, rewards, baseline):\n"
            "    return ((rewards - baseline)[:, None] * (np.eye(3)[actions] - pi)).mean(0)",
            "should have shape",
        ),
    ],
}
