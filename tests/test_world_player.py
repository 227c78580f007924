"""The world player: every number is the oracle's, and an episode follows the rules."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from wmlib.envs.curtain import make_rules
from wmlib.envs.oracle import entropy_per_step, optimal_return
from wmlib.errors import BadInput
from wmlib.widgets import WorldPlayer
from wmlib.widgets.world_player import compute

ON_PAGE = "WorldPlayer(p=0.7)"


def flat(result):
    """Everything in a result, comparable."""
    return {k: np.asarray(v).tolist() for k, v in vars(result).items()}


def test_the_same_arguments_give_the_same_result():
    first, again = (compute(p=0.7, seed=3, actions=(0, 2, 1)) for _ in range(2))
    assert flat(first) == flat(again)
    assert flat(first) != flat(compute(p=0.7, seed=4, actions=(0, 2, 1)))


@pytest.mark.parametrize("p", [0.5, 0.9])
@pytest.mark.parametrize("curtain", [2, 3])
def test_the_belief_is_the_law_of_where_balls_land(p, curtain):
    """Count the balls of many seeds that look the same up to t."""
    ends = [compute(p, seed, (1,) * 7, curtain=curtain) for seed in range(160)]
    starts = [int(np.flatnonzero(compute(p, s).seen[0, :, 0])[0]) // 2 for s in range(160)]
    landed = np.array([int(np.flatnonzero(e.belief)[0]) for e in ends])
    for e in ends:
        assert sorted(e.belief)[-1] == 1  # seen: certain
    for t in (0, 2, 2 + curtain - 1):
        for start in (2, 5):
            same = [seed for seed in range(160) if starts[seed] == start]
            belief = compute(p, same[0], (1,) * t, curtain=curtain).belief
            assert belief.sum() == pytest.approx(1)
            assert set(np.flatnonzero(belief)) == {start - 2, start + 2}
            assert belief[start - 2] == pytest.approx(p)
            assert abs((landed[same] == start - 2).mean() - p) < 0.2
    revealed = compute(p, 0, (1,) * (2 + curtain), curtain=curtain).belief
    assert revealed.max() == 1


def test_belief_does_not_move_when_peeking():
    hidden, peeked = (compute(seed=1, actions=(1, 1, 1), peek=peek) for peek in (False, True))
    np.testing.assert_array_equal(hidden.belief, peeked.belief)
    np.testing.assert_array_equal(hidden.seen, peeked.seen)
    assert (hidden.painted != peeked.painted).any()
    clear = [compute(seed=1, actions=(1,) * 5, peek=peek).painted for peek in (False, True)]
    np.testing.assert_array_equal(*clear)


def test_entropies_are_exact_and_belong_to_the_step():
    for t in range(8):
        result = compute(p=0.9, actions=(1,) * t)
        assert result.t == t
        np.testing.assert_allclose(result.entropy, entropy_per_step(make_rules(0.9)))
        wanted = {0: np.log(32), 4: -0.9 * np.log(0.9) - 0.1 * np.log(0.1)}.get(t, 0)
        assert result.nats == pytest.approx(wanted)


@pytest.mark.parametrize("world", [{}, {"late": True}, {"goal": "avoid"}, {"curtain": 3}])
def test_following_the_best_action_earns_what_the_value_says(world):
    """Averaged over balls, the value of the start is the score at the end."""
    scores, values = [], []
    for seed in range(60):
        actions = ()
        while (now := compute(0.7, seed, actions, **world)).best_action is not None:
            values += [now.value] * (now.t == 0)
            actions = (*actions, now.best_action)
        assert now.over and now.value == 0
        scores.append(now.score)
    optimum = optimal_return(make_rules(0.7, **world))
    spread = np.std(scores) / np.sqrt(len(scores)) + 0.02
    assert abs(np.mean(scores) - optimum) < 3 * spread
    assert abs(np.mean(values) - optimum) < 3 * spread


def test_value_and_reward_obey_the_bellman_equation():
    """After the reveal nothing is left to chance: value = reward + next value, for the best."""
    for seed in range(20):
        now = compute(seed=seed, actions=(1, 1, 1, 1))
        after = [compute(seed=seed, actions=(1, 1, 1, 1, a)) for a in range(3)]
        q = [a.reward + a.value for a in after]
        assert now.value == pytest.approx(max(q))
        assert q[now.best_action] == pytest.approx(max(q))


def test_score_counts_every_cost():
    for actions in itertools.islice(itertools.product(range(3), repeat=7), 0, 2187, 97):
        result = compute(seed=2, actions=actions)
        moves = sum(a != 1 for a in actions)
        assert result.score == pytest.approx((1 if result.caught else -1) - 0.02 * moves)


@pytest.mark.parametrize(
    "arguments", [{"actions": (1,) * 8}, {"actions": (5,)}, {"p": 1.5}, {"rows": 10}]
)
def test_what_cannot_be_is_told(arguments):
    with pytest.raises(BadInput):
        compute(**arguments)


def test_buttons_play_the_ball_and_drop_the_next():
    widget = WorldPlayer(seed=5)
    taken = (0, 2, 1, 1, 0, 0, 2)
    for action in taken:
        assert not widget.result.over
        widget.buttons[action].click()
    assert flat(widget.result) == flat(compute(seed=5, actions=taken))
    ended = widget.result.caught
    assert all(item.disabled for item in widget.buttons)  # no move gets lost
    widget.next.click()
    assert flat(widget.result) == flat(compute(seed=6, earlier=(ended,)))
    assert not any(item.disabled for item in widget.buttons)
    widget.peek.value = True
    assert widget.result.peek and widget.result.t == 0
    widget.buttons[1].click()
    widget.p.value = 0.9
    assert flat(widget.result) == flat(compute(0.9, 6, peek=True))
    assert widget.failure is None


def test_a_ball_that_is_given_up_does_not_count():
    widget = WorldPlayer(seed=5, actions=(1, 1))
    widget.next.click()
    assert flat(widget.result) == flat(compute(seed=6))


def test_the_best_move_is_shown_on_request_only():
    best = {compute(seed=1, actions=(1, 1, 1, 1, a)).best_action for a in range(3)}
    assert len(best) > 1
    widget = WorldPlayer(seed=1)
    pictures = []
    for hint in (False, True):
        widget.hint.value = hint
        assert widget.result.hint == hint
        pictures.append(
            [
                np.asarray(widget.draw(replace(widget.result, best_action=action)))
                for action in range(3)
            ]
        )
    hidden, shown = pictures
    assert (hidden[0] == hidden[1]).all() and (hidden[1] == hidden[2]).all()
    assert (shown[0] != shown[1]).any() and (shown[1] != shown[2]).any()


def test_other_coins_fix_p():
    widget = WorldPlayer(offsets=[-2, -1, 0, 1, 2])
    assert widget.p.disabled and not WorldPlayer().p.disabled
    assert widget.result.entropy[4] == pytest.approx(np.log(5))
    assert (widget.result.belief > 0).sum() == 5
