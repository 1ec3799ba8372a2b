"""The results as tables (Markdown, CSV, JSON)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.quality.costs import COSTS
from benchmarks.quality.figures import Figure, Interval, bootstrap
from benchmarks.quality.measures import CAPTIONED
from benchmarks.quality.methods import ABLATION, Method
from benchmarks.quality.summary import Place, Summary, share
from benchmarks.report import Row, machine

#: Costs by method: a mapping for each picture that was timed.
Costs = Mapping[str, Sequence[Mapping[str, float]]]
MISSING = "–"
COLUMNS = ("task", "method", "knob", "value", "figure", "mean", "low", "high", "pictures")


def cell(interval: Interval | None, figure: Figure) -> str:
    """A mean with its interval as people read it, "92.4 [89.1, 95.6]"; a dash where there is none."""
    if interval is None:
        return MISSING
    mean, low, high = (
        f"{figure.factor * x:.{figure.digits}f}" for x in (interval.mean, interval.low, interval.high)
    )
    return f"{mean} [{low}, {high}]"


def lines_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


class Report:
    """Everything that the tables say."""

    def __init__(
        self,
        summary: Summary,
        tasks: Sequence[str],
        methods: Sequence[Method],
        figures: Sequence[Figure],
        costs: Costs,
        claims: Sequence[Row],
        notes: Sequence[str],
    ) -> None:
        self.summary, self.tasks, self.methods, self.figures = summary, tasks, methods, figures
        self.costs, self.claims, self.notes = costs, claims, notes
        self.where, self.when = machine(), datetime.now(UTC).strftime("%Y-%m-%d")

    def markdown(self) -> str:
        """A table a task at the tables' values of the knobs, the ablation, the costs and the claims."""
        found = ["# Edit quality", "", f"{self.when}; {self.where}.", ""]
        found += [f"- {note}" for note in self.notes]
        for task, part in share(self.summary, CAPTIONED).items():
            found.append(f"- {task}: {100 * part:.1f}% of the captions name the source.")
        found += [
            "",
            "Means with 95% bootstrap intervals over pictures; docs/quality.md defines every figure.",
            "",
        ]
        names = [method.name for method in self.methods]
        for task in self.tasks:
            if not any(self._pictures(task, name) for name in names):
                continue
            found += [f"## {task}", "", *self._table(task, names)]
            if all(self._pictures(task, name) for name in ABLATION):
                found += ["Ablation:", "", *self._table(task, ABLATION)]
        if self.costs:
            rows = [
                [name, *(cell(cost(each, figure), figure) for figure in COSTS)]
                for name, each in self.costs.items()
            ]
            found += ["## Cost of one edit, alone", "", *lines_of(["", *(f.title for f in COSTS)], rows)]
        if self.claims:
            marks = {True: "ok", False: "**missed**", None: ""}
            rows = [
                [r.name, f"{r.value:.4g} {r.unit}".strip(), r.target or "", marks[r.holds]]
                for r in self.claims
            ]
            found += ["## Claims", "", *lines_of(["", "value", "target", ""], rows)]
        return "\n".join(found)

    def _pictures(self, task: str, method: str) -> int:
        return len(self.summary.pictures.get(Place(task, method, self.summary.main.get(method, 0.0)), {}))

    def _table(self, task: str, names: Sequence[str]) -> list[str]:
        """The methods that have results for the task."""
        rows = []
        for name in names:
            count = self._pictures(task, name)
            if not count:
                continue
            knob, value = self.summary.knobs[name], self.summary.main[name]
            figures = (cell(self.summary.of(task, name, figure), figure) for figure in self.figures)
            rows.append([name, f"{knob} {value:g}", *figures, str(count)])
        return lines_of(["method", "knob", *(f.title for f in self.figures), "pictures"], rows)

    def long(self) -> list[dict[str, Any]]:
        """One row a figure, for every value of every knob, costs included; in the figures' own units."""
        found = []
        for place in self.summary.pictures:
            for figure in self.figures:
                interval = self.summary.interval(place, figure.key)
                if interval is not None:
                    knob = self.summary.knobs[place.method]
                    found.append(_row(place.task, place.method, knob, place.value, figure.key, interval))
        for name, each in self.costs.items():
            for figure in COSTS:
                interval = cost(each, figure)
                if interval is not None:
                    found.append(_row("", name, "", "", figure.key, interval))
        return found

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.long())
        return text.getvalue()

    def json(self) -> str:
        found = {
            "machine": self.where,
            "date": self.when,
            "notes": list(self.notes),
            "results": self.long(),
            "claims": [row.as_dict() for row in self.claims],
        }
        return json.dumps(found, indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> None:
        """table.md, table.csv and table.json."""
        for name, text in (("md", self.markdown()), ("csv", self.csv()), ("json", self.json())):
            (folder / f"table.{name}").write_text(text, encoding="utf-8")


def cost(each: Sequence[Mapping[str, float]], figure: Figure) -> Interval | None:
    """A cost's mean over the pictures that it was measured on."""
    values = [values[figure.key] for values in each if figure.key in values]
    return bootstrap(values) if values else None


def _row(
    task: str, method: str, knob: str, value: float | str, figure: str, interval: Interval
) -> dict[str, Any]:
    cells = (task, method, knob, value, figure, interval.mean, interval.low, interval.high, interval.count)
    return dict(zip(COLUMNS, cells, strict=True))
