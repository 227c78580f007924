"""What the agent does on a GPU: python -m wmlib gpu.

Does an update come to the same as on the CPU? How long does it take, and of what the card can do,
how much is that? Does a training still learn? The answers go to `gpu-CARD.json`, which is written
again after each part.
"""

import contextlib
import datetime
import gc
import itertools
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from wmlib.agent import Dreamer
from wmlib.config import SHORT, preset
from wmlib.distributions import sample_onehot
from wmlib.envs.make import make_env
from wmlib.experiments import bench
from wmlib.experiments.store import prepare
from wmlib.experiments.training import TrainingRun, run_seed
from wmlib.play import evaluate
from wmlib.runtime import can_compile, say, uninterrupted
from wmlib.spaces import random_actions

__all__ = ["LIMITS", "SIZES", "TRAININGS", "compare", "gpu", "report_path", "speed", "table"]

SIZES = ("size1m", "size12m", "size50m", "size200m")
SPACES = {"vector": bench.VECTOR, "image": bench.image_space(64, 3)}  # what is observed
PEAK_CALLS = {"cuda": (8192, 50)}  # side of the matrices, and calls until the clock has risen
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# How far the device may be from the CPU in float32: at most, or at least. Losses, state and new
# weights are |a - b| / |b|, with the norms of whole tensors; `gradient` is the largest error of
# a tensor, relative to its largest entry. In both precisions the optimiser works in float32.
# Rounding alone, of weights in float32 or of an update to bfloat16 on a CPU, stays below a seventh.
LIMITS = {
    "float32": {"losses": 1e-4, "state": 1e-4, "gradient": 0.02, "weights": 1e-5}
    | {"cosine": 0.9999, "choices": 0.999},
    "bfloat16": {"losses": 0.1, "state": 0.03, "gradient": 0.7, "weights": 1e-5}
    | {"cosine": 0.95, "choices": 0.98},
}
AT_LEAST = ("cosine", "choices")
TRAININGS = {
    "curtain": TrainingRun("wmlib/Curtain-v0", (0,), "curtain", eval_every=0, episodes=200),
    "cartpole_pixels": TrainingRun(
        "CartPole-v1",
        (0,),
        "size12m",
        eval_every=0,
        env_args={"pixels": True, "size": 64},
        # a larger network needs smaller steps than the presets for a CPU
        changes=SHORT | {"lr": 3e-4, "random_steps": 1000, "model_updates": 300},
    ),
}

# ---------------------------------------------------------------- against the CPU

Numbers = dict[str, dict[str, Tensor]]  # kind -> name -> numbers of an update, in float32, on a CPU


@contextlib.contextmanager
def same_chance(choices: list[Tensor] | None = None) -> Iterator[list[Tensor]]:
    """Draw uniform numbers on the CPU, the same in every block; gives the one-hots they choose.

    With `choices`, of another block, these are used instead: one number that rounds to the other
    side would change all that follows.
    """
    generator = torch.Generator().manual_seed(0)
    given = iter(choices or ())
    drawn: list[Tensor] = []

    def uniform(x: Tensor) -> Tensor:
        return torch.rand(x.shape, generator=generator).to(x.device)

    def draw(probs: Tensor) -> Tensor:
        onehot = sample_onehot(probs)
        drawn.append(onehot.cpu())
        return onehot if choices is None else next(given).to(onehot)

    with (
        mock.patch("torch.rand_like", uniform),
        mock.patch("wmlib.rssm.sample_onehot", draw),
        mock.patch("wmlib.distributions.sample_onehot", draw),
    ):
        yield drawn


@contextlib.contextmanager
def in_precision(name: str, device: torch.device) -> Iterator[None]:
    """Let updates on the device compute in this precision; float32 is without TF32."""
    used = torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    try:
        with exact, mock.patch("wmlib.agent.autocast", lambda _: used):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def numbers(
    agent: Dreamer, batch: dict[str, Tensor], gradients: dict[str, Tensor] | None = None
) -> Numbers:
    """Make one update, and return what it computes: losses, state, gradients, new weights.

    If `gradients` are given, the optimiser gets these instead of the agent's own.
    """
    found: Numbers = {"gradients": {}}

    def losses(*args: Any) -> Any:
        values, metrics, state = Dreamer.losses(agent, *args)
        found["losses"] = {name: plain(value) for name, value in values.items()}
        found["state"] = {"h": plain(state.h)}
        return values, metrics, state

    def exchange(*_: Any) -> None:
        for name, p in agent.named_parameters():
            if p.grad is not None:
                found["gradients"][name] = plain(p.grad)
                if gradients is not None:
                    p.grad.copy_(gradients[name].float())

    hook = agent.optimizer.register_step_pre_hook(exchange)
    with hook, mock.patch.object(agent, "losses", losses):
        agent.update(batch)
    found["weights"] = {name: plain(p) for name, p in agent.named_parameters()}
    return found


