"""How well the directions edit that ship with the package: measured, and kept beside them.

    python -m benchmarks.starter

`directions evaluate` of each that has no measurement yet, in 20 steps, as `docs/quality.md` says. The sheets are kept
in 256 colours, which makes them a quarter of the size.
"""

from __future__ import annotations

import io

from PIL import Image

from editor.evaluate_cli import evaluate
from library import Library
from library.evaluation import evaluation_of, save_evaluation
from library.layer import VersionPath
from library.settings import STARTER

#: Denoising steps of an edit: as many as in the tables of `benchmarks.quality`.
STEPS = 20
COLOURS = 256


def packed(sheet: bytes) -> bytes:
    """A PNG file's picture in `COLOURS` colours."""
    file = io.BytesIO()
    picture = Image.open(io.BytesIO(sheet)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def pack(library: Library, version: VersionPath) -> None:
    """Keep a version's measurement with a smaller sheet."""
    found = evaluation_of(library, version)
    assert found is not None and found.sheet is not None, f"{version.ref} has just been measured"
    save_evaluation(library, version, found.record, packed(found.sheet.read_bytes()))


def main() -> None:
    library = Library(STARTER, ())
    for name in library:
        version = library.find(name)
        if evaluation_of(library, version) is None:
            evaluate.main([name, "--steps", str(STEPS), "--library", str(STARTER)], standalone_mode=False)
            pack(library, version)
    measured = [evaluation_of(library, library.find(name)) for name in library]
    hits = sum(found.success * found.pictures for found in measured if found)
    print(f"{hits:.0f} of {sum(found.pictures for found in measured if found)} edits show their target")


if __name__ == "__main__":
    main()
