"""A picture of a direction: its energy per token position, and its cosine to its neighbours."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from library.errors import StorageError
from library.publish import check_folder_writable, replace_file, storage_errors
from library.similar import neighbours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from library.direction import Direction
    from library.store import Library

__all__ = ["check_drawing", "draw", "save_figure"]

MOST_NEIGHBOURS = 12
DPI = 120


def check_drawing(path: str | os.PathLike[str]) -> None:
    """Raise StorageError for a file that cannot be drawn: an ending that matplotlib does not know, no such folder."""
    from matplotlib.backend_bases import FigureCanvasBase

    file = Path(path)
    endings = FigureCanvasBase.get_supported_filetypes()
    if file.suffix.removeprefix(".").lower() not in endings:
        raise StorageError(f"cannot write {path}: its ending is not one of {', '.join(sorted(endings))}")
    check_folder_writable(file.absolute().parent)


def draw(library: Library, direction: Direction, path: str | os.PathLike[str]) -> None:
    """Write the picture to `path`; the ending chooses the format. Raises StorageError."""
    from matplotlib.figure import Figure

    energy = (direction.tensor.astype("float64") ** 2).sum(axis=1)
    near, _ = neighbours(library, direction)
    shown = near if len(near) <= MOST_NEIGHBOURS else near[: MOST_NEIGHBOURS - 3] + near[-3:]

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(range(len(energy)), energy, color="#3b6ea5", width=0.9)
    left.set(xlabel="token position", ylabel="energy (sum of squares)", title="energy per token")
    if shown:
        names, cosines = zip(*shown[::-1], strict=True)
        right.barh(names, cosines, color=["#3b6ea5" if c >= 0 else "#b5533c" for c in cosines])
        right.axvline(0, color="black", linewidth=0.8)
        right.set_xlim(-1, 1)
        right.tick_params(axis="y", labelsize=8)
    else:
        right.text(0.5, 0.5, "no other direction\nof this encoder", ha="center", va="center")
        right.set_axis_off()
    right.set(xlabel="cosine", title="cosine to its neighbours")
    figure.suptitle(f"{direction.ref}  ({direction.encoder}, norm {direction.norm:.3g})")
    save_figure(figure, path)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure whole or not at all; the ending chooses the format. Raises StorageError."""
    check_drawing(path)
    file, content = Path(path), io.BytesIO()
    figure.savefig(content, format=file.suffix.removeprefix("."), dpi=DPI)
    with storage_errors("write", path):
        replace_file(file, content.getvalue())
