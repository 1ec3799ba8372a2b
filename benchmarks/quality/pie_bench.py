"""PIE-Bench: its published layout, and the seven columns of its paper.

Ju et al., "PnP Inversion: Boosting Diffusion-based Editing with 3 Lines of Code" (ICLR 2024). A folder has
`mapping_file.json` (key → image_path, original_prompt, editing_prompt, blended_word, editing_instruction,
editing_type_id "0" to "9", mask) and the pictures under `annotation_images`. Figures are computed as its
published evaluation does, so that they can stand beside published ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.quality.backbones import CLIP_L14, Backbones
from benchmarks.quality.batch import Batch, Sample
from benchmarks.quality.figures import Figure, psnr_of, ssim_map, unit
from benchmarks.quality.measures import STRUCTURE, Values, at_size
from benchmarks.quality.rivals import Outcome
from benchmarks.quality.tasks import Task, content_digest
from editor.errors import EditorError
from editor.images import read_picture
from editor.session import Editor

MAPPING, PICTURES = "mapping_file.json", "annotation_images"
#: The side in pixels of the pictures and their masks.
SIDE = 512
TYPES = tuple(str(number) for number in range(10))
ERROR = Figure("mse", "MSE ×10⁴", 1e4, 2, higher=False)
WHOLE = Figure("clip_whole", "CLIP similarity, whole")
FIELDS = ("image_path", "original_prompt", "editing_prompt", "editing_type_id", "mask")


@dataclass(frozen=True)
class Entry:
    """One edit of the benchmark: prompts without brackets, and the mask `[512, 512]` bool of what may change."""

    key: str
    picture: Path
    original_prompt: str
    editing_prompt: str
    editing_type: str
    blended_word: str
    instruction: str
    mask: np.ndarray


@dataclass(frozen=True)
class PromptDifference:
    """The direction between two sentences, as the benchmark's authors give it to pix2pix-zero."""

    name: str
    tensor: np.ndarray
    encoder: str


def read_entries(folder: Path) -> list[Entry]:
    """All entries in the file's order. Raises EditorError, naming the key, for what is not of this layout."""
    path = folder / MAPPING
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EditorError(f"{path} cannot be read as PIE-Bench's mapping file: {error}") from error
    if not isinstance(given, dict) or not given:
        raise EditorError(f"{path} has no entries; expected an object of key → entry")
    return [_entry(folder, str(key), item) for key, item in given.items()]


def _entry(folder: Path, key: str, item: Any) -> Entry:
    missing = [name for name in FIELDS if not isinstance(item, dict) or name not in item]
    if missing:
        raise EditorError(f"entry {key} of {folder / MAPPING} has no {', '.join(missing)}")
    if str(item["editing_type_id"]) not in TYPES:
        raise EditorError(f"entry {key} has editing_type_id {item['editing_type_id']!r}; expected 0 to 9")
    return Entry(
        key=key,
        picture=folder / PICTURES / item["image_path"],
        original_prompt=without_brackets(item["original_prompt"]),
        editing_prompt=without_brackets(item["editing_prompt"]),
        editing_type=str(item["editing_type_id"]),
        blended_word=item.get("blended_word", ""),
        instruction=item.get("editing_instruction", ""),
        mask=decode_mask(item["mask"], key),
    )


def without_brackets(prompt: str) -> str:
    """A prompt without the brackets that mark what differs: "a [cat] on grass" is "a cat on grass"."""
    return prompt.replace("[", "").replace("]", "")


