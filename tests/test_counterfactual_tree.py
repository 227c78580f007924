"""The counterfactual tree: all actions from one moment, with the same luck or each with its own."""

import numpy as np
import pytest
import torch

import wmlib
from wmlib.diagnostics import ball_lanes, paddle_lanes
from wmlib.errors import BadInput
from wmlib.rssm import State
from wmlib.widgets import CounterfactualTree
from wmlib.widgets.counterfactual_tree import draw, shade, short, step

ON_PAGE = "CounterfactualTree(wmlib.load_pretrained('curtain'), seed=4)"

compute = CounterfactualTree.compute


@pytest.fixture(scope="module")
def agent():
    return wmlib.load_pretrained("curtain")


@pytest.fixture(scope="module")
def rows(agent):
    return wmlib.play(agent, wmlib.make_env("wmlib/Curtain-v0", num_envs=1), 8, seed=4)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("same", [True, False])
def test_shapes_and_probabilities(agent, rows, depth, same):
    r = compute(agent, rows, 3, depth, same=same)
    assert [len(part) for part in r.frames] == [3**d for d in range(depth + 1)]
    assert all(part.shape[1:] == (16, 16, 1) for part in r.frames)
    assert [part.shape for part in r.probs] == [part.shape for part in r.promises]
    for probs in r.probs[1:]:
        np.testing.assert_allclose(probs.reshape(-1, 3).sum(1), 1, rtol=1e-5)
    leaf = int(np.ravel_multi_index(r.best, (3,) * depth))
    assert r.promises[-1][leaf] == r.promises[-1].max()


def test_a_tree_depends_on_its_sample_only(agent, rows):
    torch.manual_seed(5)
    first = compute(agent, rows, sample=3)
    state = torch.get_rng_state()
    torch.rand(3)
    again = compute(agent, rows, sample=3)
    other = compute(agent, rows, sample=8)
    torch.set_rng_state(state)
    for a, b in zip(first.frames + first.promises, again.frames + again.promises, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first.frames, other.frames, strict=True))


def test_what_was_not_seen_does_not_matter(agent, rows):
    spoilt = {key: value.copy() for key, value in rows.items()}
    spoilt["obs"][:, 4:] = 255 - spoilt["obs"][:, 4:]
    for a, b in zip(compute(agent, rows).frames, compute(agent, spoilt).frames, strict=True):
        np.testing.assert_array_equal(a, b)


def test_with_the_same_luck_equal_rows_stay_equal_and_without_they_part(agent, rows):
    batch, _ = agent.tensors({key: value[:, :4] for key, value in rows.items()})
    with torch.no_grad():
        seen = agent.world.observe(batch).state
        state = State(*(part[:, -1].expand(64, *part.shape[2:]) for part in seen))
        stay = torch.eye(3)[1].expand(64, 3)
        torch.manual_seed(0)
        together, apart = (step(agent, state, stay, 1.0, same) for same in (True, False))
    assert (together.z == together.z[:1]).all() and (together.z.sum(-1) == 1).all()
    assert (apart.z != apart.z[:1]).any()


def test_with_the_same_luck_draws_follow_the_prior(agent, rows):
    batch, _ = agent.tensors({key: value[:, :4] for key, value in rows.items()})
    with torch.no_grad():
        seen = agent.world.observe(batch).state
        state, stay = State(*(part[:, -1] for part in seen)), torch.eye(3)[1:2]
        core = agent.world.rssm.core
        h = core(state.h, state.z.flatten(-2), core.embed_action(stay))
        prior = agent.world.rssm.prior(h)[0]
        torch.manual_seed(0)
        drawn = torch.stack([step(agent, state, stay, 1.0, True).z[0] for _ in range(1000)]).mean(0)
    assert (drawn - prior).abs().max() < 0.06  # four standard errors of 1,000 draws


def test_the_same_luck_is_mostly_the_same_coin(agent, rows):
    """Not always: the code of the coin is not the same class of the same latent for each paddle."""
    agree, sides, moves = {}, set(), []
    for same in (True, False):
        coins = []
        for sample in range(40):
            frames = compute(agent, rows, 3, 1, same=same, sample=sample).frames[1]
            coins.append(ball_lanes(frames, 4))
            moves.append(paddle_lanes(frames) - paddle_lanes(rows["obs"][:, 3]))
        agree[same] = np.mean([len(set(coin.tolist())) == 1 for coin in coins])
        sides |= set(np.ravel(coins).tolist())
    assert agree[True] > 0.5 > agree[False] + 0.1 and len(sides) >= 2
    assert np.mean(np.array(moves) == [-1, 0, 1]) > 0.95  # and the paddle obeys its branch


def test_promises_add_up(agent, rows):
    r = compute(agent, rows, 6, 1)  # the next frame is the last
    real = [wmlib.make_env("wmlib/Curtain-v0", num_envs=1) for _ in range(3)]
    paid = []
    for action, env in enumerate(real):
        row = env.reset(seed=4)
        for taken in [*rows["action"][0, :6], action]:
            row = env.step(np.array([taken]))
        assert row.is_terminal[0]
        paid.append(float(row.reward[0]))
    np.testing.assert_allclose(r.promises[1], paid, atol=0.15)
    assert len(compute(agent, rows, 6, 3).frames) == 2  # it does not dream beyond the end


def test_bad_input_is_told(agent, rows):
    for changes, words in (
        ({"root": 7}, "from 0 to 6"),
        ({"root": -1}, "from 0 to 6"),
        ({"depth": 0}, "1 to 3"),
        ({"temperature": 0.0}, "must be positive"),
    ):
        with pytest.raises(BadInput, match=words):
            compute(agent, rows, **changes)
    with pytest.raises(BadInput, match="images only"):
        CounterfactualTree(wmlib.load_pretrained("cartpole"), "CartPole-v1")


def test_colours_are_symmetric_and_clear():
    assert shade(0) == "#7F8DA3" and shade(-1) == shade(-5) != shade(1) == shade(3)
    reds = [int(shade(x)[1:3], 16) for x in np.linspace(0, 1, 9)]
    assert reds == sorted(reds, reverse=True)


def test_small_leaves_have_short_numbers():
    words = {0.83: "+.83", -0.05: "−.05", 0.0: ".00", -1.04: "−1.0", 0.999: "+1.0"}
    assert {number: short(number) for number in words} == words


def test_controls_are_obeyed(agent):
    widget = CounterfactualTree(agent, seed=4)
    before = widget.image.value
    widget.depth.value = 1
    assert len(widget.result.frames) == 2 and widget.image.value != before
    widget.root.value = 0
    assert widget.result.root == 0
    widget.same.value, widget.temperature.value = False, 2.0
    assert not widget.result.same and widget.result.temperature == 2.0
    widget.again.click()
    assert widget.result.sample == 1 and widget.failure is None
    assert draw(widget.result).size[0] == 2 * 720
