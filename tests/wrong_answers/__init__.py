"""Plausible wrong answers to every exercise, and a phrase of the sentence that answers each.

`nb01.py` holds those of notebook 01 as code that takes the place of the solution:

    WRONG = {
        "01.2": [
            ("answer = math.log2(2)", "in nats, not in bits"),
            ("answer = 0.5", "Sum -p ln p over both sides"),
        ],
    }
"""

import importlib

__all__ = ["wrong_answers"]


def wrong_answers(number: str) -> dict[str, list[tuple[str, str]]]:
    """Wrong answers of a notebook: exercise -> (code, phrase) pairs."""
    name = f"wrong_answers.nb{number}"
    try:
        return importlib.import_module(name).WRONG
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return {}
