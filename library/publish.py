"""Publishing files without locks: a temporary file, fsync, then a link that fails if the name is taken."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from library.errors import StorageError

__all__ = ["TEMPORARY_PREFIX", "check_folder_writable", "publish_next", "replace_file", "storage_errors"]

TEMPORARY_PREFIX = ".new-"
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
MOST_TRIES = 10_000

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this system allows",
    errno.EROFS: "it is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EEXIST: "a file is where a folder should be",
}
#: What helps where it is the library that cannot be written.
ADVICE = {
    errno.ENOSPC: "free some space (`directions gc`, `directions rm`) or use --library DIR",
    errno.EDQUOT: "free some space or use --library DIR",
    errno.EROFS: "name a writable folder with --library DIR or DIRECTIONS_LIBRARY",
    errno.EACCES: "name a writable folder with --library DIR or DIRECTIONS_LIBRARY",
    errno.EPERM: "name a writable folder with --library DIR or DIRECTIONS_LIBRARY",
    errno.ENOTDIR: "name another folder with --library DIR",
    errno.EEXIST: "name another folder with --library DIR",
}


@contextlib.contextmanager
def storage_errors(action: str, path: str | os.PathLike[str], in_library: bool = False) -> Iterator[None]:
    """Turn an OSError into one StorageError line: what was tried, where, and, of a library, what to do."""
    try:
        yield
    except StorageError:
        raise
    except OSError as fault:
        number = fault.errno or 0
        reason = REASONS.get(number, (fault.strerror or str(fault)).lower())
        if in_library and number in ADVICE:
            reason += f": {ADVICE[number]}"
        raise StorageError(f"cannot {action} {path}: {reason}") from fault


def publish_next(
    folder: Path,
    taken: Callable[[], int],
    content: Callable[[int], bytes],
    path_of: Callable[[int], Path],
    retired: Callable[[int], bool],
) -> int:
    """Publish `content(n)` as `path_of(n)` for the first n above `taken()` that nobody else takes.

    `retired(n)` says that number n was used and removed, so that a number never means two things.
    """
    for _ in range(MOST_TRIES):
        make_folder(folder)
        number = taken() + 1
        try:
            with _temporary(folder, content(number)) as temporary:
                if not _link(temporary, path_of(number)):
                    continue
            if retired(number):  # someone took this number and removed it since we looked
                path_of(number).unlink(missing_ok=True)
                continue
        except FileNotFoundError:  # the folder was cleaned away under us
            continue
        sync_folder(folder)
        return number
    raise StorageError(f"cannot publish in {folder}: {MOST_TRIES} numbers in a row were taken by others")


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` whole or not at all, over what was there."""
    make_folder(path.parent)
    with _temporary(path.parent, content) as temporary:
        os.replace(temporary, path)
    sync_folder(path.parent)


@contextlib.contextmanager
def _temporary(folder: Path, content: bytes) -> Iterator[Path]:
    temporary = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> bool:
    """Give `temporary` its final name; False if the name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as fault:
        if fault.errno not in NO_LINKS:
            raise
        # No hard links here (FAT, some network mounts): reserve the name, then move onto it.
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            return False
        os.replace(temporary, path)
    return True


def check_folder_writable(folder: Path, in_library: bool = False) -> None:
    """Raise StorageError where no file can be made in a folder."""
    with storage_errors("write to", folder, in_library), tempfile.TemporaryFile(dir=folder):
        pass


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each one safe on disk."""
    if folder.is_dir():
        return
    missing = [folder, *(parent for parent in folder.parents if not parent.exists())]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries survive a power cut; systems that cannot sync a folder are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
