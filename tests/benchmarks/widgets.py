"""How long a widget takes to answer one event, in ms; nothing fails here.

python tests/benchmarks/widgets.py
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import wmlib
from wmlib.widgets import BlindfoldPlayer, Cockpit, DreamConsole, WorldPlayer


def events(agent: wmlib.Dreamer) -> dict[str, Callable[[int], None]]:
    """Name of a widget -> one event, given its number."""
    blindfold, console = BlindfoldPlayer(agent), DreamConsole(agent)
    cockpit, world = Cockpit(agent), WorldPlayer()
    return {
        "BlindfoldPlayer, sample again": lambda k: blindfold.again.click(),
        "DreamConsole, a report": lambda k: console.hear({"new": seven(agent, k)}),
        "Cockpit, one log line": lambda k: cockpit.on_log(None, {"steps": k, "updates": k}),
        "WorldPlayer, one step": lambda k: world.buttons[1].click(),
    }


def seven(agent: wmlib.Dreamer, seed: int) -> dict[str, Any]:
    """A report of seven actions, as the page sends it."""
    size = 8, agent.config.stoch
    latents = np.random.default_rng(seed).integers(agent.config.classes, size=size).tolist()
    start = {"lane": 3, "offset": 2, "paddle": 4}
    settings = {"context": 4, "horizon": 15, "temperature": 1.0, "start": start}
    return {"actions": [1] * 7, "latents": latents, **settings}


def main() -> None:
    """Print the median over twenty events for each widget."""
    for name, event in events(wmlib.load_pretrained("curtain")).items():
        event(0)
        times = []
        for k in range(1, 21):
            began = time.perf_counter()
            event(k)
            times.append(1e3 * (time.perf_counter() - began))
        print(f"{name:32} {np.median(times):6.1f} ms")


if __name__ == "__main__":
    main()
