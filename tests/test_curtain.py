"""Curtain: every rule, every number of its specification, and oracles against brute force.

Brute force plays all action sequences from all starts with the world's own `advance`, and never
asks an oracle.
"""

import importlib
import itertools
import json
import warnings
from collections import defaultdict

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import wmlib.envs
from wmlib.envs import oracle
from wmlib.envs.curtain import (
    BALL,
    PADDLE,
    Curtain,
    CurtainVec,
    Scene,
    advance,
    draw_frames,
    draw_start,
    make_rules,
)
from wmlib.errors import BadInput

UNIFORM = {"offsets": [-2, -1, 0, 1, 2]}
WORLDS = [
    {},
    {"p": 0.7},
    {"p": 1.0},
    {"curtain": 3},
    {"curtain": 3, "p": 0.8},
    {"late": True, "p": 0.6},
    {"late": True, "p": 0.9},
    {"late": True, "goal": "avoid", "p": 0.7},
    {"goal": "avoid"},
    UNIFORM,
    {"offsets": [-1, 2], "probs": [0.25, 0.75]},
    {"rows": 6, "curtain": 1, "p": 0.6},
]
worlds = pytest.mark.parametrize("world", WORLDS, ids=str)


# ---- brute force --------------------------------------------------------------------------------


def starts(rules):
    """Every (lane, offset, paddle) as three flat arrays, in the order (4, K, 8)."""
    grid = np.meshgrid([2, 3, 4, 5], rules.offsets, np.arange(8), indexing="ij")
    return [v.ravel() for v in grid]


def all_sequences(length):
    return np.array(list(itertools.product(range(3), repeat=length)))  # first action slowest


def play_all(rules, state, gamma=1.0):
    """Returns (len(state), 3^n) of every action sequence that can still follow."""
    n = rules.last - int(state.t[0])
    sequences = all_sequences(n)
    now = Scene(*(np.repeat(v, len(sequences)) for v in state))
    total = 0.0
    for i in range(n):
        now, reward = advance(rules, now, np.tile(sequences[:, i], len(state.t)))
        total = total + gamma**i * reward
    return total.reshape(len(state.t), -1)


def returns(rules, gamma=1.0):
    """(4, K, 8, pre, post): returns of all sequences before and after the reveal."""
    s, d, x = starts(rules)
    table = play_all(rules, Scene(np.zeros_like(s), s, d, x), gamma)
    return table.reshape(4, -1, 8, 3**rules.reveal, 3 ** (rules.last - rules.reveal))


def brute_optimal(rules, gamma=1.0):
    seen = returns(rules, gamma).max(-1)  # (4, K, 8, pre)
    return np.einsum("k,skxa->sxa", rules.probs, seen).max(-1).mean()


def brute_blind(rules):
    return np.einsum("k,skxab->sxab", rules.probs, returns(rules)).max((-2, -1)).mean()


def brute_random(rules):
    return np.einsum("k,skxab->sxab", rules.probs, returns(rules)).mean()


def brute_memoryless(rules):
    """One action per paddle lane while hidden; free choice where the ball is seen."""
    plans = all_sequences(8)  # (6561, 8)
    seen = np.einsum("k,skxa->sxa", rules.probs, returns(rules).max(-1))
    hidden = rules.reveal - 2
    seen = seen.reshape(4, 8, 3, 3, *[3] * hidden)
    best = np.full((len(plans), 4, 8), -np.inf)
    for x, a0, a1 in itertools.product(range(8), range(3), range(3)):
        where = np.full(len(plans), x)
        for a in (a0, a1):
            where = np.clip(where + a - 1, 0, 7)
        taken = []
        for _ in range(hidden):
            taken.append(plans[np.arange(len(plans)), where])
            where = np.clip(where + taken[-1] - 1, 0, 7)
        for s in range(4):
            best[:, s, x] = np.maximum(best[:, s, x], seen[s, x, a0, a1][tuple(taken)])
    return best.mean((1, 2)).max()


