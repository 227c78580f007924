"""The dream console: same actions, honest scores, and the right verdict: error or luck."""

import numpy as np
import pytest
import torch

import wmlib
from wmlib.diagnostics import paddle_lanes
from wmlib.envs.curtain import Scene, draw_frames, make_rules
from wmlib.errors import BadInput
from wmlib.widgets import DreamConsole
from wmlib.widgets.dream_session import compute, judge

ON_PAGE = "DreamConsole(wmlib.load_pretrained('curtain'))"


@pytest.fixture(scope="module")
def agent():
    return wmlib.load_pretrained("curtain")


# ---------------------------------------------------------------- error or luck


def film(offset, actions, lane=3, paddle=4, rules=None, length=8):
    """The frames of one episode, drawn from the rules: (T, 16, 16, 1) uint8."""
    rules, frames = rules or make_rules(), []
    for t in range(length):
        world = Scene(*(np.array([v]) for v in (t, lane, offset, paddle)))
        frames.append(draw_frames(rules, world)[0])
        if t < len(actions):
            paddle = int(np.clip(paddle + actions[t] - 1, 0, 7))
    return np.stack(frames)


ACTIONS = (0, 1, 2, 2, 1, 0, 0)
SHUT = (False,) * 4 + (True,) * 4
REAL = film(-2, ACTIONS)
LUCKY = film(2, ACTIONS) / 255


def verdict(dream, real=REAL, shut=SHUT, actions=ACTIONS, rules=None):
    return judge(real, dream, shut, actions, rules or make_rules())[:2]


def test_the_same_frames_are_together():
    assert verdict(REAL / 255) == (None, "together")
    assert verdict(np.clip(REAL / 255, 0.2, 0.8)) == (None, "together")  # pale is not wrong


def test_the_other_side_of_the_coin_is_luck():
    assert verdict(LUCKY) == (4, "luck")


def test_the_other_side_is_an_error_in_a_world_without_it():
    real = film(-2, ACTIONS, rules=make_rules(1.0))
    assert verdict(LUCKY, real, rules=make_rules(1.0)) == (4, "error")


def test_a_lane_that_no_coin_leads_to_is_an_error():
    assert verdict(film(0, ACTIONS) / 255) == (4, "error")
    coin = make_rules(offsets=[-2, 0, 2])
    assert verdict(film(0, ACTIONS) / 255, rules=coin) == (4, "luck")


def test_a_ball_that_changes_sides_is_an_error():
    dream = LUCKY.copy()
    dream[5:] = REAL[5:] / 255
    parted, word, why = judge(REAL, dream, SHUT, ACTIONS, make_rules())
    assert (parted, word) == (4, "error") and "Frame 5" in why and "changes sides" in why


def test_a_paddle_that_disobeys_is_an_error():
    other = (*ACTIONS[:4], 2, 0, 0)
    assert verdict(film(-2, other) / 255) == (5, "error")
    assert verdict(film(2, other) / 255) == (4, "error")  # luck first, then the error


def test_what_was_seen_binds_the_dream():
    """With eyes open at the reveal the coin is known: the other side is no luck any more."""
    shut = (False,) * 5 + (True,) * 3
    dream = REAL / 255
    dream[5:] = LUCKY[5:]
    assert verdict(dream, shut=shut) == (5, "error")
    assert verdict(dream, shut=(False,) * 8) == (None, "together")  # only dreams can part


def test_eyes_that_open_again_wake_from_a_lucky_dream():
    shut = (False,) * 4 + (True, False, True, True)
    dream = LUCKY.copy()
    dream[6:] = REAL[6:] / 255
    assert verdict(dream, shut=shut) == (4, "luck")


def test_one_speck_is_forgiven_and_half_a_ball_is_not():
    dream = REAL / 255
    dream[6, 0, 0] = 1
    assert verdict(dream) == (None, "together")
    dream[6, 0, 1] = 1
    assert verdict(dream) == (6, "error")


def test_noise_is_neither_error_nor_luck():
    rules = make_rules(static=20)
    flips = np.random.default_rng(0).integers(2, size=(8, 20)).astype(np.uint8) * 255
    real = REAL.copy()
    real.reshape(8, -1)[:, 64:84] = flips
    assert verdict(REAL / 255, real, rules=rules) == (None, "together")
    assert verdict(LUCKY, real, rules=rules) == (4, "luck")
    assert verdict(REAL / 255, real)[1] == "error"  # in a world without noise


def test_without_an_oracle_the_console_does_not_pretend():
    assert judge(REAL, LUCKY, SHUT, ACTIONS, None)[:2] == (4, "unknown")
    assert judge(REAL, REAL / 255, SHUT, ACTIONS, None)[:2] == (None, "together")


# ---------------------------------------------------------------- the session


def flat(result):
    return {k: np.asarray(v).tolist() for k, v in vars(result).items()}


def test_the_same_seed_gives_the_same_result_and_leaves_chance_alone(agent):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    result = compute(agent, seed=2)
    assert torch.equal(torch.rand(3), wanted)
    torch.rand(9)
    assert flat(result) == flat(compute(agent, seed=2))
    assert flat(result) != flat(compute(agent, seed=3))


