"""Can this machine run the course, and how long will it take: python -m wmlib check.

Each notebook says how long it takes on the reference machine (x86_64, two cores, two torch
threads); `make notebooks` prints such seconds. `REFERENCE_RATE` is the rate of the same training
there: 51 ms for an update, by `python -m wmlib bench`. An estimate is the former scaled by the
ratio of the rates. It is rough, since a notebook does more than train, and other programs slow
both down.
"""

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import time
from pathlib import Path

import torch

from wmlib import course
from wmlib.errors import BadInput
from wmlib.experiments import bench
from wmlib.runtime import pick_device

__all__ = ["REFERENCE_RATE", "duration", "examine", "lines", "training_rate"]

REFERENCE_RATE = 19.6
MEMORY = 2.0  # GB: a kernel takes about 0.6, server and browser the rest
DISK = 1.0  # GB: runs are small
OLDEST = (3, 11)
IDLE = 0.6  # of the processor, at least, while training: less means that it is shared
CONTAINER = Path("/sys/fs/cgroup")  # where Linux keeps the limits of a container
INTERFACE = ("jupyterlab", "ipykernel", "ipywidgets", "jupyterlab_widgets")


def installed(name: str) -> str | None:
    """Version of a package without its local part, or None."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def pinned(text: str) -> dict[str, str]:
    """Packages and versions of a requirements file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))


def packages(pins: dict[str, str], needed: set[str]) -> tuple[list[str], list[str]]:
    """What is wrong with the installed packages: problems, and notes on what can be lived with."""
    problems, notes = [], []
    for name in sorted(pins.keys() | needed):
        have = installed(name)
        want = pins.get(name)
        if have is None and name in needed:
            version = f" {want}" if want else ""
            problems.append(f"The package {name}{version} is missing; pip can install it.")
        elif have is None:
            notes.append(f"The package {name} {want} is missing; only the tests need it.")
        elif want and have != want:
            notes.append(f"The package {name} is {have}; the course was tested with {want}.")
    return problems, notes


def own_requirements() -> set[str]:
    """What the package itself depends on, and what shows notebooks."""
    try:
        words = importlib.metadata.requires("wmlib") or []
    except importlib.metadata.PackageNotFoundError:  # run from a folder that is not installed
        words = []
    plain = [word for word in words if ";" not in word]
    return {re.split(r"[^\w.-]", word)[0] for word in plain} | set(INTERFACE)


def memory_gb() -> float | None:
    """Memory of the machine, or of the container around this process; None if unknown."""
    sizes = []
    if sys.platform == "win32":
        import ctypes

        total = ctypes.c_ulonglong()
        if ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(total)):
            sizes.append(total.value * 1024)
    else:
        with contextlib.suppress(ValueError, OSError):
            sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int((CONTAINER / limit).read_text()))
    return min(sizes) / 1e9 if sizes else None


def training_rate(seconds: float) -> tuple[float, float]:
    """Updates a second of a real training step, and the share of the processor that we got for it.

    It is an update of preset `tiny` on rows of Curtain's size, on the CPU, as the notebooks train.
    """
    agent, batch = bench.build(bench.CASES["curtain"])
    began = time.perf_counter()
    used = time.process_time()
    ms = bench.timed(lambda: agent.update(batch), seconds)
    used = time.process_time() - used
    lasted = time.perf_counter() - began
    return 1e3 / ms, min(1.0, used / lasted / torch.get_num_threads())


def duration(seconds: float) -> str:
    """Seconds or minutes, as a reader would say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def examine(seconds: float = 5.0) -> dict:
    """Look at this machine and train for a while; `problems` stop the course, `notes` do not."""
    problems: list[str] = []
    pins: dict[str, str] = {}
    place = Path.cwd()
    books = {}
    try:
        place = course.home()
        books = course.notebooks()
        pins = pinned((place / "requirements.txt").read_text(encoding="utf-8"))
    except (BadInput, OSError):
        problems.append("The course is not here; git clone it and run this command in its folder.")
    wrong, notes = packages(pins, own_requirements())
    problems += wrong
    if sys.version_info < OLDEST:
        problems.append(f"Python is {platform.python_version()}; it must be 3.11 or newer.")
    memory = memory_gb()
    disk = shutil.disk_usage(place).free / 1e9
    if memory is not None and memory < MEMORY:
        problems.append(f"There are {memory:.1f} GB of memory; a notebook needs {MEMORY:.0f} GB.")
    if disk < DISK:
        problems.append(
            f"There are {disk:.1f} GB free on the disk; the course needs {DISK:.0f} GB."
        )
    rate = 0.0
    estimates: dict[str, float] = {}
    try:
        rate, share = training_rate(seconds)
        times = {key: book.seconds for key, book in books.items() if book.seconds}
        estimates = {key: time * REFERENCE_RATE / rate for key, time in times.items()}
        if share < IDLE:
            notes.append("Other programs use this processor; without them the times are shorter.")
    except RuntimeError as error:
        problems.append(f"A training step fails on this machine: {str(error).splitlines()[0]}")
    return {
        "ok": not problems,
        "problems": problems,
        "notes": notes,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": str(pick_device()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": None if memory is None else round(memory, 1),
        "disk_free_gb": round(disk, 1),
        "updates_per_second": round(rate, 1),
        "notebook_seconds": {key: round(value) for key, value in estimates.items()},
    }


def lines(found: dict) -> list[str]:
    """The report of `examine` for people: about ten lines, and a verdict as the last."""
    device = torch.cuda.get_device_name() if found["device"] == "cuda" else found["device"]
    memory = "unknown" if found["memory_gb"] is None else f"{found['memory_gb']:.1f} GB"
    times = [f"{key} {duration(value)}" for key, value in found["notebook_seconds"].items()]
    rate = f"{found['updates_per_second']} updates a second ({REFERENCE_RATE} on the reference)"
    total = duration(sum(found["notebook_seconds"].values()))
    verdict = f"This machine can run the course; all notebooks together take about {total}."
    if found["problems"]:
        verdict = "This machine cannot run the course yet: solve the problems above first."
    elif found["notes"]:
        verdict += " Look at the notes if something behaves oddly."
    return [
        f"Python:    {found['python']}, torch {installed('torch')}, {found['system']}",
        f"Processor: {found['cores']} cores, threads: {found['threads']}, {found['instructions']}",
        f"Device:    {device}; the notebooks need only the CPU",
        f"Memory:    {memory}; disk: {found['disk_free_gb']:.1f} GB free",
        "Interface: " + ", ".join(f"{name} {installed(name) or 'missing'}" for name in INTERFACE),
        f"Training:  {rate}",
        f"Run times: {', '.join(times[: len(times) // 2])},",
        f"           {', '.join(times[len(times) // 2 :])}",
        *(f"Note:      {note}" for note in found["notes"]),
        *(f"Problem:   {problem}" for problem in found["problems"]),
        verdict,
    ]
