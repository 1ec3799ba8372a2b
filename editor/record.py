"""Output files: a picture that carries the record of how it was made, and the same record beside it as JSON."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from editor.errors import EditorError, PictureError
from editor.settings import plain

#: The PNG text chunk that holds the record.
RECORD_KEY = "edit-record"
#: Bytes of a file's name in that of its temporary file, which may be no longer than the system allows either.
_NAMED = 100


def versions() -> dict[str, str]:
    """The versions of this tool and of the libraries whose arithmetic the picture depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("edit-directions", "torch", "diffusers", "transformers", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def save_picture(image: Image.Image, path: Path, record: Mapping[str, Any], force: bool = False) -> None:
    """Write ``path`` with ``record`` inside (PNG), and the record as .json beside it; each whole or not at all.

    Raises EditorError where the file exists and ``force`` is not set, or where the disk refuses.
    """
    image_format, beside = picture_format(path), path.with_suffix(".json")
    for file in (path, beside):
        check_free(file, force)
    info = PngInfo()
    info.add_itxt(RECORD_KEY, record_text(record))
    options = {"pnginfo": info} if image_format == "PNG" else {}

    def write(file: Any) -> None:
        image.save(file, image_format, **options)
        file.flush()
        beside.unlink(missing_ok=True)  # the new picture must never lie beside the old record

    write_whole(path, write)
    save_record(path, record)


def save_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``record`` as the .json beside ``path``, whole or not at all."""
    text = record_text(record) + "\n"
    write_whole(path.with_suffix(".json"), lambda f: f.write(text.encode()))


def record_text(record: Mapping[str, Any]) -> str:
    """A record as it stands in files; all escaped where a file's name is no UTF-8."""
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, default=_number)
    return text if _is_utf8(text) else json.dumps(record, indent=2, sort_keys=True, default=_number)


def _number(value: Any) -> Any:
    """A number of numpy's or torch's; TypeError for anything else that JSON has no form for."""
    number = plain(value)
    if number is value:
        raise TypeError(f"a record cannot hold {value!r}")
    return number


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def picture_format(path: Path) -> str:
    """What the file's ending stands for, such as "PNG"; EditorError where it is no picture format."""
    image_format = Image.registered_extensions().get(path.suffix.lower())
    if image_format is None or not _can_write(image_format):
        what = "is not a picture format" if image_format is None else "cannot be written"
        raise EditorError(f"{path}: {path.suffix or 'no ending'} {what}; use .png")
    return image_format


@cache
def _can_write(image_format: str) -> bool:
    """Whether pictures in colour can be written so: some formats can only be read, some hold no colours."""
    try:
        Image.new("RGB", (8, 8)).save(io.BytesIO(), image_format)
    except Exception:  # each plugin has its own way to refuse
        return False
    return True


def check_free(path: Path, force: bool) -> None:
    """Raise EditorError where ``path`` exists already and may not be replaced, or cannot be written at all."""
    if os.path.exists(path) and not force:  # unlike Path.exists, False where the name is too long
        raise EditorError(f"{path} exists; use --force to replace it, or -o to write elsewhere")
    folder = next(above for above in path.absolute().parents if os.path.exists(above))
    try:
        with suppress(FileNotFoundError):
            path.lstat()  # refuses a name that is too long
        with tempfile.TemporaryFile(dir=folder):
            pass
    except NotADirectoryError as error:
        raise EditorError(f"cannot write {path}: {folder} is a file, not a folder") from error
    except OSError as error:
        raise EditorError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def write_whole(path: Path, write: Any) -> None:
    """Write a file beside its place and move it there, so that a reader sees all of it or none."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{os.fsencode(path.name)[:_NAMED].decode(errors='ignore')}."
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=prefix, delete=False) as file:
            temporary = file.name
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise EditorError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def file_facts(path: str) -> dict[str, str]:
    """What finds a file again and tells whether it changed: `path` (absolute), `given`, `sha256`."""
    return {"path": str(Path(path).absolute()), "given": path, "sha256": file_sha256(path)}


def picture_origin(picture: Any) -> Mapping[str, str | None]:
    """`file_facts` of a path, or of the file that a PIL image shows as it is; all None for what has no file."""
    if isinstance(picture, (str, os.PathLike)):
        return file_facts(os.fspath(picture))
    name = getattr(picture, "filename", None)
    if name and os.path.isfile(name):
        from editor.images import read_picture

        shown, kept = read_picture(picture), read_picture(name)
        if (shown.size, shown.tobytes()) == (kept.size, kept.tobytes()):
            return file_facts(os.fspath(name))
    return {"path": None, "given": None, "sha256": None}


def file_sha256(path: str | Path) -> str:
    """Of the file's bytes, in hexadecimal; raises PictureError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PictureError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def read_record(path: str | Path) -> dict[str, Any]:
    """The record that a picture made here carries, or that lies in its .json, which `path` may name itself.

    Raises PictureError where there is none.
    """
    path = Path(path)
    beside = path.with_suffix(".json")
    try:
        text = path.read_text(encoding="utf-8") if path == beside else _embedded(path, beside)
        if text is None and beside.is_file():
            text = beside.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        hint = f"its record is {beside}" if beside.is_file() else "expected a picture written by edit-image"
        raise PictureError(f"{path}: no such file; {hint}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise PictureError(f"{path} cannot be read: {error}") from error
    if text is None:
        raise PictureError(f"{path} carries no record; expected a picture written by edit-image")
    try:
        record = json.loads(text)
    except ValueError as error:
        raise PictureError(f"the record of {path} is damaged: {error}") from error
    if not isinstance(record, dict):
        raise PictureError(f"the record of {path} is damaged: it is no JSON object")
    return record


def _embedded(path: Path, beside: Path) -> str | None:
    """The text of the PNG's record; None where it has none, or `path` cannot be read and one lies beside it."""
    try:
        with Image.open(path) as image:
            image.load()  # the text may come after the pixels
            return getattr(image, "text", {}).get(RECORD_KEY)
    except OSError:  # a format that is only written, or read with the help of another program
        if path.is_file() and beside.is_file() and path.suffix.lower() != ".png":
            return None
        raise