def test_commanded_actions_move_both_paddles(agent):
    rng, same, total = np.random.default_rng(0), 0, 0
    for seed in range(40):
        actions = rng.integers(3, size=6).tolist()
        r = compute(agent, actions, seed=seed)
        assert r.actions == tuple(actions)
        assert r.closed == (False,) * 4 + (True,) * 3
        lane = int(paddle_lanes(r.real[0]))
        for t, action in enumerate(actions, 1):
            lane = int(np.clip(lane + action - 1, 0, 7))
            assert int(paddle_lanes(r.real[t])) == lane
            same, total = same + (int(paddle_lanes(r.dream[t])) == lane), total + 1
    assert same / total > 0.95


def test_a_dream_does_not_see_the_frames_it_is_asked_about(agent):
    """The same start under p = 0 and p = 1: the real balls part, the dreams do not."""
    left, right = (compute(agent, (1,) * 7, seed=1, p=p) for p in (1.0, 0.0))
    assert all((a == b).all() for a, b in zip(left.real[:4], right.real[:4], strict=True))
    assert (left.real[4] != right.real[4]).any()
    np.testing.assert_array_equal(left.dream, right.dream)
    opened = [compute(agent, (1,) * 7, seed=1, p=p, eyes_open=8) for p in (1.0, 0.0)]
    assert (opened[0].dream[4] != opened[1].dream[4]).any()


def test_scores_are_of_this_world_and_of_this_dream(agent):
    for seed in range(12):
        r = compute(agent, seed=seed)
        assert r.over and r.t == 7 and r.scores == ((r.real_score, r.dream_score),)
        cost = 0.02 * sum(a != 1 for a in r.actions)
        assert min(abs(r.real_score - (1 - cost)), abs(r.real_score + (1 + cost))) < 1e-5
        if r.verdict == "together":  # what looks the same should pay the same
            assert abs(r.real_score - r.dream_score) < 0.3


def test_luck_is_as_frequent_as_a_fair_coin_says(agent):
    words = [compute(agent, (1,) * 4, seed=seed).verdict for seed in range(100)]
    assert 35 <= words.count("luck") <= 65 and words.count("error") <= 20


def test_an_untrained_agent_errs():
    agent = wmlib.load_pretrained("curtain")
    blank = wmlib.Dreamer(agent.obs_space, agent.act_space, agent.config)
    assert compute(blank).verdict == "error"


def test_a_hot_dream_differs(agent):
    cool = [compute(agent, (1,) * 7, seed=s, temperature=0.5).verdict for s in range(30)]
    hot = [compute(agent, (1,) * 7, seed=s, temperature=3.0).verdict for s in range(30)]
    assert hot.count("error") > cool.count("error")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"actions": (1,) * 8}, "over after 7"),
        ({"actions": (7,)}, "from 0 to 2"),
        ({"temperature": 0.0}, "positive"),
        ({"eyes_open": 0}, "at least 1"),
        ({"env_id": "CartPole-v1"}, "built for observations"),
    ],
)
def test_what_cannot_be_is_told(agent, arguments, words):
    with pytest.raises(BadInput, match=words):
        compute(agent, **arguments)


def test_only_worlds_of_images_are_shown():
    with pytest.raises(BadInput, match="images with discrete"):
        compute(wmlib.load_pretrained("cartpole"), env_id="CartPole-v1")


# ---------------------------------------------------------------- the widget


def test_a_running_episode_is_shown_before_any_click_and_goes_on(agent):
    widget = DreamConsole(agent, seed=4)
    assert flat(widget.result) == flat(compute(agent, (None,) * 5, seed=4))
    assert not widget.result.over and any(widget.result.closed) and widget.image.value
    widget.buttons[0].click()
    assert widget.result.t == 6 and widget.result.actions[-1] == 0


def test_steps_follow_compute_and_episodes_follow_each_other(agent):
    widget = DreamConsole(agent, seed=4)
    for _ in range(3):
        widget.once.click()
    assert widget.result.episode == 1 and widget.result.t == 0
    for action in (0, 2, 1, 1, 0, 0, 1):
        widget.buttons[action].click()
    assert widget.driver.value == "human"
    assert widget.result.over and widget.result.actions == (0, 2, 1, 1, 0, 0, 1)
    assert len(widget.result.scores) == 2
    widget.once.click()
    widget.once.click()
    assert widget.result.actions == (1,)  # a human who does nothing stays
    assert widget.failure is None
    # the world of episode k is the first of seed + k
    again = compute(agent, (1,), seed=6)
    np.testing.assert_array_equal(widget.result.real, again.real)


def test_play_holds_the_end_then_goes_on_and_takes_wishes(agent):
    widget = DreamConsole(agent, played=7)
    ticks = iter(range(1, 100))
    count = 0
    while widget.result.over:
        widget.play.value = next(ticks)
        count += 1
    assert 3 <= count <= 6 and widget.result.t == 0
    widget.play.playing = True
    widget.buttons[2].click()
    assert widget.result.t == 0  # waits for the tick
    widget.play.value = next(ticks)
    widget.play.value = next(ticks)
    assert widget.result.actions == (2, 1)
    widget.play.value = 0  # stop
    assert widget.result.t == 2
    widget.driver.value = "agent"
    widget.play.value = 1
    expected = widget.session.actions[-1]
    assert widget.result.actions[-1] == expected and widget.result.t == 3


def test_temperature_reaches_the_dream(agent):
    widget = DreamConsole(agent)
    widget.heat.value = 2.5
    widget.once.click()
    assert widget.result.temperature == 2.5


def test_a_failing_agent_is_told_in_the_widget(agent):
    widget = DreamConsole(agent, played=7)
    widget.session.env.close()
    widget.session.env = None
    widget.once.click()
    assert "AttributeError" in widget.message.value and widget.result.over
