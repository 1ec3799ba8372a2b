"""Train the embedded autoencoder: 64×64 pictures to 16×16×4 latents and back."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from zoo.recipe.data import to_float, training_pictures
from zoo.recipe.training import train

KL_WEIGHT = 2e-4
OBJECT_WEIGHT = 1.0  # a pixel of the object counts twice: stripes and whiskers decide what it is


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
        force_upcast=False,
    )


def train_vae(work: Path, steps: int, pictures: int, batch: int = 32, muon_lr: float = 0.02) -> AutoencoderKL:
    """Train on ``pictures`` scenes; returns the autoencoder with its measured ``scaling_factor``."""
    data, masks = training_pictures(work, pictures)
    torch.manual_seed(0)
    vae = make_vae()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data), (batch,), generator=generator)
        x = to_float(data[rows])
        posterior = vae.encode(x).latent_dist
        decoded = vae.decode(posterior.sample(generator=generator)).sample
        error = (decoded - x).square() * (1 + OBJECT_WEIGHT * masks[rows])
        return error.mean() + KL_WEIGHT * posterior.kl().mean() / (4 * 16 * 16)

    train([vae], loss, steps=steps, checkpoint=work / "vae.pt", muon_lr=muon_lr, ema=0.995, label="vae")
    vae.register_to_config(scaling_factor=round(1 / latent_deviation(vae, data[:1024]), 5))
    return vae


@torch.no_grad()
def latent_deviation(vae: AutoencoderKL, pictures: Tensor) -> float:
    """Standard deviation of the unscaled latents over ``[n, 3, 64, 64] uint8`` pictures."""
    means = [vae.encode(to_float(p)).latent_dist.mean for p in pictures.split(64)]
    return torch.cat(means).std().item()
