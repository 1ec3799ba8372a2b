"""What is edited: four translations of held-out scenes, the same of synthetic pictures, or a folder of photographs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.quality.batch import Sample
from benchmarks.zoo import held_out
from editor.images import mask_picture, read_picture
from editor.samples import pictures_in
from editor.session import Editor
from zoo.concepts import ACCESSORIES, BACKGROUNDS
from zoo.recipe.scenes import Scene, draw_background, draw_scene
from zoo.recipe.translations import Translation

#: Tasks take their held-out scenes from places this far apart, so that no two share a picture.
APART = 1000
MASKS = "masks"


@dataclass(frozen=True)
class Task:
    """Pictures to edit in one way: their keys, and how to load some of them by their numbers."""

    name: str
    keys: tuple[str, ...]
    load: Callable[[Sequence[int]], list[Sample]]


_HAT = f"cat {ACCESSORIES['hat']}"
TRANSLATIONS: tuple[Translation, ...] = (
    Translation("cat", "dog", {"object": "cat", "accessory": None}, {"object": "dog"}),
    Translation("horse", "zebra", {"object": "horse", "accessory": None}, {"object": "zebra"}),
    Translation("cat", _HAT, {"object": "cat", "accessory": None}, {"accessory": "hat"}),
    Translation(
        "flat drawing", "3d render", {"style": "flat drawing", "accessory": None}, {"style": "3d render"}
    ),
)
CAT_TO_DOG = TRANSLATIONS[0].name


@cache
def found_direction(source: str, target: str, models: str) -> Any:
    """The direction as `discover` makes it with the set's own models; never by hand."""
    from directions import discover

    return discover(source, target, models=models, seed=0)


def swapped(caption: str, source: str, target: str) -> str:
    """The caption with the source's words replaced; as it is where it does not have them."""
    return re.sub(rf"\b{re.escape(source)}\b", lambda _: target, caption, flags=re.IGNORECASE)


def scene_tasks(editor: Editor, count: int) -> list[Task]:
    """The four translations, each of `count` held-out scenes."""
    return _tasks(editor, count, _scene_samples)


def synthetic_tasks(editor: Editor, count: int) -> list[Task]:
    """The four translations of pictures that the model makes itself from prompts, seeds as the scenes'."""
    return _tasks(editor, count, _prompted_samples)


def _tasks(editor: Editor, count: int, samples: Callable[..., list[Sample]]) -> list[Task]:
    tasks = []
    for place, translation in enumerate(TRANSLATIONS):
        scenes = held_out(count, place * APART, **translation.fixed)
        keys = tuple(str(scene.seed) for scene in scenes)
        tasks.append(Task(translation.name, keys, partial(samples, editor, translation, scenes)))
    return tasks


def _scene_samples(
    editor: Editor, translation: Translation, scenes: Sequence[Scene], numbers: Sequence[int]
) -> list[Sample]:
    """Drawn scenes with their ground truth, captioned."""
    direction = found_direction(translation.source, translation.target, editor.models.name)
    samples = []
    for scene in (scenes[n] for n in numbers):
        pixels, body = draw_scene(scene)
        picture = Image.fromarray(pixels)
        caption = editor.caption(picture)
        samples.append(
            Sample(
                key=str(scene.seed),
                seed=scene.seed,
                caption=caption,
                target_caption=swapped(caption, translation.source, translation.target),
                direction=direction,
                picture=picture,
                wanted=translation.wanted(scene),
                mask=translation.free(scene),
                body=body,
                scenery=np.asarray(draw_background(scene).reduce(2)),
            )
        )
    return samples


def _prompted_samples(
    editor: Editor, translation: Translation, scenes: Sequence[Scene], numbers: Sequence[int]
) -> list[Sample]:
    """Prompts that name what the scenes show; the picture itself is the model's."""
    direction = found_direction(translation.source, translation.target, editor.models.name)
    samples = []
    for scene in (scenes[n] for n in numbers):
        prompt = f"a {scene.style} of a {scene.object} {BACKGROUNDS[scene.background]}"
        samples.append(
            Sample(
                key=str(scene.seed),
                seed=scene.seed,
                caption=prompt,
                target_caption=swapped(prompt, translation.source, translation.target),
                direction=direction,
                wanted=translation.wanted(scene),
            )
        )
    return samples


def folder_task(editor: Editor, folder: Path, source: str, target: str, count: int) -> Task:
    """The first `count` pictures of a folder by name; FOLDER/masks/NAME.png is white where a picture may change.

    Of each the middle square is taken, in picture and mask, at the models' own size.
    Raises EditorError where the folder has no picture.
    """
    files = pictures_in(folder)[:count]
    digests = [content_digest(file, _mask_file(file)) for file in files]
    keys = tuple(f"{file.name}-{digest}" for file, digest in zip(files, digests, strict=True))
    load = partial(_folder_samples, editor, files, keys, digests, source, target)
    return Task(f"{source} → {target}", keys, load)


def content_digest(*files: Path) -> str:
    """Eight hexadecimal digits over the bytes of those of the files that there are."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"none")
    return digest.hexdigest()[:8]


def _folder_samples(
    editor: Editor,
    files: Sequence[Path],
    keys: Sequence[str],
    digests: Sequence[str],
    source: str,
    target: str,
    numbers: Sequence[int],
) -> list[Sample]:
    direction = found_direction(source, target, editor.models.name)
    size = (editor.models.native_size, editor.models.native_size)
    samples = []
    for n in numbers:
        picture = ImageOps.fit(read_picture(files[n]), size, Image.Resampling.LANCZOS)
        caption = editor.caption(picture)
        mask = _folder_mask(files[n], size)
        samples.append(
            Sample(
                key=keys[n],
                seed=int(digests[n], 16),
                caption=caption,
                target_caption=swapped(caption, source, target),
                direction=direction,
                picture=picture,
                wanted={"source": source, "target": target},
                mask=mask,
            )
        )
    return samples


def _mask_file(file: Path) -> Path:
    return file.parent / MASKS / f"{file.stem}.png"


def _folder_mask(file: Path, size: tuple[int, int]) -> np.ndarray | None:
    """The mask of a picture, cut as the picture is; None where there is none."""
    path = _mask_file(file)
    if not path.is_file():
        return None
    return np.asarray(ImageOps.fit(mask_picture(path), size, Image.Resampling.NEAREST)) > 127
