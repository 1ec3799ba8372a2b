"""Output files: a picture that carries the record of how it was made, and the same record beside it as JSON."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from editor.errors import EditorError, PictureError

#: The PNG text chunk that holds the record.
RECORD_KEY = "edit-record"


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
    check_free(path, force)
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False)
    info = PngInfo()
    info.add_itxt(RECORD_KEY, text)
    image_format = Image.registered_extensions().get(path.suffix.lower())
    if image_format is None:
        raise EditorError(f"{path}: {path.suffix or 'no ending'} is not a picture format; use .png")
    options = {"pnginfo": info} if image_format == "PNG" else {}
    write_whole(path, lambda f: image.save(f, image_format, **options))
    write_whole(path.with_suffix(".json"), lambda f: f.write((text + "\n").encode()))


def check_free(path: Path, force: bool) -> None:
    """Raise EditorError where ``path`` exists already and may not be replaced."""
    if path.exists() and not force:
        raise EditorError(f"{path} exists; use --force to replace it, or -o to write elsewhere")


def write_whole(path: Path, write: Any) -> None:
    """Write a file beside its place and move it there, so that a reader sees all of it or none."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
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


def read_record(path: str | Path) -> dict[str, Any]:
    """The record that a picture made here carries; raises PictureError where there is none."""
    try:
        with Image.open(path) as image:
            text = getattr(image, "text", {}).get(RECORD_KEY)
    except OSError as error:
        raise PictureError(f"{path} cannot be read as a picture: {error}") from error
    if text is None:
        raise PictureError(f"{path} carries no record; expected a PNG written by edit-image")
    return json.loads(text)
