"""Regularised DDIM inversion: from a picture's latents to the noise that regenerates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from editor.convolution import small_map_products
from editor.graphs import Replay, Tensors
from editor.guidance import frozen
from editor.regularize import AutoCorrelation, Regulariser, draw_rolls, regularise
from editor.schedule import Schedule
from editor.steps import Conditioning, Estimate, OnStep, alone, denoise, notify


@dataclass(frozen=True)
class Inverted:
    """The noise `[B, C, H, W]` float32 and, where asked for, the way to it.

    `trajectory` is `[steps + 1, B, C, H, W]`: the picture's latents first, the noise last.
    """

    noise: torch.Tensor
    trajectory: torch.Tensor | None = None


@torch.no_grad()
def invert(
    unet: Any,
    x0: torch.Tensor,
    conditioning: Conditioning,
    schedule: Schedule,
    *,
    regulariser: Regulariser | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    guidance_scale: float = 1.0,
    keep_trajectory: bool = False,
    on_step: OnStep | None = None,
    unet_kwargs: Mapping[str, Any] | None = None,
) -> Inverted:
    """Walk `x0` `[B, C, H, W]` (scaled latents) up the inversion schedule to noise.

    `schedule` is `Schedule.from_config(config, steps).reversed()`. After each evaluation of the UNet the
    predicted noise is pulled towards white Gaussian noise (`regulariser`, None for the published
    settings). `generator` draws the rolls: one for the batch, drawing picture by picture as the published
    code does, or one for each picture, and then a batch equals single runs; None is seed 0.
    Parmar et al. 2023, section 3.2, and Mokady et al. 2022 for the inversion itself.
    """
    if x0.ndim != 4:
        raise ValueError(
            f"the latents have shape {tuple(x0.shape)}; expected [batch, channels, height, width]"
        )
    if conditioning.prompt.shape[0] != x0.shape[0]:
        raise ValueError(
            f"{conditioning.prompt.shape[0]} prompts for {x0.shape[0]} pictures; expected one each"
        )
    settings = Regulariser() if regulariser is None else regulariser
    latents = x0.float()
    correlation = (
        AutoCorrelation(latents.shape[2], latents.shape[3], latents.device) if settings.rounds else None
    )
    rolls = None
    if correlation is not None:
        rolls = _rolls(generator, len(schedule), settings, correlation, latents)

    def refine(estimate: Estimate, sample: torch.Tensor, i: int) -> torch.Tensor:
        if not settings.active:
            return estimate.combined
        a, b = schedule.noise_map(i)
        noise = a * estimate.combined + b * sample
        shifts = () if rolls is None else (rolls[i],)
        regular = partial(_regular, settings, correlation, abs(a))
        noise = replay(("regulariser", abs(a)), regular, noise, *shifts)["noise"]
        return (noise - b * sample) / a

    conditioning = conditioning.collapse() if guidance_scale > 1 else Conditioning(conditioning.prompt)
    path = [latents]
    with alone(unet), frozen(unet), small_map_products(unet):
        replay = Replay(unet, unet_kwargs)
        for i, timestep in enumerate(schedule.timesteps):
            latents = denoise(
                partial(replay.predict, "inversion"),
                schedule,
                i,
                latents,
                conditioning,
                guidance_scale,
                refine=refine,
            )
            latents = notify(on_step, "invert", i, timestep, latents)
            if keep_trajectory:
                path.append(latents)
    return Inverted(latents, torch.stack(path) if keep_trajectory else None)


def _regular(
    settings: Regulariser,
    correlation: AutoCorrelation | None,
    stretch: float,
    noise: torch.Tensor,
    rolls: torch.Tensor | None = None,
) -> Tensors:
    return {"noise": regularise(noise, rolls, settings, correlation, stretch)}


def _rolls(
    generator: torch.Generator | Sequence[torch.Generator] | None,
    steps: int,
    settings: Regulariser,
    correlation: AutoCorrelation,
    latents: torch.Tensor,
) -> torch.Tensor:
    """The rolls of a whole inversion, `[steps, rounds, B, C, levels]`: drawn and moved to the device once."""
    images, channels = latents.shape[:2]
    rounds = steps * settings.rounds
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    if isinstance(generator, torch.Generator):
        drawn = draw_rolls(generator, rounds, channels, correlation.sizes, images)
    elif len(generator) != images:
        raise ValueError(f"{len(generator)} generators for {images} pictures; expected one each")
    else:
        drawn = torch.cat([draw_rolls(g, rounds, channels, correlation.sizes) for g in generator], dim=1)
    return drawn.unflatten(0, (steps, settings.rounds)).to(latents.device)
