"""How a direction came to be what it is: its log, and what differs between two versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from library.errors import DirectionsError
from library.expressions import parents_text
from library.rows import headline

if TYPE_CHECKING:
    from library.direction import Direction
    from library.store import Library

__all__ = ["Difference", "LogLine", "compare", "how_made", "log"]


@dataclass(frozen=True)
class LogLine:
    """One version in a log: who made it, when and how, and what changed since the one before."""

    ref: str
    encoder: str
    created: str
    author: str
    made: str
    changed: str
    problem: str = ""


@dataclass(frozen=True)
class Difference:
    """What differs between two directions; cosine is None where their encoders or shapes differ.

    fields: what the records say otherwise, `{field: (before, after)}`; captions: per side, those only
    in the first and those only in the second.
    """

    before: str
    after: str
    fields: dict[str, tuple[Any, Any]]
    captions: dict[str, tuple[list[str], list[str]]]
    norms: tuple[float, float]
    cosine: float | None


def how_made(record: Mapping[str, Any]) -> str:
    """One phrase: from how many captions by which models, of what it is composed, or by hand."""
    if record.get("parents"):
        return f"composed: {parents_text(record['parents'])}"
    captions = record.get("captions") or {}
    counts = [len(captions.get(side) or []) for side in ("source", "target")]
    models = (record.get("models") or {}).get("name", "")
    origin = record.get("rebuilt_from")
    if origin:
        name, version, encoder = (origin.get(key, "?") for key in ("name", "version", "encoder"))
        return f"rebuilt from {name}@{version} of {encoder}, {models or 'models unknown'}"
    if any(counts):
        seed = (record.get("generation") or {}).get("seed")
        return f"discovered: {counts[0]} + {counts[1]} captions, {models or 'models unknown'}" + (
            f", seed {seed}" if seed is not None else ""
        )
    if record.get("imported"):
        return f"imported: {', '.join(record['imported'])}" + (f", declared {models}" if models else "")
    return "by hand"


def log(library: Library, name: str, encoder: str | None = None) -> list[LogLine]:
    """Every version of `name`, newest first; a damaged one is a line that says so."""
    lines: list[LogLine] = []
    previous: Direction | None = None
    for version in library.versions(name, encoder):
        try:
            direction = library.read(version.path, version)
        except DirectionsError as fault:
            lines.append(LogLine(version.ref, version.encoder, "", "", "", "", str(fault)))
            continue
        record = direction.record
        changed = ""
        if previous is not None and previous.encoder == direction.encoder:
            changed = summary(compare(previous, direction))
        who, when = record.get("author", ""), record.get("created", "")
        lines.append(LogLine(version.ref, version.encoder, when, who, how_made(record), changed))
        previous = direction
    # Versions of one encoder stay in their order, whatever their records say.
    times: list[str] = []
    latest: dict[str, str] = {}
    for line in lines:
        latest[line.encoder] = max(latest.get(line.encoder, ""), line.created)
        times.append(latest[line.encoder])
    newest = sorted(range(len(lines)), key=lambda k: (times[k], k), reverse=True)
    return [lines[k] for k in newest]


def compare(before: Direction, after: Direction) -> Difference:
    """What differs between two directions in concepts, captions, settings, quality and tensor."""
    fields: dict[str, tuple[Any, Any]] = {}
    one, other = _flat(before), _flat(after)
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            fields[key] = (one.get(key), other.get(key))
    captions: dict[str, tuple[list[str], list[str]]] = {}
    for side in ("source", "target"):
        old = (before.record.get("captions") or {}).get(side) or []
        new = (after.record.get("captions") or {}).get(side) or []
        if old != new:
            captions[side] = ([c for c in old if c not in set(new)], [c for c in new if c not in set(old)])
    comparable = before.encoder == after.encoder and before.tensor.shape == after.tensor.shape
    cosine = before.cosine(after) if comparable else None
    return Difference(before.ref, after.ref, fields, captions, (before.norm, after.norm), cosine)


def summary(difference: Difference) -> str:
    """A difference in one phrase."""
    parts = []
    for side, (gone, new) in difference.captions.items():
        parts.append(f"{side} captions -{len(gone)} +{len(new)}")
    for key, (old, new) in difference.fields.items():
        parts.append(f"{key} {_short(old)} → {_short(new)}")
    if difference.cosine is not None:
        parts.append(f"cosine {difference.cosine:.4f}")
    return "; ".join(parts)


def _flat(direction: Direction) -> dict[str, Any]:
    """The comparable fields of a direction, one level deep."""
    record = direction.record
    flat: dict[str, Any] = {
        "source": direction.source,
        "target": direction.target,
        "encoder": direction.encoder,
        "shape": "×".join(map(str, direction.tensor.shape)),
        "parents": parents_text(record.get("parents") or []) or None,
        "quality": headline(record.get("quality") or {}),
    }
    for group in ("models", "generation"):
        for key, value in (record.get(group) or {}).items():
            flat[f"{group}.{key}"] = value
    return flat


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
