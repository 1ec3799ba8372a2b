"""Finding the file that a reference means, in the layers of a search path."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

from library.errors import (
    AmbiguousDirection,
    DamagedFile,
    EncoderMismatch,
    UnknownDirection,
    imported_for,
    rebuild_command,
)
from library.fileformat import read_header
from library.layer import Layer, VersionPath
from library.names import Reference, direction_name, parse_reference

__all__ = ["Lookup", "alike"]

Encoders = str | Sequence[str] | None


class Lookup:
    """Answers which file `cat2dog@3` is, given the layers from the uppermost down."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers

    def versions(self, name: str, encoder: Encoders = None, models: str | None = None) -> list[VersionPath]:
        """All versions of a name for the encoders wanted; UnknownDirection or EncoderMismatch if none."""
        reference = parse_reference(name)
        encoders = self._encoders(reference.name)
        if not encoders:
            raise UnknownDirection(self._unknown(reference.name))
        wanted = _wanted(encoder, models)
        if wanted is not None:
            kept = [e for e in encoders if e in wanted]
            if not kept:
                raise EncoderMismatch(self._mismatch(reference.name, encoders, wanted, models))
            encoders = kept
        return [v for e in encoders for v in self._versions(reference.name, e).values()]

    def find(self, text: str, encoder: Encoders = None, models: str | None = None) -> VersionPath:
        """The one version that `text` means; raises UnknownDirection, EncoderMismatch, AmbiguousDirection."""
        reference = parse_reference(text)
        versions = self.versions(reference.name, encoder, models)
        found: dict[str, VersionPath] = {}
        hidden = ""
        for candidate in dict.fromkeys(v.encoder for v in versions):
            numbered = {v.version: v for v in versions if v.encoder == candidate}
            if reference.alias is None:
                meant = numbered.get(reference.version or max(numbered))
            else:
                own = self.aliases(reference.name, candidate).get(reference.alias)
                meant = None if own is None else numbered.get(own.version)
                if own and own != meant and not alike(own, meant):
                    hidden, meant = hidden or self._not_seen(reference, own, meant), None
            if meant:
                found[candidate] = meant
        if not found:
            raise UnknownDirection(hidden or self._no_such_version(reference, versions))
        if len(found) == 1:
            return next(iter(found.values()))
        wanted = _wanted(encoder, models)
        if wanted is not None:  # several were declared equally good: the first one named
            return found[min(found, key=wanted.index)]
        for layer in self.layers:  # none was asked for: the user's own before a shared one
            here = [e for e in layer.encoders(reference.name) if e in found]
            if len(here) == 1:
                return found[here[0]]
            if here:
                break
        raise AmbiguousDirection(
            f"{reference} exists for the encoders {', '.join(sorted(found))}; name one with --encoder"
        )

    def find_or_inverse(
        self, text: str, encoder: Encoders = None, models: str | None = None
    ) -> tuple[VersionPath, bool]:
        """As `find`; where `dog2cat` is unknown, `cat2dog` and True."""
        try:
            return self.find(text, encoder, models), False
        except (
            EncoderMismatch
        ):  # of that name for other encoders alone; the opposite may be there for this one
            for name in self._inverse_names(parse_reference(text)):
                with suppress(EncoderMismatch, UnknownDirection):
                    found = self.find(name, encoder, models)
                    if self._is_inverse(found, parse_reference(text).name):
                        return found, True
            raise
        except UnknownDirection:
            if self._encoders(parse_reference(text).name):  # it lacks that version or alias
                raise
            for name in self._inverse_names(parse_reference(text)):
                found = self.find(name, encoder, models)
                if self._is_inverse(found, parse_reference(text).name):
                    return found, True
            raise

    def encoders_of(self, text: str) -> list[str]:
        """The encoders for which `find_or_inverse` has an answer, damaged or not."""
        reference = parse_reference(text)
        names = [reference.name, *(parse_reference(name).name for name in self._inverse_names(reference))]
        found = []
        for encoder in sorted({encoder for name in names for encoder in self._encoders(name)}):
            with suppress(EncoderMismatch, UnknownDirection):
                with suppress(DamagedFile):
                    self.find_or_inverse(text, encoder)
                found.append(encoder)
        return found

    def _inverse_names(self, reference: Reference) -> list[str]:
        parts = reference.name.split("2")
        swapped = ("2".join(parts[n:]) + "2" + "2".join(parts[:n]) for n in range(1, len(parts)))
        suffix = str(reference)[len(reference.name) :]
        return [name + suffix for name in swapped if self._encoders(name)]

    def _is_inverse(self, found: VersionPath, name: str) -> bool:
        """Whether the file's own concepts, swapped, make `name`: a '2' may also be part of a concept."""
        from library.fileformat import read_header

        with open(found.path, "rb") as file:
            record = read_header(file, found.path).record
        source, target = record.get("source", ""), record.get("target", "")
        return bool(source and target) and direction_name(target, source) == name

    def _encoders(self, name: str) -> list[str]:
        return sorted({encoder for layer in self.layers for encoder in layer.encoders(name)})

    def _versions(self, name: str, encoder: str) -> dict[int, VersionPath]:
        merged: dict[int, VersionPath] = {}
        for layer in reversed(self.layers):
            for number in layer.versions(name, encoder):
                merged[number] = VersionPath(name, encoder, number, layer.path(name, encoder, number))
        return dict(sorted(merged.items()))

    def aliases(self, name: str, encoder: str) -> dict[str, VersionPath]:
        """What the aliases of all layers mean, each in its own layer; an upper one's before a lower one's."""
        merged: dict[str, VersionPath] = {}
        for layer in reversed(self.layers):
            for alias, number in layer.aliases(name, encoder).items():
                merged[alias] = VersionPath(name, encoder, number, layer.path(name, encoder, number))
        return merged

    def _not_seen(self, reference: Reference, meant: VersionPath, upper: VersionPath | None) -> str:
        """What to say of an alias whose version is not there, or hidden by another layer's of that number."""
        folder = meant.path.parents[2]
        place = f"{reference} is version {meant.version} of {folder}"
        if upper is None or not meant.path.exists():
            move = f"directions alias {meant.name}@NUMBER {reference.alias}"
            return f"{place}, which is not there; let it mean another: {move}"
        hides = f"which {upper.ref} of {upper.path.parents[2]} hides"
        return f"{place}, {hides}; name a version by its number, or the library with --library {folder}"

    def _unknown(self, name: str) -> str:
        if any(layer.highest(name, encoder) for layer in self.layers for encoder in layer.leaves(name)):
            return f"every version of {name} in {self.layers[0].folder} was removed"
        known = sorted({known for layer in self.layers for known in layer.names()})
        usable = (close for close in difflib.get_close_matches(name, known, n=9) if self._encoders(close))
        close = list(islice(usable, 3))
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        return (
            f"no direction {name} in {self.layers[0].folder}; {hint}`directions` lists what there is, "
            "`mkdir-direction SOURCE TARGET` makes a new one"
        )

    def _mismatch(self, name: str, encoders: list[str], wanted: list[str], models: str | None) -> str:
        there = ", ".join(encoders)
        if all(self._declared(name, encoder) for encoder in encoders):
            return f"{name} was {imported_for(there, wanted[0])}"
        return (
            f"{name} was made for encoder {there}, not for {wanted[0]}; "
            f"make it for this one with: {rebuild_command(name, models)}"
        )

    def _declared(self, name: str, encoder: str) -> bool:
        """Whether the latest version was imported, so that it holds no captions to be made again from."""
        from library.fileformat import read_header

        versions = self._versions(name, encoder)
        path = versions[max(versions)].path
        with suppress(DamagedFile, OSError), open(path, "rb") as file:
            return bool(read_header(file, path).record.get("declared"))
        return False

    def _no_such_version(self, reference: Reference, versions: list[VersionPath]) -> str:
        numbers = sorted({v.version for v in versions})
        shown = ", ".join(map(str, numbers[-8:]))
        if reference.alias is None:
            removed = any(
                layer.retired_path(v.name, v.encoder, reference.version or 0).exists()
                for layer in self.layers
                for v in versions
            )
            state = "was removed" if removed else "does not exist"
            return f"version {reference.version} of {reference.name} {state}; it has {shown}"
        aliases = sorted({a for v in versions for a in self.aliases(v.name, v.encoder)})
        return f"{reference.name} has no alias {reference.alias!r}; it has {', '.join(aliases) or 'none'}"


def _wanted(encoder: Encoders, models: str | None) -> list[str] | None:
    if encoder is None:
        return None
    wanted = [encoder] if isinstance(encoder, str) else list(encoder)
    return [*wanted, models] if models and models not in wanted else wanted


def alike(one: VersionPath, other: VersionPath | None) -> bool:
    """Whether both files hold the same numbers, as after `directions pull`."""
    digests = []
    for place in (one, other):
        with suppress(OSError, DamagedFile):
            if place is not None:
                with open(place.path, "rb") as file:
                    digests.append(read_header(file, place.path).record.get("sha256"))
    return len(digests) == 2 and digests[0] == digests[1] is not None
