"""What the index keeps of a version: the columns that the catalog shows, and the words to search by."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any
from zlib import crc32

from library.errors import DirectionsError, StorageError
from library.expressions import parents_text
from library.layer import Layer

__all__ = [
    "COLUMNS", "IndexDamaged", "Labels", "checked_row", "describe", "headline", "row_check", "stamp_of", "to_json",
]  # fmt: skip

COLUMNS = (
    "name", "version", "source", "target", "encoder", "quality", "tags", "aliases", "created", "author",
    "models", "captions", "parents", "tokens", "dim", "size", "digest", "fault",
)  # fmt: skip

DIGEST = 16  # hex digits of the tensors' sha256 that a measurement must share with its version


class IndexDamaged(Exception):
    """The index says something that cannot be: throw it away and make it again."""


class Labels:
    """Aliases and tags of one name and encoder; a damaged side file counts as empty (verify names it).

    read: whether the side files could be read, be they damaged.
    """

    def __init__(self, layer: Layer, name: str, encoder: str) -> None:
        self.by_version: dict[int, list[str]] = {}
        self.read = True
        for alias, version in sorted(self._of(layer.aliases, name, encoder).items()):
            self.by_version.setdefault(version, []).append(alias)
        self.changed: dict[str, list[str]] = self._of(layer.tags, name, encoder)

    def _of(self, side_file: Callable[[str, str], dict[str, Any]], name: str, encoder: str) -> dict[str, Any]:
        try:
            return side_file(name, encoder)
        except StorageError:
            self.read = False
        except DirectionsError:
            pass
        return {}

    def aliases(self, version: int) -> list[str]:
        return self.by_version.get(version, [])

    def tags(self, version: int, recorded: list[str]) -> list[str]:
        return self.changed.get(str(version), recorded)


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def describe(values: dict[str, Any], record: dict[str, Any], labels: Labels) -> tuple[str, str]:
    """Fill the columns from a record; the words to search by: of the names and tags, and of the captions."""
    captions = record.get("captions") or {}
    texts = [text for side in ("source", "target") for text in captions.get(side) or []]
    tags = labels.tags(values["version"], record.get("tags") or [])
    values |= {
        "source": record.get("source") or "",
        "target": record.get("target") or "",
        "quality": headline(record.get("quality") or {}),
        "tags": to_json(tags),
        "created": record.get("created") or "",
        "author": record.get("author") or "",
        "models": (record.get("models") or {}).get("name") or "",
        "captions": len(texts),
        "digest": str(record.get("sha256") or "")[:DIGEST],
        "parents": to_json([parents_text([parent]) for parent in record.get("parents") or []]),
    }
    title = [values["name"], values["source"], values["target"], *tags, *labels.aliases(values["version"])]
    return " ".join(title), " ".join(dict.fromkeys(" ".join(texts).split()))


def headline(quality: dict[str, Any]) -> float | None:
    """The one figure that the catalog shows: `score`, else `agreement`, else the first number there is."""
    numbers = {k: v for k, v in quality.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    for key in ("score", "agreement", *sorted(numbers)):
        if key in numbers:
            return float(numbers[key])
    return None


def stamp_of(status: os.stat_result) -> int:
    """One number that changes when a file does."""
    return hash((status.st_mtime_ns, status.st_size, status.st_ino))


def row_check(row: list[Any]) -> int:
    return crc32(repr(row).encode(errors="surrogatepass"))


def checked_row(row: tuple[Any, ...]) -> dict[str, Any]:
    """A row of COLUMNS and its checksum as a mapping; raises IndexDamaged when they disagree."""
    *values, crc = row
    if row_check(values) != crc:
        raise IndexDamaged("a row")
    return dict(zip(COLUMNS, values, strict=True))
