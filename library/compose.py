"""Sums of directions: resolving an expression, and pointing out terms that work for or against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from library.expressions import parse_expression

if TYPE_CHECKING:
    from library.direction import Direction
    from library.store import Library

__all__ = ["OVERLAP", "overlap_notes", "resolve"]

OVERLAP = 0.6  # cosine above which two terms say much the same


def resolve(
    library: Library, expression: str, encoder: str | Sequence[str] | None = None, models: str | None = None
) -> Direction:
    """See `Library.resolve`."""
    terms = parse_expression(expression)
    accepted = [encoder] if isinstance(encoder, str) else list(encoder or ())
    loaded: list[Direction] = []
    for term in terms:
        direction = library.load(str(term.reference), encoder, models)
        if accepted and direction.encoder != accepted[0]:  # the caller says that these are the same encoder
            direction = replace(direction, encoder=accepted[0])
        loaded.append(direction)
    weighted = [
        direction if term.weight == 1 else term.weight * direction
        for term, direction in zip(terms, loaded, strict=True)
    ]
    total = weighted[0]
    for part in weighted[1:]:
        total = total + part
    notes = [*total.notes, *overlap_notes(weighted)]
    return replace(total, record={**total.record, "notes": notes}) if notes != total.notes else total


def overlap_notes(terms: Sequence[Direction]) -> list[str]:
    """One line for every two terms whose cosine is above OVERLAP or below its negative."""
    notes: list[str] = []
    for one, other in combinations(terms, 2):
        cosine = one.cosine(other)
        if cosine > OVERLAP:
            notes.append(f"{one.ref} and {other.ref} overlap (cosine {cosine:.2f}): they push twice")
        elif cosine < -OVERLAP:
            notes.append(f"{one.ref} and {other.ref} oppose each other (cosine {cosine:.2f})")
    return notes
