"""Exercises: a registry of checks, and one function that runs them without ever raising.

A check is a function of the reader's answer that raises `Wrong` with a helpful sentence, most often
through `require`, and returns None or a sentence to add to "correct.":

    @exercise("01.2")
    def entropy_of_the_coin(answer):
        found = number(answer, "the entropy")
        require(found <= math.log(2), "A coin cannot hold more than ln 2 nats.")
        require(abs(found - 0.693) < 1e-3, "Sum -p ln p over both sides.")
        return "A fair coin is the most surprising one."
"""

import ast
import functools
import importlib
import inspect
import os
import random
import re
import textwrap
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from wmlib.checks import records
from wmlib.errors import BadInput

__all__ = ["EXERCISES", "Wrong", "array", "check", "exercise", "number", "require", "verdict"]

EXERCISES: dict[str, Callable] = {}
_ID = re.compile(r"\d\d\.\d+")
_LIBRARIES = tuple(
    os.path.join(os.path.realpath(place), "")  # wmlib, Python's own modules, installed packages
    for place in (
        os.path.dirname(os.path.dirname(__file__)),
        os.path.dirname(os.__file__),
        os.path.dirname(os.path.dirname(torch.__file__)),
        os.path.dirname(os.path.dirname(np.__file__)),
    )
)


class Wrong(Exception):
    """The answer is not right yet; the message is one sentence that helps."""


class _Untouched(Exception):
    """There is still a blank `...` in the answer."""


def exercise(key: str) -> Callable[[Callable], Callable]:
    """Register the check of exercise `key`, such as "01.2".

    Raises:
        BadInput: not of this form, or taken by another function.
    """
    if not _ID.fullmatch(key):
        raise BadInput(f"'{key}' is no exercise; write two digits, a dot and a number, as in 01.2.")

    def register(function: Callable) -> Callable:
        other = EXERCISES.get(key, function)
        if (other.__module__, other.__qualname__) != (function.__module__, function.__qualname__):
            raise BadInput(f"Exercise {key} has two checks, {other.__name__} and another one.")
        EXERCISES[key] = function
        return function

    return register


def check(key: str, *answers: object) -> None:
    """Check an answer, print one line, and note a solved exercise in the progress file.

    Whatever the answer is or does, nothing is raised, and the global random state stays as it was.

    Raises:
        BadInput: there is no such exercise, or its check takes another number of answers.
    """
    if verdict(key, *answers):
        records.note_solved(key)


