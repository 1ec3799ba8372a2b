"""The deprecated pipeline of diffusers as a live oracle, and ours beside it, on the same tiny weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from editor import StableDiffusionPix2PixZeroPipeline

from .conftest import GOLDEN

PEER = "diffusers.pipelines.deprecated.stable_diffusion_variants.pipeline_stable_diffusion_pix2pix_zero"


def ours(**components: Any) -> StableDiffusionPix2PixZeroPipeline:
    pipe = StableDiffusionPix2PixZeroPipeline.from_pretrained(
        GOLDEN / "tiny_sd", dtype=torch.float32, requires_safety_checker=False, **components
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(pipe: StableDiffusionPix2PixZeroPipeline) -> Any:
    """The deprecated class on copies of our components; skips where diffusers has dropped it."""
    module = pytest.importorskip(PEER, reason="this diffusers no longer has the deprecated pipeline")
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    peer = module.StableDiffusionPix2PixZeroPipeline(
        vae=pipe.vae,
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
        unet=copy.deepcopy(pipe.unet),
        scheduler=scheduler,
        feature_extractor=None,
        safety_checker=None,
        inverse_scheduler=DDIMInverseScheduler.from_config(scheduler.config),
        caption_generator=None,
        caption_processor=None,
        requires_safety_checker=False,
    )
    peer.set_progress_bar_config(disable=True)
    return peer


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
