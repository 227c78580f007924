"""A patient, charts that cost points, and a diagnosis."""

from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
from PIL import Image

from wmlib.errors import BadInput
from wmlib.experiments.hospital import CHARTS
from wmlib.figures import AMBER, INK, SLATE, SOFT
from wmlib.widgets.base import ALERT, LINE, TINT, Canvas, Widget, button

__all__ = ["CaseResult", "CaseSheet"]

HEALTHY = "healthy"
CASES = "ABCDEFG"


@dataclass(frozen=True)
class CaseResult:
    """Everything the case sheet shows; charts that were not ordered are not in it."""

    case: str  # a letter
    charts: dict[str, float]  # the ordered ones
    usual: dict[str, tuple[float, ...]]  # of the ordered ones: values of the healthy agents
    scale: dict[str, tuple[float, float]]  # of the ordered ones: lowest and highest of all agents
    spent: int  # points
    diagnosis: str  # "" as long as there is none
    truth: str  # told after the diagnosis, "" before
    score: int | None  # None before the diagnosis
    closed: tuple[int, ...]  # scores of all cases that have their diagnosis
    cases: int  # how many there are


def admit(lines: list[dict], seed: int = 0) -> dict[str, dict]:
    """Letters for the runs of one seed, a healthy one among them, in an order without meaning."""
    found = [line for line in lines if line["seed"] == seed]
    names = sorted({line["patient"] for line in found})
    if HEALTHY not in names or len(names) < 2:
        raise BadInput(f"Seed {seed} has no healthy and ill runs to choose from, but {names}.")
    order = np.random.default_rng(10).permutation(len(names))
    by_name = {line["patient"]: line for line in found}
    return {CASES[k]: by_name[names[n]] for k, n in enumerate(order)}


def compute(
    lines: list[dict],
    case: str = "A",
    ordered: tuple[str, ...] = (),
    diagnosis: str = "",
    seed: int = 0,
    others: tuple[int, ...] = (),
) -> CaseResult:
    """Open the sheet of a case. lines: stored runs of the experiment `hospital`.

    A right diagnosis scores 100 less the price of the charts, a wrong one nothing. Beside the case
    stand the healthy runs of other seeds. others: scores of the other cases that are closed.

    Raises:
        BadInput: an unknown case, chart or diagnosis.
    """
    cases = admit(lines, seed)
    known = sorted({line["patient"] for line in cases.values()})
    for what, given, allowed in (
        ("case", [case], list(cases)),
        ("chart", ordered, list(CHARTS)),
        ("diagnosis", [diagnosis] if diagnosis else [], known),
    ):
        for name in given:
            if name not in allowed:
                raise BadInput(f"Unknown {what} '{name}'; allowed are {', '.join(allowed)}.")
    healthy = [row for row in lines if row["patient"] == HEALTHY and row["seed"] != seed]
    charts = [name for name in CHARTS if name in ordered]

    def span(rows: list[dict], name: str) -> tuple[float, float]:
        return min(row[name] for row in rows), max(row[name] for row in rows)

    truth = cases[case]["patient"]
    spent = sum(CHARTS[name][0] for name in charts)
    score = None
    if diagnosis:
        score = max(0, 100 - spent) if diagnosis == truth else 0
    return CaseResult(
        case=case,
        charts={name: cases[case][name] for name in charts},
        usual={name: tuple(sorted(row[name] for row in healthy)) for name in charts},
        scale={name: span(lines, name) for name in charts},
        spent=spent,
        diagnosis=diagnosis,
        truth=truth if diagnosis else "",
        score=score,
        closed=others if score is None else (*others, score),
        cases=len(cases),
    )


