"""Dreams from the same starts in the page and in Python, law by law, and the dice they roll."""

from dataclasses import asdict
from math import erf

import numpy as np
from test_page import APART, node

from wmlib import page
from wmlib.diagnostics import laws_of
from wmlib.envs.curtain import Curtain
from wmlib.pretrained import load_pretrained
from wmlib.runtime import own_randomness

DREAMS = """
const world = new Curtain(data.rules), dice = new Dice(0), one = new Agent(data.pack);
result = Array.from({ length: data.count }, (_, k) => {
  const agent = one.fork(k), seen = [], dreamt = [], rewards = [];
  const actions = Array.from({ length: 7 }, () => dice.below(3));
  world.reset(dice);
  for (let t = 0; t < 4; t++) {
    if (t) world.step(actions[t - 1]);
    agent.observe(world.obs, t ? oneHot([actions[t - 1]], [3]) : new Float32Array(3), t === 0);
    seen.push([...world.obs[""]]);
  }
  for (const action of actions.slice(3)) {
    agent.imagine(oneHot([action], [3]));
    dreamt.push(Array.from(agent.decode()[""], (v) => Math.round(255 * v)));
    rewards.push(agent.reward());
  }
  return { seen, dreamt, rewards, actions };
});"""


def measure(seen, dreamt, rewards, actions) -> dict[str, tuple[float, float, float]]:
    """Mean, standard error and least count of each law; one number of each dream, so independent.

    seen, dreamt (N, 4, 16, 16, 1): frames 0 .. 3 and 4 .. 7. rewards (N, 4). actions (N, 4): those
    that lead to the dreamt frames.
    """
    laws = laws_of(seen[:, 0], seen[:, -1], dreamt[:, :3], actions[:, :3])
    shares = {"left": (laws.left, laws.n), "impossible": (laws.impossible, laws.n)}
    for action, name in enumerate(("to the left", "stay", "to the right")):
        rows = actions[:, 0] == action
        moved = laws_of(seen[rows, 0], seen[rows, -1], dreamt[rows, :1], actions[rows, :1])
        shares[name] = (moved.action_fidelity, moved.n)
    errors = {name: (p, (p * (1 - p) / n) ** 0.5, n) for name, (p, n) in shares.items()}
    sums = rewards.sum(1)
    return errors | {"return": (sums.mean(), sums.std() / len(sums) ** 0.5, len(sums))}


def apart(here: tuple[float, float, float], there: tuple[float, float, float]) -> float:
    """Standard errors between two means; a share that never varied may yet be 1 in n off."""
    return abs(here[0] - there[0]) / max(np.hypot(here[1], there[1]), 1 / here[2])


def both(name: str = "curtain", count: int = 2000) -> tuple[dict, dict]:
    """The laws in the page, dreamt by the agent of this name, and in Python, by that of Curtain."""
    agent, pack = load_pretrained("curtain"), page.pack(load_pretrained(name))
    found = node(DREAMS, pack=pack, rules=asdict(Curtain().rules), count=count)
    seen, dreamt, rewards, actions = (np.array([film[key] for film in found]) for key in found[0])
    frames = (count, 4, 16, 16, 1)
    seen, dreamt = seen.reshape(frames), dreamt.reshape(frames)
    first = np.zeros((count, 4), bool)
    first[:, 0] = True
    before = np.concatenate([np.zeros((count, 1), int), actions[:, :3]], 1)
    context = {"obs": seen.astype(np.uint8), "prev_action": before, "is_first": first}
    with own_randomness(agent.device, 1):
        dream = agent.imagine(context, horizon=4, actions=actions[:, 3:])
    there = measure(seen, dream.observation[:, 1:], dream.reward[:, 1:], actions[:, 3:])
    return measure(seen, dreamt, rewards, actions[:, 3:]), there


def test_dreams_from_the_same_starts_obey_every_law_alike():
    here, there = both()
    for name in here:
        assert apart(here[name], there[name]) < APART, (name, here[name], there[name])
    assert abs(here["left"][0] - 0.5) < APART * here["left"][1]
    assert here["impossible"][0] < 0.02 and here["stay"][0] > 0.95  # both could be wrong alike


def test_another_coin_would_be_found():
    here, there = both("curtain_p70", count=800)
    assert apart(here["left"], there["left"]) > APART


EVEN = """
const many = (roll) => Array.from({ length: 50000 }, (_, k) => roll(k)), dice = new Dice(11);
const pair = (a, b) => (Math.floor(32 * a) + b) / 32; // even if b does not depend on a
const even = {
  uniform: many(() => dice.uniform()),
  pairs: many(() => pair(dice.uniform(), dice.uniform())),
  below: many(() => (dice.below(7) + dice.uniform()) / 7),
  seeds: many((k) => new Dice(k).uniform()),
  neighbours: many((k) => pair(new Dice(k).uniform(), new Dice(k + 1).uniform())),
};
const normal = { along: many(() => dice.normal()), across: many((k) => new Dice(k).normal()) };
result = { even, normal };"""


def uneven(x: np.ndarray) -> float:
    """Kolmogorov and Smirnov: sqrt(n) times the largest gap to an even distribution on [0, 1)."""
    steps = np.arange(len(x) + 1) / len(x)
    x = np.sort(x)
    return float(np.maximum(steps[1:] - x, x - steps[:-1]).max() * len(x) ** 0.5)


def test_dice_are_even_along_one_seed_and_across_seeds():
    found = node(EVEN)
    rolls = {name: np.array(x) for name, x in found["even"].items()}
    for name, x in found["normal"].items():
        rolls[name] = np.array([0.5 + erf(v / 2**0.5) / 2 for v in x])
    for name, x in rolls.items():
        assert x.min() >= 0 and x.max() < 1
        assert uneven(x) < 2.7, name  # 2 exp(-2 * 2.7^2): even dice fail once in a million
    assert uneven(rolls["uniform"] ** 1.05) > 2.7
