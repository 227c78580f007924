"""Exercises of notebook 01: entropy, belief, rows, windows, the value of a policy."""

import math
from types import SimpleNamespace

import numpy as np

from wmlib.checks.exercises import Wrong, array, exercise, number, require
from wmlib.envs.curtain import LANES, START_LANES, Scene, advance, make_rules
from wmlib.envs.oracle import optimal_return


@exercise("01.1")
def five_sides(answer):
    """Entropy of a coin with five sides, and of the landing lane, in nats."""
    require(len(answer) == 2, "Two numbers are needed: with_memory and without_memory.")
    known, forgotten = (
        number(value, name)
        for value, name in zip(answer, ("with_memory", "without_memory"), strict=True)
    )
    lands = np.bincount((START_LANES[:, None] + np.arange(-2, 3)).ravel(), minlength=LANES) / 20
    truth = math.log(5), float(-(lands * np.log(lands)).sum())
    for found, exact in zip((known, forgotten), truth, strict=True):
        bits = abs(found - exact / math.log(2)) < 5e-3
        require(not bits, "This is in bits; the natural logarithm gives nats.")
    require(abs(known - math.log(2)) > 5e-3, "About with_memory: that is the coin with two sides.")
    require(abs(known - truth[0]) < 5e-3, "About with_memory: five offsets, each with chance 1/5.")
    require(
        abs(forgotten - math.log(8)) > 5e-3,
        "About without_memory: the eight lanes are not equally likely; the middle is likelier.",
    )
    require(
        abs(forgotten - math.log(20)) > 5e-3,
        "About without_memory: pairs that land in one lane are one result; add their chances.",
    )
    require(
        abs(forgotten - truth[1]) < 5e-3,
        "About without_memory: count how many of the 20 pairs land in each lane.",
    )
    return f"Memory is worth {truth[1] - truth[0]:.3f} nats here."


@exercise("01.2")
def bayes(update):
    """Bayes' rule for a finite number of possibilities."""
    rng = np.random.default_rng(0)
    for size in (2, 2, 5):
        prior = rng.dirichlet(np.ones(size))
        first = rng.uniform(0.1, 1, size)
        second = rng.uniform(0.1, 1, size)
        found = array(update(prior.copy(), first.copy()), (size,), "the belief")
        product = prior * first
        require(
            not np.allclose(found, product), "A belief sums to 1; divide the product by its sum."
        )
        require(
            not np.allclose(found, first / first.sum()),
            "The prior has no effect on this answer; Bayes' rule multiplies it in.",
        )
        require(not np.allclose(found, prior), "What was seen has no effect on this answer.")
        require(np.isclose(found.sum(), 1), "A belief sums to 1, and this one does not.")
        require(np.allclose(found, product / product.sum()), "Multiply entry by entry.")
        twice = array(update(found, second.copy()), (size,), "the belief")
        joint = product * second
        require(
            np.allclose(twice, joint / joint.sum()), "Two looks should equal one with the product."
        )
    after = array(update(np.array([0.7, 0.3]), np.array([0.1, 0.9])), (2,), "the belief")
    return f"The camera says right: left {after[0]:.2f}, right {after[1]:.2f}."


@exercise("01.3")
def repaired(rows_of):
    """T steps as T + 1 rows: reward with its observation, action after it."""
    rng = np.random.default_rng(0)
    for terminated, truncated in ((True, False), (False, True), (True, True)):
        length = int(rng.integers(3, 9))
        actions = rng.integers(1, 3, size=length)
        rewards = rng.uniform(1, 2, size=length)
        rows = rows_of(actions.copy(), rewards.copy(), terminated, truncated)
        if not isinstance(rows, (tuple, list)) or len(rows) != 3:
            raise Wrong("Return three arrays: reward, action, is_terminal.")
        for found in rows:
            require(
                np.shape(found) != (length,),
                f"{length} steps make {length + 1} observations, so {length + 1} rows; the last "
                "observation needs a row of its own.",
            )
        reward = array(rows[0], (length + 1,), "reward")
        action = array(rows[1], (length + 1,), "action")
        ends = array(np.asarray(rows[2]).astype(int), (length + 1,), "is_terminal")
        require(
            not np.allclose(reward[:-1], rewards),
            "The reward of step k arrives with observation k + 1, so it belongs to row k + 1.",
        )
        require(reward[0] == 0, "The first row comes from a reset, so its reward is 0.")
        require(np.allclose(reward[1:], rewards), "All rewards should be there, in their order.")
        require(
            not np.array_equal(action[1:], actions),
            "The action of step k was chosen after observation k, so it stays in row k.",
        )
        require(np.array_equal(action[:-1], actions), "Row k should hold actions[k].")
        require(action[-1] == 0, "After the last observation nothing is done: store 0.")
        require(not ends[:-1].any(), "Only the last row can be terminal.")
        require(
            bool(ends[-1]) == terminated,
            "A time limit makes a row the last one, but not terminal."
            if not terminated
            else "The last row of an episode that terminated is terminal.",
        )
    return "The reward moves down by one row, the action does not."


