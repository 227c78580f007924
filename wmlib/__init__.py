"""A DreamerV3-style world model and agent, built piece by piece in a course of notebooks."""

import contextlib
import os
import signal
import sys

if sys.argv[0] == "-m" and sys.orig_argv[-len(sys.argv)] == "wmlib":  # the command line

    def _interrupted(*_: object) -> None:
        """Leave at once: while modules are imported an exception would be swallowed or traced."""
        with contextlib.suppress(OSError):
            os.write(2, b"wmlib: interrupted\n")
        os._exit(1)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)

from wmlib.agent import Dream, Dreamer
from wmlib.checkpoint import load_agent, read_metrics
from wmlib.config import PRESETS, Config, preset
from wmlib.envs.make import make_env
from wmlib.envs.rows import RowEnv
from wmlib.errors import BadInput
from wmlib.offline import train_model
from wmlib.play import evaluate, play
from wmlib.policy import Policy, export_weights, load_policy
from wmlib.pretrained import load_pretrained, pretrained_card
from wmlib.replay import Replay
from wmlib.runtime import pick_device, seed_everything, set_threads
from wmlib.trainer import Result, Trainer, train

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "BadInput",
    "Config",
    "Dream",
    "Dreamer",
    "Policy",
    "Replay",
    "Result",
    "RowEnv",
    "Trainer",
    "evaluate",
    "export_weights",
    "load_agent",
    "load_policy",
    "load_pretrained",
    "make_env",
    "pick_device",
    "play",
    "preset",
    "pretrained_card",
    "read_metrics",
    "seed_everything",
    "set_threads",
    "train",
    "train_model",
]
