"""Reading every byte of a library and naming what is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from library.errors import DamagedFile, DirectionsError
from library.evaluation import check_evaluation
from library.fileformat import read_header
from library.layer import Layer
from library.names import check_encoder, check_name

if TYPE_CHECKING:
    from library.store import Library

__all__ = ["Fault", "verify"]


@dataclass(frozen=True)
class Fault:
    """A file that is not what it should be, and why."""

    path: str
    problem: str


def verify(library: Library, progress: Callable[[int], object] | None = None) -> list[Fault]:
    """See `Library.verify`."""
    faults: list[Fault] = []
    count = 0
    for layer in library.layers:
        for version in layer.walk():
            try:
                library.read(version.path, version)
            except DirectionsError as fault:
                faults.append(Fault(str(version.path), str(fault)))
            count += 1
            if progress:
                progress(count)
        faults += _side_faults(layer)
    return faults


def _side_faults(layer: Layer) -> Iterator[Fault]:
    """Names that the rule refuses, aliases that lead nowhere, and measurements of something else."""
    for name in layer.names():
        folder = layer.folder / name
        try:
            check_name(name)
            encoders = layer.encoders(name)
            for encoder in encoders:
                check_encoder(encoder)
        except DirectionsError as fault:
            yield Fault(str(folder), str(fault))
            continue
        for encoder in encoders:
            leaf = layer.leaf(name, encoder)
            try:
                versions = set(layer.versions(name, encoder))
                for alias, version in layer.aliases(name, encoder).items():
                    if version not in versions:
                        missing = f"alias {alias} means version {version}, which is not there"
                        yield Fault(str(leaf / "aliases.json"), missing)
            except DirectionsError as fault:
                yield Fault(str(leaf), str(fault))
            try:
                layer.tags(name, encoder)
            except DirectionsError as fault:
                yield Fault(str(leaf), str(fault))
        for encoder in layer.leaves(name):
            yield from _evaluation_faults(layer, name, encoder)


def _evaluation_faults(layer: Layer, name: str, encoder: str) -> Iterator[Fault]:
    """Measurements that are damaged, or not of the version of their number where this layer has it."""
    for number in layer.evaluations(name, encoder):
        path = layer.evaluation_path(name, encoder, number)
        version = layer.path(name, encoder, number)
        try:
            sha256 = None
            with contextlib.suppress(FileNotFoundError, DamagedFile), open(version, "rb") as file:
                sha256 = read_header(file, version).record["sha256"]
            check_evaluation(path, sha256)
        except (DirectionsError, OSError) as fault:
            yield Fault(str(path), str(fault))
