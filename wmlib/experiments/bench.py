"""How fast is an update, and where does the time go: python -m wmlib bench.

Every case runs in a process of its own, so that its peak memory is its own too. The figure to steer
by is the fraction of the machine's matrix-product peak, measured in the same process: it survives
slower machines and busy ones better than milliseconds do.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import platform
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from wmlib.agent import Dreamer
from wmlib.config import Config, preset
from wmlib.errors import BadInput
from wmlib.runtime import seed_everything, set_threads
from wmlib.spaces import Space, encode_action, obs_kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CASES", "SCALING", "bench", "draw", "exponent", "measure", "table"]

CPU = torch.device("cpu")
VECTOR = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
DISCRETE = gym.spaces.Discrete
PHASES = ("observe", "world losses", "imagine", "behaviour", "backward", "optimiser")
# kind of work -> the profiler's names for it; what no line claims is elementwise work and sums
KINDS = {
    "products": r"mm$|conv",
    "copies": r"aten::(copy_|cat|stack|clone|contiguous|flip|fill_|zero_|scatter|gather|index)",
    "calls": r"autograd::|Backward\d*$|detach|aten::(empty|as_strided|_?reshape|(_unsafe_)?view"
    r"|expand|permute|transpose|movedim|t$|slice|select|split|narrow|(un)?squeeze|(un)?flatten|unbind"
    r"|to$|_to_copy|type_as|result_type|linear|matmul|einsum|resolve|resize|new_|zeros|ones|item|_local"
    r"|(_fused_)?rms_norm)",
}


def image_space(side: int, channels: int) -> gym.spaces.Box:
    """Space of uint8 images (side, side, channels)."""
    return gym.spaces.Box(0, 255, (side, side, channels), np.uint8)


Case = tuple[Space, Space, Config]  # observations, actions, config
# The first two are the sizes others publish.
CASES: dict[str, Case] = {
    "vector": (VECTOR, DISCRETE(5), preset("size1m")),
    "image": (image_space(64, 3), DISCRETE(5), preset("size1m")),
    "curtain": (image_space(16, 1), DISCRETE(3), preset("tiny")),
    "cartpole": (VECTOR, DISCRETE(2), preset("tiny")),
}
TITLES = {
    "vector": "size1m, vector",
    "image": "size1m, image",
    "curtain": "tiny, Curtain",
    "cartpole": "tiny, CartPole",
}
# what is varied -> its values, and how to make the case from one
SCALING: dict[str, tuple[tuple[int, ...], Callable[[int], Case]]] = {
    "rows per batch B·T": (
        (64, 128, 256, 512, 1024),
        lambda n: (VECTOR, DISCRETE(2), preset("tiny", batch_size=n // 16)),
    ),
    "horizon H": (
        (2, 4, 8, 16, 32),
        lambda n: (VECTOR, DISCRETE(2), preset("tiny", horizon=n)),
    ),
    "deterministic size D": (
        (64, 128, 256, 512, 1024),
        lambda n: (VECTOR, DISCRETE(2), preset("tiny", deter=n)),
    ),
    "image side": (
        (8, 16, 32, 64),
        lambda n: (image_space(n, 1), DISCRETE(2), preset("tiny")),
    ),
}


def random_batch(agent: Dreamer, seed: int = 0) -> dict[str, Tensor]:
    """Random rows (B, T) of the agent's spaces, with an episode's end every fifty rows or so."""
    c = agent.config
    rng = np.random.default_rng(seed)
    rows = (c.batch_size, c.batch_length)
    if obs_kind(agent.obs_space) == "image":
        obs = rng.integers(256, size=(*rows, *agent.obs_space.shape), dtype=np.uint8)
    else:
        obs = rng.normal(size=(*rows, *agent.obs_space.shape)).astype(np.float32)
    batch = {"obs": obs, "reward": rng.normal(size=rows).astype(np.float32)}
    batch |= {name: rng.random(rows) < 0.02 for name in ("is_first", "is_last", "is_terminal")}
    batch = {name: torch.as_tensor(value, device=agent.device) for name, value in batch.items()}
    for name in ("action", "prev_action"):
        chosen = torch.as_tensor(rng.integers(agent.act_space.n, size=rows), device=agent.device)
        batch[name] = encode_action(chosen, agent.act_space)
    return batch


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was given: a CUDA or MPS call returns before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def timed(
    call: Callable[[], object],
    seconds: float,
    least: int = 5,
    device: torch.device = CPU,
) -> float:
    """Median time of a call in ms, over at least `least` calls and `seconds` seconds.

    Three calls go before it untimed: the first ones wait for memory and threads.
    """
    for _ in range(3):
        call()
    finish(device)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < least or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        call()
        finish(device)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def matmul_peak(
    size: int = 2048,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    calls: int = 5,
) -> float:
    """Speed of a product of two square matrices in GFLOP/s, the best of some calls."""
    a, b = torch.randn(2, size, size, device=device, dtype=dtype).unbind()
    best = float("inf")
    for _ in range(calls):
        finish(device)
        start = time.perf_counter()
        torch.mm(a, b)
        finish(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


@contextlib.contextmanager
def stopwatches(agent: Dreamer) -> Iterator[dict[str, float]]:
    """Add up the seconds spent in each phase of `Dreamer.update`; imagine is not in behaviour."""
    spent: dict[str, float] = defaultdict(float)
    places = {
        "observe": (agent.world, "observe"),
        "world losses": (agent.world, "losses"),
        "imagine": (agent.world, "imagine"),
        "behaviour": (agent, "behaviour_losses"),
        "backward": (torch.Tensor, "backward"),
        "optimiser": (agent.optimizer, "step"),
    }
    before = {name: getattr(*place) for name, place in places.items()}

    def watch(name: str) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            start = time.perf_counter()
            result = before[name](*args, **kwargs)
            spent[name] += time.perf_counter() - start
            return result

        return call

    for name, (owner, method) in places.items():
        setattr(owner, method, watch(name))
    try:
        yield spent
    finally:
        for name, (owner, method) in places.items():
            if isinstance(owner, type):
                setattr(owner, method, before[name])
            else:
                delattr(owner, method)
        spent["behaviour"] -= spent["imagine"]


def phase_times(agent: Dreamer, batch: dict[str, Tensor], updates: int) -> dict[str, float]:
    """Mean ms of each phase of an update."""
    with stopwatches(agent) as spent:
        for _ in range(updates):
            agent.update(batch)
    return {name: round(1e3 * spent[name] / updates, 2) for name in PHASES}


def kind_shares(agent: Dreamer, batch: dict[str, Tensor], updates: int) -> dict[str, float]:
    """Shares of an update's time by kind of work, in %, as torch's profiler sees it.

    products of matrices and convolutions, copies, calls (views, allocation, bookkeeping of
    gradients: everything that touches no number), and the rest, elementwise.
    """
    with silenced(), torch.autograd.profiler.profile() as profile:
        for _ in range(updates):
            agent.update(batch)
    spent: dict[str, float] = dict.fromkeys(("products", "elementwise", "copies", "calls"), 0.0)
    for event in profile.key_averages():  # pyright: ignore[reportOptionalMemberAccess]
        kind = next((k for k, names in KINDS.items() if re.search(names, event.key)), "elementwise")
        spent[kind] += event.self_cpu_time_total
    return {kind: round(100 * t / sum(spent.values()), 1) for kind, t in spent.items()}


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Drop what C++ code writes to stderr: the profiler announces itself there."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def acting(agent: Dreamer, count: int, seconds: float) -> float:
    """Ms from N observations to N actions."""
    obs = np.stack([agent.obs_space.sample() for _ in range(count)])
    memory = agent.initial(count)
    first = np.zeros(count, bool)
    return timed(lambda: agent.act(obs, first, memory), seconds, 20)


def peak_memory() -> float | None:
    """Most memory this process ever held, in MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, else in kB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def build(case: Case, device: torch.device = CPU) -> tuple[Dreamer, dict[str, Tensor]]:
    """Agent and batch of a case, on a device."""
    seed_everything(0)
    agent = Dreamer(*case).to(device)
    return agent, random_batch(agent)