def plain(x: Tensor) -> Tensor:
    """A copy in float64 on the CPU, without gradient."""
    return x.detach().cpu().double()


def copy_to(agent: Dreamer, device: torch.device) -> Dreamer:
    """An agent with the same weights and averages of gradients on a device."""
    twin = Dreamer(agent.obs_space, agent.act_space, agent.config).to(device)
    twin.load_state_dict(agent.state_dict())
    twin.optimizer.load_state_dict(agent.optimizer.state_dict())
    return twin


@torch.no_grad()
def look_trained(agent: Dreamer) -> None:
    """Let states differ in reward, value and policy, and no head believe in its farthest bins.

    A fresh head gives each bin 1/255, and the farthest are at 5e8: a change in the seventh digit of
    a logit is a return of a hundred.
    """
    generator = torch.Generator().manual_seed(0)
    heads = (agent.world.reward_head, agent.critic.fast, agent.critic.slow)
    for layer in (agent.actor.out, *(head.out for head in heads)):
        layer.weight.normal_(0, 0.5, generator=generator)
    for head in heads:
        head.out.bias.sub_(3 * torch.log1p(agent.world.bins.abs()))


def distance(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|."""
    return float((a - b).norm() / b.norm().clamp(min=1e-30))


def alike(a: Tensor, b: Tensor) -> dict[str, float]:
    """Cosine of two gradients, and their largest difference relative to the largest entry of b."""
    size = (a.norm() * b.norm()).clamp(min=1e-30)
    error = (a - b).abs().max() / b.abs().max().clamp(min=1e-30)
    both_zero = not (a.any() or b.any())
    return {"cosine": 1.0 if both_zero else float((a * b).sum() / size), "gradient": float(error)}


def compare(case: bench.Case, device: torch.device, precision: str) -> dict[str, Any]:
    """Make the same update on the CPU in float32 and on the device, and say how far apart they are.

    `ok` says whether all lies within `LIMITS`; `worst` has what is compared with these.
    """
    agent, batch = bench.build((*case[:2], case[2].replace(warmup=0, lr=1e-3)))
    look_trained(agent)
    for _ in range(3):  # no weight, gradient or average is zero any more
        agent.update(batch)
    twin = copy_to(agent, device)
    with same_chance() as drawn:
        expected = numbers(agent, batch)
    batch = {name: value.to(device) for name, value in batch.items()}
    with same_chance(drawn) as own, in_precision(precision, device):
        found = numbers(twin, batch, expected["gradients"])
    apart = {
        kind: {name: distance(found[kind][name], x) for name, x in expected[kind].items()}
        for kind in ("losses", "state", "weights")
    }
    gradients = {n: alike(found["gradients"][n], x) for n, x in expected["gradients"].items()}
    worst = {kind: max(values.values()) for kind, values in apart.items()}
    worst["gradient"] = max(g["gradient"] for g in gradients.values())
    worst["cosine"] = min(g["cosine"] for g in gradients.values())
    same = [float((a == b).all(-1).float().mean()) for a, b in zip(own, drawn, strict=True)]
    worst["choices"] = float(np.mean(same))  # made with the same uniform numbers
    limits = LIMITS[precision]
    within = {k: worst[k] >= x if k in AT_LEAST else worst[k] <= x for k, x in limits.items()}
    return {
        "ok": all(within.values()),
        "limits": limits,
        "worst": worst,
        "beyond": [kind for kind, good in within.items() if not good],
        **apart,
        "gradients": gradients,
    }


# ---------------------------------------------------------------- speed

OUT_OF_MEMORY = "out of memory"
MEMORY_FULL = r"out of memory|not enough memory|allocate memory|_ALLOC_FAILED"  # as torch says it


def attempt(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part of the report comes to, or {"error": why there is nothing}."""
    try:
        torch.compiler.reset()  # what came before no longer takes memory
        if torch.cuda.is_initialized():
            gc.collect()
            torch.cuda.empty_cache()
        return part()
    except (ArithmeticError, MemoryError, RuntimeError) as error:
        text = str(error) or type(error).__name__
        full = isinstance(error, MemoryError) or re.search(MEMORY_FULL, text)
        return {"error": OUT_OF_MEMORY if full else text.splitlines()[0]}


def peaks(device: torch.device) -> dict[str, float]:
    """GFLOP/s of a product of two matrices in every precision."""
    size, calls = PEAK_CALLS.get(device.type, (2048, 5))
    with in_precision("float32", device):
        found = {n: bench.matmul_peak(size, device, kind, calls) for n, kind in PRECISIONS.items()}
    return {name: round(gflops, 1) for name, gflops in found.items()}


def speed(
    case: bench.Case,
    device: torch.device,
    change: Callable[[Dreamer], object] | None,
    seconds: float,
    peak: dict[str, float],
) -> dict[str, Any]:
    """Time of an update of this case and what of the peak that is; most memory at any time.

    `change` is applied to the agent first, and counts to its first update.
    On CUDA updates compute in bfloat16, elsewhere in float32. Memory is that of tensors on CUDA,
    and elsewhere the most that this process ever held.
    """
    agent, batch = bench.build(case, device)
    with FlopCounterMode(display=False) as counter:
        agent.update(batch)
    gflop = counter.get_total_flops() / 1e9
    began = time.perf_counter()
    if change is not None:
        change(agent)
    agent.update(batch)
    bench.finish(device)
    first = time.perf_counter() - began
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ms = bench.timed(lambda: agent.update(batch), seconds, device=device)
    memory = bench.peak_memory()
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 1e6
    return {
        "parameters": sum(agent.summary().values()),
        "first_update_s": round(first, 2),
        "update_ms": round(ms, 2),
        "gflop": round(gflop, 4),
        "gflops": round(gflop / ms * 1e3, 1),
        "peak_fraction": {name: round(gflop / ms * 1e3 / most, 4) for name, most in peak.items()},
        "memory_mb": None if memory is None else round(memory),
    }


# ---------------------------------------------------------------- training


def learn(spec: TrainingRun, device: torch.device, minutes: float) -> dict[str, Any]:
    """Train for some minutes; returns of random play, of the fresh agent, and after training.

    Raises:
        KeyboardInterrupt: the training was interrupted.
    """
    before: dict[str, float] = {}

    def examine(agent: Dreamer) -> None:
        agent.to(device)
        rng = np.random.default_rng(0)

        def at_random(_: Any, is_first: np.ndarray, memory: Any, mode: bool) -> tuple:
            return random_actions(agent.act_space, len(is_first), rng), memory

        env = make_env(spec.env, min(spec.episodes, 100), **spec.env_args)
        with contextlib.closing(env):
            before["untrained"] = evaluate(agent, env, spec.episodes).mean()
            with mock.patch.object(agent, "act", at_random):
                before["random"] = evaluate(agent, env, spec.episodes).mean()

    line = run_seed(replace(spec, minutes=minutes), spec.seeds[0], None, examine)
    after = {"sampled": line.pop("eval_return_mean"), "mode": line.pop("eval_return_mode")}
    line |= {"env_args": spec.env_args, "changes": spec.changes}
    return line | {"return": {k: round(float(v), 4) for k, v in (before | after).items()}}


# ---------------------------------------------------------------- the report


def machine(device: torch.device) -> dict[str, Any]:
    """The card, and the software that drives it."""
    found: dict[str, Any] = {
        "command": "python -m wmlib gpu",
        "date": datetime.date.today().isoformat(),
        "card": device.type,
        "processor": bench.wmlib_machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "card": card.name,
            "memory_gb": round(card.total_memory / 1e9, 1),
            "multiprocessors": card.multi_processor_count,
            "capability": f"{card.major}.{card.minor}",
            "driver": driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def driver() -> str | None:
    """Version of NVIDIA's driver; None if its own tool does not tell."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.split()[0] if done.stdout.split() else None
    return None


def report_path(out: Path, card: str) -> Path:
    """Where the report on a card goes."""
    return out / f"gpu-{re.sub('[^a-z0-9]+', '-', card.lower()).strip('-')}.json"


def write(path: Path, report: dict[str, Any]) -> None:
    """Write the report whole, or leave the file as it is."""
    draft = path.with_suffix(".tmp")
    with uninterrupted():
        draft.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        os.replace(draft, path)


def gpu(
    device: torch.device,
    out: Path,
    sizes: tuple[str, ...] = SIZES,
    minutes: float = 5.0,
    seconds: float = 5.0,
) -> dict[str, Any]:
    """Measure all of it; returns the report, which is also in `out`.

    `minutes` is for each training (0: none), `seconds` for each timing. `ok` in the report says
    that nothing failed; a size that does not fit into memory is no failure.

    Raises:
        BadInput: an unknown size, or a directory that cannot be written.
        KeyboardInterrupt: it was interrupted; what was measured is stored.
    """
    cases = {
        (size, kind): (space, bench.DISCRETE(5), preset(size))
        for size in sizes
        for kind, space in SPACES.items()
    }
    prepare(out, None)
    if device.type != "cuda":
        say(f"No CUDA device is used: all is measured on '{device}', where large sizes take long.")
    report: dict[str, Any] = {"ok": True, "complete": False, "machine": machine(device)}
    report |= {"against_cpu": [], "peak_gflops": {}, "speed": [], "training": []}
    path = report_path(out, report["machine"]["card"])

    def store(kind: str, about: dict[str, Any], part: Callable[[], dict[str, Any]]) -> None:
        say(f"{kind.replace('_', ' ')}: {', '.join(map(str, about.values()))} ...")
        found = attempt(part)
        report["ok"] &= found.get("ok", found.get("error", OUT_OF_MEMORY) == OUT_OF_MEMORY)
        report[kind].append(about | found)
        write(path, report)

    modes: dict[str, Any] = {"eager": None}
    if can_compile(device):
        modes["compiled"] = Dreamer.compile_parts
    try:
        for kind, precision in itertools.product(SPACES, PRECISIONS):
            about = {"size": "size1m", "observations": kind, "precision": precision}
            store("against_cpu", about, partial(compare, bench.CASES[kind], device, precision))
        report["peak_gflops"] = peak = peaks(device)
        for (size, kind), case in cases.items():
            for mode, change in modes.items():
                about = {"size": size, "observations": kind, "mode": mode}
                store("speed", about, partial(speed, case, device, change, seconds, peak))
        for name, spec in TRAININGS.items() if minutes else ():
            store("training", {"name": name}, partial(learn, spec, device, minutes))
    except KeyboardInterrupt:
        kept = f"what was measured is in {path}" if report["against_cpu"] else "nothing is measured"
        raise KeyboardInterrupt(f"Interrupted; {kept}.") from None
    report["complete"] = True
    write(path, report)
    return report


def table(report: dict[str, Any]) -> str:
    """The report as text."""
    about = {k: v for k, v in report["machine"].items() if k not in ("command", "date")}
    lines = [", ".join(f"{name} {value}" for name, value in about.items())]
    lines.append(_row("an update against the CPU", tuple(LIMITS["float32"])))
    for part in report["against_cpu"]:
        title = _title(part, "observations", "precision")
        if "error" not in part:
            values = [f"{part['worst'][kind]:.4g}" for kind in part["limits"]]
            verdict = "ok" if part["ok"] else f"too far: {', '.join(part['beyond'])}"
            title = f"{_row(title, tuple(values))}  {verdict}"
        lines.append(title)
    peak = ", ".join(f"{gflops:,.0f} in {name}" for name, gflops in report["peak_gflops"].items())
    lines.append(f"GFLOP/s of a product of two matrices: {peak}")
    names = ("first, s", "ms", "GFLOP", "GFLOP/s", *(f"% of {n}" for n in PRECISIONS), "MB")
    lines.append(_row("an update", names))
    for part in report["speed"]:
        title = _title(part, "size", "observations", "mode")
        if "error" not in part:
            values = [part[n] for n in ("first_update_s", "update_ms", "gflop", "gflops")]
            values += [f"{100 * share:.1f}" for share in part["peak_fraction"].values()]
            title = _row(title, (*values, part["memory_mb"]))
        lines.append(title)
    names = ("steps", "updates", "random", "untrained", "sampled", "mode")
    if report["training"]:
        lines.append(_row("return of a training", names))
    for part in report["training"]:
        title = _title(part, "name")
        if "error" not in part:
            values = [part[n] if n in part else part["return"][n] for n in names]
            title = _row(title, tuple(values))
        lines.append(title)
    return "\n".join(lines)


def _title(part: dict[str, Any], *names: str) -> str:
    error = f": {part['error']}" if "error" in part else ""
    return ", ".join(part[name] for name in names) + error


def _row(title: str, values: tuple) -> str:
    return f"{title:28s}" + "".join(f"{value!s:>14}" for value in values)
