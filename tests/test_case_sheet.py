"""The case sheet: only what was ordered is shown, and points are counted right."""

import numpy as np
import pytest

from wmlib.errors import BadInput
from wmlib.experiments.bugs import BUGS
from wmlib.experiments.hospital import CHARTS
from wmlib.widgets import CaseSheet
from wmlib.widgets.case_sheet import admit, draw

ON_PAGE = """
from wmlib.experiments.hospital import CHARTS
from wmlib.experiments.bugs import BUGS
names = ["healthy", *BUGS]
value = np.random.default_rng(0).random
CaseSheet([dict(zip(CHARTS, value(10)), patient=n, seed=s) for n in names for s in (0, 1)])
"""

compute = CaseSheet.compute


@pytest.fixture
def lines():
    rng = np.random.default_rng(0)
    names = [("healthy", seed) for seed in range(4)]
    names += [(name, seed) for name in BUGS for seed in (0, 1)]
    return [
        {"patient": name, "seed": seed, **{chart: float(rng.random()) for chart in CHARTS}}
        for name, seed in names
    ]


def test_every_run_of_the_seed_gets_a_letter_and_always_the_same(lines):
    cases = admit(lines)
    assert list(cases) == list("ABCDEFG")
    assert {line["patient"] for line in cases.values()} == {"healthy", *BUGS}
    assert all(line["seed"] == 0 for line in cases.values())
    assert cases == admit(lines[::-1])
    assert [line["patient"] for line in cases.values()] != sorted({"healthy", *BUGS})


def test_only_ordered_charts_are_told(lines):
    for ordered in ((), ("memory",), ("reset", "total loss")):
        r = compute(lines, "C", ordered)
        assert set(r.charts) == set(r.usual) == set(r.scale) == set(ordered)
        assert r.spent == sum(CHARTS[name][0] for name in ordered)
        assert (r.truth, r.score) == ("", None)
    for name, value in compute(lines, "C", tuple(CHARTS)).charts.items():
        assert value == admit(lines)["C"][name]


def test_the_healthy_agents_are_those_of_other_seeds(lines):
    r = compute(lines, "A", ("value",))
    others = [li["value"] for li in lines if li["patient"] == "healthy" and li["seed"] != 0]
    assert r.usual["value"] == tuple(sorted(others))
    assert r.scale["value"] == (min(li["value"] for li in lines), max(li["value"] for li in lines))


def test_a_right_diagnosis_is_worth_100_less_the_charts_and_a_wrong_one_nothing(lines):
    truth = admit(lines)["B"]["patient"]
    r = compute(lines, "B", ("memory", "KL, coin"), truth)
    assert (r.score, r.truth) == (100 - 15 - 5, truth)
    wrong = next(name for name in BUGS if name != truth)
    assert compute(lines, "B", (), wrong).score == 0
    everything = compute(lines, "B", tuple(CHARTS), truth)
    assert everything.score == 100 - sum(price for price, _ in CHARTS.values()) > 0


def test_bad_input_is_told(lines):
    for changes, words in (
        ({"case": "Z"}, "Unknown case 'Z'"),
        ({"ordered": ("pulse",)}, "Unknown chart 'pulse'"),
        ({"diagnosis": "flu"}, "Unknown diagnosis 'flu'"),
        ({"seed": 9}, "Seed 9 has no healthy"),
    ):
        with pytest.raises(BadInput, match=words):
            compute(lines, **changes)


def test_unordered_charts_draw_nothing_of_their_values(lines):
    before = np.asarray(draw(compute(lines, "A", ("memory",))))
    for line in lines:
        line.update({name: 0.123 for name in CHARTS if name != "memory"})
    np.testing.assert_array_equal(before, np.asarray(draw(compute(lines, "A", ("memory",)))))


def test_charts_without_any_spread_can_be_drawn(lines):
    for line in lines:
        line["reset"] = 0.0
    assert draw(compute(lines, "A", ("reset",))).size == (1440, 744)


def test_controls_are_obeyed_and_a_closed_case_stays_closed(lines):
    sheet, truth = CaseSheet(lines), admit(lines)["A"]["patient"]
    sheet.chart.value = "memory"
    sheet.order.click()
    sheet.order.click()  # once is enough
    assert sheet.result.spent == 15 and list(sheet.result.charts) == ["memory"]
    sheet.name.value = truth
    sheet.tell.click()
    assert sheet.result.score == 85 == sheet.total
    sheet.name.value = next(name for name in BUGS if name != truth)
    sheet.tell.click()
    sheet.chart.value = "reset"
    sheet.order.click()
    assert sheet.result.score == 85 and sheet.result.spent == 15
    sheet.next.click()
    assert sheet.result.case == "B" and not sheet.result.charts
    assert sheet.result.closed == (85,) and sheet.result.cases == 7
    sheet.name.value = admit(lines)["B"]["patient"]
    sheet.tell.click()
    assert sheet.total == 185 == sum(sheet.result.closed) and sheet.failure is None
    sheet.case.value = "G"
    sheet.next.click()  # A and B have their diagnosis
    assert sheet.result.case == "C"


def test_the_next_case_after_the_last_diagnosis_is_the_next_letter(lines):
    sheet = CaseSheet(lines)
    for _ in range(7):
        sheet.tell.click()
        sheet.next.click()
    assert len(sheet.result.closed) == 7 and sheet.result.case == "A" and sheet.failure is None
