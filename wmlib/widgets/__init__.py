"""Interactive pictures of a world model at work; every number they show is also in `.result`."""

from wmlib.widgets.base import Widget
from wmlib.widgets.blindfold import BlindfoldPlayer
from wmlib.widgets.case_sheet import CaseSheet
from wmlib.widgets.cheat_meter import CheatMeter
from wmlib.widgets.cockpit import Cockpit
from wmlib.widgets.counterfactual_tree import CounterfactualTree
from wmlib.widgets.dream_console import DreamConsole
from wmlib.widgets.kl_seismograph import KLSeismograph
from wmlib.widgets.latent_mixer import LatentMixer
from wmlib.widgets.memory_probe import MemoryProbe
from wmlib.widgets.nats_counter import NatsCounter, NatsEntry, model_entry
from wmlib.widgets.ruler import CreditRuler, Ruler
from wmlib.widgets.tug_of_war import TugOfWar
from wmlib.widgets.waterline import Waterline
from wmlib.widgets.world_player import WorldPlayer

__all__ = [
    "BlindfoldPlayer",
    "CaseSheet",
    "CheatMeter",
    "Cockpit",
    "CounterfactualTree",
    "CreditRuler",
    "DreamConsole",
    "KLSeismograph",
    "LatentMixer",
    "MemoryProbe",
    "NatsCounter",
    "NatsEntry",
    "Ruler",
    "TugOfWar",
    "Waterline",
    "Widget",
    "WorldPlayer",
    "model_entry",
]
