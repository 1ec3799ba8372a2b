"""The other methods of the paper's Table 1, on the same models: SDEdit, DDIM inversion, prompt-to-prompt, the peer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import torch
from PIL import Image

from benchmarks.peer import PEER, pipeline
from benchmarks.quality.batch import GUIDANCE_SCALE, Batch
from benchmarks.quality.prompt_to_prompt import align, prompt_to_prompt
from editor.latents import draw_noise, seeded
from editor.regularize import Regulariser
from editor.session import Editor
from editor.steps import Conditioning

#: Inversion without regularisation.
PLAIN = Regulariser(auto_corr=0, kl=0)
#: Self-attention is replaced for half as long as cross-attention: 0.4 and 0.8 in the published code.
SELF_PART = 0.5


@dataclass(frozen=True)
class Outcome:
    """Edited pictures, and the method's own regeneration of the sources where it makes one."""

    images: list[Image.Image]
    references: list[Image.Image] | None = None


def sdedit(batch: Batch, strength: float) -> Outcome:
    """SDEdit with word swap: noise to a part of the way, then denoise under the target caption.

    Meng et al. 2022, section 3. `strength` is the part of the steps that are taken, in (0, 1].
    """
    first = batch.steps - max(1, round(strength * batch.steps))
    level = batch.schedule.levels[first][0]
    generators = [seeded(sample.seed + 1) for sample in batch.samples]
    noise = draw_noise(batch.latents.shape, generators, batch.latents.device)
    start = level**0.5 * batch.latents + (1 - level) ** 0.5 * noise
    encode = batch.editor.encode
    conditioning = Conditioning(encode(batch.targets), encode([""] * len(batch.samples)))
    return Outcome(batch.decode(batch.denoise(start, conditioning, GUIDANCE_SCALE, first)))


def word_swap(batch: Batch, guidance_scale: float, regulariser: Regulariser = PLAIN) -> Outcome:
    """DDIM inversion under the caption, denoising under the target caption; nothing holds the structure.

    Song et al. 2021 for the inversion; the baseline of Parmar et al. 2023, section 4.
    """
    conditioning = batch.conditioning(batch.targets)
    return Outcome(batch.decode(batch.denoise(batch.noise(regulariser), conditioning, guidance_scale)))


def attention_swap(batch: Batch, part: float) -> Outcome:
    """Prompt-to-prompt after DDIM inversion; `part` is that of the steps in which cross-attention is replaced."""
    edited, sources = prompt_to_prompt(
        batch.editor.models.unet,
        batch.schedule,
        batch.noise(PLAIN),
        batch.conditioning(batch.captions),
        batch.editor.encode(batch.targets),
        align(batch.captions, batch.targets, batch.editor.models.tokenizer),
        GUIDANCE_SCALE,
        cross=part,
        itself=SELF_PART * part,
    )
    return Outcome(batch.decode(edited), batch.decode(sources))


class Peer:
    """The deprecated pipeline of diffusers on a copy of the editor's UNet, one picture at a time.

    Its batches edit the wrong row, so that a batch is a loop here.
    """

    def __init__(self, editor: Editor, guidance: float) -> None:
        self.editor, self.guidance = editor, guidance

    @cached_property
    def pipe(self) -> Any:
        models = self.editor.models
        return pipeline(
            import_module(PEER).StableDiffusionPix2PixZeroPipeline,
            dict(models.scheduler_config),
            vae=models.vae,
            unet=copy.deepcopy(models.unet),
            text_encoder=models.text_encoder,
            tokenizer=models.tokenizer,
        )

    def load(self) -> None:
        """Build the pipeline now."""
        _ = self.pipe

    def __call__(self, batch: Batch, strength: float) -> Outcome:
        """Edits with the direction times `strength`, at the published settings, embeddings given."""
        captions, negatives = (
            batch.editor.encode(prompts).split(1)
            for prompts in (batch.captions, [""] * len(batch.samples) if batch.synthetic else batch.captions)
        )
        images = []
        for k, sample in enumerate(batch.samples):
            direction = torch.as_tensor(sample.direction.tensor)[None].to(captions[k])
            edited = self.pipe(
                prompt_embeds=captions[k],
                negative_prompt_embeds=negatives[k],
                source_embeds=torch.zeros_like(direction),
                target_embeds=strength * direction,
                latents=self._noise(batch, k, captions[k]),
                num_inference_steps=batch.steps,
                guidance_scale=GUIDANCE_SCALE,
                cross_attention_guidance_amount=self.guidance,
            ).images[0]
            images.append(edited if batch.synthetic else edited.crop((0, 0, *batch.pictures[k].size)))
        return Outcome(images)

    def _noise(self, batch: Batch, k: int, caption: torch.Tensor) -> torch.Tensor:
        """The pipeline's own inversion of a picture; a synthetic one's noise is given."""
        if batch.synthetic:
            return batch.noise(Regulariser())[k : k + 1]
        return self.pipe.invert(
            prompt_embeds=caption,
            image=batch.pictures[k],
            num_inference_steps=batch.steps,
            generator=seeded(batch.samples[k].seed),
        ).latents
