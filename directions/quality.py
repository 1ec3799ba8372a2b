"""How good a direction is, in figures. Pure arithmetic on moments; every figure is defined where it is made.

Notation: d is the direction, n captions a side; S² and T² are the summed variances of the source and target
captions' embeddings (for paired captions: of their differences, in place of S² + T²). A direction from other
captions of the same kind would differ from d by noise of expected squared length S²/n + T²/n; what remains of
|d|² without that is the signal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from directions.captions import Captions
from directions.embed import BLOCKS, Floats, Moments

__all__ = [
    "SETTLED",
    "Quality",
    "agreement",
    "convergence",
    "cosine",
    "measure",
    "nearest",
    "noise",
    "share_on_concept",
]

Indices = NDArray[np.int64]
SETTLED = 0.99  # cosine at which a direction counts as arrived
SPLITS = 200
REPLICATES = 1000
CURVE = (1, 2, 4, 8, 16, 32)  # blocks
DIGITS = 6
ROUNDING = 1e-7  # of a spread, which is the root of a difference in float64


@dataclass(frozen=True)
class Quality:
    """The figures of one direction.

    agreement: split-half cosine, the mean over 200 random halvings of the captions of the cosine between the
    directions of the two halves; None with fewer than two captions a side. interval: 95%, bootstrap; None with
    fewer than four.
    accuracy: expected cosine to the direction that endless captions would give, √(signal / |d|²); None with
    fewer than two captions a side.
    curve: [[captions, mean cosine to d]…]; flattens_at: where it first reaches 0.99, interpolated; None if
    half of the captions do not reach it: then it still rises.
    enough: captions a side for an accuracy of 0.99; None if no number would do.
    separation: √signal over the root mean of S² and T²; apart: the same of |d| itself, its upper bound.
    energy: share of |d|² at each token position. on_concept: share of candidates naming the concept, source
    and target; duplicates: share that repeated another. word_swap: cosine to the difference of "a dog" and "a
    cat" alone. nearest: for each concept, the known concepts nearest to it as words, centred on their mean.
    """

    agreement: float | None
    interval: tuple[float, float] | None
    accuracy: float | None
    curve: tuple[tuple[int, float], ...]
    flattens_at: int | None
    enough: int | None
    separation: float
    apart: float
    energy: tuple[float, ...]
    on_concept: tuple[float, float]
    duplicates: tuple[float, float]
    word_swap: float | None = None
    nearest: Mapping[str, tuple[tuple[str, float], ...]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, rounded to six digits, for the record."""
        return {key: _rounded(value) for key, value in asdict(self).items()}


def measure(source: Moments, target: Moments, captions: tuple[Captions, Captions], paired: bool) -> Quality:
    """Every figure that follows from the captions and their moments."""
    direction = target.mean - source.mean
    length = float(np.vdot(direction, direction))
    per_caption, expected = noise(source, target, paired)
    signal = max(length - expected, 0.0)
    few = min(source.count, target.count) < 2
    agreed = agreement(source, target, paired)
    curve = convergence(source, target, paired)
    scale = math.sqrt((source.spread**2 + target.spread**2) / 2)
    energy = (direction**2).sum(axis=1) / (length or 1.0)
    return Quality(
        agreement=agreed[0] if agreed else None,
        interval=agreed[1] if agreed else None,
        accuracy=None if few else math.sqrt(signal / length) if length else 0.0,
        curve=curve,
        flattens_at=_flattens(curve[:-1]),
        enough=None if few else enough(signal, per_caption),
        separation=_in_spreads(math.sqrt(signal), scale),
        apart=_in_spreads(math.sqrt(length), scale),
        energy=tuple(map(float, energy)),
        on_concept=(share_on_concept(captions[0]), share_on_concept(captions[1])),
        duplicates=(_share(captions[0], "duplicates"), _share(captions[1], "duplicates")),
    )


def noise(source: Moments, target: Moments, paired: bool) -> tuple[float, float]:
    """The variance a caption (S² + T²) and the expected squared error of d (S²/n + T²/m); float64.

    Unbiased; for paired captions both come from the differences' variance between blocks.
    """
    if paired:
        sizes = source.sizes
        used = sizes > 0
        if used.sum() < 2:
            return 0.0, 0.0
        gaps = (target.blocks - source.blocks)[used] / sizes[used][:, None, None]
        gaps = gaps - (target.mean - source.mean)
        between = float((sizes[used] * np.einsum("bij,bij->b", gaps, gaps)).sum() / (used.sum() - 1))
        return between, between / source.count
    variances = [side.spread**2 * side.count / max(side.count - 1, 1) for side in (source, target)]
    return sum(variances), variances[0] / source.count + variances[1] / target.count


def enough(signal: float, per_caption: float) -> int | None:
    """Captions a side for an expected cosine of SETTLED to the true direction; None if none would do."""
    if signal <= 0:
        return None
    wanted = SETTLED**2 / (1 - SETTLED**2)
    return max(1, math.ceil(per_caption * wanted / signal))


