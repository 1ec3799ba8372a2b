"""How well a direction edits: its last measurement, in two files beside the version that it was made of.

A version never changes, so what is measured of it later lies beside it: `v0003.evaluation.json`, and the
sheet of pictures that goes with it, `v0003.evaluation.png`. Both belong to the version's tensors by their
digest: to another file of that number they say nothing. A version of a read-only library is measured into
the user's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from library.errors import DamagedFile, StorageError
from library.fileformat import canonical_json
from library.layer import Layer, VersionPath
from library.publish import replace_file, storage_errors
from library.records import now, tool_version

if TYPE_CHECKING:
    from library.store import Library

__all__ = ["FORMAT", "Evaluation", "evaluation_of", "read_evaluation", "save_evaluation"]

FORMAT = 1
#: What `success` holds: the share, its 95% interval, and the number of pictures.
SUCCESS = ("mean", "low", "high", "count")


@dataclass(frozen=True)
class Evaluation:
    """A measurement: the share of edits that show the target, its 95% interval, and of how many pictures.

    sha256: of the version's tensors. created: UTC. sheet: the pictures, None where they are gone. record:
    everything that the file says.
    """

    success: float
    low: float
    high: float
    pictures: int
    created: str
    sha256: str
    sheet: Path | None
    record: Mapping[str, Any]

    @property
    def line(self) -> str:
        """`96% of 50 pictures (88–99%), 2026-11-25, sheet PATH`."""
        share = f"{self.success:.0%} of {self.pictures} picture{'' if self.pictures == 1 else 's'}"
        interval = f"({100 * self.low:.0f}–{100 * self.high:.0f}%)"
        sheet = f", sheet {self.sheet}" if self.sheet else ""
        return f"{share} {interval}, {self.created[:10]}{sheet}"


def save_evaluation(
    library: Library, version: VersionPath, measured: Mapping[str, Any], sheet: bytes
) -> Evaluation:
    """Keep a measurement of `version` and its sheet (a PNG file's bytes) in the user's own library.

    `measured` has `success`, a mapping of `mean`, `low`, `high` in [0, 1] and `count`, and what else is to be
    known. It replaces the one before; each file is written whole or not at all, the sheet first. Raises
    StorageError, and DamagedFile for a version that is.
    """
    own = library.layers[0]
    path = own.evaluation_path(version.name, version.encoder, version.version)
    record = {
        "created": now(),
        "tool": tool_version(),
        **measured,
        "format": FORMAT,
        "name": version.name,
        "encoder": version.encoder,
        "version": version.version,
        "sha256": library.header(version).record["sha256"],
        "sheet_sha256": hashlib.sha256(sheet).hexdigest(),
    }
    with storage_errors("write", path, in_library=True):
        replace_file(sheet_path(path), sheet)
        replace_file(path, canonical_json(record).encode() + b"\n")
    return read_evaluation(path)


def evaluation_of(library: Library, version: VersionPath) -> Evaluation | None:
    """The last measurement of a version, of an upper layer before a lower one; None where there is none.

    A damaged file counts as none: `Library.verify` names it.
    """
    sha256 = library.header(version).record["sha256"]
    for layer in library.layers:
        try:
            found = read_evaluation(layer.evaluation_path(version.name, version.encoder, version.version))
        except (FileNotFoundError, DamagedFile, StorageError):
            continue
        if found.sha256 == sha256:
            return found
    return None


def read_evaluation(path: Path) -> Evaluation:
    """What one file says. Raises FileNotFoundError, DamagedFile, StorageError."""
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as fault:
        raise StorageError(f"cannot read {path}: {(fault.strerror or str(fault)).lower()}") from fault
    except ValueError as fault:
        raise DamagedFile(f"{path} is not JSON: delete it and measure again") from fault
    try:
        if record["format"] > FORMAT:
            raise DamagedFile(
                f"{path} has format {record['format']}, newer than {FORMAT}: update this program"
            )
        share, low, high, count = (record["success"][key] for key in SUCCESS)
        if not 0 <= low <= share <= high <= 1 or int(count) < 1:
            raise ValueError(f"a success of {share}, {low} to {high}, of {count}")
        created, sha256 = str(record["created"]), str(record["sha256"])
    except (KeyError, TypeError, ValueError, IndexError) as fault:
        raise DamagedFile(f"{path} is no measurement ({fault}): delete it and measure again") from fault
    sheet = sheet_path(path)
    there = sheet if sheet.is_file() else None
    return Evaluation(float(share), float(low), float(high), int(count), created, sha256, there, record)


def sheet_path(path: Path) -> Path:
    """Where the pictures of a measurement lie."""
    return path.with_suffix(".png")


def evaluation_files(layer: Layer, version: VersionPath) -> list[Path]:
    """The files of a version's measurement that this layer has."""
    path = layer.evaluation_path(version.name, version.encoder, version.version)
    return [file for file in (path, sheet_path(path)) if file.exists()]


def check_evaluation(path: Path, sha256: str | None) -> None:
    """Raise DamagedFile where a measurement is not whole, or is not of the tensors of digest `sha256`."""
    found = read_evaluation(path)
    if sha256 is not None and found.sha256 != sha256:
        raise DamagedFile(f"{path} was measured of another file of that number: delete it and measure again")
    digest = found.record.get("sheet_sha256")
    if found.sheet is not None and hashlib.sha256(found.sheet.read_bytes()).hexdigest() != digest:
        raise DamagedFile(f"{found.sheet} is not the sheet of {path.name}: measure again")
