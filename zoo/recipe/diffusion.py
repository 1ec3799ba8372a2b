"""Train the embedded denoiser and its text encoder together on the autoencoder's latents."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from zoo.recipe.captions import caption
from zoo.recipe.data import to_float, training_pictures
from zoo.recipe.scenes import sample_scene
from zoo.recipe.text import TOKENS, make_clip_tokenizer, make_text_encoder
from zoo.recipe.training import train

DROPPED_CAPTIONS = 0.1  # the share of captions replaced by "", for classifier-free guidance
MIN_SNR_GAMMA = 5.0  # Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy"


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule and step offset."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled posterior mean and deviation of ``[n, 3, 64, 64] uint8`` pictures: each ``[n, 4, 16, 16]``."""
    means, deviations = [], []
    for part in pictures.split(64):
        posterior = vae.encode(to_float(part)).latent_dist
        means.append(posterior.mean * vae.config.scaling_factor)
        deviations.append(posterior.std * vae.config.scaling_factor)
    return torch.cat(means), torch.cat(deviations)


def train_diffusion(
    work: Path, vae: AutoencoderKL, steps: int, pictures: int, batch: int = 32
) -> tuple[UNet2DConditionModel, CLIPTextModel, CLIPTokenizer]:
    data, _ = training_pictures(work, pictures)
    stored = work / "latents.pt"
    if not stored.exists():
        torch.save(encode_pictures(vae, data), stored)
    means, deviations = torch.load(stored, weights_only=True)
    # Equally frequent pairs of letters may come out in another order next time: a resumed run takes what it had.
    folder = work / "tokenizer"
    if not folder.exists():
        make_clip_tokenizer().save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    torch.manual_seed(2)
    unet, text_encoder = make_unet(), make_text_encoder(tokenizer)
    alphas = make_scheduler().alphas_cumprod

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rng = random.Random(f"diffusion {step}")
        rows = torch.randint(len(means), (batch,), generator=generator)
        x0 = means[rows] + deviations[rows] * torch.randn(means[rows].shape, generator=generator)
        texts = ["" if rng.random() < DROPPED_CAPTIONS else caption(sample_scene(int(r)), rng) for r in rows]
        ids = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        # one timestep from every stretch of the schedule: the same distribution, less noise in the loss
        t = ((torch.arange(batch) + torch.rand(batch, generator=generator)) * 1000 / batch).long()
        a = alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn(x0.shape, generator=generator)
        predicted = unet(a.sqrt() * x0 + (1 - a).sqrt() * noise, t, text_encoder(ids.input_ids)[0]).sample
        snr = a / (1 - a)
        return ((predicted - noise).square() * (MIN_SNR_GAMMA / snr).clamp(max=1.0)).mean()

    train([unet, text_encoder], loss, steps=steps, checkpoint=work / "diffusion.pt", label="diffusion")
    return unet, text_encoder, tokenizer
