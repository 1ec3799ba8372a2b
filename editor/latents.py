"""Pictures to latents and back, and noise: everything random is drawn here from explicit generators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from editor.request import check_seed

Generators = torch.Generator | Sequence[torch.Generator] | None


def seeded(seed: int) -> torch.Generator:
    """A generator of its own on the CPU, so that a seed means the same on every device.

    Raises EditorError for what is no seed.
    """
    check_seed(seed)
    return torch.Generator().manual_seed(seed)


def draw_noise(
    shape: tuple[int, ...] | torch.Size, generator: Generators, device: torch.device | str
) -> torch.Tensor:
    """Standard normal numbers, float32, drawn where the generator lives and moved to `device`.

    One generator draws for the whole batch; a sequence has one for each row. None is seed 0: nothing is
    ever taken from the global generator, and the same call gives the same numbers.
    """
    if generator is None:
        generator = seeded(0)
    if isinstance(generator, torch.Generator):
        return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32).to(
            device
        )
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for a batch of {shape[0]}; expected one each")
    rows = [
        torch.randn((1, *shape[1:]), generator=g, device=g.device, dtype=torch.float32).to(device)
        for g in generator
    ]
    return torch.cat(rows)


@torch.no_grad()
def encode_pixels(
    vae: Any,
    pixels: torch.Tensor,
    generator: Generators = None,
    sample: bool = True,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Pixels `[B, 3, H, W]` in [-1, 1] to scaled latents `[B, C, h, w]` float32.

    `sample` draws from the autoencoder's posterior, as published; otherwise its mean is taken. `device` is
    where an offloaded autoencoder will run; None is where it is.
    """
    posterior = vae.encode(pixels.to(device or vae.device, vae.dtype)).latent_dist
    latents = posterior.mean.float()
    if sample:
        latents = latents + posterior.std.float() * draw_noise(latents.shape, generator, latents.device)
    return vae.config.scaling_factor * latents


@torch.no_grad()
def decode_latents(vae: Any, latents: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """Scaled latents `[B, C, h, w]` to pixels `[B, 3, H, W]` float32 about [-1, 1], one at a time."""
    scaled = (latents / vae.config.scaling_factor).to(device or vae.device, vae.dtype)
    # A batch would only multiply the peak memory: decoding fills the processor with one picture.
    return torch.cat([vae.decode(row[None]).sample.float() for row in scaled])