def verdict(key: str, *answers: object) -> bool | None:
    """Print the line of `check`. True if right, False if not, None if not attempted."""
    examiner = _find(key)
    try:
        inspect.signature(examiner).bind(*answers)
    except TypeError as error:
        raise BadInput(f"The check of exercise {key} does not fit its call: {error}.") from error
    try:
        if any(_blank(answer) for answer in answers):
            raise _Untouched
        with _kept_randomness(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            praise = examiner(*answers)
    except _Untouched:
        print(f"Exercise {key}: not attempted yet.")
        return None
    except Wrong as wrong:
        print(f"Exercise {key}: not yet. {_sentence(str(wrong))}")
        return False
    except (Exception, SystemExit) as error:
        if isinstance(error, TypeError) and "ellipsis" in _message(error):
            print(f"Exercise {key}: not attempted yet.")
            return None
        print(f"Exercise {key}: not yet. {_blame(error, examiner, answers)}")
        return False
    print(f"Exercise {key}: correct. {_sentence(praise or '')}".rstrip())
    return True


# ---------------------------------------------------------------- for authors of checks


def require(condition: object, sentence: str) -> None:
    """Raise `Wrong` with this sentence unless the condition holds (all of it, if an array)."""
    values = condition.detach().cpu() if torch.is_tensor(condition) else condition
    if not np.asarray(values).all():
        raise Wrong(sentence)


def number(value: object, what: str = "the answer") -> float:
    """The answer as one finite float, or `Wrong`. `what` it is begins the sentence."""
    found = array(value, what=what)
    require(found.size == 1, f"{_subject(what)} should be one number, and is {_describe(value)}.")
    return float(found.reshape(()))


def array(
    value: object, shape: tuple[int | None, ...] | None = None, what: str = "the answer"
) -> np.ndarray:
    """The answer as a float64 array of finite numbers, or `Wrong`.

    None in `shape` fits any size.
    """
    if value is ...:
        raise _Untouched
    subject = _subject(what)
    if value is None:
        raise Wrong(f"{subject} is None; is a return missing?")
    try:
        plain = value.detach().cpu() if torch.is_tensor(value) else value
        found = np.asarray(plain)
    except Exception as error:
        raise Wrong(f"{subject} should be numbers, and is {_describe(value)}.") from error
    if found.dtype.kind not in "iuf":
        raise Wrong(f"{subject} should be numbers, and is {_describe(value)}.")
    if shape is not None:
        fits = len(shape) == found.ndim and all(
            n in (None, m) for n, m in zip(shape, found.shape, strict=True)
        )
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        require(fits, f"{subject} should have shape {wanted}, and has {tuple(found.shape)}.")
    require(np.isfinite(found), f"{subject} is not finite: it holds NaN or infinity.")
    return found.astype(np.float64)


# ---------------------------------------------------------------- how it is done


def _find(key: str) -> Callable:
    """The check of an exercise; imports the module of its notebook when it is first needed."""
    key = str(key)
    name = f"wmlib.checks.nb{key[:2]}"
    if key not in EXERCISES and _ID.fullmatch(key):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    if key not in EXERCISES:
        known = ", ".join(sorted(k for k in EXERCISES if k[:2] == key[:2])) or "none"
        raise BadInput(f"There is no exercise {key}; those of this notebook are: {known}.")
    return EXERCISES[key]


@contextmanager
def _kept_randomness() -> Iterator[None]:
    """Seed everything, and give the random state back afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def _blank(answer: object) -> bool:
    """Tell what is untouched: None, `...`, a collection with one in it, or code with a blank."""
    if answer is None or answer is ...:
        return True
    if isinstance(answer, (list, tuple)):
        return any(part is ... for part in answer)
    if isinstance(answer, dict):
        return any(part is ... for part in answer.values())
    return any(_has_blank(function) for function in _functions(answer))


def _functions(answer: object) -> Iterator[types.FunctionType]:
    """The reader's own functions in a function, a class or an object."""
    if isinstance(answer, functools.partial):
        answer = answer.func
    if isinstance(answer, types.MethodType):
        answer = answer.__func__
    if isinstance(answer, types.FunctionType):
        parts = [answer]
    else:
        owner = answer if isinstance(answer, type) else type(answer)
        parts = [getattr(v, "__func__", v) for v in vars(owner).values()]
    for part in parts:
        if isinstance(part, types.FunctionType) and not _is_library(part.__code__.co_filename):
            yield part


def _has_blank(function: types.FunctionType) -> bool:
    """Tell whether its source holds a `...` that is no index; without source, if it returns one."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return function.__code__.co_code in (_hole.__code__.co_code, _hollow.__code__.co_code) and (
            set(function.__code__.co_consts[-1:]) <= {None, ...}
        )
    indices = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.Subscript)
        for node in ast.walk(outer.slice)
    }
    return any(
        isinstance(node, ast.Constant) and node.value is ... and id(node) not in indices
        for node in ast.walk(tree)
    )


def _hole():
    return ...


def _hollow(): ...


def _is_library(filename: str) -> bool:
    """Tell files of wmlib, of Python or of an installed package from the reader's own."""
    return filename.startswith("<frozen") or os.path.realpath(filename).startswith(_LIBRARIES)


def _blame(error: BaseException, examiner: Callable, answers: tuple) -> str:
    """One sentence about an exception in the reader's code, or in the check that met the answer."""
    cause = f"{type(error).__name__}: {_message(error)}".rstrip(": ")
    frames = traceback.extract_tb(error.__traceback__)
    own = examiner.__code__.co_filename
    theirs = [f for f in frames if f.filename != own and not _is_library(f.filename)]
    if theirs:
        place = f"line {theirs[-1].lineno}"
        if not theirs[-1].name.startswith("<"):
            place += f" of {theirs[-1].name}"
        return f"Your code raised {cause} ({place})."
    given = " and ".join(_describe(answer) for answer in answers)
    return (
        f"The answer is {given}; the check cannot use that ({cause}). What does the task ask for?"
    )


def _describe(value: object) -> str:
    """What it is, in words that cannot fail: "a tensor of shape (3, 2)", "a str"."""
    kind = type(value).__name__
    if isinstance(value, (torch.Tensor, np.ndarray)):
        kind = "tensor" if torch.is_tensor(value) else "array"
        kind += f" of shape {tuple(value.shape)}"
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _message(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:200]
    except Exception:
        return ""


def _subject(what: str) -> str:
    """How a sentence about it begins; a name of the reader's code stays as it is written."""
    article = what.split(" ")[0] in ("the", "a", "an")
    return what[0].upper() + what[1:] if article else f"The value of {what}"


def _sentence(text: str, longest: int = 400) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= longest else text[: longest - 4] + " ..."
