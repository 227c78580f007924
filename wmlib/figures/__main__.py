"""Write the drawings that are stored in the repository: python -m wmlib.figures [DIRECTORY]."""

import sys
from pathlib import Path

from wmlib.figures import training_structure

STORED = {"WM_training.png": training_structure}


def main(directory: Path) -> None:
    """Draw them all."""
    for name, draw in STORED.items():
        draw().image.quantize(64, dither=0).save(directory / name, optimize=True)
        print(directory / name, file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("imgs"))
