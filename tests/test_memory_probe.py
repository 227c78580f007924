"""The memory probe: wiping acts on what comes after it, and only on what needed the memory."""

import numpy as np
import pytest
import torch
from torch import nn

from wmlib.errors import BadInput
from wmlib.rssm import RecurrentCore
from wmlib.widgets import MemoryProbe
from wmlib.widgets.memory_probe import compute

ON_PAGE = """
import torch
class Mean:
    def initial(self, n):
        return torch.zeros(n, 256)
    def step(self, h, frame, action):
        return h / 2 + frame
    def draw(self, h):
        return 3 * h - 1
g = np.random.default_rng(0)
f = 255 * g.integers(0, 2, (2, 8, 16, 16, 1), np.uint8)
MemoryProbe(Mean(), f, g.integers(0, 3, (2, 7)))
"""

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 2, (3, 6, 4, 4, 1)).astype(np.uint8) * 255
ACTIONS = RNG.integers(0, 3, (3, 5))


class Remembering:
    """h is the mean of all frames so far, newest first."""

    def initial(self, count):
        return torch.zeros(count, 16)

    def step(self, h, frame, action):
        return 0.5 * h + frame + action[:, :1]

    def draw(self, h):
        return 3 * h - 1


class Forgetful(Remembering):
    """h is the last frame and nothing else."""

    def step(self, h, frame, action):
        return frame


class Gated(nn.Module):
    """The recurrent core of the course."""

    def __init__(self):
        super().__init__()
        self.core, self.out = RecurrentCore(32, 16, 3, 8, 4), nn.Linear(32, 16)

    def initial(self, count):
        return torch.zeros(count, 32)

    def step(self, h, frame, action):
        return self.core(h, frame, self.core.embed_action(action))

    def draw(self, h):
        return self.out(h)


def test_a_kept_memory_costs_nothing():
    r = compute(Remembering(), FRAMES, ACTIONS)
    assert r.wiped is None and r.price == 0
    np.testing.assert_array_equal(r.nats, r.kept)
    np.testing.assert_allclose(r.frames, FRAMES[0] / 255)
    assert r.drawn.shape == r.frames.shape and r.total == pytest.approx(r.nats.sum())


@pytest.mark.parametrize("model", [Remembering(), Gated()])
@pytest.mark.parametrize("wiped", range(1, 5))
def test_wiping_changes_only_what_comes_later(model, wiped):
    kept, r = compute(model, FRAMES, ACTIONS, 1), compute(model, FRAMES, ACTIONS, 1, wiped)
    np.testing.assert_array_equal(r.drawn[: wiped + 1], kept.drawn[: wiped + 1])
    assert (r.drawn[wiped + 1] != kept.drawn[wiped + 1]).any()
    np.testing.assert_allclose(r.kept, kept.nats)
    assert r.price == pytest.approx((r.nats - kept.nats).sum(), abs=1e-4)


def test_an_empty_memory_cannot_be_wiped():
    for model in (Remembering(), Gated()):
        assert compute(model, FRAMES, ACTIONS, 0, 0).price == 0


def test_who_uses_the_last_frame_only_loses_nothing():
    for wiped in range(5):
        assert compute(Forgetful(), FRAMES, ACTIONS, 2, wiped).price == 0


def test_after_wiping_the_episode_starts_anew():
    """From the wiped step on, the drawings are those of the shorter episode that begins there."""
    r = compute(Remembering(), FRAMES, ACTIONS, 0, 2)
    short = compute(Remembering(), FRAMES[:, 2:], ACTIONS[:, 2:])
    np.testing.assert_allclose(r.drawn[3:], short.drawn[1:])


def test_nats_are_minus_the_logarithm_of_the_probability():
    r = compute(Remembering(), FRAMES, ACTIONS, 0, 3)
    chance = np.where(r.frames > 0, r.drawn, 1 - r.drawn)
    np.testing.assert_allclose(r.nats, -np.log(chance).sum((1, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"episode": 3}, "episode must be 0 to 2"),
        ({"wiped": 5}, "steps 0 to 4, not 5"),
        ({"actions": ACTIONS[:, :4]}, "are needed"),
        ({"frames": FRAMES[0]}, "are needed"),
    ],
)
def test_what_cannot_be_is_told(change, words):
    with pytest.raises(BadInput, match=words):
        compute(Remembering(), **{"frames": FRAMES, "actions": ACTIONS, **change})


def test_controls_wipe_and_keep():
    widget = MemoryProbe(Remembering(), FRAMES, ACTIONS, episode=1, wiped=2)
    assert widget.result.wiped == 2 and widget.result.episode == 1
    before = widget.image.value
    widget.step.value = 4
    assert widget.result.wiped == 4 and widget.image.value != before
    widget.mode.value = "keep h"
    assert widget.result.wiped is None and widget.result.price == 0
    widget.ball.value = 0
    assert widget.result.episode == 0 and widget.failure is None
    np.testing.assert_allclose(widget.result.frames, FRAMES[0] / 255)


def test_a_single_episode_needs_no_slider():
    widget = MemoryProbe(Remembering(), FRAMES[:1], ACTIONS[:1])
    assert widget.ball not in widget.view.children[0].children
    assert widget.mode.value == "keep h"
