"""Wrong answers to the exercises of notebook 09."""


def indices(**changes):
    """The right dictionary with some answers changed, by the first word after 'the'."""
    right = {
        "the action whose log-probability is raised": 2,
        "the first reward in its return": 3,
        "the state whose value is subtracted": 2,
        "the first value that may enter its return": 3,
        "the last continuation in its weight": 2,
        "the last reward in its return": 5,
    }
    keys = dict(
        zip(("action", "first_reward", "state", "value", "weight", "last"), right, strict=True)
    )
    return f"answer = { ({**right, **{keys[k]: v for k, v in changes.items()}})!r}"


REACH = "def reach(lam, H):\n    return "
DEAR = "def dear_moves(reward, is_terminal):\n    "
TIP = "def tipping(p):\n    "

WRONG = {
    "09.1": [
        (indices(first_reward=2), "arrives with the state it leads to"),
        (indices(state=3), "must not know the action"),
        (indices(value=2), "from the first arrival on"),
        (indices(weight=3), "still in play"),
        (indices(last=4), "states 0 to 5"),
        ("answer = {'the action whose log-probability is raised': 2}", "is missing"),
        ("answer = [2, 3, 2, 3, 2, 5]", "stay a dictionary"),
    ],
    "09.2": [
        (REACH + "1 / (1 - lam + 1e-12)", "a dream without end"),
        (REACH + "H", "the reach is 1"),
        (
            REACH + "sum(n * (1 - lam) * lam ** (n - 1) for n in range(1, H + 1))",
            "the reach approaches H",
        ),
        (
            REACH + "sum(n * (1 - lam) * lam ** (n - 1) for n in range(1, H)) + 0.25",
            "leaves out the weight",
        ),
        (REACH + "sum(lam**k for k in range(1, H + 1)) + 1 - lam", "rewards on average"),
    ],
    "09.3": [
        (DEAR + "return 5 * reward", "multiplies the ±1"),
        (DEAR + "return torch.where(is_terminal, reward, 5 * reward)", "The last move costs"),
        (DEAR + "return torch.where(is_terminal, reward.sign(), 5 * reward)", "its sign is the"),
        (DEAR + "return reward - 0.08", "0.02 should become 0.10"),
        (DEAR + "return reward[0]", "should have shape"),
    ],
    "09.4": [
        (TIP + "return 0.77", "at which temperature is it reached"),
        (TIP + "return np.log(0.77 / 0.23) / np.log(p / (1 - p))", "That is the inverse"),
        (TIP + "return np.log(p / (1 - p)) / np.log(3)", "for free"),
        (TIP + "return np.log(p) / np.log(0.77)", "not the 0.5 of staying"),
    ],
}
