"""Which directions of one encoder point the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from library.errors import DirectionsError

if TYPE_CHECKING:
    from library.direction import Direction
    from library.store import Library

__all__ = ["neighbours"]


def neighbours(library: Library, direction: Direction) -> tuple[list[tuple[str, float]], list[str]]:
    """`[("tiger2dog@1", 0.81), …]`, most alike first, over the latest version of every other name of the
    same encoder and shape; and what could not be read."""
    from library.catalog import Query, select

    page = select(library, Query(encoder=direction.encoder))
    found: list[tuple[str, float]] = []
    faults = list(page.faults)
    for entry in page.entries:
        if entry.name == direction.name or entry.encoder != direction.encoder:
            continue
        if (entry.tokens, entry.dim) != direction.tensor.shape:
            continue
        try:
            other = library.load(entry.ref, entry.encoder)
        except DirectionsError as fault:
            faults.append(str(fault))
            continue
        found.append((entry.ref, direction.cosine(other)))
    return sorted(found, key=lambda pair: (-pair[1], pair[0])), faults