def decode_mask(runs: Sequence[int], key: str = "") -> np.ndarray:
    """`[start, length, start, length, …]` over the rows of a 512×512 picture to `[512, 512]` bool.

    The outermost pixels are set too, as the published evaluation does against errors at the border.
    """
    if len(runs) % 2 or any(not isinstance(n, int) or n < 0 for n in runs):
        raise EditorError(
            f"the mask of entry {key} is no list of start, length, start, length, … in whole numbers"
        )
    flat = np.zeros(SIDE * SIDE, dtype=bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        flat[start : start + length] = True
    mask = flat.reshape(SIDE, SIDE)
    mask[[0, -1], :] = mask[:, [0, -1]] = True
    return mask


def pie_task(editor: Editor, folder: Path, count: int | None = None) -> Task:
    """The benchmark, or its first `count` entries, as one task."""
    entries = read_entries(folder)[:count]
    keys = tuple(f"{entry.key}-{_digest(entry)}" for entry in entries)
    return Task("PIE-Bench", keys, partial(_samples, editor, entries, keys))


def _digest(entry: Entry) -> str:
    told = [entry.original_prompt, entry.editing_prompt, content_digest(entry.picture)]
    digest = hashlib.sha256(json.dumps(told).encode())
    digest.update(np.packbits(entry.mask).tobytes())
    return digest.hexdigest()[:8]


def _samples(
    editor: Editor, entries: Sequence[Entry], keys: Sequence[str], numbers: Sequence[int]
) -> list[Sample]:
    """The benchmark's own prompt is the caption, and the direction is the difference of the two prompts'."""
    samples = []
    for n in numbers:
        entry = entries[n]
        before, after = editor.encode([entry.original_prompt, entry.editing_prompt]).cpu()
        direction = PromptDifference(entry.key, (after - before).numpy(), editor.models.encoder_id)
        samples.append(
            Sample(
                key=keys[n],
                seed=n,
                caption=entry.original_prompt,
                target_caption=entry.editing_prompt,
                direction=direction,
                picture=read_picture(entry.picture),
                mask=entry.mask,
            )
        )
    return samples


class PieMeasure:
    """The seven published columns, as `evaluation/matrics_calculator.py` of cure-lab/PnPInversion computes them.

    Pixels inside the mask are black on both sides and count as equal; the whole picture is the denominator.
    """

    figures = (
        STRUCTURE,
        Figure("psnr", "PSNR dB"),
        Figure("lpips", "LPIPS ×10³", 1000, 2, higher=False),
        ERROR,
        Figure("ssim", "SSIM ×10²", 100),
        WHOLE,
        Figure("clip_edited", "CLIP similarity, edited"),
    )
    height, against = WHOLE, (STRUCTURE, ERROR)
    clip, lpips = CLIP_L14, "squeeze"

    def __init__(self, backbones: Backbones) -> None:
        self.backbones = backbones

    def identity(self) -> Mapping[str, Any]:
        return self.backbones.identity()

    def __call__(self, batch: Batch, outcome: Outcome) -> list[Values]:
        return [
            self._values(sample, source, edit)
            for sample, source, edit in zip(batch.samples, batch.pictures, outcome.images, strict=True)
        ]

    def _values(self, sample: Sample, picture: Any, edit: Any) -> Values:
        if sample.mask is None:
            raise ValueError(f"{sample.key} has no mask")
        mask = at_size(sample.mask, edit.size)[..., None]
        source, edited = unit(np.asarray(picture)), unit(np.asarray(edit))
        values: Values = {}
        if not mask.all():
            a, b = edited * ~mask, source * ~mask
            error = float(((a - b) ** 2).mean())
            values = {"psnr": psnr_of(error), "mse": error, "ssim": float(ssim_map(a, b).mean())}
            if self.backbones.lpips is not None:
                values["lpips"] = self.backbones.lpips.distance(a, b)
        if self.backbones.dino is not None:
            # The published evaluation normalises pixels of 0 to 255 as if they were of 0 to 1.
            values["structure"] = self.backbones.dino.distance(edit, picture, brightest=255.0)
        if self.backbones.clip is not None:
            part = Image.fromarray(np.asarray(edit) * mask.astype(np.uint8))
            values["clip_whole"] = self.backbones.clip.similarity(edit, sample.target_caption)
            values["clip_edited"] = self.backbones.clip.similarity(part, sample.target_caption)
        return values
