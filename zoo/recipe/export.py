"""Write trained models to the weights folder: float16 safetensors in the layouts that ``from_pretrained`` reads."""

from __future__ import annotations

import json
from pathlib import Path

from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from zoo.concepts import known_concepts
from zoo.recipe.diffusion import make_scheduler

CONCEPTS_FILE = "concepts.json"


def export_diffusion(
    folder: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> None:
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        unet=unet.half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


def export_language(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """The caption model, with the list of concepts that it knows beside it."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / CONCEPTS_FILE).write_text(json.dumps({"concepts": known_concepts()}, indent=1) + "\n")


def export_captioner(folder: Path, model: PreTrainedModel, processor: ProcessorMixin) -> None:
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)


def export_judge(folder: Path, judge: nn.Module) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in judge.state_dict().items()}, folder / "model.safetensors")
