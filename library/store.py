"""`Library`: a folder of immutable, numbered versions of directions, over read-only ones it builds on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from library import records
from library.errors import (
    AmbiguousDirection,
    BadName,
    DamagedFile,
    DirectionsError,
    StorageError,
    UnknownDirection,
)
from library.fileformat import Header, decode, digest, encode, read_header
from library.layer import Layer, VersionPath
from library.lookup import Lookup
from library.names import check_encoder, check_name, parse_reference
from library.publish import check_folder_writable, publish_next, storage_errors
from library.settings import default_search_path, expanded, library_folder

if TYPE_CHECKING:
    import pandas as pd

    from library.direction import Direction
    from library.verify import Fault

__all__ = ["Library"]

Folder = str | os.PathLike[str]


class Library:
    """Directions on disk.

    path: the folder that is written to; None means `DIRECTIONS_LIBRARY`, the config file, or the user's
    data folder. It is made on the first save. search_path: read-only folders below it, or one; None means
    `DIRECTIONS_PATH` and the starter library that ships with the package, `()` none at all.

    A name is looked for in all of them, the upper one winning where both hold the same number, and a new
    version takes a number that is free in all: `cat2dog@1` never changes its meaning by a save.
    """

    def __init__(
        self, path: Folder | None = None, search_path: Folder | Iterable[Folder] | None = None
    ) -> None:
        self.path = library_folder(path)
        below = default_search_path() if search_path is None else search_path
        if isinstance(below, (str, os.PathLike)):  # one folder, and not its letters
            below = [below]
        folders = [expanded(folder, "search_path") for folder in below]
        self.layers = (Layer(self.path), *(Layer(f, writable=False) for f in folders if f != self.path))
        self.lookup = Lookup(self.layers)

    def __repr__(self) -> str:
        return f"<Library {self.path}>"

    def __getitem__(self, reference: str) -> Direction:
        return self.load(reference)

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and bool(self.lookup.find(name))
        except AmbiguousDirection:
            return True
        except DirectionsError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({name for layer in self.layers for name in layer.names() if layer.encoders(name)}))

    def __len__(self) -> int:
        """How many names there are."""
        return sum(1 for _ in self)

    def check_writable(self) -> None:
        """Raise DirectionsError where nothing can be saved, so that nothing is computed in vain."""
        records.now()  # what SOURCE_DATE_EPOCH says
        folder = self.path.absolute()
        with storage_errors("write to", folder, in_library=True):
            there = next(above for above in (folder, *folder.parents) if above.exists())
        check_folder_writable(there, in_library=True)

    def save(self, direction: Direction) -> Direction:
        """Publish `direction` as the next version of its name; returns it with its version and record.

        Safe beside any number of other writers. Raises BadName, BadTensor, StorageError (disk full,
        read-only folder): then nothing was published.
        """
        if direction.parents and direction.version is None and "@" in direction.name:
            raise BadName(
                f"{direction.name!r} is composed and has no name of its own: .renamed('mix') gives it one"
            )
        name, encoder = check_name(direction.name), check_encoder(direction.encoder)
        tensors = records.tensors_of(direction)
        record = records.for_saving(direction, digest(tensors))
        saved: dict[str, Any] = {}

        def content(version: int) -> bytes:
            nonlocal saved
            data, saved = encode(tensors, record | {"version": version})
            return data

        own = self.layers[0]
        with storage_errors(f"save {name} in", self.path, in_library=True):
            version = publish_next(
                own.leaf(name, encoder),
                taken=lambda: max(layer.highest(name, encoder) for layer in self.layers),
                content=content,
                path_of=lambda n: own.path(name, encoder, n),
                retired=lambda n: own.retired_path(name, encoder, n).exists(),
            )
        return records.to_direction(tensors, saved | {"version": version})

    def load(
        self, reference: str, encoder: str | Sequence[str] | None = None, models: str | None = None
    ) -> Direction:
        """The direction `NAME`, `NAME@3` or `NAME@alias`, every byte checked.

        encoder: the id it must be made for, or several that are equally good. models: the model set's
        name: directions imported for that set, which carry no fingerprint, are accepted too, and the
        set is named in the message of a mismatch. `dog2cat` answers as `cat2dog` negated where no
        `dog2cat` exists, and says so in `.notes`.

        Raises UnknownDirection, EncoderMismatch, AmbiguousDirection, DamagedFile, BadName.
        """
        found, negated = self.lookup.find_or_inverse(reference, encoder, models)
        try:
            direction = self.read(found.path, found)
        except DamagedFile as fault:
            raise DamagedFile(f"{fault}; {self._way_out(found)}") from fault
        if not negated:
            return direction
        from dataclasses import replace

        where = f" for {found.encoder}" if parse_reference(reference).name in self else ""
        note = f"{reference} is {found.ref} negated: no direction of that name exists{where}"
        opposite = -direction
        return replace(opposite, record={**opposite.record, "notes": [*opposite.notes, note]})

    def _way_out(self, damaged: VersionPath) -> str:
        others = [v for v in self.lookup.versions(damaged.name, damaged.encoder) if v != damaged]
        instead = f"use {others[-1].ref}, " if others else ""
        return f"{instead}restore the file from a copy, or remove it: directions rm {damaged.ref}"

    def resolve(
        self, expression: str, encoder: str | Sequence[str] | None = None, models: str | None = None
    ) -> Direction:
        """The direction that `"0.8*cat2dog + day2winter"` names; a single reference is loaded as it is.

        Overlapping or opposing terms are pointed out in `.notes`. Raises what `load` raises, and
        BadExpression.
        """
        from library.compose import resolve

        return resolve(self, expression, encoder, models)

    def read(self, path: Path, expected: VersionPath | None = None) -> Direction:
        """The direction in one version file, which must be the one `expected` if given."""
        try:
            with open(path, "rb") as file:
                tensors, record = decode(file, path)
        except FileNotFoundError as fault:
            raise UnknownDirection(f"{path} is gone: it was removed while it was being read") from fault
        except OSError as fault:
            raise StorageError(f"cannot read {path}: {(fault.strerror or str(fault)).lower()}") from fault
        records.check_place(record, expected, path)
        return records.to_direction(tensors, record)

    def header(self, version: VersionPath) -> Header:
        """The record and shapes of a version without its tensors; raises DamagedFile."""
        try:
            with open(version.path, "rb") as file:
                header = read_header(file, version.path)
        except OSError as fault:
            raise DamagedFile(f"{version.path} cannot be read: {fault.strerror}") from fault
        records.check_place(header.record, version, version.path)
        return header

    def versions(self, name: str, encoder: str | Sequence[str] | None = None) -> list[VersionPath]:
        """Every version of `name`, by encoder and number; raises UnknownDirection if there is none."""
        return self.lookup.versions(name, encoder)

    def find(self, reference: str, encoder: str | Sequence[str] | None = None) -> VersionPath:
        """Where a reference lies, unread; raises as `load` does."""
        return self.lookup.find(reference, encoder)

    def walk(self) -> Iterator[VersionPath]:
        """Every version of every name that a reader of this library sees."""
        seen: set[tuple[str, str, int]] = set()
        for layer in self.layers:
            for version in layer.walk():
                key = (version.name, version.encoder, version.version)
                if key not in seen:
                    seen.add(key)
                    yield version

    def verify(self, progress: Callable[[int], object] | None = None) -> list[Fault]:
        """Read everything; the faults found, none if all is well. `progress` gets a running count."""
        from library.verify import verify

        return verify(self, progress)

    def catalog(self) -> pd.DataFrame:
        """One row for every version; the columns are documented at `library.catalog.catalog`."""
        from library.catalog import catalog

        return catalog(self)