def brute_cheat(rules, tau):
    """Best sequences under the dreamt law, then the same sequences under the real law."""
    dreamt = np.array(rules.probs) ** (1 / tau)
    dreamt /= dreamt.sum()
    seen = returns(rules).max(-1)  # (4, K, 8, pre)
    hope = np.einsum("k,skxa->sxa", dreamt, seen)
    truth = np.einsum("k,skxa->sxa", rules.probs, seen)
    chosen = hope.argmax(-1)[..., None]
    return hope.max(-1).mean(), np.take_along_axis(truth, chosen, -1).mean()


def play_policy(policy, **world):
    """Play a table of actions from every start in the real vector world (p = .5: equal weights)."""
    rules = make_rules(**world)
    s, d, x = starts(rules)
    env = CurtainVec(len(s), **world)
    env.reset(seed=0, options={"lane": s, "offset": d, "paddle": x})
    side = np.array([rules.offsets.index(k) for k in d])
    total, moves = np.zeros(len(s)), np.zeros(len(s), int)
    for t in range(rules.last):
        known = side if t >= rules.reveal else np.full_like(side, len(rules.offsets))
        action = policy[t, s - 2, known, env.state.paddle]
        moves += action != 1
        _, reward, terminated, _, _ = env.step(action)
        total += reward
    assert terminated.all()
    return total, moves


# ---- rules 1-8 ----------------------------------------------------------------------------------