def measure(name: str, threads: int | None, seconds: float) -> dict[str, object]:
    """All figures of one case, in this process."""
    used = set_threads(threads)
    agent, batch = build(CASES[name])
    agent.update(batch)
    bare = peak_memory()
    with FlopCounterMode(display=False) as counter:
        agent.update(batch)
    gflop = counter.get_total_flops() / 1e9
    peak = matmul_peak()
    ms = timed(lambda: agent.update(batch), seconds)
    peak = max(peak, matmul_peak())
    few = min(20, max(3, round(300 * seconds / ms)))  # updates to look into
    phases = phase_times(agent, batch, few)
    kinds = kind_shares(agent, batch, few)
    return {
        "preset": agent.config.name,
        "rows": agent.config.batch_size * agent.config.batch_length,
        "threads": used,
        "update_ms": round(ms, 1),
        "gflop": round(gflop, 2),
        "peak_gflops": round(peak, 1),
        "peak_fraction": round(gflop / ms * 1e3 / peak, 3),
        "memory_mb": None if bare is None else round(bare),
        "act_1_ms": round(acting(agent, 1, seconds / 10), 2),
        "act_16_ms": round(acting(agent, 16, seconds / 10), 2),
        "phases_ms": phases,
        "kinds_percent": kinds,
    }


def scaling(name: str, threads: int | None, seconds: float) -> dict[str, list[float] | float]:
    """Median ms per update for every value of one axis, in this process."""
    set_threads(threads)
    values, case = SCALING[name]
    times = []
    for value in values:
        agent, batch = build(case(value))
        times.append(round(timed(lambda a=agent, b=batch: a.update(b), seconds), 2))
    return {"value": list(values), "update_ms": times, "exponent": exponent(values, times)}


