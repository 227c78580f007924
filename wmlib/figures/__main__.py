"""Write the drawings that are stored in the repository: python -m wmlib.figures [DIRECTORY]."""

import sys
from pathlib import Path

from PIL import Image

from wmlib.figures import training_structure
from wmlib.pretrained import load_pretrained
from wmlib.widgets import BlindfoldPlayer, CounterfactualTree


def blindfold() -> Image.Image:
    """One episode with the eyes closed from the reveal on, as the shipped agent dreams it."""
    player = BlindfoldPlayer(load_pretrained("curtain"), seed=4)
    return player.draw(player.result)


def counterfactual_tree() -> Image.Image:
    """All actions of the shipped agent from one moment, two steps deep."""
    tree = CounterfactualTree(load_pretrained("curtain"), seed=4)
    return tree.draw(tree.result)


STORED = {
    "WM_training.png": lambda: training_structure().image,
    "blindfold.png": blindfold,
    "counterfactual_tree.png": counterfactual_tree,
}


def main(directory: Path) -> None:
    """Draw them all."""
    for name, draw in STORED.items():
        draw().quantize(64, dither=Image.Dither.NONE).save(directory / name, optimize=True)
        print(directory / name, file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("imgs"))
