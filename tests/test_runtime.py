"""Device, threads and seeds are chosen in one place and refuse what cannot be."""

import io
import os
import signal

import numpy as np
import pytest
import torch

from wmlib import runtime
from wmlib.errors import BadInput
from wmlib.runtime import (
    interruptible,
    pick_device,
    say,
    seed_everything,
    set_threads,
    uninterrupted,
)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(BadInput, match=f"'{name}'"):
        pick_device(name)


def test_auto_takes_what_is_there():
    assert pick_device("auto").type in ("cuda", "mps", "cpu")
    assert pick_device("cpu") == torch.device("cpu")


MOST = 4 * (os.cpu_count() or 1)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "abc", "²", str(MOST + 1), "9" * 10**4])
@pytest.mark.parametrize("given", ["argument", "environment"])
def test_thread_counts_have_a_range(text, given, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("WMLIB_THREADS", text)
    with pytest.raises(BadInput, match=f"'{text}'.* from 1 to {MOST}"):
        set_threads(text if given == "argument" else None)
    assert torch.get_num_threads() == before


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


@pytest.mark.parametrize("number", runtime.STOP)
def test_every_signal_to_stop_is_noted(number):
    before = signal.getsignal(number)
    with interruptible() as stopped:
        signal.raise_signal(number)
        assert stopped == [number]
    assert signal.getsignal(number) == before


def test_one_ctrl_c_sent_twice_counts_once_and_a_later_one_raises(monkeypatch):
    with interruptible() as stopped:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert len(stopped) == 2
        monkeypatch.setattr(runtime, "TWICE", 0.0)
        for number in set(runtime.STOP) - {signal.SIGINT}:
            signal.raise_signal(number)  # only a key that is pressed again means "at once"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")
def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interruptible() as stopped:
            signal.raise_signal(signal.SIGHUP)
        assert stopped == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_save_is_not_interrupted_and_then_the_signal_counts(monkeypatch):
    monkeypatch.setattr(runtime, "TWICE", 0.0)
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("saved")
    assert done == ["saved"]
    with interruptible() as stopped, uninterrupted():
        signal.raise_signal(signal.SIGINT)
        assert stopped == []
    assert stopped == [signal.SIGINT]


class Broken(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text=""):
        raise BrokenPipeError(32, "Broken pipe")

    flush = write


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, Broken(), closed()], ids=["none", "broken", "closed"])
def test_what_cannot_be_said_is_dropped(stream, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream)
    say("a sentence.")
    monkeypatch.setattr("sys.stderr", io.StringIO())
    say("a sentence.")
    assert runtime.sys.stderr.getvalue() == "wmlib: a sentence.\n"


def test_seeding_repeats_every_generator():
    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist()  # noqa: NPY002

    seed_everything(7)
    first = draw()
    seed_everything(7)
    assert draw() == first
    seed_everything(8)
    assert draw() != first
