"""From a batch and what a method made of it to the figures of each picture; one class a kind of data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from benchmarks.quality.backbones import CLIP_B32, Backbones
from benchmarks.quality.batch import Batch, Sample
from benchmarks.quality.figures import (
    Figure,
    background_figures,
    masked_source,
    object_mask,
    overlap,
    psnr_of,
    structure_distance,
    unit,
)
from benchmarks.quality.rivals import Outcome
from benchmarks.zoo import as_tensor
from zoo.recipe.judge import Judge

ACCURACY = Figure("accuracy", "accuracy %", 100, 1)
STRUCTURE = Figure("structure", "structure distance ×10³", 1000, 2, higher=False)
MSE = Figure("background_mse", "background MSE ×10⁴", 1e4, 2, higher=False)
BACKGROUND = (
    Figure("background_psnr", "background PSNR dB"),
    Figure("background_ssim", "background SSIM ×10²", 100),
    MSE,
)
RECONSTRUCTION = Figure("reconstruction_psnr", "reconstruction PSNR dB")
CAPTIONED = "captioned"

#: What a measure gives for one picture: figure key → value; a figure that is not defined for it is left out.
Values = dict[str, float]


class Measure(Protocol):
    """Figures of a method's edits, a mapping for each sample of the batch."""

    @property
    def figures(self) -> tuple[Figure, ...]: ...

    #: The trade-off plot's vertical axis, and the horizontal one of each of its rows.
    @property
    def height(self) -> Figure: ...

    @property
    def against(self) -> tuple[Figure, ...]: ...

    def __call__(self, batch: Batch, outcome: Outcome) -> list[Values]: ...

    def identity(self) -> Mapping[str, Any]:
        """What the figures depend on besides the pictures, in JSON's terms."""
        ...


class SceneMeasure:
    """Scenes and synthetic pictures of the embedded models: the judge, and ground truth where there is one."""

    figures = (
        ACCURACY,
        STRUCTURE,
        *BACKGROUND,
        RECONSTRUCTION,
        Figure("overlap", "object overlap IoU", 1, 3),
    )
    height, against = ACCURACY, (STRUCTURE, MSE)

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def identity(self) -> Mapping[str, Any]:
        return {"judge": "zoo"}

    def __call__(self, batch: Batch, outcome: Outcome) -> list[Values]:
        sources = _sources(batch, outcome)
        edits, originals = as_tensor(outcome.images), as_tensor(sources)
        verdicts = self.judge.judge(edits)
        with torch.no_grad():
            features = [self.judge.features(x).flatten(2).transpose(1, 2) for x in (edits, originals)]
        distances = structure_distance(*features).tolist()
        found = []
        for k, sample in enumerate(batch.samples):
            said = verdicts[k]
            right = all(getattr(said, head) == label for head, label in sample.wanted.items())
            values = {"accuracy": float(right), "structure": distances[k], **_captioned(sample)}
            values |= _kept(batch, outcome, sources, k)
            if sample.body is not None and sample.scenery is not None:
                shown = object_mask(np.asarray(outcome.images[k]), sample.scenery)
                values["overlap"] = overlap(sample.body, shown)
            found.append(values)
        return found


class FolderMeasure:
    """Photographs: CLIP's zero-shot accuracy, DINO's structure distance, LPIPS of the background."""

    figures = (
        ACCURACY,
        STRUCTURE,
        *BACKGROUND,
        Figure("background_lpips", "background LPIPS", 1, 3, higher=False),
        RECONSTRUCTION,
    )
    height, against = ACCURACY, (STRUCTURE, MSE)
    clip, lpips = CLIP_B32, "alex"

    def __init__(self, backbones: Backbones) -> None:
        self.backbones = backbones

    def identity(self) -> Mapping[str, Any]:
        return self.backbones.identity()

    def __call__(self, batch: Batch, outcome: Outcome) -> list[Values]:
        sources = _sources(batch, outcome)
        found = []
        for k, (sample, edit) in enumerate(zip(batch.samples, outcome.images, strict=True)):
            values = {**_captioned(sample), **_kept(batch, outcome, sources, k)}
            if self.backbones.clip is not None:
                words = (sample.wanted["source"], sample.wanted["target"])
                values["accuracy"] = self.backbones.clip.accuracy(edit, *words)
            if self.backbones.dino is not None:
                values["structure"] = self.backbones.dino.distance(edit, sources[k])
            if self.backbones.lpips is not None and sample.mask is not None:
                source, mask = np.asarray(sources[k]), at_size(sample.mask, edit.size)
                changed = masked_source(np.asarray(edit), source, mask)
                values["background_lpips"] = self.backbones.lpips.distance(unit(changed), unit(source))
            found.append(values)
        return found


def at_size(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at the size (width, height) of a picture, by the nearest pixel."""
    if mask.shape == size[::-1]:
        return mask
    image = Image.fromarray(mask)
    return np.asarray(image.resize(size, Image.Resampling.NEAREST))


def _sources(batch: Batch, outcome: Outcome) -> list[Image.Image]:
    """What edits are compared with: a real picture as the autoencoder gives it back; of a synthetic one what the
    method itself makes of the unedited prompt, where it makes that."""
    if batch.synthetic and outcome.references is not None:
        return outcome.references
    return batch.originals


def _captioned(sample: Sample) -> Values:
    """Whether the word-swap methods have a word to swap."""
    return {CAPTIONED: float(sample.caption != sample.target_caption)}


def _kept(batch: Batch, outcome: Outcome, sources: Sequence[Image.Image], k: int) -> Values:
    """Background and reconstruction of the k-th picture, where there is a mask, and a reference."""
    sample, edit = batch.samples[k], outcome.images[k]
    values: Values = {}
    if sample.mask is not None:
        mask = at_size(sample.mask, edit.size)
        values |= background_figures(np.asarray(edit), np.asarray(sources[k]), mask)
    if outcome.references is not None and not batch.synthetic:
        again, original = (unit(np.asarray(p)) for p in (outcome.references[k], batch.originals[k]))
        values["reconstruction_psnr"] = psnr_of(float(((again - original) ** 2).mean()))
    return values