def draw(result: CaseResult) -> Image.Image:
    """One line per chart: its price, or healthy agents above and the patient below."""
    canvas = Canvas(720, 372)
    left, begin, width = 20, 186, 190
    pitch = 32
    canvas.text(left, 28, "chart", bold=True)
    canvas.text(begin, 28, "slate: healthy agents.  amber: the patient", SOFT, 12)
    for k, (name, (price, _)) in enumerate(CHARTS.items()):
        y = 58 + pitch * k
        canvas.text(left, y, name, INK if name in result.charts else SOFT)
        if name not in result.charts:
            canvas.text(begin, y, f"{price} points", SOFT, 12)
            continue
        low, high = result.scale[name]
        reach = (high - low) or 1.0
        values = (*result.usual[name], result.charts[name])
        places = [(value - low) / reach * width + begin for value in values]
        canvas.box(begin, y - 5, width, 1, LINE)
        for x in places[:-1]:
            canvas.disc(x, y - 10, 4, SLATE)
        canvas.disc(places[-1], y + 1, 5, AMBER, INK)
        canvas.text(begin + width + 62, y, f"{result.charts[name]:.2f}", bold=True, anchor="rs")
    canvas.box(468, 1, 251, 370, TINT)
    canvas.text(492, 36, f"case {result.case}", bold=True, size=18)
    canvas.fact(492, 76, "points spent on charts", str(result.spent))
    canvas.fact(492, 136, "your diagnosis", result.diagnosis or "none yet")
    if result.score is not None:
        right = result.diagnosis == result.truth
        canvas.fact(492, 196, "it is", result.truth, INK if right else ALERT)
        canvas.fact(492, 256, "score of this case", str(result.score))
    else:
        canvas.text(492, 210, "Order charts above, the", SOFT, 12)
        canvas.text(492, 228, "cheap ones first. A right", SOFT, 12)
        canvas.text(492, 246, "diagnosis is worth 100,", SOFT, 12)
        canvas.text(492, 264, "less what was spent.", SOFT, 12)
    total = f"total, {len(result.closed)} of {result.cases} cases"
    canvas.fact(492, 320, total, str(sum(result.closed)))
    return canvas.image


class CaseSheet(Widget):
    """Order charts of an agent that may be ill, and say what it has.

    lines: stored runs of the experiment `hospital`; the agents of one `seed` are the cases.
    `total` adds up the scores of all cases that have their diagnosis.
    """

    alt = (
        "Case sheet: charts of one agent as points beside those of healthy agents, the points "
        "spent on them, and a diagnosis."
    )
    compute = staticmethod(compute)
    draw = staticmethod(draw)

    def __init__(
        self, lines: list[dict], case: str = "A", ordered: tuple[str, ...] = (), seed: int = 0
    ) -> None:
        self.lines = lines
        self.seed = seed
        self.ordered: dict[str, tuple[str, ...]] = {case: tuple(ordered)}
        self.given: dict[str, str] = {}  # diagnoses
        self.scores: dict[str, int] = {}
        cases = admit(lines, seed)
        names = sorted({line["patient"] for line in cases.values()})
        style = {"style": {"description_width": "70px"}, "layout": {"width": "290px"}}
        self.case = ipywidgets.Dropdown(
            options=list(cases), value=case, description="case", **style
        )
        self.chart = ipywidgets.Dropdown(options=list(CHARTS), description="chart", **style)
        self.name = ipywidgets.Dropdown(options=names, description="diagnosis", **style)
        self.order = button("order", 100)
        self.tell = button("diagnose", 100)
        self.next = button("next case", 100)
        bars = [[self.case, self.next], [self.chart, self.order], [self.name, self.tell]]
        self.assemble(bars, self.evaluate(), refreshed_by=[self.case])
        self.on(self.next, lambda _: self.move_on())
        self.on(self.order, lambda _: self.buy())
        self.on(self.tell, lambda _: self.diagnose())

    @property
    def total(self) -> int:
        """Points of all cases that have their diagnosis."""
        return sum(self.scores.values())

    def evaluate(self) -> CaseResult:
        """The sheet of the chosen case."""
        case: Any = self.case.value
        return compute(
            self.lines,
            case,
            ordered=self.ordered.get(case, ()),
            diagnosis=self.given.get(case, ""),
            seed=self.seed,
            others=tuple(score for other, score in self.scores.items() if other != case),
        )

    def move_on(self) -> None:
        """Go to the next case without a diagnosis, or to the next one if all have theirs."""
        names: list[Any] = list(self.case.options)
        at: Any = self.case.index
        after = names[at + 1 :] + names[:at]
        self.case.value = next((name for name in after if name not in self.given), after[0])

    def buy(self) -> CaseResult | None:
        """Add the chosen chart, unless it is there or the case is closed."""
        case: Any = self.case.value
        chart: Any = self.chart.value
        if case in self.given or chart in self.ordered.get(case, ()):
            return None
        self.ordered[case] = (*self.ordered.get(case, ()), chart)
        return self.evaluate()

    def diagnose(self) -> CaseResult | None:
        """Close the case; the first diagnosis counts."""
        case: Any = self.case.value
        if case in self.given:
            return None
        diagnosis: Any = self.name.value
        self.given[case] = diagnosis
        result = self.evaluate()
        assert result.score is not None  # a diagnosis has one
        self.scores[case] = result.score
        return result
