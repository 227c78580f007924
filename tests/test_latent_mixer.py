"""The latent mixer: what the decoder draws from mixed states, and where the memory is."""

import numpy as np
import pytest
import torch

import wmlib
from wmlib.diagnostics import fit_read_out
from wmlib.errors import BadInput
from wmlib.rssm import State
from wmlib.widgets import LatentMixer
from wmlib.widgets.latent_mixer import compute

ON_PAGE = "LatentMixer(wmlib.load_pretrained('curtain'))"


@pytest.fixture(scope="module")
def agent():
    return wmlib.load_pretrained("curtain")


@pytest.fixture(scope="module")
def mixer(agent):
    return LatentMixer(agent)


def mixed(mixer, t, **how):
    return compute(mixer.agent, mixer.states, mixer.frames, mixer.lanes, mixer.probes, t, **how)


def test_the_two_episodes_differ_where_it_matters(mixer):
    cells = mixer.frames[:, 4, 8:10, :, 0].reshape(2, 2, 8, 2).mean((1, 3))
    exits = cells.argmax(-1)
    assert mixer.lanes[0] != mixer.lanes[1]
    assert (exits - mixer.lanes).tolist() == [-2, 2]


@pytest.mark.parametrize("t", range(7))
def test_unmixed_states_draw_their_own_frames(mixer, t):
    r = mixed(mixer, t)
    for k in range(2):
        assert abs(r.grid[k, k] - r.frames[k]).mean() < 0.02
    assert r.chosen == (0, 0) and not r.h_zeroed
    for probs in (r.read_h, r.read_z):
        assert probs.shape == (4,) and probs.sum() == pytest.approx(1, abs=1e-5)


def test_a_cell_of_the_grid_is_its_row_and_column(mixer):
    r, states = mixed(mixer, 4), mixer.states
    for i in range(2):
        for j in range(2):
            state = State(states.h[i : i + 1, 4], states.z[j : j + 1, 4])
            with torch.no_grad():
                own = mixer.agent.world.decode(state)[0].numpy()
            np.testing.assert_allclose(r.grid[i, j], own, atol=1e-5)


def test_the_first_picture_is_sharp_and_mixes_the_lane_of_one_with_the_coin_of_the_other(mixer):
    grid = mixer.result.grid
    assert mixer.result.t == 4 and mixer.result.chosen == (0, 1)
    assert (grid * (1 - grid)).sum((-3, -2, -1)).max() < 1
    ball = grid[0, 1, 8:10, :, 0].reshape(2, 8, 2).mean((0, 2)).argmax()
    assert ball == mixer.lanes[0] + 2


def test_the_lane_behind_the_curtain_is_in_h(mixer):
    assert (mixer.probes.accuracy_h[1:] > 0.95).all()
    assert mixer.probes.accuracy_h[0] < 0.4  # nothing seen before the first frame
    assert (mixer.probes.accuracy_z[2:4] < 0.75).all() and mixer.probes.accuracy_z[0] > 0.9
    for k, swap in enumerate((False, True)):
        r = mixed(mixer, 3, swap_h=swap)
        assert r.read_h.argmax() + 2 == r.lanes[k] and r.chosen == (k, 0)


def test_without_h_nothing_is_read_from_it(mixer):
    a, b = (mixed(mixer, 3, zero_h=True, swap_h=swap) for swap in (False, True))
    np.testing.assert_allclose(a.read_h, b.read_h)
    assert a.read_h.max() < 0.6 and a.h_zeroed
    assert abs(a.accuracy_h - 0.25) < 0.1 and a.accuracy_z == mixed(mixer, 3).accuracy_z
    np.testing.assert_allclose(a.grid[0], a.grid[1], atol=1e-5)  # rows are alike


def test_a_probe_learns_what_is_linear_and_nothing_else():
    y = torch.arange(400) % 4
    x = torch.randn(400, 2, 8)
    x[:, 1, :4] += 4 * torch.eye(4)[y]
    weight, bias = fit_read_out(x[:200], y[:200])
    hits = (torch.einsum("ntf,tfk->ntk", x[200:], weight) + bias).argmax(-1) == y[200:, None]
    share = hits.float().mean(0)
    assert share[0] < 0.4 and share[1] > 0.95


def test_controls_are_obeyed_and_the_random_state_is_kept(agent, mixer):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    widget = LatentMixer(agent, probes=mixer.probes)
    assert torch.equal(before, torch.get_rng_state())
    picture = widget.image.value
    widget.swap_h.value = True
    assert widget.result.chosen == (1, 1) and widget.image.value != picture
    widget.t.value = 2
    widget.zero_h.value = True
    widget.swap_z.value = False
    assert (widget.result.t, widget.result.chosen) == (2, (1, 0)) and widget.result.h_zeroed
    assert widget.failure is None


def test_bad_input_is_told(mixer):
    with pytest.raises(BadInput, match="0 to 6, not 7"):
        mixed(mixer, 7)
    with pytest.raises(BadInput):
        LatentMixer(wmlib.load_pretrained("cartpole"))
