"""Importing and exporting: single files, pairs, and bundles of many versions with their records."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from library.errors import BadFile, BadName, DamagedFile, StorageError
from library.fileformat import decode, digest, encode
from library.layer import VersionPath
from library.names import check_encoder, check_name, direction_name, shortened
from library.publish import replace_file, storage_errors
from library.records import check_place, to_direction

if TYPE_CHECKING:
    from library.direction import Direction
    from library.store import Library

__all__ = [
    "adopt",
    "adopt_file",
    "check_output",
    "export_bundle",
    "export_file",
    "export_name",
    "identity",
    "import_bundle",
    "import_file",
    "import_pair",
]

BUNDLE_ENTRY = re.compile(r"([^/\\]+)/([^/\\]+)/v(\d{4}|[1-9]\d{4,8})\.safetensors")
MOST_ENTRIES = 10_000
LARGEST_ENTRY = 64 * 2**20
LARGEST_BUNDLE = 2 * 2**30
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same directions make the same bundle


def import_pair(
    library: Library,
    source: Path,
    target: Path,
    name: str,
    encoder: str,
    concepts: tuple[str, str] = ("", ""),
) -> Direction:
    """Save the direction between two files of mean embeddings; see `foreign.read_pair`."""
    from library.foreign import read_pair

    check_name(name)
    return library.save(read_pair(source, target, name, check_encoder(encoder), concepts))


def import_file(
    library: Library,
    path: Path,
    name: str | None = None,
    encoder: str | None = None,
    concepts: tuple[str, str] = ("", ""),
) -> Direction:
    """Save what one file holds; see `foreign.read_single`. A version that is here already is not doubled."""
    return adopt_file(library, path, name, encoder, concepts)[0]


def adopt_file(
    library: Library,
    path: Path,
    name: str | None = None,
    encoder: str | None = None,
    concepts: tuple[str, str] = ("", ""),
) -> tuple[Direction, bool]:
    """`import_file`, and whether it is new."""
    from library.foreign import read_single

    if encoder:
        check_encoder(encoder)
    return adopt(library, read_single(path, name, encoder, concepts))


def adopt(
    library: Library, direction: Direction, origin: Mapping[str, Any] | None = None
) -> tuple[Direction, bool]:
    """Save a direction with the record it came with, unless it is here already; and whether it is new."""
    wanted = identity(direction.record, direction.name)
    for layer in library.layers if "sha256" in direction.record else ():
        for number in layer.versions(direction.name, direction.encoder):
            path = layer.path(direction.name, direction.encoder, number)
            place = VersionPath(direction.name, direction.encoder, number, path)
            try:
                if identity(library.header(place).record, direction.name) == wanted:
                    return library.read(path, place), False
            except DamagedFile:
                continue
    record = {**direction.record, "origin": dict(origin)} if origin else direction.record
    return library.save(replace(direction, version=None, record=record)), True


def identity(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A record without what a library adds: the number, the digest over it, and whence it came."""
    return {k: v for k, v in record.items() if k not in ("version", "record_sha256", "origin", "name")} | {
        "name": name
    }


def check_output(library: Library, path: Path, force: bool) -> None:
    """Raise StorageError for a file to export to that is there already, unless `force`, or lies in a library."""
    place = Path(os.path.realpath(path))
    if any(Path(os.path.realpath(layer.folder)) in place.parents for layer in library.layers):
        raise StorageError(
            f"cannot write {path}: it lies in the library, where only versions are; write elsewhere"
        )
    with storage_errors("write", path):
        exists = path.exists()
    if exists and not force:
        raise StorageError(f"{path} exists; use --force to replace it, or -o to write elsewhere")


def export_name(direction: Direction) -> str:
    """The name to export a direction under: one that was never saved is called after what it is made of."""
    if direction.version is not None:
        return direction.name
    parents = direction.parents
    if len(parents) == 1 and parents[0]["weight"] == -1 and direction.source and direction.target:
        with suppress(BadName):  # concepts that make no name
            return direction_name(direction.source, direction.target)
    terms = []
    for parent in parents:
        sign = "minus-" if parent["weight"] < 0 else ""
        size = f"{abs(parent['weight']):.6g}-".replace("+", "") if abs(parent["weight"]) != 1 else ""
        terms.append(f"{sign}{size}{parent['name']}-{parent['version']}")
    return shortened("-".join(terms))


