"""One inversion edited over a grid of settings, to look at side by side."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageShow

from editor.errors import EditorError
from editor.likeness import psnr
from editor.sheets import Labelled, contact_sheet, png_bytes

if TYPE_CHECKING:
    import pandas as pd

    from editor.inversion import Edit, Inversion

#: What can be swept → the setting that it is, None for the direction's strength.
KNOBS: Mapping[str, str | None] = {
    "strength": None,
    "guidance": "cross_attention_guidance",
    "guidance_scale": "guidance_scale",
    "interpolation": "interpolation",
    "guidance_until": "guidance_until",
}
#: What is swept where nothing is said.
DEFAULT: Mapping[str, Sequence[float]] = {"strength": (0.5, 1.0, 1.5), "guidance": (0.0, 0.05)}
#: More pictures than this are refused: nobody looks at them, and a slip of the pen would run for hours.
MOST = 200
_EXAMPLE = "strength=-1:1.5:6,guidance=0,0.05"


@dataclass(frozen=True, eq=False)
class Sweep:
    """Edits of one picture in the order of their sheet, row by row, and the knobs' `values` of each.

    columns: how many edits a row has.
    """

    edits: tuple[Edit, ...]
    values: tuple[Mapping[str, float], ...]
    columns: int

    def __len__(self) -> int:
        return len(self.edits)

    def __iter__(self) -> Iterator[Edit]:
        return iter(self.edits)

    def __getitem__(self, place: int) -> Edit:
        return self.edits[place]

    def __repr__(self) -> str:
        knobs = ", ".join(f"{knob} {sorted({v[knob] for v in self.values})}" for knob in self.values[0])
        return f"<Sweep of {len(self)} edits: {knobs}>"

    @property
    def record(self) -> dict[str, Any]:
        """The first edit's, with the values of all; `edit-image --from` makes the sheet again."""
        knobs = {knob: list(dict.fromkeys(value[knob] for value in self.values)) for knob in self.values[0]}
        # As pairs, because a record's keys are sorted, and the order of the knobs is that of the labels.
        pairs = [[knob, values] for knob, values in knobs.items()]
        return {**self[0].record, "sweep": {"knobs": pairs, "values": [dict(one) for one in self.values]}}

    def save(self, path: str | PathLike[str]) -> None:
        """Write the sheet with its record, as `Edit.save` does."""
        from editor.outputs import save_whole

        save_whole(self.sheet(), self.record, Path(path), self[0])

    def label(self, place: int) -> str:
        """The values of one edit, two to a line: `strength 1.5 · guidance 0.05`."""
        parts = [f"{knob.replace('_', ' ')} {value:g}" for knob, value in self.values[place].items()]
        return "\n".join(" · ".join(parts[k : k + 2]) for k in range(0, len(parts), 2))

    def sheet(self) -> Image.Image:
        """All edits with their values, the reconstruction (the first edit's) in place 0."""
        cells: list[Labelled] = [(self.label(k), edit.image) for k, edit in enumerate(self.edits)]
        rows = [cells[k : k + self.columns] for k in range(0, len(cells), self.columns)]
        first = ("reconstruction", self.edits[0].reconstruction)
        return contact_sheet([[None if j else first, *row] for j, row in enumerate(rows)])

    def show(self) -> None:
        """The sheet in a notebook, else in the system's viewer, else the table as text."""
        ipython = sys.modules.get("IPython")
        if ipython is not None and ipython.get_ipython() is not None:
            ipython.display.display(self)
        elif not ImageShow.show(self.sheet()):
            print(self.table().to_string(index=False))

    def table(self) -> pd.DataFrame:
        """A row for each edit: its values, and two figures.

        drift: the mean over the guided steps of how far its attention maps had moved, NaN without guidance.
        psnr: of the edit against its reconstruction in dB; the smaller, the more has changed.
        """
        import pandas as pd

        rows = []
        for values, edit in zip(self.values, self.edits, strict=True):
            guided = [drift for drift in edit.drift if drift]
            drift = sum(guided) / len(guided) if guided else math.nan
            rows.append({**values, "drift": drift, "psnr": psnr(edit.image, edit.reconstruction)})
        return pd.DataFrame(rows)

    def _repr_png_(self) -> bytes:
        return png_bytes(self.sheet())