def exponent(values: tuple[int, ...], times: list[float]) -> float:
    """Slope of log(time) over log(value), fitted to the three largest values: the cost's growth."""
    slope, _ = np.polyfit(np.log(values[-3:]), np.log(times[-3:]), 1)
    return round(float(slope), 2)


def bench(
    cases: tuple[str, ...] = tuple(CASES),
    threads: int | None = None,
    seconds: float = 10.0,
    axes: tuple[str, ...] = tuple(SCALING),
) -> dict[str, Any]:
    """Measure cases and growth, each in a fresh process; returns what the JSON line holds.

    Raises:
        BadInput: an unknown case.
    """
    for name in cases:
        if name not in CASES:
            raise BadInput(f"Unknown case '{name}'; allowed are {', '.join(CASES)}.")
    spawn = multiprocessing.get_context("spawn")
    result: dict[str, Any] = {"torch": torch.__version__, "machine": wmlib_machine()}
    with concurrent.futures.ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        for name in cases:
            result[name] = pool.submit(measure, name, threads, seconds).result()
            result[f"{name}_peak_fraction"] = result[name]["peak_fraction"]
        result["scaling"] = {
            name: pool.submit(scaling, name, threads, seconds / 10).result() for name in axes
        }
    return result


def wmlib_machine() -> str:
    """Class of this machine."""
    return f"{platform.machine()}, {os.cpu_count()} cores"


# ---------------------------------------------------------------- what one sees


def table(result: dict) -> str:
    """The result as text."""
    cases = [name for name in CASES if name in result]
    keys = ("update_ms", "gflop", "peak_gflops", "peak_fraction", "memory_mb")
    keys += ("act_1_ms", "act_16_ms")
    lines = [f"{result['machine']}, torch {result['torch']}", " " * 18 + _cells(cases)]
    lines += [f"{key:18s}" + _cells([result[case][key] for case in cases]) for key in keys]
    for phase in PHASES:
        times = [result[case]["phases_ms"][phase] for case in cases]
        lines.append(f"  {phase:16s}" + _cells(times))
    for kind in result[cases[0]]["kinds_percent"]:
        shares = [result[case]["kinds_percent"][kind] for case in cases]
        lines.append(f"  % {kind:14s}" + _cells(shares))
    for name, axis in result["scaling"].items():
        pairs = zip(axis["value"], axis["update_ms"], strict=True)
        growth = ", ".join(f"{value}: {ms:.0f}" for value, ms in pairs)
        lines.append(f"ms by {name}: {growth}; exponent at the end {axis['exponent']}")
    return "\n".join(lines)


def _cells(values: list) -> str:
    return "".join(f"{value!s:>12}" for value in values)


def draw(result: dict) -> "Figure":
    """Where the time of an update goes, and how it grows."""
    from matplotlib.figure import Figure

    from wmlib.figures import AMBER, SLATE

    figure = Figure(figsize=(11, 5.6), dpi=100, layout="constrained")
    grid = figure.add_gridspec(2, 4, height_ratios=(1, 1.5))
    upper = figure.add_subplot(grid[0, :])
    cases = [name for name in CASES if name in result]
    shades = {"imagine": AMBER, "behaviour": "#F3C766", "backward": "#94A3B8"}
    shades |= {"observe": SLATE, "world losses": "#64748B", "optimiser": "#CBD5E1"}
    left = np.zeros(len(cases))
    for phase in PHASES:
        times = np.array([result[case]["phases_ms"][phase] for case in cases])
        share = 100 * times / [sum(result[case]["phases_ms"].values()) for case in cases]
        upper.barh(cases, share, left=left, color=shades[phase], label=phase, edgecolor="white")
        left += share
    upper.invert_yaxis()
    labels = [f"{TITLES[name]}\n{result[name]['update_ms']:.0f} ms" for name in cases]
    upper.set_yticks(range(len(cases)), labels)
    upper.set(xlim=(0, 100), xlabel="% of an update")
    upper.legend(ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    every = [t for axis in result["scaling"].values() for t in axis["update_ms"]]
    marks = [t for t in (10, 20, 30, 50, 70, 100, 200, 300, 500, 1000) if _inside(t, every)]
    first = None
    for i, (name, axis) in enumerate(result["scaling"].items()):
        ax = first = figure.add_subplot(grid[1, i], sharey=first)
        ax.loglog(axis["value"], axis["update_ms"], "o-", color=SLATE)
        ax.set_xticks(axis["value"], [str(v) for v in axis["value"]], fontsize=8)
        ax.minorticks_off()
        ax.set_yticks(marks, [str(t) for t in marks])
        ax.tick_params(labelleft=i == 0)
        ax.grid(axis="y", color="#E2E8F0")
        ax.set(xlabel=name, title=f"in the end as $n^{{{axis['exponent']}}}$")
        if i == 0:
            ax.set_ylabel("ms per update (log scale)")
    return figure


def _inside(value: float, times: list[float]) -> bool:
    return 0.7 * min(times) <= value <= 1.4 * max(times)
