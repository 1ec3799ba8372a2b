"""One folder of a library: where versions, aliases and tags lie, and reading them. No search path here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from library.errors import BadName, DamagedFile, StorageError
from library.fileformat import canonical_json
from library.names import check_encoder, check_name
from library.publish import TEMPORARY_PREFIX, make_folder, replace_file, storage_errors

__all__ = ["Layer", "VersionPath", "listdir"]

VERSION_FILE = re.compile(r"v(\d{4}|[1-9]\d{4,8})\.safetensors", re.ASCII)
EVALUATION_FILE = re.compile(r"v(\d{4}|[1-9]\d{4,8})\.evaluation\.json", re.ASCII)
RETIRED_FILE = re.compile(r"v(\d{4}|[1-9]\d{4,8})\.removed", re.ASCII)
GUARD_PATIENCE = 10.0  # seconds that another process may hold a side file before it is taken for dead


@dataclass(frozen=True, order=True)
class VersionPath:
    """Where one version lies."""

    name: str
    encoder: str
    version: int
    path: Path

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Layer:
    """One library folder; `writable` is False for those further down the search path."""

    folder: Path
    writable: bool = True

    def leaf(self, name: str, encoder: str) -> Path:
        """The folder of one name and encoder."""
        return self.folder / name / encoder

    def path(self, name: str, encoder: str, version: int) -> Path:
        return self.leaf(name, encoder) / f"v{version:04d}.safetensors"

    def retired_path(self, name: str, encoder: str, version: int) -> Path:
        """An empty file that keeps the number of a removed version from being used again."""
        return self.leaf(name, encoder) / f"v{version:04d}.removed"

    def evaluation_path(self, name: str, encoder: str, version: int) -> Path:
        """The last measurement of a version, which may lie in another layer."""
        return self.leaf(name, encoder) / f"v{version:04d}.evaluation.json"

    def evaluations(self, name: str, encoder: str) -> list[int]:
        """The versions of which there is a measurement here."""
        return sorted(_numbers(self.leaf(name, encoder), EVALUATION_FILE))

    def names(self) -> list[str]:
        return _folders(self.folder)

    def encoders(self, name: str) -> list[str]:
        """Encoders for which `name` has at least one version here."""
        return [encoder for encoder in self.leaves(name) if self.versions(name, encoder)]

    def leaves(self, name: str) -> list[str]:
        """Encoders for which there is a folder, be it with a measurement alone."""
        return _folders(self.folder / name)

    def versions(self, name: str, encoder: str) -> list[int]:
        return sorted(_numbers(self.leaf(name, encoder), VERSION_FILE))

    def highest(self, name: str, encoder: str) -> int:
        """The highest number ever used, removed versions included; 0 if none."""
        entries = listdir(self.leaf(name, encoder))
        matches = (VERSION_FILE.fullmatch(entry) or RETIRED_FILE.fullmatch(entry) for entry in entries)
        return max((int(match.group(1)) for match in matches if match), default=0)

    def walk(self) -> Iterator[VersionPath]:
        """Every version, by name, encoder and number."""
        for name in self.names():
            for encoder in self.leaves(name):
                for version in self.versions(name, encoder):
                    yield VersionPath(name, encoder, version, self.path(name, encoder, version))

    def temporaries(self) -> list[Path]:
        """What writers that died left behind, and what living ones are writing now."""
        return [
            folder / file
            for folder in self.folders()
            for file in listdir(folder)
            if (file.startswith(TEMPORARY_PREFIX) or (file.startswith(".") and file.endswith(".guard")))
            and (folder / file).is_file()
        ]

    def folders(self) -> list[Path]:
        """The folders that a library has, the innermost first; what is called otherwise or a link is somebody's."""
        names = _inside(self.folder, check_name)
        return [*(leaf for name in names for leaf in _inside(name, check_encoder)), *names, self.folder]

    def aliases(self, name: str, encoder: str) -> dict[str, int]:
        """`{"blessed": 1}`; raises DamagedFile."""
        return _read_mapping(self.leaf(name, encoder) / "aliases.json", int)

    def tags(self, name: str, encoder: str) -> dict[str, list[str]]:
        """Tags changed after saving: `{"3": ["good"]}` replaces version 3's own; raises DamagedFile."""
        return _read_mapping(self.leaf(name, encoder) / "tags.json", list)

    def change_aliases(self, name: str, encoder: str, change: Callable[[dict[str, int]], Any]) -> None:
        self._change(self.leaf(name, encoder) / "aliases.json", int, change)

    def change_tags(self, name: str, encoder: str, change: Callable[[dict[str, list[str]]], Any]) -> None:
        self._change(self.leaf(name, encoder) / "tags.json", list, change)

    def _change(self, path: Path, kind: type, change: Callable[[Any], Any]) -> None:
        with storage_errors("write", path, in_library=True), _guard(path):
            mapping = _read_mapping(path, kind)
            change(mapping)
            if mapping:
                replace_file(path, canonical_json(mapping).encode() + b"\n")
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _guard(path: Path) -> Iterator[None]:
    """One writer at a time for a side file; a guard whose owner died is broken after a while."""
    guard = path.with_name(f".{path.name}.guard")
    make_folder(path.parent)
    deadline = time.monotonic() + 3 * GUARD_PATIENCE
    while True:
        try:
            os.close(os.open(guard, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if _forsaken(guard):
                    with _alone(guard.parent):  # else two would break it, one of them the other's new one
                        if _forsaken(guard):
                            guard.unlink()
            if time.monotonic() > deadline:
                raise StorageError(
                    f"cannot write {path}: {guard} is held by another process; delete it if there is none"
                ) from None
            time.sleep(0.005)
    try:
        yield
    finally:
        guard.unlink(missing_ok=True)


def _forsaken(guard: Path) -> bool:
    # A time to come is that of another clock, and says no more than one long past.
    return abs(time.time() - guard.stat().st_mtime) > GUARD_PATIENCE


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The kernel's lock on a folder, where the platform and its file system have one."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def listdir(folder: Path) -> list[str]:
    """The names in a folder, none where there is none; raises StorageError."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as fault:
        raise StorageError(f"cannot read {folder}: {(fault.strerror or str(fault)).lower()}") from fault


def _inside(folder: Path, check: Callable[[str], str]) -> list[Path]:
    """The folders in a folder whose names obey a rule; no links, which lead elsewhere."""

    def called(name: str) -> bool:
        try:
            return bool(check(name))
        except BadName:
            return False

    return [folder / n for n in _folders(folder) if called(n) and not (folder / n).is_symlink()]


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not e.name.startswith(".") and _is_folder(e))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as fault:
        raise StorageError(f"cannot read {folder}: {(fault.strerror or str(fault)).lower()}") from fault


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it can be looked into; not so a link to where one may not go, or to itself."""
    with contextlib.suppress(OSError):
        return entry.is_dir()
    return False


def _numbers(folder: Path, pattern: re.Pattern[str]) -> list[int]:
    matches = (pattern.fullmatch(entry) for entry in listdir(folder))
    return [number for match in matches if match and (number := int(match.group(1)))]


def _read_mapping(path: Path, kind: type) -> dict[str, Any]:
    try:
        mapping = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as fault:
        raise StorageError(f"cannot read {path}: {(fault.strerror or str(fault)).lower()}") from fault
    except ValueError as fault:
        raise DamagedFile(f"{path} is not JSON: delete it and set its entries again") from fault
    if not isinstance(mapping, dict) or not all(type(value) is kind for value in mapping.values()):
        raise DamagedFile(f"{path} should map names to {kind.__name__}s: delete it and set them again")
    return mapping
