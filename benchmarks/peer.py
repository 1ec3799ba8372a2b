"""The deprecated pipeline of diffusers, the peer of every comparison, and how it and ours are put together."""

from __future__ import annotations

from typing import Any

#: Where diffusers keeps it.
PEER = "diffusers.pipelines.deprecated.stable_diffusion_variants.pipeline_stable_diffusion_pix2pix_zero"


def pipeline(
    kind: Any, scheduler_config: Any, *, vae: Any, unet: Any, text_encoder: Any = None, tokenizer: Any = None
) -> Any:
    """A pipeline of class `kind`, the peer's or ours, with DDIM both ways, and silent; it captions nothing."""
    from diffusers import DDIMInverseScheduler, DDIMScheduler

    scheduler = DDIMScheduler.from_config(scheduler_config)
    made = kind(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        feature_extractor=None,
        safety_checker=None,
        inverse_scheduler=DDIMInverseScheduler.from_config(scheduler.config),
        caption_generator=None,
        caption_processor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made
