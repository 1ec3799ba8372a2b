"""`Direction`: a named tensor in one text encoder's embedding space, with its record and its algebra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from library.errors import BadTensor, EncoderMismatch, rebuild_command
from library.expressions import parents_text

__all__ = ["Anchored", "Direction"]

Tensor = NDArray[np.float32]
#: What `generation` says of both sides, the source's first.
SIDED = ("written_by", "digests")
#: Verdicts of a quality report that whoever uses the direction should know of, and what of the report says why.
UNSTABLE = ("same", "unknown", "unstable")
DOUBTED = ("stability", "verdict", "agreement", "accuracy")


@dataclass(frozen=True, eq=False)
class Anchored:
    """Both sides of a direction as seen from the concept's own token on, for captions that name the concept.

    source, target: the concepts. source_mean, target_mean: [tokens, dim] float32; row j is the mean embedding
    of the j-th token after the concept's first one, wherever in its caption that stood. weight: of this part.
    """

    source: str
    target: str
    source_mean: Tensor
    target_mean: Tensor
    weight: float = 1.0

    def times(self, factor: float) -> Anchored:
        """Weighted; the other way round for a negative factor."""
        if factor >= 0:
            return replace(self, weight=self.weight * factor)
        sides = (self.target, self.source, self.target_mean, self.source_mean)
        return Anchored(*sides, weight=self.weight * -factor)

    def same_change(self, other: Anchored) -> bool:
        """Whether both are the same change, with whatever weight."""
        return (
            (self.source, self.target) == (other.source, other.target)
            and np.array_equal(self.source_mean, other.source_mean)
            and np.array_equal(self.target_mean, other.target_mean)
        )


@dataclass(frozen=True, eq=False, repr=False)
class Direction:
    """The difference between two concepts in one text encoder's embedding space.

    tensor: [tokens, dim] float32, C-contiguous; anything array-like is converted, a leading axis of 1
    is dropped. source_embedding, target_embedding: the mean embeddings it is the difference of, same
    shape, or None. anchored: the same change as seen from its concept's token, one part for each direction that
    this one is a sum of; empty where that is not known of all of them. version: its number in a library,
    None until saved. record: how it was made, a JSON-able mapping (see `library/FORMAT.md`).

    Raises BadTensor for a tensor that is not a finite matrix of real numbers.
    """

    __array_ufunc__ = None  # so that np.float64(0.8) * direction is ours to answer

    name: str
    tensor: Tensor
    encoder: str
    source: str = ""
    target: str = ""
    source_embedding: Tensor | None = None
    target_embedding: Tensor | None = None
    anchored: tuple[Anchored, ...] = ()
    version: int | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tensor = as_matrix(self.tensor, f"the tensor of {self.name}")
        object.__setattr__(self, "tensor", tensor)
        for side in ("source_embedding", "target_embedding"):
            value = getattr(self, side)
            if value is not None:
                value = as_matrix(value, f"{side} of {self.name}")
                if value.shape != tensor.shape:
                    raise BadTensor(f"{side} of {self.name} is {value.shape}, its tensor {tensor.shape}")
                object.__setattr__(self, side, value)
        for part in self.anchored:
            shapes = {part.source_mean.shape, part.target_mean.shape}
            if shapes != {tensor.shape}:
                raise BadTensor(f"an anchored part of {self.name} is {shapes}, its tensor {tensor.shape}")

    def __repr__(self) -> str:
        tokens, dim = self.tensor.shape
        concepts = f" {self.source!r} → {self.target!r}" if self.source or self.target else ""
        return f"<Direction {self.ref}{concepts} [{tokens}, {dim}] {self.encoder} norm {self.norm:.4g}>"

    @property
    def ref(self) -> str:
        """`cat2dog@3`, or the bare name of a direction that was never saved."""
        return self.name if self.version is None else f"{self.name}@{self.version}"

    @property
    def norm(self) -> float:
        """Euclidean length of the tensor."""
        return float(np.linalg.norm(self.tensor.astype(np.float64)))

    @property
    def notes(self) -> list[str]:
        """What whoever asked for this direction should be told, one line each (never saved)."""
        return list(self.record.get("notes", ()))

    @property
    def parents(self) -> list[dict[str, Any]]:
        """The weighted directions that this one is a sum of; itself when it is not composed."""
        if self.version is None and self.record.get("parents"):
            return [dict(parent) for parent in self.record["parents"]]
        own = {"name": self.name, "version": self.version, "encoder": self.encoder, "weight": 1.0}
        return [own | {"sha256": self.sha256}]

    @property
    def sha256(self) -> str:
        """Of the tensors, as a version file's record has it: by it a direction is known, saved or not."""
        from library.fileformat import digest
        from library.records import tensors_of

        return digest(tensors_of(self))

    @property
    def doubts(self) -> list[dict[str, Any]]:
        """The figures and verdict of this direction's quality report, or of its parts', where it is unstable.

        Each with `name`, `source` and `target`; none where all is well or nothing is known.
        """
        quality = self.record.get("quality") or {}
        if quality.get("stability") not in UNSTABLE:
            return [dict(doubt) for doubt in self.record.get("doubts", ())]
        figures = {key: quality[key] for key in DOUBTED if key in quality}
        return [{"name": self.name, "source": self.source, "target": self.target, **figures}]

    def cosine(self, other: Direction) -> float:
        """Cosine of the angle to `other`, 0.0 if either is zero; raises EncoderMismatch."""
        self._require_same_space(other)
        lengths = self.norm * other.norm
        dot = float(np.vdot(self.tensor.astype(np.float64), other.tensor.astype(np.float64)))
        return dot / lengths if lengths else 0.0

    def __mul__(self, weight: object) -> Direction:
        factor = as_weight(weight)
        if factor is None:
            return NotImplemented
        flipped = factor < 0
        whole = abs(factor) == 1
        record = {k: self.record[k] for k in ("models", "declared", "notes") if k in self.record}
        captions = self.record.get("captions")
        if captions and flipped:
            record["captions"] = {"source": captions.get("target", []), "target": captions.get("source", [])}
        elif captions:
            record["captions"] = captions
        generation = self.record.get("generation")
        if generation and whole:  # how to make it again; a part of it cannot be
            record["generation"] = {
                key: list(reversed(value)) if flipped and key in SIDED else value
                for key, value in generation.items()
            }
        if doubts := self.doubts:
            record["doubts"] = doubts
        parents = [parent | {"weight": factor * parent["weight"]} for parent in self.parents]
        embeddings = (self.source_embedding, self.target_embedding) if whole else (None, None)
        return Direction(
            name=parents_text(parents),
            tensor=(factor * self.tensor.astype(np.float64)).astype(np.float32),
            encoder=self.encoder,
            source=self.target if flipped else self.source,
            target=self.source if flipped else self.target,
            source_embedding=embeddings[1] if flipped else embeddings[0],
            target_embedding=embeddings[0] if flipped else embeddings[1],
            anchored=tuple(part.times(factor) for part in self.anchored),
            record=record | {"parents": parents},
        )

    __rmul__ = __mul__

    def __truediv__(self, weight: object) -> Direction:
        factor = as_weight(weight)
        if factor is None:
            return NotImplemented
        return self * (1 / factor)

    def __neg__(self) -> Direction:
        return self * -1.0

    def __pos__(self) -> Direction:
        return self

    def __add__(self, other: object) -> Direction:
        if not isinstance(other, Direction):
            return NotImplemented
        self._require_same_space(other)
        parents = _merged(self.parents + other.parents)
        record: dict[str, Any] = {"parents": parents}
        if self.record.get("models") and self.record.get("models") == other.record.get("models"):
            record["models"] = self.record["models"]
        if self.record.get("declared") or other.record.get("declared"):
            record["declared"] = True
        notes = list(dict.fromkeys(self.notes + other.notes))
        if notes:
            record["notes"] = notes
        if doubts := self.doubts + [doubt for doubt in other.doubts if doubt not in self.doubts]:
            record["doubts"] = doubts
        total = self.tensor.astype(np.float64) + other.tensor.astype(np.float64)
        return Direction(
            name=parents_text(parents),
            tensor=total.astype(np.float32),
            encoder=self.encoder,
            anchored=_joined(self, other),
            record=record,
        )

    def __radd__(self, other: object) -> Direction:
        return self if as_weight(other) == 0 else NotImplemented  # what `sum` begins with

    def __sub__(self, other: object) -> Direction:
        if not isinstance(other, Direction):
            return NotImplemented
        return self + -other

    def renamed(self, name: str) -> Direction:
        """The same direction, unsaved, under another name."""
        return replace(self, name=name, version=None)

    def _require_same_space(self, other: Direction) -> None:
        if self.encoder != other.encoder:
            raise EncoderMismatch(
                f"{self.ref} was made for encoder {self.encoder} and {other.ref} for {other.encoder}: they "
                f"cannot be combined; make one again with: {rebuild_command(_saved_name(other))}"
            )
        if self.tensor.shape != other.tensor.shape:
            raise BadTensor(
                f"{self.ref} is {list(self.tensor.shape)} and {other.ref} {list(other.tensor.shape)}: "
                "directions of different shapes cannot be combined"
            )


