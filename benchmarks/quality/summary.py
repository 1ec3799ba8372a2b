"""Means with their intervals from the results of single pictures, and the claims that they must hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.quality.figures import Figure, Interval, bootstrap
from benchmarks.quality.measures import ACCURACY, MSE, STRUCTURE, Values
from benchmarks.quality.methods import DEFAULT_NAME, FAST_NAME, PEER_NAME, PUBLISHED_NAME, RIVALS
from benchmarks.quality.runs import Cell, Results
from benchmarks.quality.tasks import CAT_TO_DOG
from benchmarks.report import Row, at_least, at_most

#: The three by which the claims judge.
JUDGED = (ACCURACY, STRUCTURE, MSE)
ACCURACY_TARGET, BACKGROUND_TARGET, TASKS_TARGET = 97.0, 0.5, 3


@dataclass(frozen=True)
class Place:
    """A line of the results: a task under a method at one value of its knob."""

    task: str
    method: str
    value: float


class Summary:
    """Every finished picture's figures, by place."""

    def __init__(self, results: Results, cells: Iterable[Cell]) -> None:
        self.pictures: dict[Place, dict[str, Values]] = {}
        self.main: dict[str, float] = {}
        self.knobs: dict[str, str] = {}
        for cell, picture, values in results.values(cells):
            place = Place(cell.task.name, cell.method.name, cell.value)
            self.pictures.setdefault(place, {})[picture] = values
            self.main[cell.method.name] = cell.method.values[0]
            self.knobs[cell.method.name] = cell.method.knob

    def interval(self, place: Place, figure: str, only: Collection[str] | None = None) -> Interval | None:
        """The figure's mean over the pictures (of `only`) that have it; None where none has."""
        found = self.pictures.get(place, {})
        values = [v[figure] for key, v in found.items() if figure in v and (only is None or key in only)]
        return bootstrap(values) if values else None

    def of(self, task: str, method: str, figure: Figure, beside: str | None = None) -> Interval | None:
        """The interval at the value of the tables; with `beside`, over the pictures that this method edited too."""
        only = None if beside is None else self.pictures.get(self._place(task, beside), {})
        return self.interval(self._place(task, method), figure.key, only)

    def _place(self, task: str, method: str) -> Place:
        return Place(task, method, self.main.get(method, 0.0))

    def difference(self, task: str, a: str, b: str, figure: Figure) -> Interval | None:
        """a − b over the pictures that both have; None where there are none."""
        ours, theirs = (self.pictures.get(self._place(task, m), {}) for m in (a, b))
        both = [key for key in ours if figure.key in ours[key] and figure.key in theirs.get(key, {})]
        if not both:
            return None
        return bootstrap([ours[key][figure.key] - theirs[key][figure.key] for key in both])


def claims(summary: Summary, tasks: Sequence[str]) -> list[Row]:
    """The promises, each where its results are there. Methods are compared on the pictures that both edited."""
    rows = []
    for task in tasks:
        for figure in JUDGED:
            mine = summary.of(task, PUBLISHED_NAME, figure, beside=PEER_NAME)
            theirs = summary.of(task, PEER_NAME, figure, beside=PUBLISHED_NAME)
            if mine is None or theirs is None:
                continue
            low, high = (figure.factor * x for x in (theirs.low, theirs.high))
            name = f"{task}: published, ours within the peer's interval: {figure.title}"
            target = f"{low:.4g} to {high:.4g}"
            rows.append(
                Row(name, figure.factor * mine.mean, "", target, theirs.low <= mine.mean <= theirs.high)
            )
    if all(summary.of(t, m, ACCURACY) for t in tasks for m in (DEFAULT_NAME, *RIVALS)):
        best = sum(all(_leads(summary, task, rival) for rival in RIVALS) for task in tasks)
        name = f"tasks of {len(tasks)} in which the default leads every other method in all three"
        rows.append(at_least(name, best, "tasks", min(TASKS_TARGET, len(tasks))))
    for method in (DEFAULT_NAME, FAST_NAME):
        if not any(summary.difference(t, method, PUBLISHED_NAME, ACCURACY) for t in tasks):
            continue
        worse = [
            f"{task}, {figure.title}"
            for task in tasks
            for figure in JUDGED
            if _worse(figure, summary.difference(task, method, PUBLISHED_NAME, figure))
        ]
        name = f"figures in which the {method} is worse than published" + _listed(worse)
        rows.append(at_most(name, len(worse), "", 0))
    return rows + _cat_to_dog(summary)


def _cat_to_dog(summary: Summary) -> list[Row]:
    rows = []
    accuracy = summary.of(CAT_TO_DOG, DEFAULT_NAME, ACCURACY)
    if accuracy is not None:
        rows.append(at_least(f"{CAT_TO_DOG}: default, accuracy", 100 * accuracy.mean, "%", ACCURACY_TARGET))
    errors = [summary.of(CAT_TO_DOG, m, MSE) for m in (DEFAULT_NAME, PUBLISHED_NAME)]
    if errors[0] is not None and errors[1] is not None and errors[1].mean > 0:
        ratio = errors[0].mean / errors[1].mean
        name = f"{CAT_TO_DOG}: background MSE, default / published"
        rows.append(at_most(name, ratio, "×", BACKGROUND_TARGET))
    return rows


def _leads(summary: Summary, task: str, rival: str) -> bool:
    """Whether the default's mean is at least as good as the rival's in all three figures, and better in one."""
    signs = []
    for figure in JUDGED:
        difference = summary.difference(task, DEFAULT_NAME, rival, figure)
        if difference is None:
            return False
        signs.append(difference.mean if figure.higher else -difference.mean)
    return min(signs) >= 0 and max(signs) > 0


def _worse(figure: Figure, difference: Interval | None) -> bool:
    """Whether a difference is on the wrong side with its whole interval."""
    if difference is None:
        return False
    return difference.high < 0 if figure.higher else difference.low > 0


def _listed(names: Sequence[str]) -> str:
    return f" ({'; '.join(names)})" if names else ""


def share(summary: Summary, figure: str) -> Mapping[str, float]:
    """Task → the mean of a figure that does not depend on the method, over all pictures that any method edited."""
    found: dict[str, dict[str, float]] = {}
    for place, pictures in summary.pictures.items():
        for picture, values in pictures.items():
            if figure in values:
                found.setdefault(place.task, {})[picture] = values[figure]
    return {task: sum(values.values()) / len(values) for task, values in found.items()}