def _brute_force(written: int, capacity: int, length: int) -> int:
    """Count runs of consecutive times in a ring, place by place."""
    ring = np.full(capacity, -1)
    for time in range(written):
        ring[time % capacity] = time
    if length > capacity:
        return 0
    windows = ring[(np.arange(capacity)[:, None] + np.arange(length)) % capacity]
    return int(((windows[:, 0] >= 0) & (np.diff(windows, axis=1) == 1).all(1)).sum())


@exercise("01.4")
def windows(legal):
    """Legal windows of a ring, against a count by brute force."""
    cases = [(w, c, n) for c in (5, 8, 13) for w in (0, 3, c - 1, c, c + 1, 29) for n in (1, 3, 6)]
    report = "With written = {}, capacity = {}, length = {}: there are {} windows, not {:g}."
    for written, capacity, length in cases:
        truth = _brute_force(written, capacity, length)
        found = number(legal(written, capacity, length), "the number of windows")
        require(found >= 0, "A number of windows is never negative; think of an empty ring.")
        sentence = report.format(written, capacity, length, truth, found)
        if found == capacity - length + 1 and written < capacity:
            sentence += " Does the ring hold that many rows yet?"
        if found == written - length + 1 and written > capacity:
            sentence += " Old rows have been overwritten."
        require(found == truth, sentence)
    return "A window is fixed by its first row."


def _go(state: Scene, target: np.ndarray) -> np.ndarray:
    return 1 + np.sign(target - state.paddle)


@exercise("01.5")
def exact_value(value_of):
    """The exact mean return of a deterministic policy."""
    policies = SimpleNamespace(
        stay=lambda s: np.ones_like(s.t),
        left=lambda s: np.zeros_like(s.t),
        camp=lambda s: _go(s, s.lane - 2),
        react=lambda s: _go(s, np.where(s.t >= 4, s.lane + s.offset, s.paddle)),
        look=lambda s: _go(
            s,
            np.where(s.t >= 4, s.lane + s.offset, np.clip(s.paddle, s.lane - 1, s.lane + 1)),
        ),
    )
    for p in (0.5, 0.9):
        rules = make_rules(p=p)
        for name, policy in vars(policies).items():
            truth, last = _enumerate(policy, rules)
            found = number(value_of(policy, rules), "the value")
            fair = _enumerate(policy, make_rules(p=0.5))[0]
            require(
                p == 0.5 or abs(found - fair) > 1e-6 or abs(truth - fair) < 1e-6,
                "With an unfair coin the worlds are not equally likely; weight by their chances.",
            )
            require(
                abs(found - last) > 1e-6 or abs(truth - last) < 1e-6,
                "The return is the sum of all rewards, the costs of earlier moves included.",
            )
            require(
                abs(found - truth) < 1e-6,
                f"For the policy '{name}' and p = {p} the mean return is {truth:.4f}, "
                f"not {found:.4f}. (Exact: no sampling.)",
            )
    best = value_of(policies.look, make_rules())
    react = value_of(policies.react, make_rules())
    assert abs(best - optimal_return(make_rules())) < 1e-6
    return f"Reacting earns {react:.4f}, waiting in the right place {best:.4f}."


def _enumerate(policy, rules) -> tuple[float, float]:
    """Mean return over all starts, and the mean of the last reward alone."""
    table = np.meshgrid(START_LANES, np.arange(len(rules.offsets)), np.arange(LANES))
    lane, side, paddle = (v.ravel() for v in table)
    chance = np.array(rules.probs)[side] / (len(START_LANES) * LANES)
    state = Scene(np.zeros_like(lane), lane, np.array(rules.offsets)[side], paddle)
    total = np.zeros(len(lane))
    reward = np.zeros(len(lane))
    for _ in range(rules.last):
        state, reward = advance(rules, state, policy(state))
        total += reward
    return float((chance * total).sum()), float((chance * reward).sum())
