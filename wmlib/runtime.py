"""Device, threads and random seeds: chosen in one place."""

import contextlib
import ctypes
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from wmlib.distributed import rank
from wmlib.errors import BadInput

__all__ = [
    "Dice",
    "STDERR",
    "autocast",
    "can_compile",
    "handling",
    "interruptible",
    "keep_memory",
    "own_randomness",
    "pick_device",
    "say",
    "seed_everything",
    "set_threads",
    "uninterrupted",
]


def pick_device(name: str = "auto") -> torch.device:
    """Turn a device name into a `torch.device`; `auto` means CUDA, else MPS, else CPU.

    Raises:
        BadInput: the name is unknown, or the machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cuda", "mps", "cpu"):
        raise BadInput(f"Unknown device '{name}'; allowed are auto, cpu, cuda, cuda:0 ... and mps.")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise BadInput(f"Device '{name}' was asked for, but this machine has {count} CUDA devices.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BadInput("Device 'mps' was asked for, but this machine has none.")
    return device


def set_threads(count: int | None = None) -> int:
    """Fix the number of torch CPU threads (default: at most 4) and tell glibc to keep memory.

    These networks are small: beyond a few threads the hand-over costs more than it brings. The
    environment variable WMLIB_THREADS sets another default. Processes of torchrun share the cores.

    Raises:
        BadInput: not a whole number from 1 to four times the number of cores.
    """
    keep_memory()
    cores = os.cpu_count() or 1
    wanted = os.environ.get("WMLIB_THREADS", "") if count is None else str(count)
    if wanted and wanted not in map(str, range(1, 4 * cores + 1)):
        raise BadInput(
            f"The number of threads is '{wanted}'; it must be a whole number from 1 to {4 * cores}."
        )
    share = cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    count = int(wanted) if wanted else max(1, min(4, share))
    torch.set_num_threads(count)
    return count


def keep_memory() -> None:
    """Ask glibc to keep freed memory instead of returning it to the system (Linux only).

    A training step frees and takes again the same few megabytes hundreds of times; fetching them
    from the system each time costs more than the arithmetic on them.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: its largest allowed value
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        mallopt(-2, 2**26)  # M_TOP_PAD


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy's legacy generator and torch.

    Raises:
        BadInput: the seed is not from 0 to 2**63 - 1.
    """
    if not 0 <= seed < 2**63:
        raise BadInput(f"The seed is {seed}; it must be from 0 to 2**63 - 1.")
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third-party environments still use it
    torch.manual_seed(seed)


class Dice:
    """Random numbers of torch, apart from everybody else's: `with dice:` draws from them.

    The next `with dice:` goes on where the last one stopped. Outside, torch's random state is as it
    was.
    """

    def __init__(self, device: torch.device, seed: int):
        self.device = device
        places = ["cpu", device] if device.type in ("cuda", "mps") else ["cpu"]
        self.states = [torch.Generator(place).manual_seed(seed).get_state() for place in places]

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    def _swap(self) -> None:
        """Exchange torch's random state with the one kept here."""
        found = [torch.get_rng_state()]
        torch.set_rng_state(self.states[0])
        if self.device.type == "cuda":
            found.append(torch.cuda.get_rng_state(self.device))
            torch.cuda.set_rng_state(self.states[1], self.device)
        elif self.device.type == "mps":
            found.append(torch.mps.get_rng_state())
            torch.mps.set_rng_state(self.states[1])
        self.states = found


def own_randomness(device: torch.device, seed: int) -> Dice:
    """Seed torch in here, and leave its random state outside as it was."""
    return Dice(device, seed)


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Compute in bfloat16 on CUDA, in float32 elsewhere."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile works here; a sentence on standard error says why not."""
    try:
        torch.compile(torch.nn.functional.silu)(torch.zeros(8, device=device))
    except Exception as error:  # no compiler, no Triton, no headers: torch has a type for each
        why = str(error).strip().partition("\n")[0].rstrip(".")
        say(f"nothing is compiled, because this machine cannot ({type(error).__name__}: {why}).")
        return False
    return True


# ---------------------------------------------------------------- signals

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # SIGINT is Ctrl-C; not every system has all
STOP = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
TWICE = 1.0  # seconds; some tools send one Ctrl-C to a process and again to its group


@contextlib.contextmanager
def handling(handler: Callable[[int, Any], object]) -> Iterator[None]:
    """Give this handler to the signals that ask a program to stop; what is ignored stays so.

    In a thread other than the main one nothing is changed.
    """
    before = {}
    try:
        with contextlib.suppress(ValueError):  # not in the main thread
            for number in STOP:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # as under nohup
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """Collect signals to stop in a list; a second Ctrl-C, a second later, raises as usual."""
    stopped: list[int] = []
    began = 0.0

    def note(number: int, _frame: object) -> None:
        nonlocal began
        if stopped and number == signal.SIGINT and time.monotonic() - began > TWICE:
            raise KeyboardInterrupt
        began = began or time.monotonic()
        stopped.append(number)

    with handling(note):
        yield stopped


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let signals to stop wait until the end of the block."""
    waiting: list[int] = []
    with handling(lambda number, _: waiting.append(number)):
        yield
    for number in dict.fromkeys(waiting):
        signal.raise_signal(number)


# ---------------------------------------------------------------- what may be lost


class Stderr:
    """Standard error for what is nice to see: if it cannot be written, that is dropped."""

    def write(self, text: str) -> int:
        """Write, or do nothing where the stream is closed, its reader gone, or the disk full."""
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError, AttributeError):
            return 0

    def flush(self) -> None:
        """Flush likewise."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)  # the progress bar asks for the width of the terminal


STDERR = Stderr()


def say(text: str) -> None:
    """Tell the user a sentence on standard error; of processes that learn together, one does."""
    if rank() == 0:
        STDERR.write(f"wmlib: {text}\n")
        STDERR.flush()
