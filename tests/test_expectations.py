"""`expect`: one line, no stop for readers, an error for tests, and a record for `make shake`."""

import json
import math

import numpy as np
import pytest
import torch

from wmlib.checks import Unexpected, expect
from wmlib.errors import BadInput


@pytest.fixture(autouse=True)
def reader(monkeypatch):
    """The environment of a reader."""
    monkeypatch.delenv("WMLIB_STRICT", raising=False)
    monkeypatch.delenv("WMLIB_EXPECTATIONS", raising=False)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"low": 0.5}, "at least 0.5"),
        ({"high": 2}, "at most 2"),
        ({"low": 0.5, "high": 2}, "between 0.5 and 2"),
    ],
)
def test_a_value_inside_is_one_line_without_the_value(capsys, bounds, words):
    assert expect("the share", 1.234567, **bounds) is None
    assert capsys.readouterr().out == f"As expected: the share is {words}.\n"


@pytest.mark.parametrize("value", [0.1, torch.tensor([0.1]), np.float32(0.1), np.array([[0.1]])])
def test_numbers_come_in_many_forms(capsys, value):
    expect("the share", value, 0, 1)
    assert capsys.readouterr().out.startswith("As expected: ")


@pytest.mark.parametrize(("value", "shown"), [(2, "2"), (math.nan, "nan"), (-math.inf, "-inf")])
def test_a_value_outside_does_not_stop_a_reader(capsys, value, shown):
    expect("the share", value, 0, 1)
    said = capsys.readouterr().out
    assert said.startswith(f"Not as expected: the share is {shown}; we expected between 0 and 1.")
    assert said.count("\n") == 1


def test_the_bounds_belong_to_the_range(capsys):
    expect("the count", 3, low=3)
    expect("the count", 3, high=3)
    assert "Not" not in capsys.readouterr().out


def test_strict_raises_outside_and_only_there(monkeypatch):
    monkeypatch.setenv("WMLIB_STRICT", "1")
    expect("the share", 0.5, 0, 1)
    with pytest.raises(Unexpected, match="the share is 1.5; we expected between 0 and 1"):
        expect("the share", 1.5, 0, 1)
    with pytest.raises(Unexpected):
        expect("the share", math.nan, 0, 1)


def test_it_records_before_it_raises(monkeypatch, tmp_path):
    place = tmp_path / "log.jsonl"
    monkeypatch.setenv("WMLIB_EXPECTATIONS", str(place))
    monkeypatch.setenv("WMLIB_STRICT", "1")
    expect("a", 1, low=0)
    with pytest.raises(Unexpected):
        expect("b", 3.0, 0, 2)
    assert [json.loads(line) for line in place.read_text().splitlines()] == [
        {"what": "a", "value": 1.0, "low": 0, "high": None},
        {"what": "b", "value": 3.0, "low": 0, "high": 2},
    ]


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        ("a word", {"low": 0}),
        ([1, 2], {"low": 0}),
        (None, {"low": 0}),
        (1, {}),
        (1, {"low": math.nan}),
        (1, {"low": 2, "high": 1}),
    ],
)
def test_what_cannot_be_meant_is_refused(value, bounds):
    with pytest.raises(BadInput):
        expect("the share", value, **bounds)
