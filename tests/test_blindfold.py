"""The blindfold player: posterior where the eyes are open, prior where not, and nothing leaks."""

import numpy as np
import pytest
import torch

import wmlib
from wmlib.errors import BadInput
from wmlib.widgets import BlindfoldPlayer
from wmlib.widgets.blindfold import film

ON_PAGE = "BlindfoldPlayer(wmlib.load_pretrained('curtain'), seed=4)"

compute = BlindfoldPlayer.compute
OPEN = (False,) * 8
SHUT = (False,) * 4 + (True,) * 4


@pytest.fixture(scope="module")
def agent():
    return wmlib.load_pretrained("curtain")


def episode(agent, seed=4, **world):
    env = wmlib.make_env("wmlib/Curtain-v0", num_envs=1, **world)
    rows = wmlib.play(agent, env, 8, seed=seed)
    return rows, env.vec.rules


def test_open_eyes_see_what_the_world_shows(agent):
    rows, rules = episode(agent)
    r = compute(agent, rows, OPEN, rules=rules)
    np.testing.assert_array_equal(r.model, r.seen)
    assert (r.parted, r.verdict) == (None, "together")
    assert abs(r.seen - r.real / 255).mean() < 0.01


def test_the_dream_does_not_see_hidden_frames_and_open_eyes_do(agent):
    rows, _ = episode(agent)
    spoilt = {name: value.copy() for name, value in rows.items()}
    spoilt["obs"][:, 4:] = 255 - spoilt["obs"][:, 4:]
    a, b = (compute(agent, film, SHUT) for film in (rows, spoilt))
    np.testing.assert_array_equal(a.model, b.model)
    assert (a.seen[:4] == b.seen[:4]).all() and (a.seen[4:] != b.seen[4:]).any()


def test_frames_before_the_blindfold_stay_as_they_were(agent):
    rows, _ = episode(agent)
    for k in range(1, 8):
        r = compute(agent, rows, [t >= k for t in range(8)])
        np.testing.assert_array_equal(r.model[:k], r.seen[:k])
        assert r.parted is None or r.parted >= k


def test_open_frames_are_those_of_the_package(agent):
    """The same states as `observe` gives for the whole window, where dice do not matter."""
    rows, _ = episode(agent)
    batch, _ = agent.tensors(rows)
    with torch.no_grad():
        whole = agent.world.decode(agent.world.observe(batch).state)[0].numpy()
    ours = film(agent, rows, OPEN, 0)
    assert (abs(ours - whole) > 0.5).sum() <= 4  # a pixel or two may fall differently


def test_samples_toss_a_fair_coin_and_luck_is_no_error(agent):
    rows, rules = episode(agent)
    words = [compute(agent, rows, SHUT, k, rules).verdict for k in range(60)]
    assert 12 <= words.count("luck") <= 48 and words.count("error") <= 18
    first, again = (compute(agent, rows, SHUT, 3, rules) for _ in range(2))
    np.testing.assert_array_equal(first.model, again.model)


def test_one_look_at_the_reveal_wakes_the_dream(agent):
    eyes = (False, True, True, True, False, True, True, True)
    for seed in range(6):
        rows, rules = episode(agent, seed)
        r = compute(agent, rows, eyes, rules=rules)
        assert r.verdict != "luck"  # after frame 4 there is no chance left


def test_without_an_oracle_it_does_not_pretend(agent):
    rows, _ = episode(agent)
    words = {compute(agent, rows, SHUT, k).verdict for k in range(10)}
    assert words <= {"together", "unknown"} and "unknown" in words


def test_randomness_outside_is_left_alone(agent):
    rows, _ = episode(agent)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    compute(agent, rows, SHUT)
    assert torch.equal(torch.rand(3), wanted)


def test_what_cannot_be_is_told(agent):
    rows, _ = episode(agent)
    two = wmlib.play(agent, wmlib.make_env("wmlib/Curtain-v0", num_envs=1), 16)
    for closed, given, words in (
        (SHUT[:7], rows, "7 flags do not fit"),
        ((True, *SHUT[1:]), rows, "open at frame 0"),
        (SHUT * 2, two, "open at frame 0"),
        (OPEN * 2, two, "one episode"),
    ):
        with pytest.raises(BadInput, match=words):
            compute(agent, given, closed)
    with pytest.raises(BadInput, match="1 to 8"):
        BlindfoldPlayer(agent, close_at=9)
    with pytest.raises(BadInput, match="images only"):
        BlindfoldPlayer(wmlib.load_pretrained("cartpole"), env_id="CartPole-v1")


# ---------------------------------------------------------------- the widget


def test_a_blindfolded_episode_is_shown_before_any_click(agent):
    widget = BlindfoldPlayer(agent, seed=4)
    assert widget.result.closed == SHUT and widget.image.value
    assert [eye.value for eye in widget.eyes] == list(SHUT)
    assert widget.eyes[0].disabled
    assert set(widget._repr_mimebundle_()[0]) >= {"image/png", "text/plain"}


def test_the_boundary_sets_the_eyes_and_single_eyes_can_differ(agent):
    widget = BlindfoldPlayer(agent)
    widget.boundary.value = 2
    assert widget.result.closed == (False,) * 2 + (True,) * 6
    widget.eyes[4].value = False
    assert widget.result.closed == (False, False, True, True, False, True, True, True)
    assert [eye.icon for eye in widget.eyes[3:5]] == ["eye-slash", "eye"]
    widget.boundary.value = 8
    assert widget.result.closed == OPEN and widget.failure is None


def test_sampling_again_changes_the_dream_only(agent):
    widget = BlindfoldPlayer(agent, seed=4)
    before = widget.result
    for _ in range(12):
        widget.again.click()
    assert widget.result.sample == 12
    assert (widget.result.real == before.real).all()
    widget.other.click()
    assert (widget.result.episode, widget.result.sample) == (1, 0)
    assert (widget.result.real != before.real).any() and widget.result.closed == SHUT
