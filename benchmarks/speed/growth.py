"""How time and memory grow: one axis at a time, the rest as it was."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.processes import MEBIBYTE
from benchmarks.speed.job import EMBEDDED, PEER_NAME, TINY, Job
from benchmarks.speed.runs import in_turn

OURS = "reference"
SECONDS, MEMORY = "time", "memory"
UNITS = {SECONDS: "s", MEMORY: "MiB above the weights"}
#: Field of `Job` → its values.
AXES: Mapping[str, Sequence[int]] = {
    "steps": (4, 10, 25, 50, 100),
    "size": (64, 96, 128, 192, 256),
    "directions": (1, 2, 4, 8, 16),
    "pictures": (1, 2, 4, 8),
}
QUICK_AXES: Mapping[str, Sequence[int]] = {"steps": (1, 2), "directions": (1, 2)}
#: The peer edits one picture along one direction.
PEER_AXES = ("steps", "size")
STEPS = 10
REPEATS = 3
#: The power is that of the largest values, where fixed costs no longer count.
LAST = 3
_PANEL = 3.0  # inches


@dataclass(frozen=True)
class Curves:
    """(axis, who) → value on the axis → {"time": seconds, "memory": MiB}."""

    points: Mapping[tuple[str, str], Mapping[int, Mapping[str, float]]]

    def powers(self) -> dict[tuple[str, str], float]:
        """(axis, "ours: time") → the power that the largest values grow with: a slope in logarithms."""
        import numpy as np

        found = {}
        for (axis, who), points in self.points.items():
            for what in UNITS:
                values = [point[what] for point in points.values()]
                if min(values) > 0:
                    x, y = (np.log(list(numbers)[-LAST:]) for numbers in (points, values))
                    found[axis, f"{who}: {what}"] = float(np.polyfit(x, y, 1)[0])
        return found

    def as_dict(self) -> dict[str, Any]:
        """For a file: axis → who → value → figures."""
        whole: dict[str, Any] = {}
        for (axis, who), points in self.points.items():
            whole.setdefault(axis, {})[who] = points
        return whole


def grow(options: Namespace) -> Curves:
    """Run every point, peer and ours in turn."""
    base = Job(OURS, TINY if options.quick else EMBEDDED, 64, 2 if options.quick else STEPS)
    base = replace(base, threads=options.threads)
    fewer = Namespace(**{**vars(options), "repeats": min(options.repeats, REPEATS)})
    points: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for axis, values in (QUICK_AXES if options.quick else AXES).items():
        for value in values:
            job = replace(base, **{axis: value})
            jobs = {OURS: job}
            if axis in PEER_AXES:
                jobs = {PEER_NAME: replace(job, who=PEER_NAME), **jobs}
            for who, runs in in_turn(jobs, fewer).items():
                figures = {SECONDS: runs.seconds, MEMORY: runs.peak / MEBIBYTE}
                points.setdefault((axis, who), {})[value] = figures
    return Curves(points)


def plot(curves: Curves, path: Path) -> None:
    """Time above, memory below, a column an axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    axes = list(dict.fromkeys(axis for axis, _ in curves.points))
    canvas = Canvas(figsize=(_PANEL * len(axes), 2 * _PANEL), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(len(UNITS), len(axes), squeeze=False)
    for (axis, who), points in curves.points.items():
        for row, (what, unit) in enumerate(UNITS.items()):
            panel = panels[row][axes.index(axis)]
            color = "grey" if who == PEER_NAME else "crimson"
            panel.plot(
                list(points), [p[what] for p in points.values()], marker="o", color=color, label=who, ms=4
            )
            panel.set_xlabel("pixels along a side" if axis == "size" else axis, fontsize=9)
            panel.set_ylabel(f"{what}, {unit}", fontsize=9)
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.25, linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(labelsize=8)
    panels[0][0].legend(frameon=False, fontsize=9)
    canvas.savefig(path, dpi=150)
