"""Interactive pictures of a world model at work; every number they show is also in `.result`."""

from wmlib.widgets.base import Widget
from wmlib.widgets.world_player import WorldPlayer

__all__ = ["Widget", "WorldPlayer"]