def as_matrix(value: Any, what: str) -> Tensor:
    """A float32 C-contiguous copy, [tokens, dim]; BadTensor says what was wrong with `value`."""
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        if value.is_complex():  # of which `numpy` refuses some kinds in words of its own
            raise BadTensor(f"{what} holds {value.dtype}; expected real numbers")
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()  # numpy has no bfloat16
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise BadTensor(f"{what} holds {array.dtype}; expected real numbers")
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or 0 in array.shape:
        raise BadTensor(f"{what} has shape {list(array.shape)}; expected [tokens, dim]")
    with np.errstate(over="ignore"):
        matrix = np.array(array, dtype=np.float32, order="C")
    if not np.isfinite(matrix).all():
        raise BadTensor(f"{what} holds values that are not finite in float32")
    return matrix


def as_weight(value: object) -> float | None:
    """A finite number as a float, or None; booleans and arrays are not weights."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    return float(value)


def _joined(one: Direction, other: Direction) -> tuple[Anchored, ...]:
    """The parts of a sum, one for equal changes; none unless both have some. What adds nothing has no say."""
    if not other.tensor.any():
        return one.anchored
    if not one.tensor.any():
        return other.anchored
    if not (one.anchored and other.anchored):
        return ()
    parts: list[Anchored] = []
    for part in (*one.anchored, *other.anchored):
        for k, known in enumerate(parts):
            sign = next((sign for sign in (1, -1) if known.same_change(part.times(sign))), None)
            if sign is not None:
                parts[k] = replace(known, weight=1.0).times(known.weight + sign * part.weight)
                break
        else:
            parts.append(part)
    return tuple(part for part in parts if part.weight)


def _merged(parents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Equal parents with their weights added; a cancelled one is dropped unless all are."""
    totals: dict[tuple[Any, ...], dict[str, Any]] = {}
    for parent in parents:
        key = (parent["name"], parent["version"], parent["encoder"], parent.get("sha256"))
        if key in totals:
            parent = parent | {"weight": totals[key]["weight"] + parent["weight"]}
        totals[key] = parent
    kept = [parent for parent in totals.values() if parent["weight"]]
    return kept or list(totals.values())


def _saved_name(direction: Direction) -> str:
    return direction.parents[0]["name"] if direction.version is None else direction.name