def export_file(library: Library, expression: str, path: Path, encoder: str | None = None) -> Path:
    """Write a direction as one safetensors file with its record; a saved version byte for byte."""
    direction = library.resolve(expression, encoder)
    if direction.version is not None:
        content = library.find(direction.ref, direction.encoder).path.read_bytes()
    else:
        from library.records import for_saving, tensors_of

        unsaved = direction.renamed(export_name(direction))
        unsaved = replace(unsaved, record={**direction.record, "parents": direction.parents})
        tensors = tensors_of(unsaved)
        content, _ = encode(tensors, for_saving(unsaved, digest(tensors)) | {"version": 1})
    with storage_errors("write", path):
        replace_file(path, content)
    return path


def export_bundle(library: Library, references: Sequence[str], path: Path, encoder: str | None = None) -> int:
    """Write versions (NAME: the latest) into a zip file; how many. Same versions, same bytes."""
    chosen: dict[str, VersionPath] = {}
    for reference in references:
        version = library.find(reference, encoder)
        library.read(version.path, version)
        chosen[f"{version.name}/{version.encoder}/{version.path.name}"] = version
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, version in sorted(chosen.items()):
            info = zipfile.ZipInfo(entry, EPOCH)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, version.path.read_bytes())
    with storage_errors("write", path):
        replace_file(path, buffer.getvalue())
    return len(chosen)


def import_bundle(library: Library, path: Path) -> list[tuple[Direction, bool]]:
    """Save every version of a bundle, after all of it was checked; each with whether it is new.

    Raises BadFile naming the entry for a path that is not NAME/ENCODER/v0001.safetensors, anything
    oversized, encrypted, doubled or not a whole direction: then nothing was imported.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(entries, path)
            for entry in entries:
                _read_entry(archive, entry, path)
            return [adopt(library, _read_entry(archive, entry, path)) for entry in entries]
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as fault:
        raise BadFile(f"{path} is not a bundle: {fault}") from fault
    except StorageError:
        raise
    except OSError as fault:
        raise StorageError(f"cannot read {path}: {(fault.strerror or str(fault)).lower()}") from fault


def _check_entries(entries: Iterable[zipfile.ZipInfo], path: Path) -> None:
    seen: set[str] = set()
    total = 0
    for entry in entries:
        match = BUNDLE_ENTRY.fullmatch(entry.filename)
        fault = ""
        if entry.orig_filename != entry.filename or not match:
            fault = "expected NAME/ENCODER/v0001.safetensors"
        elif entry.filename in seen:
            fault = "it is there twice"
        elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            fault = "it is not a plain file"
        elif entry.flag_bits & 1:
            fault = "it is encrypted"
        elif entry.file_size > LARGEST_ENTRY:
            fault = f"it unpacks to {entry.file_size} bytes; at most {LARGEST_ENTRY} are imported"
        elif match:
            try:
                check_name(match.group(1))
                check_encoder(match.group(2))
            except BadName as refused:
                fault = str(refused)
        seen.add(entry.filename)
        total += entry.file_size
        if fault:
            raise BadFile(f"{path} holds {entry.filename[:200]!r}: {fault}; nothing was imported")
    if len(seen) > MOST_ENTRIES or total > LARGEST_BUNDLE:
        raise BadFile(
            f"{path} holds {len(seen)} entries of {total} bytes; at most {MOST_ENTRIES} of "
            f"{LARGEST_BUNDLE} are imported at once"
        )
    if not seen:
        raise BadFile(f"{path} holds no direction")


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> Direction:
    """One entry, every byte checked; never more than it announced is unpacked."""
    label = f"{path}:{entry.filename}"
    try:
        with archive.open(entry) as file:
            content = file.read(entry.file_size + 1)
        if len(content) != entry.file_size:
            raise BadFile(f"{label} is not as long as it says; nothing was imported")
        return checked_direction(content, entry.filename, label)
    except (DamagedFile, zipfile.BadZipFile, EOFError, RuntimeError, ValueError) as fault:
        if isinstance(fault, BadFile):
            raise
        raise BadFile(f"{label} is damaged: {fault}; nothing was imported") from fault
    except Exception as fault:  # zlib.error and friends of other compression methods
        raise BadFile(f"{label} cannot be unpacked: {fault}; nothing was imported") from fault


def checked_direction(content: bytes, relative: str, label: str) -> Direction:
    """The direction in a version file's bytes, which must belong at `relative`; raises DamagedFile."""
    match = BUNDLE_ENTRY.fullmatch(relative)
    if not match:
        raise DamagedFile(f"{label}: expected NAME/ENCODER/v0001.safetensors")
    tensors, record = decode(io.BytesIO(content), label)
    place = VersionPath(
        check_name(match.group(1)), check_encoder(match.group(2)), int(match.group(3)), Path(label)
    )
    check_place(record, place, place.path)
    return to_direction(tensors, record)
