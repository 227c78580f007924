"""Importing the package is light: what only some readers need is loaded when it is used."""

import subprocess
import sys

import wmlib

HEAVY = ["matplotlib", "tyro", "IPython", "ipywidgets", "cv2", "pygame"]
TELL = f"; import sys; print([m for m in {HEAVY} if m in sys.modules])"


def loaded_after(code):
    done = subprocess.run(
        [sys.executable, "-c", code + TELL], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_import_loads_nothing_heavy():
    assert loaded_after("import wmlib, wmlib.figures, wmlib.experiments") == "[]"


def test_the_test_above_can_fail():
    assert loaded_after("import wmlib, tyro") == "['tyro']"


def test_every_public_name_exists():
    assert sorted(wmlib.__all__) == wmlib.__all__
    assert [name for name in wmlib.__all__ if not hasattr(wmlib, name)] == []
