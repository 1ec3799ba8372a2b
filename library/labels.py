"""What may change about a version after it was saved: its aliases and tags, in files beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from library.errors import StorageError, UnknownDirection
from library.layer import Layer, VersionPath
from library.names import check_alias
from library.records import check_tag

if TYPE_CHECKING:
    from library.store import Library

__all__ = ["change_tags", "drop_alias", "own_layer", "set_alias", "tags_of"]


def own_layer(library: Library, version: VersionPath, action: str) -> Layer:
    """The writable layer, if the version lies in it; StorageError says how to get an own copy."""
    own = library.layers[0]
    if own.path(version.name, version.encoder, version.version) != version.path:
        if action == "remove":
            raise StorageError(
                f"cannot remove {version.ref}: it lies in a read-only library, {version.path.parents[2]}; only "
                f"versions in {own.folder} can be removed"
            )
        raise StorageError(
            f"cannot {action} {version.ref}: it lies in a read-only library, {version.path.parents[2]}; "
            f"make a copy of your own first: directions compose {version.ref} --name {version.name}"
        )
    return own


def set_alias(library: Library, reference: str, alias: str, encoder: str | None = None) -> VersionPath:
    """Let `NAME@alias` mean the version that `reference` means now; it may move an alias."""
    check_alias(alias)
    version = library.find(reference, encoder)
    layer = own_layer(library, version, "alias")
    layer.change_aliases(version.name, version.encoder, lambda known: known.update({alias: version.version}))
    return version


def drop_alias(library: Library, name: str, alias: str, encoder: str | None = None) -> VersionPath:
    """Forget an alias; UnknownDirection if there is none such, StorageError for one of a read-only library."""
    version = library.find(f"{name}@{alias}", encoder)
    own, folder = library.layers[0], version.path.parents[2]
    if alias not in own.aliases(version.name, version.encoder):
        raise StorageError(
            f"cannot forget {name}@{alias}: it lies in a read-only library, {folder}; use --library {folder}"
        )
    own.change_aliases(version.name, version.encoder, lambda known: known.pop(alias, None))
    return version


def tags_of(library: Library, version: VersionPath) -> list[str]:
    """The tags of a version as they are now; raises DamagedFile."""
    return _tags(library, Layer(version.path.parents[2]), version)


def change_tags(
    library: Library,
    reference: str,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
    encoder: str | None = None,
) -> list[str]:
    """Add and remove tags of one version; returns its tags. Removing one it lacks is UnknownDirection."""
    version = library.find(reference, encoder)
    layer = own_layer(library, version, "tag")
    added, removed = {check_tag(tag) for tag in add}, set(remove)
    after: list[str] = []

    def change(known: dict[str, list[str]]) -> None:
        nonlocal after
        before = set(known.get(str(version.version), library.header(version).record.get("tags", [])))
        if missing := removed - before:
            has = ", ".join(sorted(before)) or "none"
            raise UnknownDirection(f"{version.ref} has no tag {', '.join(sorted(missing))}; it has {has}")
        after = sorted((before | added) - removed)
        known[str(version.version)] = after

    layer.change_tags(version.name, version.encoder, change)
    return after


def _tags(library: Library, layer: Layer, version: VersionPath) -> list[str]:
    changed = layer.tags(version.name, version.encoder).get(str(version.version))
    return changed if changed is not None else list(library.header(version).record.get("tags", []))