class _Blocks:
    """Directions made of some of the blocks, as weights on block sums, compared through their Gram matrix."""

    def __init__(self, source: Moments, target: Moments, paired: bool) -> None:
        rows = np.concatenate([source.blocks, target.blocks]).reshape(2 * BLOCKS, -1)
        self.gram = rows @ rows.T
        self.sizes = (source.sizes, target.sizes)
        self.used = [np.flatnonzero(sizes) for sizes in self.sizes]
        self.paired = paired

    @property
    def fewest(self) -> int:
        """Blocks in use on the side that has fewer."""
        return min(len(used) for used in self.used)

    def shuffled(self, rng: np.random.Generator, times: int) -> list[Indices]:
        """The blocks of each side in random orders `[times, blocks]`, one for both if they are paired."""
        orders = [rng.permuted(np.tile(used, (times, 1)), axis=1) for used in self.used[: 2 - self.paired]]
        return [orders[0], orders[-1]]

    def drawn_again(self, rng: np.random.Generator, chosen: list[Indices]) -> list[Indices]:
        """As many blocks drawn from the chosen ones with replacement, row by row."""
        drawn = []
        for blocks in chosen[: 2 - self.paired]:
            places = rng.integers(0, blocks.shape[1], blocks.shape)
            drawn.append(np.take_along_axis(blocks, places, axis=1))
        return [drawn[0], drawn[-1]]

    def weights(self, chosen: list[Indices]) -> Floats:
        """The weights `[times, 2·BLOCKS]` of the directions made of these blocks of source and target."""
        times = len(chosen[0])
        weights = np.zeros((times, 2 * BLOCKS))
        rows = np.arange(times)[:, None]
        for side, (blocks, sign) in enumerate(zip(chosen, (-1.0, 1.0), strict=True)):
            shares = sign / self.sizes[side][blocks].sum(axis=1, keepdims=True)
            np.add.at(weights, (rows, side * BLOCKS + blocks), shares)
        return weights

    def cosines(self, ones: Floats, others: Floats) -> Floats:
        """Between directions given as weights, row by row; 0 where either is zero."""
        lengths = _dots(ones @ self.gram, ones) * _dots(others @ self.gram, others)
        dots = _dots(ones @ self.gram, others)
        return np.divide(dots, np.sqrt(np.maximum(lengths, 0)), out=np.zeros_like(dots), where=lengths > 0)


def _dots(ones: Floats, others: Floats) -> Floats:
    return np.asarray((ones * others).sum(axis=1))


def agreement(
    source: Moments, target: Moments, paired: bool = False
) -> tuple[float, tuple[float, float] | None] | None:
    """The split-half cosine and its 95% interval; None with fewer than two captions on a side.

    With fewer than four there is no interval: a half of one caption drawn again is that caption.
    The interval is the spread of 1000 replicates, each a random halving with every half's blocks drawn again
    with replacement, moved so that its mean lies on the figure.
    """
    blocks = _Blocks(source, target, paired)
    if blocks.fewest < 2:
        return None
    rng = np.random.default_rng(0)
    values = []
    for times, again in ((SPLITS, False), (REPLICATES, True)):
        orders = blocks.shuffled(rng, times)
        halves = [[o[:, : o.shape[1] // 2] for o in orders], [o[:, o.shape[1] // 2 :] for o in orders]]
        if again:
            halves = [blocks.drawn_again(rng, half) for half in halves]
        values.append(blocks.cosines(blocks.weights(halves[0]), blocks.weights(halves[1])))
    mean = float(values[0].mean())
    if blocks.fewest < 4:
        return mean, None
    low, high = np.percentile(values[1] - values[1].mean(), [2.5, 97.5])
    return mean, (max(-1.0, mean + float(low)), min(1.0, mean + float(high)))


def convergence(source: Moments, target: Moments, paired: bool = False) -> tuple[tuple[int, float], ...]:
    """(captions a side, mean cosine to the whole direction), for random 1/32, 1/16 … of the captions."""
    blocks = _Blocks(source, target, paired)
    count = min(source.count, target.count)
    rng = np.random.default_rng(0)
    whole = blocks.weights([used[None, :] for used in blocks.used])
    points: list[tuple[int, float]] = []
    for taken in CURVE:
        if taken >= blocks.fewest:
            break
        share = taken / blocks.fewest
        orders = blocks.shuffled(rng, SPLITS)
        parts = [order[:, : max(1, round(order.shape[1] * share))] for order in orders]
        cosines = blocks.cosines(blocks.weights(parts), np.repeat(whole, SPLITS, axis=0))
        points.append((max(1, round(count * share)), float(cosines.mean())))
    return (*points, (count, float(blocks.cosines(whole, whole)[0])))


def _flattens(curve: tuple[tuple[int, float], ...]) -> int | None:
    """The captions at which the curve first reaches SETTLED, between two points linearly in log n."""
    for (few, low), (many, high) in zip(((1, -1.0), *curve), curve, strict=False):
        if high >= SETTLED:
            if low <= -1 or few == many:
                return many
            part = (SETTLED - low) / (high - low)
            return math.ceil(math.exp(math.log(few) + part * (math.log(many) - math.log(few))) - 1e-9)
    return None


def nearest(concept: Floats, known: Mapping[str, Floats], count: int = 3) -> tuple[tuple[str, float], ...]:
    """The known concepts nearest to one by cosine, all [tokens, dim] and centred on the known mean."""
    if len(known) < 3:
        return ()
    centre = np.mean(list(known.values()), axis=0)
    found = [(name, cosine(concept - centre, value - centre)) for name, value in known.items()]
    return tuple(sorted(found, key=lambda pair: (-pair[1], pair[0]))[:count])


def cosine(one: Floats, other: Floats) -> float:
    """Of the angle between two arrays of one shape; 0 if either is zero."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.vdot(one, other)) / lengths if lengths else 0.0


def share_on_concept(captions: Captions) -> float:
    """Of all candidates that were not empty, the share that named the concept."""
    said = captions.drawn - captions.empty
    return 1 - (captions.off_concept + captions.unnamed) / said if said else 1.0


def _in_spreads(distance: float, spread: float) -> float:
    """A distance in spreads; infinite where the captions do not differ, to rounding."""
    if spread <= ROUNDING * distance:
        return math.inf if distance else 0.0
    return distance / spread


def _share(captions: Captions, reason: str) -> float:
    return float(getattr(captions, reason)) / captions.drawn if captions.drawn else 0.0


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value
