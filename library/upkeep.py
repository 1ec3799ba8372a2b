"""Removing versions and sweeping up: first a plan that says what it frees, then its execution."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from library.evaluation import evaluation_files
from library.labels import own_layer
from library.layer import VersionPath, listdir
from library.names import parse_reference
from library.publish import storage_errors, sync_folder

if TYPE_CHECKING:
    from library.store import Library

__all__ = ["Removal", "Sweep", "plan_removal", "plan_sweep"]

ABANDONED = 3600.0  # seconds after which a temporary file has no living writer


@dataclass(frozen=True)
class Removal:
    """Versions to remove with their measurements, the aliases that go too, and the bytes that this frees."""

    versions: list[VersionPath]
    aliases: list[str]
    bytes: int
    library: Library

    def execute(self) -> None:
        """Remove them. Their numbers are never used again."""
        own = self.library.layers[0]
        for version in self.versions:
            place = (version.name, version.encoder)
            for file in evaluation_files(own, version):
                with storage_errors("remove", file):
                    file.unlink(missing_ok=True)
            with storage_errors("remove", version.path):
                own.retired_path(*place, version.version).touch()
                sync_folder(version.path.parent)
                version.path.unlink(missing_ok=True)
                sync_folder(version.path.parent)
            if version.version in own.aliases(*place).values():
                own.change_aliases(*place, partial(_drop_value, version.version))
            if str(version.version) in own.tags(*place):
                own.change_tags(*place, partial(_drop_key, str(version.version)))


def plan_removal(library: Library, references: Sequence[str], encoder: str | None = None) -> Removal:
    """What removing `references` would do: `NAME@3` and `NAME@latest` are one version, `NAME` all of them.

    Raises UnknownDirection, StorageError for a version in a read-only library, and DamagedFile for aliases or tags.
    """
    versions: dict[Path, VersionPath] = {}
    for text in references:
        reference = parse_reference(text)
        if "@" not in text:
            found = library.versions(reference.name, encoder)
            own = [v for v in found if v.path.is_relative_to(library.path)]
            found = own or found
        else:
            found = [library.find(text, encoder)]
        for version in found:
            own_layer(library, version, "remove")
            versions[version.path] = version
    chosen = sorted(versions.values())
    own_folder = library.layers[0]
    aliases = [
        f"{v.name}@{alias}"
        for v in chosen
        for alias, number in own_folder.aliases(v.name, v.encoder).items()
        if number == v.version
    ]
    for v in chosen:  # damaged tags would stop the removal halfway
        own_folder.tags(v.name, v.encoder)
    files = [file for v in chosen for file in (v.path, *evaluation_files(own_folder, v))]
    return Removal(chosen, aliases, sum(file.stat().st_size for file in files), library)


@dataclass(frozen=True)
class Sweep:
    """What dead writers left behind and empty folders, and the bytes that removing them frees."""

    files: list[Path]
    folders: list[Path]
    bytes: int

    def execute(self) -> None:
        """Remove them; what is in use again by now is left."""
        for file in self.files:
            with storage_errors("remove", file):
                file.unlink(missing_ok=True)
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def plan_sweep(library: Library, older_than: float = ABANDONED) -> Sweep:
    """What `gc` would remove: temporary files older than `older_than` seconds, and empty folders."""
    files: list[Path] = []
    freed = 0
    for path in library.layers[0].temporaries():
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if time.time() - status.st_mtime >= older_than:
                files.append(path)
                freed += status.st_size
    gone = set(files)
    folders: list[Path] = []
    for folder in library.layers[0].folders():
        if folder != library.path and all(folder / entry in gone for entry in listdir(folder)):
            folders.append(folder)
            gone.add(folder)
    return Sweep(files, folders, freed)


def _drop_key(key: str, mapping: dict[str, list[str]]) -> None:
    mapping.pop(key, None)


def _drop_value(value: int, mapping: dict[str, int]) -> None:
    for key in [key for key, number in mapping.items() if number == value]:
        del mapping[key]
