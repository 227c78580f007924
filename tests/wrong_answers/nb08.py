"""Plausible wrong answers to the exercises of notebook 08."""

ERROR = """
def error(wrong):
    return {value}
"""
CROSS = """
def surprise(p, q):
    return {surprise}


def excess(p, q):
    return {excess}
"""
RIGHT = "-(p * np.log(q) + (1 - p) * np.log(1 - q))"
TAU = """
def tau(p, q):
    return {value}
"""
GAIN = """
def gain(a, b, same):
    if same:
        return a.mean() - b.mean(), {same}
    return a.mean() - b.mean(), {apart}
"""
SAME, APART = "(a - b).std() / len(a) ** 0.5", "((a.var() + b.var()) / len(a)) ** 0.5"

WRONG = {
    "08.1": [
        (ERROR.format(value="wrong.min(0).sum(-1)"), "changes sides"),
        (ERROR.format(value="wrong.mean(-1).min(0)"), "not the mean"),
        (ERROR.format(value="wrong.sum(-1).max(0)"), "take the nearer future"),
        (ERROR.format(value="wrong.sum()"), "should have shape"),
    ],
    "08.2": [
        (CROSS.format(surprise=RIGHT[1:], excess="0.0"), "mind the sign"),
        (
            CROSS.format(surprise="-(q * np.log(p) + (1 - q) * np.log(1 - p))", excess="0.0"),
            "roles are swapped",
        ),
        (
            CROSS.format(surprise="-(p * np.log(p) + (1 - p) * np.log(1 - p))", excess="0.0"),
            "does not know p",
        ),
        (CROSS.format(surprise=RIGHT, excess="surprise(p, q)"), "after subtracting"),
    ],
    "08.3": [
        (TAU.format(value="np.log(q / (1 - q)) / np.log(p / (1 - p))"), "Upside down"),
        (TAU.format(value="np.log(p) / np.log(q)"), "Look at the log-odds"),
    ],
    "08.4": [
        (GAIN.format(same=APART, apart=APART), "come in pairs"),
        (GAIN.format(same=SAME, apart=SAME), "variances add up"),
        (GAIN.format(same="(a - b).std()", apart=APART), "spreads less"),
        ("def gain(a, b, same):\n    return a.mean() - b.mean()", "Return two numbers"),
    ],
}
