"""The pictures that a direction is measured on: held-out scenes, a user's folder, or prompts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from editor.errors import EditorError
from editor.images import read_picture

if TYPE_CHECKING:
    from library.direction import Direction
    from zoo.recipe.translations import Translation

#: Scenes from this many seeds after the first held-out one on: neither benchmarks nor tests tune anything on them.
FIRST_SCENE = 100_000
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Sample:
    """One picture to edit; None: it is made from its caption. caption: None asks the captioner.

    wanted: what a judge must say of the edit. free `[H, W]` bool: where the edit may change the picture, None
    where that is not known. seed: of all that is drawn for it.
    """

    seed: int
    picture: Image.Image | None = None
    caption: str | None = None
    wanted: Mapping[str, str] = field(default_factory=dict)
    free: np.ndarray | None = None


def scene_samples(translation: Translation, count: int, first: int = 0) -> list[Sample]:
    """Held-out scenes of the embedded world with their ground truth; `first` is the number of the first one."""
    from zoo.recipe.scenes import draw_scene

    return [
        Sample(
            seed=scene.seed,
            picture=Image.fromarray(draw_scene(scene)[0]),
            wanted=translation.wanted(scene),
            free=translation.free(scene),
        )
        for scene in translation.scenes(count, FIRST_SCENE + first)
    ]


def folder_samples(folder: Path, count: int, side: int, wanted: Mapping[str, str], seed: int) -> list[Sample]:
    """The first `count` pictures of a folder by name, of each the middle square at `side` pixels.

    Raises EditorError where the folder has none.
    """
    size = (side, side)
    return [
        Sample(seed + k, ImageOps.fit(read_picture(file), size, Image.Resampling.LANCZOS), wanted=wanted)
        for k, file in enumerate(pictures_in(folder)[:count])
    ]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder by name; EditorError where there is none."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    # What begins with a dot is not for people: macOS leaves `._a.png` beside `a.png` on other file systems.
    files = [p for p in found if p.suffix.lower() in PICTURES and p.is_file() and not p.name.startswith(".")]
    if not files:
        raise EditorError(f"{folder} has no pictures; expected a folder of {', '.join(PICTURES)} files")
    return files


def prompt_samples(direction: Direction, count: int, wanted: Mapping[str, str], seed: int) -> list[Sample]:
    """Pictures made from the direction's own source captions, drawn at random by `seed`, from noise of other seeds.

    Raises EditorError for a direction without captions.
    """
    captions: Any = (direction.record.get("captions") or {}).get("source") or []
    if not captions:
        raise EditorError(
            f"{direction.ref} has no captions to make pictures from; give pictures: --images FOLDER"
        )
    drawn = random.Random(seed)
    return [Sample(seed + k, caption=drawn.choice(captions), wanted=wanted) for k in range(count)]
