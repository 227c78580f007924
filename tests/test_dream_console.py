"""The dream console: same actions, honest scores, and the right verdict: error or luck."""

import copy

import numpy as np
import pytest
import torch

import wmlib
from wmlib.diagnostics import paddle_lanes
from wmlib.envs.curtain import Scene, draw_frames, make_rules
from wmlib.errors import BadInput
from wmlib.page import pack
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


def report(agent, actions, **changes):
    """What the page sends after an episode with these actions; its latents are arbitrary."""
    size = len(actions) + 1, agent.config.stoch
    latents = np.random.default_rng(0).integers(agent.config.classes, size=size).tolist()
    start = {"lane": 3, "offset": -2, "paddle": 6}
    settings = {"context": 2, "horizon": 3, "temperature": 1.5}
    return {"actions": actions, "latents": latents, "start": start, **settings, **changes}


def test_a_running_episode_is_shown_before_any_click(agent):
    widget = DreamConsole(agent, seed=4)
    assert flat(widget.result) == flat(compute(agent, (None,) * 5, seed=4))
    assert not widget.result.over and any(widget.result.closed) and widget.image.value
    assert widget.player.played == 5 and widget.player.content["seed"] == 5
    assert widget.player in widget.view.children


def test_what_the_page_has_played_is_computed_here(agent):
    widget = DreamConsole(agent)
    before = bytes(widget.image.value)
    widget.player.report = report(agent, [0, 0, 2, 1])
    assert widget.failure is None and widget.image.value != before
    r = widget.result
    assert r.actions == (0, 0, 2, 1) and r.closed == (False, False, True, True, True)
    assert paddle_lanes(np.stack(r.real)).tolist() == [6, 5, 4, 5, 5] and r.temperature == 1.5
    assert abs(r.real_score + 0.06) < 1e-6  # three moves
    widget.player.report = report(
        agent, [0, 0, 2, 1], latents=report(agent, [1] * 9)["latents"][5:]
    )
    assert flat(widget.result)["real"] == flat(r)["real"]
    assert flat(widget.result)["dream"] != flat(r)["dream"]


def test_a_report_that_cannot_be_is_one_line(agent):
    widget = DreamConsole(agent)
    before = widget.result
    widget.player.report = report(agent, [1] * 9)
    assert "over after 7 actions" in widget.message.value and widget.result is before
    widget.player.report = report(agent, [1])
    assert widget.message.value == "" and widget.result.t == 1


def test_the_page_goes_on_with_what_the_agent_has_learnt(agent):
    learner = copy.deepcopy(agent)
    widget = DreamConsole(learner)
    widget.player.report = report(agent, [1, 1, 1])
    before = widget.result
    with torch.no_grad():
        learner.world.decoder.convs[-1].bias += 30
    widget.refresh()
    assert widget.player.weights == pack(learner) != widget.player.content["pack"]
    assert widget.result.t == 3 and np.mean(widget.result.dream) > np.mean(before.dream) + 0.1
