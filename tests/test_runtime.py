"""Device, threads and seeds are chosen in one place and refuse what cannot be."""

import numpy as np
import pytest
import torch

from wmlib.errors import BadInput
from wmlib.runtime import pick_device, seed_everything, set_threads


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(BadInput, match=f"'{name}'"):
        pick_device(name)


def test_auto_takes_what_is_there():
    assert pick_device("auto").type in ("cuda", "mps", "cpu")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("count", [0, -1])
def test_thread_counts_are_positive(count):
    with pytest.raises(BadInput, match=f"'{count}'"):
        set_threads(count)


def test_the_environment_sets_the_default_number_of_threads(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("WMLIB_THREADS", "1")
    assert set_threads() == torch.get_num_threads() == 1
    assert set_threads(2) == torch.get_num_threads() == 2
    monkeypatch.setenv("WMLIB_THREADS", "abc")
    with pytest.raises(BadInput, match="'abc'"):
        set_threads()
    torch.set_num_threads(before)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_have_a_range(seed):
    with pytest.raises(BadInput, match=str(seed)):
        seed_everything(seed)


def test_seeding_repeats_every_generator():
    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist()  # noqa: NPY002

    seed_everything(7)
    first = draw()
    seed_everything(7)
    assert draw() == first
    seed_everything(8)
    assert draw() != first
