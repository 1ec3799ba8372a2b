"""The deprecated pipeline of diffusers as a live oracle, and ours beside it, on the same tiny weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from benchmarks.peer import PEER, pipeline
from editor import StableDiffusionPix2PixZeroPipeline

from .conftest import GOLDEN


def ours(**components: Any) -> StableDiffusionPix2PixZeroPipeline:
    pipe = StableDiffusionPix2PixZeroPipeline.from_pretrained(
        GOLDEN / "tiny_sd", dtype=torch.float32, requires_safety_checker=False, **components
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(pipe: StableDiffusionPix2PixZeroPipeline) -> Any:
    """The deprecated class on copies of our components; skips where diffusers has dropped it."""
    module = pytest.importorskip(PEER, reason="this diffusers no longer has the deprecated pipeline")
    return pipeline(
        module.StableDiffusionPix2PixZeroPipeline,
        pipe.scheduler.config,
        vae=pipe.vae,
        unet=copy.deepcopy(pipe.unet),
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
    )


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
