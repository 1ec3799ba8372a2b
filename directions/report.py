"""The quality report as one picture."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from directions.quality import SETTLED
from library.plot import save_figure

if TYPE_CHECKING:
    from library.direction import Direction

__all__ = ["draw"]

BLUE, RED, GREY = "#3b6ea5", "#b5533c", "#9a9a9a"


def draw(direction: Direction, path: str | os.PathLike[str]) -> None:
    """Write the report of a discovered direction to `path`; the ending chooses the format.

    Raises StorageError, and BadSetting for a direction without figures.
    """
    from matplotlib.figure import Figure

    from directions.errors import BadSetting

    quality = direction.record.get("quality") or {}
    if "curve" not in quality:
        raise BadSetting(
            f"{direction.ref} has no quality figures to draw: it was not discovered from captions"
        )
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    _convergence(axes[0, 0], quality)
    _energy(axes[0, 1], quality["energy"])
    _nearest(axes[1, 0], quality.get("nearest") or {})
    _figures(axes[1, 1], direction, quality)
    figure.suptitle(f"{direction.ref}   {direction.source} → {direction.target}   ({direction.encoder})")
    save_figure(figure, path)


def _convergence(axes: Any, quality: Mapping[str, Any]) -> None:
    counts, cosines = zip(*quality["curve"], strict=True)
    axes.plot(counts, cosines, "o-", color=BLUE)
    axes.axhline(SETTLED, color=GREY, linewidth=0.8, linestyle="--")
    if quality.get("flattens_at"):
        axes.axvline(quality["flattens_at"], color=RED, linewidth=0.8)
    if len(counts) > 1:
        axes.set_xscale("log")
    axes.set(xlabel="captions a side", ylabel="cosine to the whole", title="convergence")


def _energy(axes: Any, energy: list[float]) -> None:
    axes.bar(range(len(energy)), energy, color=BLUE, width=0.9)
    axes.set(xlabel="token position", ylabel="share of the squared length", title="energy per token position")


def _nearest(axes: Any, nearest: Mapping[str, Any]) -> None:
    bars = [(f"{concept}: {name}", value) for concept, found in nearest.items() for name, value in found]
    if bars:
        names, values = zip(*bars[::-1], strict=True)
        axes.barh(range(len(names)), values, color=[BLUE if value >= 0 else RED for value in values])
        axes.set_yticks(range(len(names)), names)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlim(-1, 1)
    else:
        axes.set_axis_off()
    axes.set(xlabel="cosine", title="the words' nearest known concepts")


def _figures(axes: Any, direction: Direction, quality: Mapping[str, Any]) -> None:
    """The numbers and the verdict, as text."""
    rows = {
        "agreement": _interval(quality),
        "accuracy": _number(quality["accuracy"]),
        "enough captions a side": quality["enough"] or "no number",
        "separation": _number(quality["separation"]),
        "cosine to the word swap": _number(quality["word_swap"]),
        "on concept": " / ".join(f"{rate:.0%}" for rate in quality["on_concept"]),
        "duplicates": " / ".join(f"{rate:.0%}" for rate in quality["duplicates"]),
        "length": f"{direction.norm:.4g}",
    }
    lines = [f"{name}:  {value}" for name, value in rows.items()]
    verdict = textwrap.fill(quality["verdict"], 38)
    axes.text(0, 0.98, "\n".join(lines), va="top", fontsize=10, linespacing=1.5)
    axes.text(0, 0.30, verdict, va="top", fontsize=11, fontweight="bold")
    axes.set_axis_off()


def _interval(quality: Mapping[str, Any]) -> str:
    if quality["agreement"] is None:
        return "unknown"
    if quality["interval"] is None:
        return f"{quality['agreement']:.4f}   (too few for an interval)"
    low, high = quality["interval"]
    return f"{quality['agreement']:.4f}   (95%: {low:.4f} to {high:.4f})"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