def test_first_and_last_frame_pixel_by_pixel():
    env = Curtain()
    frame, info = env.reset(seed=0, options={"lane": 3, "offset": 2, "paddle": 6})
    expected = ["." * 16 for _ in range(16)]
    expected[0] = expected[1] = "......##........"
    expected[4] = expected[5] = expected[6] = expected[7] = "#." * 8
    expected[15] = "............##.."
    assert ["".join(".#"[p // 255] for p in row) for row in frame[..., 0]] == expected
    assert frame.dtype == np.uint8 and set(np.unique(frame)) == {0, 255}
    assert info == {"lane": 3, "offset": 2, "t": 0}
    for _ in range(7):
        frame, _, _, _, info = env.step(1)
    expected[0] = expected[1] = "." * 16
    expected[14], expected[15] = "..........##....", "..........####.."
    assert ["".join(".#"[p // 255] for p in row) for row in frame[..., 0]] == expected
    assert info["t"] == 7


@pytest.mark.parametrize(
    "world, reveal",
    [({}, 4), ({"curtain": 3}, 5), ({"late": True}, 7), ({"rows": 12, "curtain": 6}, 8)],
)
def test_where_the_ball_is_seen(world, reveal):
    env, rules = Curtain(**world), make_rules(**world)
    for d in rules.offsets:
        frame, _ = env.reset(seed=1, options={"lane": 4, "offset": d, "paddle": 0})
        for t in range(rules.rows):
            if t:
                frame, _, terminated, truncated, _ = env.step(1)
                assert terminated == (t == rules.last) and not truncated
            picture = frame[..., 0].copy()
            assert (picture[4 : 2 * reveal] == [255, 0] * 8).all()
            picture[4 : 2 * reveal] = 0
            picture[-1, :2] = 0  # the paddle in lane 0
            lit = np.argwhere(picture)
            lane = 4 if t < reveal else 4 + d
            cell = [[2 * t + i, 2 * lane + j] for i in (0, 1) for j in (0, 1)]
            assert lit.tolist() == ([] if 2 <= t < reveal else cell)


def test_starts_are_uniform_and_independent():
    n, rules = 64_000, make_rules(p=0.75)
    start = draw_start(rules, np.random.default_rng(0), n)
    counts = np.zeros((8, 5, 8))
    np.add.at(counts, (start.lane, start.offset + 2, start.paddle), 1)
    share = np.zeros_like(counts)
    share[2:6, 0], share[2:6, 4] = 0.75 / 32, 0.25 / 32
    assert (np.abs(counts - n * share) <= 5 * np.sqrt(n * share)).all()
    assert (start.t == 0).all()


def test_moves_clip_and_cost_even_at_the_wall():
    env = Curtain()
    env.reset(seed=0, options={"lane": 2, "offset": 2, "paddle": 1})
    seen = []
    for action in (0, 0, 1, 2, 2, 2, 2):
        frame, reward, *_ = env.step(action)
        seen.append((int(env.state.paddle[0]), round(reward, 9)))
        assert (frame[-1, 2 * seen[-1][0] : 2 * seen[-1][0] + 2] == 255).all()
    assert seen[:-1] == [(0, -0.02), (0, -0.02), (0, 0), (1, -0.02), (2, -0.02), (3, -0.02)]
    assert seen[-1] == (4, 0.98)  # +1 with the last move's cost


@pytest.mark.parametrize("goal, sign", [("catch", 1), ("avoid", -1)])
@pytest.mark.parametrize("late", [False, True])
def test_final_reward(goal, sign, late):
    env = Curtain(goal=goal, late=late)
    for paddle in range(8):
        env.reset(options={"lane": 3, "offset": -2, "paddle": paddle})
        rewards = [env.step(1)[1] for _ in range(7)]
        assert rewards[:-1] == [0] * 6
        assert rewards[-1] == sign * (1 if paddle == 1 else 0.5 if late and paddle == 3 else -1)


def test_geometry():
    rules = make_rules()
    s, d, x = starts(rules)
    wins = (play_all(rules, Scene(np.full_like(s, 4), s, d, x)) > 0).any(1)
    both = wins.reshape(4, 2, 8).all(1)
    distance = np.abs(np.arange(8) - np.arange(2, 6)[:, None])
    assert (both == (distance <= 1)).all()
    assert wins.mean() == 44 / 64  # a random lane: 69 %
    assert wins[x == 3].mean() == wins[x == 4].mean() == 0.875
    narrow = make_rules(curtain=3)
    wins = (play_all(narrow, Scene(np.full_like(s, 5), s, d, x)) > 0).any(1)
    assert (wins.reshape(4, 2, 8).all(1) == (distance == 0)).all()


@pytest.mark.parametrize(
    "world, moves, optimum", [({}, 3.25, 0.935), ({"curtain": 3}, 4.125, 0.9175)]
)
def test_optimal_play_catches_every_ball(world, moves, optimum):
    total, used = play_policy(oracle.optimal_policy(make_rules(**world)), **world)
    assert (total > 0).all() and used.mean() == moves
    assert total.mean() == pytest.approx(optimum)


# ---- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_returns_of_the_base_world(p):
    rules = make_rules(p=p)
    gamma = 1 - 1 / 333
    assert oracle.optimal_return(rules) == pytest.approx(0.935)
    assert oracle.optimal_return(rules, gamma) == pytest.approx(0.9179, abs=1e-4)
    # weighted by gamma^t instead of gamma^(t - 1), the reward's own row convention
    assert gamma * oracle.optimal_return(rules, gamma) == pytest.approx(0.915, abs=5e-4)
    assert oracle.random_return(rules) == pytest.approx(-0.843, abs=5e-4)
    camping = {0.5: -0.0225, 0.6: 0.1475, 0.7: 0.3475, 0.8: 0.5475, 0.9: 0.7475}
    assert oracle.camping_return(rules) == pytest.approx(camping[p])
    assert oracle.memoryless_return(rules) == pytest.approx(0.9125 + (p - 0.5) / 400)


def test_returns_behind_a_longer_curtain():
    rules = make_rules(curtain=3)
    assert oracle.optimal_return(rules) == pytest.approx(0.9175)
    assert oracle.memoryless_return(rules) == pytest.approx(0.587, abs=6e-4)


@pytest.mark.parametrize("p, best", [(0.5, 0.4575), (0.7, 0.4575), (0.8, 0.5475), (0.9, 0.7475)])
def test_optimum_of_the_late_world(p, best):
    rules = make_rules(p=p, late=True)
    s, x = np.arange(2, 6)[:, None], np.arange(8)
    bail, left, right = (
        reward - 0.02 * np.abs(x - lane)
        for reward, lane in ((0.5, s), (2 * p - 1, s - 2), (1 - 2 * p, s + 2))
    )
    formula = np.maximum(bail, np.maximum(left, right))
    assert oracle.optimal_return(rules) == pytest.approx(best) == formula.mean()
    if p <= 0.7:
        assert (formula == bail).all()
    for lane, paddle in itertools.product(range(2, 6), range(8)):
        value = oracle.value(rules, (0, lane, None, paddle))
        assert value == pytest.approx(formula[lane - 2, paddle])


@pytest.mark.parametrize(
    "p, table",
    [
        (0.6, [(0.9134, 0.1475), (0.6176, 0.1475), (0.4575, 0.4575), (0.4575, 0.4575)]),
        (0.7, [(0.9471, 0.3475), (0.8822, 0.3475), (0.6372, 0.3475), (0.4575, 0.4575)]),
    ],
)
def test_cheat_meter_of_the_late_world(p, table):
    taus, rules = [0.1, 0.25, 0.5, 1.0], make_rules(p=p, late=True)
    curve = oracle.cheat_curve(rules, taus)
    assert curve == pytest.approx(np.array(table), abs=1e-4)
    assert curve == pytest.approx(np.array([brute_cheat(rules, tau) for tau in taus]))


def test_entropy_numbers():
    base = oracle.entropy_per_step(make_rules())
    assert base == pytest.approx(np.array([3.466, 0, 0, 0, 0.693, 0, 0, 0]), abs=5e-4)
    assert base.sum() == pytest.approx(4.159, abs=5e-4)
    assert oracle.entropy_per_step(make_rules(**UNIFORM))[4] == pytest.approx(1.609, abs=5e-4)
    assert oracle.entropy_per_step(make_rules(curtain=3)).argsort()[-2] == 5
    assert oracle.entropy_per_step(make_rules(late=True)).argsort()[-2] == 7
    assert oracle.entropy_per_step(make_rules(p=1.0)).sum() == pytest.approx(np.log(32))
    extra = oracle.entropy_per_step(make_rules(static=64)) - base
    assert extra == pytest.approx(np.full(8, 64 * np.log(2)))


# ---- oracles against brute force ----------------------------------------------------------------


@worlds
def test_returns_against_brute_force(world):
    rules = make_rules(**world)
    assert oracle.optimal_return(rules) == pytest.approx(brute_optimal(rules))
    assert oracle.optimal_return(rules, 0.9) == pytest.approx(brute_optimal(rules, 0.9))
    assert oracle.random_return(rules) == pytest.approx(brute_random(rules))
    assert oracle.camping_return(rules) == pytest.approx(brute_blind(rules))


@pytest.mark.parametrize("world", [{}, {"curtain": 3}, {"curtain": 3, "p": 0.8}, {"late": True}])
def test_memoryless_against_brute_force(world):
    rules = make_rules(**world)
    assert oracle.memoryless_return(rules) == pytest.approx(brute_memoryless(rules))


@pytest.mark.parametrize("gamma", [1.0, 0.95])
@worlds
def test_value_and_best_action_against_brute_force(world, gamma):
    rules = make_rules(**world)
    s, d, x = starts(rules)
    for t in range(rules.reveal - 1, rules.last):
        state = Scene(np.full_like(s, t), s, d, x)
        table = play_all(rules, state, gamma).reshape(4, len(rules.offsets), 8, 3, -1)
        unseen = t < rules.reveal
        q = table.max(-1)  # (4, K, 8, 3)
        if unseen:  # one action in the dark, then the ball is seen
            q = np.einsum("k,skxa->sxa", rules.probs, q)
        for i in range(0, len(s), 3):
            at = (s[i] - 2, x[i]) if unseen else (s[i] - 2, rules.offsets.index(d[i]), x[i])
            situation = (t, s[i], None if unseen else d[i], x[i])
            assert oracle.value(rules, situation, gamma) == pytest.approx(q[at].max())
            action = oracle.optimal_action(rules, situation, gamma)
            best = [a for a in (1, 0, 2) if q[at][a] > q[at].max() - 1e-7]
            assert action == best[0]  # of equally good ones stay, then left
    assert oracle.value(rules, (rules.last, 3, rules.offsets[0], 0)) == 0


def frame_histories(world, actions, flips=None):
    """Every frame of every start under fixed actions: (T, M, bytes), probabilities (M,), landing.

    `flips` (T, F, static) adds F equally likely noise histories to each start.
    """
    rules = make_rules(**world)
    s, d, x = starts(rules)
    weight = np.tile(np.repeat(rules.probs, 8), 4) / 32
    copies = 1 if flips is None else flips.shape[1]
    s, d, x, weight = (np.repeat(v, copies) for v in (s, d, x, weight / copies))
    state, frames = Scene(np.zeros_like(s), s, d, x), []
    for t in range(len(actions) + 1):
        if t:
            state, _ = advance(rules, state, np.full_like(s, actions[t - 1]))
        noise = None if flips is None else np.tile(flips[t], (4 * len(rules.offsets) * 8, 1))
        frames.append(draw_frames(rules, state, noise))
    return rules, frames, weight, s + d


def entropies(frames, weight):
    """H(frame at t | frames before t) from the law of whole histories."""
    keys, joint = [b""] * len(weight), [0.0]
    for frame in frames:
        keys = [k + f.tobytes() for k, f in zip(keys, frame, strict=True)]
        chance = defaultdict(float)
        for k, w in zip(keys, weight, strict=True):
            chance[k] += w
        joint.append(-sum(w * np.log(w) for w in chance.values() if w > 0))
    return np.diff(joint)


@worlds
def test_entropy_against_enumerated_frames(world):
    for actions in ([1] * 7, [0] * 7, [2, 0, 2, 2, 1, 0, 2]):
        rules, frames, weight, _ = frame_histories(world, actions[: world.get("rows", 8) - 1])
        expected = oracle.entropy_per_step(rules)
        assert entropies(frames, weight) == pytest.approx(expected, abs=1e-9)


def test_entropy_of_static_against_enumerated_frames():
    histories = np.array(list(itertools.product([0, 1], repeat=6)))  # 3 frames of 2 pixels
    flips = histories.T.reshape(3, 2, -1).transpose(0, 2, 1)  # (3, 64, 2)
    rules, frames, weight, _ = frame_histories({"static": 2}, [1, 2], flips)
    expected = oracle.entropy_per_step(rules)[:3]
    assert entropies(frames, weight) == pytest.approx(expected, abs=1e-9)


@worlds
def test_belief_against_enumerated_frames(world):
    actions = [2, 0, 1, 2, 1, 0, 2][: world.get("rows", 8) - 1]
    rules, frames, weight, landing = frame_histories(world, actions)
    empty = np.bincount(landing, weight, minlength=8)
    assert oracle.belief(rules, []) == pytest.approx(empty)
    keys = [b""] * len(weight)
    for t, frame in enumerate(frames):
        keys = [k + f.tobytes() for k, f in zip(keys, frame, strict=True)]
        for i in np.flatnonzero(weight)[:: 7 if t < 7 else 1]:
            same = np.array([k == keys[i] for k in keys])
            chance = np.bincount(landing[same], weight[same], minlength=8) / weight[same].sum()
            history = np.stack([f[i] for f in frames[: t + 1]])
            assert oracle.belief(rules, history) == pytest.approx(chance)


def test_belief_is_not_disturbed_by_static_and_refuses_nonsense():
    env = Curtain(static=64, p=0.7)
    history = [env.reset(seed=3, options={"lane": 3, "offset": 2})[0]]
    history += [env.step(0)[0] for _ in range(4)]
    hidden = oracle.belief(env.rules, history[:4])
    assert hidden == pytest.approx(np.eye(8)[1] * 0.7 + np.eye(8)[5] * 0.3)
    assert (oracle.belief(env.rules, history) == np.eye(8)[5]).all()
    with pytest.raises(BadInput, match="from t = 0"):
        oracle.belief(env.rules, history[1:])
    with pytest.raises(BadInput, match="history must be at most 8 frames"):
        oracle.belief(env.rules, history * 2)
    with pytest.raises(BadInput, match="shape"):
        oracle.belief(env.rules, np.zeros((2, 8, 8, 1)))


@pytest.mark.parametrize(
    "situation", [(8, 3, 2, 0), (0, 1, None, 0), (0, 3, None, 8), (4, 3, None, 0), (4, 3, 1, 0)]
)
def test_situations_that_cannot_be(situation):
    with pytest.raises(BadInput):
        oracle.value(make_rules(), situation)
    with pytest.raises(BadInput):
        oracle.optimal_action(make_rules(), (7, 3, 2, 0))
    with pytest.raises(BadInput, match="tau"):
        oracle.cheat_curve(make_rules(), [0.0])


# ---- options ------------------------------------------------------------------------------------


def test_static_pixels_are_fresh_fair_coins_and_nothing_else():
    env, plain = CurtainVec(64, static=20), CurtainVec(64)
    frames, _ = env.reset(seed=0)
    plain.reset(seed=0)
    plain.state = env.state
    noise = []
    for _ in range(60):
        frames, *_ = env.step(np.ones(64, int))
        clean = draw_frames(plain.rules, env.state)
        different = (frames != clean).reshape(64, -1).any(0)
        assert different[64:84].any() and not np.delete(different, np.s_[64:84]).any()
        noise.append(frames.reshape(64, -1)[:, 64:84] > 0)
    noise = np.array(noise)  # (60, 64, 20)
    assert np.abs(noise.mean((0, 1)) - 0.5).max() < 5 * 0.5 / np.sqrt(60 * 64)
    repeats = (noise[1:] == noise[:-1]).mean()
    assert abs(repeats - 0.5) < 5 * 0.5 / np.sqrt(59 * 64 * 20)


def test_coin_can_be_swapped_between_episodes():
    for env in (Curtain(p=1.0), CurtainVec(3, p=1.0)):
        _, info = env.reset(seed=0)
        assert np.all(info["offset"] == -2)
        env.set_coin(p=0.0)
        *_, info = env.step(1 if isinstance(env, Curtain) else np.ones(3, int))
        assert np.all(info["offset"] == -2)  # the running episode keeps its coin
        assert np.all(env.reset()[1]["offset"] == 2)
        env.set_coin(offsets=[-1, 1], probs=[0, 1])
        assert np.all(env.reset()[1]["offset"] == 1)
        with pytest.raises(BadInput, match="p must be"):
            env.set_coin(p=1.5)


@pytest.mark.parametrize(
    "bad, named",
    [
        ({"p": 1.2}, "p must be a number from 0 to 1, not 1.2"),
        ({"p": float("nan")}, "nan"),
        ({"p": "half"}, "half"),
        ({"offsets": [-3, 3]}, "offsets .* not \\[-3, 3\\]"),
        ({"offsets": [1, 1]}, "offsets"),
        ({"offsets": []}, "offsets"),
        ({"offsets": 2}, "offsets"),
        ({"offsets": [-2, 0.5]}, "offsets"),
        ({"probs": [0.5, 0.6]}, "probs must be 2 numbers"),
        ({"probs": [1.5, -0.5]}, "probs"),
        ({"offsets": [0, 1, 2], "probs": [0.5, 0.5]}, "probs must be 3 numbers"),
        ({"curtain": 0}, "curtain must be 1 to 5 rows on a board of 8 rows, not 0"),
        ({"curtain": 6}, "curtain"),
        ({"curtain": 3, "late": True}, "curtain must keep its default"),
        ({"static": 65}, "static must be 0 to 64 curtain pixels, not 65"),
        ({"static": -1}, "static"),
        ({"goal": "win"}, "'catch' or 'avoid', not 'win'"),
        ({"rows": 3}, "rows"),
        ({"rows": 8.0}, "rows"),
        ({"render_mode": "human"}, "rgb_array"),
    ],
)
def test_bad_parameters(bad, named):
    for build in (Curtain, CurtainVec):
        with pytest.raises(BadInput, match=named):
            build(**bad)


def test_bad_calls():
    with pytest.raises(BadInput, match="num_envs"):
        CurtainVec(0)
    env, many = Curtain(), CurtainVec(2)
    for call in (lambda: env.step(1), lambda: many.step([1, 1]), many.get_state):
        with pytest.raises(ResetNeeded):
            call()
    env.reset(seed=0)
    many.reset(seed=0)
    for actions in ([1, 3], [1], [0.5, 1], [-1, 1]):
        with pytest.raises(BadInput, match="0, 1 or 2"):
            many.step(actions)
    with pytest.raises(BadInput, match="not \\[3\\]"):
        env.step(3)
    for options in ({"lane": 1}, {"offset": 1}, {"paddle": 8}, {"lane": [2, 3, 4]}, {"wind": 1}):
        with pytest.raises(BadInput, match="reset option"):
            many.reset(options=options)
    for _ in range(7):
        env.step(1)
    with pytest.raises(ResetNeeded):
        env.step(1)
    with pytest.raises(BadInput, match="rgb_array"):
        env.render()


# ---- the two twins ------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [*WORLDS, {"static": 9}, {"rows": 12, "curtain": 6}], ids=str)
def test_one_world_equals_a_batch_of_one(world):
    single, batch = Curtain(**world), CurtainVec(1, **world)
    actions = np.random.default_rng(5)
    (frame, info), (frames, infos) = single.reset(seed=7), batch.reset(seed=7)
    over, episodes = False, 0
    for _ in range(60):
        assert (frame == frames[0]).all() and frame.shape == single.observation_space.shape
        assert info == {k: v[0] for k, v in infos.items()}
        action = int(actions.integers(3))
        frames, rewards, terminated, truncated, infos = batch.step(np.array([action]))
        if over:
            frame, info = single.reset()
            reward, over, episodes = 0.0, False, episodes + 1
        else:
            frame, reward, over, _, info = single.step(action)
        assert (reward, over, False) == (rewards[0], terminated[0], truncated[0])
    assert episodes >= 4


def test_a_batch_equals_many_single_worlds():
    n = 16
    batch, singles = CurtainVec(n, late=True, p=0.7), [Curtain(late=True, p=0.7) for _ in range(n)]
    frames, infos = batch.reset(seed=2)
    actions = np.random.default_rng(3)
    for step in range(30):
        t = step % 8
        if t == 0:
            starts = zip(infos["lane"], infos["offset"], batch.state.paddle, strict=True)
            for env, frame, values in zip(singles, frames, starts, strict=True):
                options = dict(zip(("lane", "offset", "paddle"), values, strict=True))
                assert (env.reset(options=options)[0] == frame).all()
            assert len(set(map(tuple, np.array(batch.state).T))) > n / 2  # not n times one world
        action = actions.integers(3, size=n)
        frames, rewards, terminated, _, infos = batch.step(action)
        if t == 7:
            assert (rewards == 0).all() and not terminated.any() and (infos["t"] == 0).all()
            continue
        for i, env in enumerate(singles):
            frame, reward, over, _, _ = env.step(action[i])
            assert (frame == frames[i]).all() and reward == rewards[i] and over == terminated[i]


def test_next_step_autoreset_when_worlds_end_at_different_times():
    env = CurtainVec(2)
    env.reset(seed=0)
    saved = env.get_state()
    saved["t"] = np.array([6, 2])
    env.set_state(saved)
    _, rewards, terminated, _, _ = env.step([1, 1])
    assert terminated.tolist() == [True, False] and abs(rewards[0]) == 1
    paddle, lane = env.state.paddle[1], env.state.lane[1]
    frames, rewards, terminated, _, info = env.step([0, 0])
    assert rewards.tolist() == [0, -0.02] and not terminated.any()
    assert info["t"].tolist() == [0, 4] and info["lane"][1] == lane
    assert env.state.paddle[1] == max(paddle - 1, 0)
    assert frames[0, :2].sum() == 4 * 255  # the new ball in the top row
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


@pytest.mark.parametrize("world", [{}, {"static": 5, "late": True}, UNIFORM])
def test_state_round_trip(world):
    def run(env):
        rng = np.random.default_rng(1)
        return [env.step(rng.integers(3, size=5))[:3] for _ in range(20)]

    env = CurtainVec(5, render_mode="rgb_array", **world)
    env.reset(seed=4)
    for _ in range(11):
        env.step(np.ones(5, int))
    env.set_coin(p=0.9)
    saved = env.get_state()
    saved["rng"] = json.loads(json.dumps(saved["rng"]))
    pictures, first = env.render(), run(env)
    again = CurtainVec(5, render_mode="rgb_array", **world)
    for other in (env, again):
        other.set_coin(p=0.1)
        other.set_state(saved)
        assert other.rules == make_rules(**(world | {"offsets": None, "p": 0.9}))
        assert all((a == b).all() for a, b in zip(pictures, other.render(), strict=True))
        for old, new in zip(first, run(other), strict=True):
            assert all((a == b).all() for a, b in zip(old, new, strict=True))
    with pytest.raises(BadInput, match="shape"):
        CurtainVec(4, **world).set_state(saved)
    with pytest.raises(BadInput, match="keys"):
        again.set_state({"t": saved["t"]})


def test_returned_arrays_are_not_the_inside_of_the_world():
    env = CurtainVec(3)
    frames, info = env.reset(seed=0)
    saved, before = env.get_state(), env.get_state()
    for array in (frames, *info.values(), saved["lane"], saved["frames"]):
        array[:] = 0
    after = env.get_state()
    assert all(np.array_equal(before[k], after[k]) for k in before if k != "rng")


def test_seeds_repeat_and_differ():
    def run(seed):
        env = CurtainVec(8, static=4)
        return np.array([env.reset(seed=seed)[0]] + [env.step([1] * 8)[0] for _ in range(9)])

    assert (run(1) == run(1)).all() and (run(1) != run(2)).any()


# ---- Gymnasium ----------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [{}, {"late": True, "static": 7}, {"rows": 10, "curtain": 4}])
def test_gymnasium_accepts_the_world(world):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("wmlib/Curtain-v0", render_mode="rgb_array", **world)
        check_env(env.unwrapped)
    assert env.spec.max_episode_steps is None
    assert env.observation_space == gymnasium.spaces.Box(
        0, 255, (2 * world.get("rows", 8), 16, 1), np.uint8
    )
    assert env.action_space == gymnasium.spaces.Discrete(3)


def test_make_vec_gives_the_numpy_twin():
    env = gymnasium.make_vec(
        "wmlib/Curtain-v0", num_envs=6, vectorization_mode="vector_entry_point", p=0.9
    )
    assert isinstance(env.unwrapped, CurtainVec) and env.unwrapped.rules.probs[0] == 0.9
    frames, _ = env.reset(seed=0)
    assert env.observation_space.contains(frames) and frames.shape == (6, 16, 16, 1)
    frames, rewards, terminated, truncated, _ = env.step(env.action_space.sample())
    assert env.observation_space.contains(frames)
    assert rewards.shape == terminated.shape == truncated.shape == (6,)
    sync = gymnasium.make_vec("wmlib/Curtain-v0", num_envs=2, vectorization_mode="sync")
    assert sync.single_observation_space == env.single_observation_space


def test_registering_twice_is_harmless():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(wmlib.envs)
    assert gymnasium.spec("wmlib/Curtain-v0").vector_entry_point is not None


# ---- pictures -----------------------------------------------------------------------------------


def test_render_hides_the_ball_exactly_as_the_observation_does():
    env = CurtainVec(2, render_mode="rgb_array")
    start = {"lane": [2, 4], "offset": -2, "paddle": 5}
    env.reset(seed=0, options=start)
    for t in range(8):
        if t:
            env.step([1, 1])
        left, right = env.render()
        assert left.shape == (192, 192, 3) and left.dtype == np.uint8
        hidden = t in (2, 3)
        assert (left == right).all() == hidden
        middle = left[24 * t + 12, 24 * (2 if t < 4 else 0) + 12]
        assert (middle == BALL).all() == (not hidden)
        assert (left[-5, 24 * 5 + 12] == PADDLE).all()
        peeked = env.render(peek=True)
        assert (peeked[0] != peeked[1]).any()
    single = Curtain(render_mode="rgb_array")
    single.reset(options={"lane": 2, "offset": -2, "paddle": 5})
    for _ in range(7):
        single.step(1)
    assert (single.render() == left).all()


def test_colours_differ_in_brightness_too():
    def luminance(colour):
        c = np.array(colour) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    env = Curtain(render_mode="rgb_array")
    env.reset(options={"lane": 5, "paddle": 7})
    board, light, dark = (env.render()[24 * 3 + y, x] for y, x in ((60, 12), (0, 3), (0, 15)))
    shades = sorted(map(luminance, (board, dark, light, PADDLE, BALL)))
    ratios = (np.array(shades[1:]) + 0.05) / (np.array(shades[:-1]) + 0.05)
    assert ratios[:2].min() > 1.8  # board, dark stripe and light stripe
    assert (shades[3] + 0.05) / (shades[0] + 0.05) > 4.5  # paddle on the board
