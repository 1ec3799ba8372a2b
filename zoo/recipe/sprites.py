"""Render the sprites that the scenes are composed of from three openly licensed emoji sets.

The rendered PNGs ship in ``zoo/recipe/sprites`` (licences in NOTICE), so that scenes can be made
without npm; :func:`render_sprites` makes them again from the npm packages.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from PIL import Image

SPRITE_FOLDER = Path(__file__).parent / "sprites"
SPRITE_SIZE = 128

#: Style → npm package of the sprite set that shows it.
PACKAGES = {
    "flat drawing": "@iconify-json/fluent-emoji-flat@1.2.6",
    "3d render": "@iconify-json/fluent-emoji@1.2.7",
    "cartoon": "@iconify-json/noto@1.2.9",
}

#: Concept → icon name, the same in all three sets.
ICONS = {
    "cat": "cat-face", "dog": "dog-face", "horse": "horse", "zebra": "zebra", "tiger": "tiger-face",
    "rabbit": "rabbit-face", "cow": "cow-face", "pig": "pig-face", "sheep": "ewe", "elephant": "elephant",
    "fox": "fox", "lion": "lion", "wolf": "wolf", "bear": "bear", "panda": "panda", "koala": "koala",
    "hat": "top-hat", "glasses": "glasses",
}  # fmt: skip


@cache
def sprite(concept: str, style: str) -> Image.Image:
    """The sprite of ``concept`` in ``style``: RGBA, 128×128, shared (do not draw on it)."""
    return Image.open(SPRITE_FOLDER / style.replace(" ", "-") / f"{concept}.png").convert("RGBA")


def render_sprites(folder: Path = SPRITE_FOLDER) -> int:
    """Fetch the three sprite sets with ``npm pack`` and render every icon; returns how many were written.

    Needs ``npm`` on the path and the ``recipe`` extra (resvg-py).
    """
    import resvg_py

    written = 0
    for style, package in PACKAGES.items():
        icons = _icon_set(package)
        target = folder / style.replace(" ", "-")
        target.mkdir(parents=True, exist_ok=True)
        for concept, name in ICONS.items():
            icon = icons["icons"][name]
            width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
            svg = (
                '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="0 0 {width} {height}" width="{SPRITE_SIZE}" height="{SPRITE_SIZE}">{icon["body"]}</svg>'
            )
            png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
            Image.open(io.BytesIO(bytes(png))).convert("RGBA").save(target / f"{concept}.png", optimize=True)
            written += 1
    return written


def _icon_set(package: str) -> dict:
    with tempfile.TemporaryDirectory() as work:
        packed = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=work, check=True, capture_output=True, text=True
        )
        with tarfile.open(Path(work) / packed.stdout.split()[-1]) as archive:
            member = archive.extractfile("package/icons.json")
            if member is None:
                raise FileNotFoundError(f"{package} holds no package/icons.json")
            return json.load(member)
