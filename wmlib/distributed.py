"""Several processes that learn one agent: `torchrun --nproc-per-node N -m wmlib train ...`.

Every process, a rank, has worlds and a replay of its own. All of them begin with the same weights
and take every step with the mean of their gradients, so the weights stay the same. In a single
process nothing here does anything.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from wmlib.errors import BadInput

if TYPE_CHECKING:
    from wmlib.agent import Dreamer

__all__ = [
    "average",
    "count",
    "gather",
    "joined",
    "learn_together",
    "own_device",
    "own_seed",
    "rank",
    "together",
    "total",
]

PATIENCE = datetime.timedelta(hours=3)  # the others wait while rank 0 evaluates
T = TypeVar("T")


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that torchrun has started in here; without torchrun do nothing.

    Within, it may be used again; once it is left, a process cannot join again.
    """
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys() or (
        os.environ["WORLD_SIZE"] == "1" or dist.is_initialized()
    ):
        yield
        return
    # when first imported within a group, as the first update does, it keeps the group's threads
    # until Python ends, and one of them may then abort the process
    importlib.import_module("torch._dynamo")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def count() -> int:
    """Number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of the ranks this process is; number 0 speaks for all of them."""
    return dist.get_rank() if count() > 1 else 0


def own_device(device: torch.device) -> torch.device:
    """The device of this rank: one GPU each, or the one that all of them use.

    Raises:
        BadInput: this machine has more ranks than GPUs, or all were given the same GPU.
    """
    if count() == 1 or device.type != "cuda":
        return device
    number, gpus = int(os.environ.get("LOCAL_RANK", rank())), torch.cuda.device_count()
    if device.index is not None or number >= gpus:
        raise BadInput(
            f"Every process needs a GPU of its own: '{device}' was asked for, of {gpus} here, by "
            f"process {number + 1}; give --device cuda and at most --nproc-per-node {gpus}."
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def own_seed(seed: int) -> int:
    """A seed for the worlds and draws of this rank; rank 0 keeps the one that is given."""
    if rank() == 0:
        return seed
    return int(np.random.SeedSequence([seed, rank()]).generate_state(1)[0] >> 1)


# ---------------------------------------------------------------- what the ranks say to each other


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    """Turn the end of another rank into one sentence."""
    try:
        yield
    except RuntimeError as error:
        sentence = f"Process {rank()} cannot go on: another one ended, or does not answer."
        raise ConnectionError(sentence) from error


def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their means over all ranks, in one message."""
    if count() == 1:
        return
    flat = torch.cat([x.flatten() for x in tensors])
    with _connected():
        dist.all_reduce(flat)
    flat /= count()
    parts = flat.split([x.numel() for x in tensors])
    for x, part in zip(tensors, parts, strict=True):
        x.copy_(part.view_as(x))


def gather(x: Tensor) -> Tensor:
    """The entries of all ranks, one rank after the other. (N, ...) -> (count * N, ...)."""
    if count() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(count())]
    with _connected():
        dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def total(numbers: Sequence[float]) -> list[float]:
    """Sum of each number over all ranks."""
    if count() == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64)
    with _connected():
        dist.all_reduce(sums)
    return sums.tolist()


def together(work: Callable[[], T], alone: bool = False) -> list[T]:
    """Do some work on every rank, or on rank 0 `alone`, and return all results in order.

    Nobody goes on before everybody is done, and an error on one rank is raised on all.
    """
    if count() == 1:
        return [work()]
    try:
        mine = None if alone and rank() else work(), None
    except Exception as error:
        mine = None, error
    results: list = [None] * count()
    with _connected():
        dist.all_gather_object(results, mine)
    for error in (mine[1], *(error for _, error in results)):
        if error is not None:
            raise error
    return [result for result, _ in results][: 1 if alone else None]


# ---------------------------------------------------------------- learning


@torch.no_grad()
def learn_together(agent: Dreamer) -> None:
    """Make every update of this agent one step on the windows of all ranks.

    Between backward pass and step, gradients and losses become means over all ranks; what is not
    finite on one of them is so on all, and all stop. The range of returns is that of all returns.
    """
    if count() == 1:
        return
    with _connected():
        for value in agent.state_dict().values():
            dist.broadcast(value, 0)
    if "_not_finite" in vars(agent):  # of an earlier trainer
        return
    gathered = torch.compiler.disable(gather)  # compiled losses leave their graph here
    agent.return_scale.register_forward_pre_hook(lambda _, returns: gathered(*returns))
    check = agent._not_finite

    def not_finite(metrics: dict[str, Tensor]) -> list[str]:
        grads = [p.grad for p in agent.parameters() if p.grad is not None]
        average([*grads, *metrics.values()])
        return check(metrics)

    agent._not_finite = not_finite
