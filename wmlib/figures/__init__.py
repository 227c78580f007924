"""Pictures of the course. Amber is imagined, slate is real, everywhere.

`films` shows frames and dreams, `diagrams` the map of the agent, `training` how it learns.
`python -m wmlib.figures` (`make imgs`) writes the drawings that are stored in `imgs/`.
"""

from wmlib.figures.base import (
    AMBER,
    FAINT,
    INK,
    PAPER,
    SLATE,
    SOFT,
    Picture,
    plotted,
    style,
)
from wmlib.figures.diagrams import BLOCKS, agent_map
from wmlib.figures.films import dream_frames, film_strip, learning_curve, picture, write_dream
from wmlib.figures.training import training_structure

__all__ = [
    "AMBER",
    "BLOCKS",
    "FAINT",
    "INK",
    "PAPER",
    "Picture",
    "SLATE",
    "SOFT",
    "agent_map",
    "dream_frames",
    "film_strip",
    "learning_curve",
    "picture",
    "plotted",
    "style",
    "training_structure",
    "write_dream",
]
