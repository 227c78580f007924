"""Plausible wrong answers to the exercises of notebook 07."""

BOUNDS = """
def bounds(n, p, k):
    mean = {mean}
    spread = {spread}
    return mean - k * spread, mean + k * spread
"""
SPIKE = """
import math
def spike(m, p):
    return {value}
"""
ENTROPY = "-(p * math.log(p) + (1 - p) * math.log(1 - p))"
OBEY = """
def obedience(lanes, actions):
    wanted = {wanted}
    return (lanes[:, 1:] == wanted).mean()
"""
DIAGNOSE = """
def diagnose(kl, rec):
    calm = {calm}
    if {blind}:
        return "blind"
    return "no memory" if calm > 1 else "healthy"
"""

WRONG = {
    "07.1": [
        (BOUNDS.format(mean="n * p", spread="(n * p * (1 - p)) ** 0.5"), "divided by n"),
        (BOUNDS.format(mean="p", spread="p * (1 - p) / n"), "take its square root"),
        (BOUNDS.format(mean="p", spread="(p * (1 - p)) ** 0.5"), "the spread of one toss"),
        ("bounds = lambda n, p, k: p", "Return two numbers"),
    ],
    "07.2": [
        (SPIKE.format(value=ENTROPY), "the KLs of m independent latents add up"),
        (SPIKE.format(value="m * math.log(2)"), "That holds for a fair coin"),
        (SPIKE.format(value=f"-m * ({ENTROPY})"), "never negative"),
        (SPIKE.format(value=f"m * {ENTROPY} / math.log(2)"), "That is in bits"),
    ],
    "07.3": [
        (OBEY.format(wanted="lanes[:, :-1] + actions - 1"), "clip the wanted lane"),
        (
            OBEY.format(wanted="np.clip(lanes[:, :1] + np.cumsum(actions - 1, 1), 0, 7)"),
            "always obeys should get 1",
        ),
        (OBEY.format(wanted="np.clip(lanes[:, :-1] + actions, 0, 7)"), "always obeys"),
        ("obedience = lambda lanes, actions: 1.0", "should not get the full share"),
    ],
    "07.4": [
        (DIAGNOSE.format(calm="kl.mean()", blind="kl[0] < 1"), "leave the coin at t = 4 out"),
        (DIAGNOSE.format(calm="kl[[2, 3, 5, 6]].mean()", blind="False"), "is that likely"),
        (DIAGNOSE.format(calm="kl[[2, 3, 5, 6]].mean()", blind="kl[2] < 1"), "called blind"),
    ],
}
