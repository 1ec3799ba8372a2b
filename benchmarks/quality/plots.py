"""The trade-off plot, and the sheet of the same pictures under every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from benchmarks.quality.figures import Figure
from benchmarks.quality.methods import DEFAULT_NAME, PUBLISHED_NAME, Method
from benchmarks.quality.runs import EDITED, ORIGINALS, Cell, Results
from benchmarks.quality.summary import Place, Summary
from editor.sheets import contact_sheet

if TYPE_CHECKING:
    from matplotlib.artist import Artist

#: Pictures of the sheet, over all tasks together.
SHEET_PICTURES = 12
_PANEL = 3.4  # inches


def tradeoff(
    summary: Summary,
    tasks: Sequence[str],
    methods: Sequence[Method],
    height: Figure,
    against: Sequence[Figure],
    path: Path,
) -> bool:
    """Draw `height` against each of `against` that was measured, a column a task, a curve a method as its knob moves.

    Methods with one value are points. Returns whether there was anything to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    drawn = [m for m in methods if any(p.method == m.name for p in summary.pictures)]
    tasks = [task for task in tasks if any(p.task == task for p in summary.pictures)]
    against = [figure for figure in against if any(summary.interval(p, figure.key) for p in summary.pictures)]
    if not drawn or not against:
        return False
    canvas = Canvas(figsize=(_PANEL * len(tasks) + 2.2, _PANEL * len(against)), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(len(against), len(tasks), squeeze=False, sharey=True)
    handles: dict[str, Artist] = {}
    for column, task in enumerate(tasks):
        for row, figure in enumerate(against):
            panel = panels[row][column]
            for place, method in enumerate(drawn):
                points = _curve(summary, task, method, figure, height)
                if points:
                    style = _style(method.name, place, len(points) > 1)
                    (line,) = panel.plot(*zip(*points, strict=True), label=method.name, **style)
                    handles.setdefault(method.name, line)
            panel.set_xlabel(f"{figure.title} ({'right' if figure.higher else 'left'} is better)", fontsize=8)
            panel.grid(alpha=0.25, linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(labelsize=8)
        panels[0][column].set_title(task, fontsize=10)
    for row in range(len(against)):
        panels[row][0].set_ylabel(height.title, fontsize=9)
    canvas.legend(list(handles.values()), list(handles), loc="outside right upper", frameon=False, fontsize=8)
    canvas.savefig(path, dpi=150)
    return True


def _curve(
    summary: Summary, task: str, method: Method, figure: Figure, height: Figure
) -> list[tuple[float, float]]:
    """The method's points in the order of its knob, all of the same pictures."""
    places = [Place(task, method.name, value) for value in sorted(method.values)]
    there = [set(summary.pictures[place]) for place in places if place in summary.pictures]
    shared = set.intersection(*there) if there else set()
    points = []
    for place in places:
        x, y = (summary.interval(place, each.key, shared) for each in (figure, height))
        if x is not None and y is not None:
            points.append((figure.factor * x.mean, height.factor * y.mean))
    return points


def _style(name: str, place: int, curve: bool) -> dict[str, object]:
    """The default and the published algorithm stand out; single points have no line."""
    from matplotlib import colormaps

    style: dict[str, object] = {
        "color": colormaps["tab20"](place % 20),
        "marker": "osD^vP"[place % 6],
        "markersize": 4,
        "linewidth": 1.3 if curve else 0,
        "alpha": 0.9,
    }
    if name == DEFAULT_NAME:
        style |= {"color": "crimson", "linewidth": 2.4, "markersize": 6, "zorder": 5}
    if name == PUBLISHED_NAME:
        style |= {"color": "black", "linewidth": 2.0, "zorder": 4}
    return style


def shown_pictures(keys: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Of each task's pictures those on the sheet: the first ones, equally many of each task."""
    each = max(1, SHEET_PICTURES // max(1, len(keys)))
    return {task: list(pictures[:each]) for task, pictures in keys.items()}


def sheet(
    results: Results, cells: Sequence[Cell], shown: Mapping[str, Sequence[str]], methods: Sequence[Method]
) -> Image.Image | None:
    """The sources on top, then a row a method; None where nothing is there to show.

    Methods that lack one of the pictures are left out, so that columns stay comparable.
    """
    places = [(task, picture) for task, pictures in shown.items() for picture in pictures]
    found: dict[tuple[str, str, str], Path] = {}
    originals: dict[tuple[str, str], Path] = {}
    for cell in cells:
        if cell.key not in results or cell.value != cell.method.values[0]:
            continue
        for picture in shown.get(cell.task.name, ()):
            edited = results.picture(cell, picture, EDITED)
            if edited.is_file():
                found[cell.method.name, cell.task.name, picture] = edited
                originals[cell.task.name, picture] = results.picture(cell, picture, ORIGINALS)
    places = [place for place in places if place in originals]
    names = [m.name for m in methods if places and all((m.name, *place) in found for place in places)]
    if not names:
        return None
    rows = [[(task.replace("→", "to"), _read(originals[task, picture])) for task, picture in places]]
    rows += [[(name, _read(found[name, *place])) for place in places] for name in names]
    return contact_sheet(rows)


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