def sweep(
    inversion: Inversion, direction: Any, knobs: Mapping[str, Any], strength: float = 1.0, **settings: Any
) -> Sweep:
    """Edit along `direction` with every combination of the knobs' values; see `Inversion.sweep`.

    Strength goes across the sheet where it is swept, else the last knob; the others go down. Edits that
    differ in strength alone share one batch, and its reference pass. `strength`, where it is not swept, and
    `settings`, those of `Editor.edit`, are the same for every edit. Raises EditorError for values that are no
    settings, before any edit is made.
    """
    values = checked(knobs)
    across = "strength" if "strength" in values else list(values)[-1]
    down = [knob for knob in values if knob != across]
    points = [
        {knob: dict(zip((*down, across), point, strict=True))[knob] for knob in values}
        for point in product(*(values[knob] for knob in (*down, across)))
    ]
    batches: dict[tuple[tuple[str, float], ...], list[int]] = {}
    for place, point in enumerate(points):
        key = tuple((setting, point[knob]) for knob, setting in KNOBS.items() if setting and knob in point)
        batches.setdefault(key, []).append(place)
    editor = inversion._editor()
    for knob in values:
        if KNOBS[knob] in settings:
            raise EditorError(f"{KNOBS[knob]} is set, and swept as {knob}: give it once")
    try:
        for key in batches:
            editor.settings(None, **dict(key))
    except ValueError as error:
        raise EditorError(str(error)) from error
    edits: dict[int, Edit] = {}
    for key, places in batches.items():
        jobs = [(inversion, direction, points[place].get("strength", strength)) for place in places]
        changes: dict[str, Any] = {**settings, **dict(key)}
        edits.update(zip(places, editor.edit_all(jobs, **changes), strict=True))
    return Sweep(tuple(edits[k] for k in range(len(points))), tuple(points), len(values[across]))


def checked(knobs: Mapping[str, Any]) -> dict[str, list[float]]:
    """The knobs' values as lists of different finite numbers; EditorError where they are not, or too many."""
    found: dict[str, list[float]] = {}
    for knob, given in knobs.items():
        if knob not in KNOBS:
            raise EditorError(f"unknown knob {knob!r}; what can be swept is {', '.join(KNOBS)}")
        try:
            numbers = np.atleast_1d(np.asarray(given, dtype=float))
        except (TypeError, ValueError) as error:
            raise EditorError(f"{knob} is {given!r}; expected a number or a list of numbers") from error
        if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
            raise EditorError(f"{knob} is {given!r}; expected one finite number or more")
        found[knob] = list(dict.fromkeys(numbers.tolist()))
    count = math.prod(len(values) for values in found.values())
    if not found:
        raise EditorError(f"there is nothing to sweep; give a knob and its values, such as {_EXAMPLE}")
    if count > MOST:
        raise EditorError(f"that would be {count} pictures; at most {MOST} fit a sheet: give fewer values")
    return found


def parse_sweep(text: str) -> dict[str, list[float]]:
    """`strength=-1:1.5:6,guidance=0,0.05` → the values of each knob.

    Pieces stand between commas; one with `=` begins a new knob; `a:b:n` is n evenly spaced values, both ends
    included. Raises EditorError for what is no such text, and for more than `MOST` pictures.
    """
    knobs: dict[str, list[float]] = {}
    values: list[float] | None = None
    for piece in text.split(","):
        name, equals, rest = piece.partition("=")
        if equals:
            knob = name.strip().replace("-", "_")
            if knob in knobs:
                raise EditorError(f"{knob} is swept twice in {text!r}; give all of its values at once")
            values = knobs[knob] = []
        if values is None:
            raise EditorError(
                f"{text!r} does not say what to sweep; expected KNOB=VALUES, such as {_EXAMPLE}"
            )
        values += _numbers(rest if equals else piece, text)
    return checked(knobs)


def _numbers(piece: str, text: str) -> list[float]:
    """The values of one piece, a number or `a:b:n`."""
    parts = piece.strip().split(":")
    try:
        if len(parts) == 1:
            return [float(parts[0])]
        first, last, number = parts
        begin, end, count = float(first), float(last), int(number)
    except ValueError as error:
        raise EditorError(
            f"{piece.strip()!r} in {text!r} is no value; expected a number, or FROM:TO:COUNT such as -1:1.5:6"
        ) from error
    if not 1 <= count <= MOST:
        raise EditorError(f"{piece.strip()!r} asks for {count} values; expected 1 to {MOST}")
    return [round(value, 9) for value in np.linspace(begin, end, count).tolist()]
