"""The figures in plain words: is the direction to be trusted, and if not, what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from directions.quality import Quality

__all__ = ["Verdict", "judge"]

STABLE = 0.98  # accuracy from which on a direction is stable
FAIR = 0.9
SAME = 0.2  # two concepts less than this many spreads apart are nearly one
NAMED = 0.9  # share of candidates that should name the concept
MOST_SENSIBLE = 20_000


@dataclass(frozen=True)
class Verdict:
    """word: "stable", "fair", "unstable", "same" or "unknown"; text: the verdict with its remedy."""

    word: str
    text: str


def judge(
    quality: Quality, count: int, source: str, target: str, given: bool = False, paired: bool = False
) -> Verdict:
    """What the figures of a direction from `count` captions a side mean.

    given: the captions were not written for this, so that asking for more of them is no remedy. paired: the
    figures are those of pairs.
    """
    if quality.agreement is None or quality.accuracy is None:
        return Verdict("unknown", "one caption a side says nothing about stability: give more captions")
    if quality.apart < SAME:
        return Verdict(
            "same",
            f"the two concepts are nearly the same to this encoder ({quality.apart:.2f} of the captions' own "
            f"spread apart): choose words that differ more than {source!r} and {target!r}, or say what "
            'differs ("cat wearing a hat")',
        )
    word, text = _stability(quality, count, given, paired)
    poor = [
        f"{rate:.0%} of the captions for {concept!r} name it"
        for rate, concept in zip(quality.on_concept, (source, target), strict=True)
        if rate < NAMED
    ]
    if poor:
        text += "; only " + " and ".join(poor) + ": look at them (directions show --captions)"
    return Verdict(word, text)


def _stability(quality: Quality, count: int, given: bool, paired: bool) -> tuple[str, str]:
    accuracy = quality.accuracy or 0.0
    needed = round_up(quality.enough) if quality.enough else None
    if accuracy >= STABLE and needed is not None:
        if needed <= 0.8 * count:
            return "stable", f"stable; {needed} caption{'s' * (needed > 1)} a side would have been enough"
        if quality.enough is not None and quality.enough <= count:
            return "stable", "stable"
    more = "give more captions" if given else "add captions"
    if needed is None or needed > MOST_SENSIBLE:
        return "unstable", (
            f"unstable: {more}: what the swap changes differs far more from pair to pair than it has in common"
            if paired
            else f"unstable: {more}, or use --paired: the captions of a side differ far more from each other than "
            "the two sides do"
        )
    ask = f"about {needed} a side" + ("" if given else f": --captions {needed}")
    if accuracy >= FAIR:
        return ("stable" if accuracy >= STABLE else "fair"), (
            f"{'stable' if accuracy >= STABLE else 'fairly stable'}; to settle it, {more} ({ask})"
        )
    return "unstable", f"unstable: {more} ({ask})"


def round_up(number: int) -> int:
    """To two digits: 137 → 140."""
    step = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / step) * step
