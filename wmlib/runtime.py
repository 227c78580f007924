"""Device, threads and random seeds: chosen in one place."""

import contextlib
import ctypes
import os
import random
import signal
from collections.abc import Iterator

import numpy as np
import torch

from wmlib.errors import BadInput

__all__ = [
    "autocast",
    "interruptible",
    "keep_memory",
    "own_randomness",
    "pick_device",
    "seed_everything",
    "set_threads",
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
    environment variable WMLIB_THREADS sets another default.

    Raises:
        BadInput: not a whole number from 1.
    """
    keep_memory()
    wanted = os.environ.get("WMLIB_THREADS", "") if count is None else str(count)
    if wanted and not (wanted.isdigit() and int(wanted) > 0):
        raise BadInput(f"The number of threads is '{wanted}'; it must be a whole number from 1.")
    count = int(wanted) if wanted else min(4, os.cpu_count() or 1)
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


@contextlib.contextmanager
def own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch in here, and leave its random state outside as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Compute in bfloat16 on CUDA, in float32 elsewhere."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """Collect Ctrl-C in a list instead of raising; a second Ctrl-C raises as usual."""
    stopped: list[int] = []

    def note(number: int, _frame: object) -> None:
        stopped.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread: leave Ctrl-C alone
        yield stopped
        return
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
