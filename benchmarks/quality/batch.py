"""A batch of samples with what all methods share: inversions, latents, and the pictures that edits are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from editor.images import fit, pad_to_multiple, to_pixels
from editor.inversion import Inversion
from editor.latents import encode_pixels, seeded
from editor.regularize import Regulariser
from editor.schedule import Schedule
from editor.session import Editor
from editor.steps import Conditioning, denoise, predict

#: Classifier-free guidance of every method that has no reason for another: the published edit's.
GUIDANCE_SCALE = 5.0


@dataclass(frozen=True)
class Sample:
    """One picture to edit, and what is known about it.

    key names it in the results. seed draws the autoencoder's sample, the regulariser's rolls, or the noise of a
    synthetic picture, whose `picture` is None. wanted: what a judge must say of the edit. mask `[H, W]` bool is
    where the edit may change the picture, body `[H, W]` bool where the object is, scenery `[H, W, 3]` uint8 the
    picture without the object; None where that is not known.
    """

    key: str
    seed: int
    caption: str
    target_caption: str
    direction: Any
    picture: Image.Image | None = None
    wanted: Mapping[str, str] = field(default_factory=dict)
    mask: np.ndarray | None = None
    body: np.ndarray | None = None
    scenery: np.ndarray | None = None


class Batch:
    """Samples of one size that go through the models together."""

    def __init__(self, editor: Editor, samples: Sequence[Sample], steps: int) -> None:
        self.editor, self.samples, self.steps = editor, tuple(samples), steps
        self.synthetic = samples[0].picture is None
        self.schedule = Schedule.from_config(editor.models.scheduler_config, steps)
        self._inversions: dict[Regulariser, list[Inversion]] = {}

    @property
    def captions(self) -> list[str]:
        return [sample.caption for sample in self.samples]

    @property
    def targets(self) -> list[str]:
        return [sample.target_caption for sample in self.samples]

    def inversions(self, regulariser: Regulariser) -> list[Inversion]:
        """Every sample's inversion, made once for all methods with these settings; synthetic ones are noise."""
        if regulariser not in self._inversions:
            seeds = [sample.seed for sample in self.samples]
            if self.synthetic:
                made = [
                    self.editor.imagine(caption, self.steps, seed)
                    for caption, seed in zip(self.captions, seeds, strict=True)
                ]
            else:
                made = self.editor.invert_all(
                    self.pictures, self.captions, self.steps, seeds, regulariser=regulariser
                )
            self._inversions[regulariser] = made
        return self._inversions[regulariser]

    @cached_property
    def pictures(self) -> list[Image.Image]:
        """The pictures at the model's own size; ValueError for synthetic samples, which have none."""
        size = self.editor.models.native_size
        given = [sample.picture for sample in self.samples]
        if any(picture is None for picture in given):
            raise ValueError("synthetic samples have no picture of their own; use `originals`")
        return [fit(picture, size) for picture in given if picture is not None]

    def noise(self, regulariser: Regulariser) -> torch.Tensor:
        """The inversions' noise, `[B, C, h, w]` float32, on the models' device."""
        return torch.cat([inv.noise for inv in self.inversions(regulariser)]).to(self.editor.device)

    def conditioning(self, prompts: Sequence[str]) -> Conditioning:
        """Prompts with the negative prompt that the pictures have: the caption of a real one, "" else.

        With the caption, the source branch of any method reconstructs the picture as well as without guidance:
        "negative-prompt inversion", Miyake et al. 2023.
        """
        negative = [""] * len(self.samples) if self.synthetic else self.captions
        return Conditioning(self.editor.encode(prompts), self.editor.encode(negative))

    def denoise(self, latents: torch.Tensor, conditioning: Conditioning, scale: float, first: int = 0) -> Any:
        """Latents `[B, C, h, w]` at step `first`'s level to clean ones, without any reference."""
        if scale <= 1:
            conditioning = Conditioning(conditioning.prompt)
        with torch.no_grad():
            evaluate = partial(predict, self.editor.models.unet)
            for i in range(first, self.steps):
                latents = denoise(evaluate, self.schedule, i, latents, conditioning, scale)
        return latents

    @cached_property
    def latents(self) -> torch.Tensor:
        """The source pictures' latents, `[B, C, h, w]` float32: those that every inversion starts from."""
        if self.synthetic:
            return self.denoise(self.noise(Regulariser()), self.conditioning(self.captions), GUIDANCE_SCALE)
        models = self.editor.models
        pixels = pad_to_multiple(to_pixels(self.pictures), models.factor)
        return encode_pixels(models.vae, pixels, [seeded(sample.seed) for sample in self.samples])

    @cached_property
    def originals(self) -> list[Image.Image]:
        """The source pictures as the autoencoder gives them back: the best that an edit can keep."""
        return self.decode(self.latents)

    def decode(self, latents: torch.Tensor) -> list[Image.Image]:
        """Latents as pictures of the samples' own size."""
        size = None if self.synthetic else self.pictures[0].size
        return self.editor.decode(latents, size)
