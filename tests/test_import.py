"""Importing the package is light: what only some readers need is loaded when it is used."""

import subprocess
import sys

import wmlib

HEAVY = ["matplotlib", "tyro", "IPython", "ipywidgets", "cv2", "pygame"]
CODE = f"""
import sys, wmlib, wmlib.figures, wmlib.experiments
print([m for m in {HEAVY} if m in sys.modules])
import tyro
print([m for m in {HEAVY} if m in sys.modules])
"""


def test_import_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['tyro']"]  # the second line: it would be noticed


def test_every_public_name_exists():
    assert [name for name in wmlib.__all__ if not hasattr(wmlib, name)] == []
