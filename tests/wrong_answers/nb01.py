"""Plausible wrong answers to the exercises of notebook 01."""

ROWS = """
def rows_of(actions, rewards, terminated, truncated):
    reward, action = {reward}, {action}
    is_terminal = np.zeros(len(reward), bool)
    is_terminal[-1] = {terminal}
    return reward, action, is_terminal
"""
GOOD = {
    "reward": "np.append(0.0, rewards)",
    "action": "np.append(actions, 0)",
    "terminal": "terminated",
}


def rows(**changed):
    return ROWS.format(**{**GOOD, **changed})


VALUE = """
def value_of(policy, rules):
    state, chance = every_world(rules)
    total = np.zeros(len(chance))
    for _ in range(rules.last):
        state, reward = advance(rules, state, policy(state))
        total {add} reward
    return {mean}
"""

WRONG = {
    "01.1": [
        ("with_memory, without_memory = np.log2(5), 2.9", "the natural logarithm gives nats"),
        ("with_memory, without_memory = np.log(2), np.log(8)", "the coin with two sides"),
        ("with_memory, without_memory = np.log(5), np.log(8)", "not equally likely"),
        ("with_memory, without_memory = np.log(5), np.log(20)", "add their chances"),
        ("with_memory, without_memory = np.log(5), 1.0", "count how many of the 20 pairs"),
        ("with_memory, without_memory = 'ln 5', 'ln 8'", "should be numbers"),
    ],
    "01.2": [
        (
            "def update(prior, likelihood):\n    return np.multiply(prior, likelihood)",
            "divide the product by its sum",
        ),
        (
            "def update(prior, likelihood):\n    return np.array(likelihood) / sum(likelihood)",
            "The prior has no effect",
        ),
        ("def update(prior, likelihood):\n    return prior", "What was seen has no effect"),
        (
            "def update(prior, likelihood):\n    x = np.add(prior, likelihood)\n"
            "    return x / x.sum()",
            "Multiply entry by entry",
        ),
        ("def update(prior, likelihood):\n    x = prior * likelihood", "is a return missing"),
    ],
    "01.3": [
        (rows(reward="rewards", action="actions"), "a row of its own"),
        (rows(reward="np.append(rewards, 0.0)"), "belongs to row k + 1"),
        (rows(action="np.append(0, actions)"), "stays in row k"),
        (rows(action="np.append(actions, actions[-1])"), "nothing is done: store 0"),
        (rows(terminal="terminated or truncated"), "but not terminal"),
        (rows(terminal="False"), "that terminated is terminal"),
        (rows(reward="np.append(rewards[0], rewards)"), "its reward is 0"),
        ("def rows_of(a, r, e, u):\n    return np.append(0.0, r)", "Return three arrays"),
    ],
    "01.4": [
        (
            "def legal(written, capacity, length):\n    return capacity - length + 1",
            "many rows yet",
        ),
        (
            "def legal(written, capacity, length):\n    return max(0, written - length + 1)",
            "have been overwritten",
        ),
        (
            "def legal(written, capacity, length):\n    return min(written, capacity) - length + 1",
            "never negative",
        ),
        (
            "def legal(written, capacity, length):\n"
            "    return max(0, min(written, capacity) - length)",
            "there are 3 windows, not 2",
        ),
    ],
    "01.5": [
        (VALUE.format(add="+=", mean="total.mean()"), "weight by their chances"),
        (VALUE.format(add="=", mean="(chance * total).sum()"), "costs of earlier moves"),
        (VALUE.format(add="+=", mean="total.sum()"), "the mean return is"),
        (
            "def value_of(policy, rules):\n"
            "    return simulate(policy, 1000, np.random.default_rng(0)).mean()",
            "no sampling",
        ),
    ],
}
