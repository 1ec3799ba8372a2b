"""The record: what is written when a direction is saved, and back to a `Direction` when it is read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from library.errors import BadName, BadTensor, DamagedFile, DirectionsError
from library.fileformat import ANCHORED, FORMAT, canonical_json
from library.layer import VersionPath

if TYPE_CHECKING:
    from library.direction import Direction

__all__ = ["check_place", "for_saving", "now", "tensors_of", "to_direction"]

OWN_KEYS = (
    "notes",
    "anchors",
    "sha256",
    "record_sha256",
    "version",
)  # made anew by every save, or never kept

BIRTH_KEYS = ("created", "author", "tool", "imported", "origin")


def now() -> str:
    """UTC as `2025-01-31T12:00:00Z`; SOURCE_DATE_EPOCH is respected, so that a build can be repeated.

    Raises DirectionsError where that is no time.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    except (ValueError, OverflowError, OSError) as fault:
        raise DirectionsError(
            f"SOURCE_DATE_EPOCH is {epoch!r}; expected seconds since 1970, such as 1738324800"
        ) from fault
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def author() -> str:
    """Who saves: `DIRECTIONS_AUTHOR` (empty for nobody), else the login name."""
    named = os.environ.get("DIRECTIONS_AUTHOR")
    if named is not None:
        return named
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


@cache
def tool_version() -> str:
    """`edit-directions 0.1.0`; looked up once, as parsing the package's metadata takes milliseconds."""
    from importlib.metadata import PackageNotFoundError, version

    from library.settings import APPLICATION

    try:
        return f"{APPLICATION} {version(APPLICATION)}"
    except PackageNotFoundError:
        return APPLICATION


def for_saving(direction: Direction, digest: str) -> dict[str, Any]:
    """The record to write, without version and digests; raises BadTensor for what JSON cannot hold.

    What the direction's record says is kept, who made it and when too, unless it is the record of another
    tensor: `digest` is the sha256 of the tensors to be saved.
    """
    stale = BIRTH_KEYS if direction.record.get("sha256", digest) != digest else ()
    given = {k: v for k, v in direction.record.items() if k not in (*OWN_KEYS, *stale)}
    full: dict[str, Any] = {
        "captions": {"source": [], "target": []},
        "generation": {},
        "models": {},
        "parents": [],
        "quality": {},
        "tags": [],
        **given,
        "format": FORMAT,
        "name": direction.name,
        "source": direction.source,
        "target": direction.target,
        "encoder": direction.encoder,
    }
    for key, make in (("created", now), ("author", author), ("tool", tool_version)):
        if key not in full:
            full[key] = make()
    if direction.anchored:
        full["anchors"] = [
            {"source": part.source, "target": part.target, "weight": float(part.weight)}
            for part in direction.anchored
        ]
    full["tags"] = sorted({check_tag(tag) for tag in full["tags"]})
    try:
        canonical_json(full).encode()
    except (TypeError, ValueError) as fault:
        raise BadTensor(f"the record of {direction.name} cannot be written as JSON: {fault}") from fault
    return full


def tensors_of(direction: Direction) -> dict[str, Any]:
    """What a version file holds beside the record: name → [tokens, dim] float32; `to_direction` reads it back."""
    tensors = {"direction": direction.tensor}
    if direction.source_embedding is not None and direction.target_embedding is not None:
        tensors |= {"source": direction.source_embedding, "target": direction.target_embedding}
    for k, part in enumerate(direction.anchored):
        tensors[ANCHORED.format(k, "source")] = part.source_mean
        tensors[ANCHORED.format(k, "target")] = part.target_mean
    return tensors


def check_tag(tag: str) -> str:
    """Return the tag unchanged, or raise BadName with the rule."""
    if not isinstance(tag, str) or not re.fullmatch(r"[^\s,\x00-\x1f\x7f]{1,50}", tag):
        raise BadName(f"tag {tag!r} is refused; a tag is 1 to 50 characters without spaces and commas")
    return tag


def to_direction(tensors: Mapping[str, Any], record: Mapping[str, Any]) -> Direction:
    """The direction that a version file's tensors and record describe."""
    from library.direction import Anchored, Direction

    return Direction(
        name=record["name"],
        tensor=tensors["direction"],
        encoder=record["encoder"],
        source=record.get("source") or "",
        target=record.get("target") or "",
        source_embedding=tensors.get("source"),
        target_embedding=tensors.get("target"),
        anchored=tuple(
            Anchored(
                anchor["source"],
                anchor["target"],
                tensors[ANCHORED.format(k, "source")],
                tensors[ANCHORED.format(k, "target")],
                anchor["weight"],
            )
            for k, anchor in enumerate(record.get("anchors") or [])
        ),
        version=record["version"],
        record=record,
    )


def check_place(record: Mapping[str, Any], expected: VersionPath | None, path: Path) -> None:
    """Raise DamagedFile when a file lies where another version should."""
    if expected is None:
        return
    claims = (record.get("name"), record.get("encoder"), record.get("version"))
    if claims != (expected.name, expected.encoder, expected.version):
        raise DamagedFile(
            f"{path} was moved here: it says that it is {claims[0]}@{claims[2]} for {claims[1]}"
        )
