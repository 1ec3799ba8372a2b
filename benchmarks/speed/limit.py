"""The least time that an edit can take: the floating-point work that its method needs, over the matrix rate.

FLOPs are counted, two for a multiplication with its addition, on models that have a shape and no numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.processes import in_own_process
from benchmarks.speed.job import CONFIGS, EMBEDDED
from benchmarks.speed.stages import BACKWARD, GUIDED, INVERSION, REFERENCE, SECOND, now
from editor.attention import AttentionMaps, cross_attention
from editor.guidance import frozen
from editor.models import latent_factor
from editor.settings import EditSettings
from editor.steps import predict


@dataclass(frozen=True)
class Costs:
    """FLOPs of one row of the UNet, of its gradient to the input alone, of one encoding and one decoding."""

    forward: float
    backward: float
    encode: float
    decode: float


def rows_needed(settings: EditSettings, edits: int = 1) -> dict[str, int]:
    """Rows of each stage that an inversion and `edits` of it need; `backward` counts those of the gradient.

    The negative prompt is the caption, so that the reference has one half. Where the reference is evaluated in
    the first step, the negative half of each edit there is what it has seen: its estimate is known and its
    gradient is zero.
    """
    steps = settings.steps
    guided = sum(settings.guides(i) for i in range(steps))
    seen = [_needs_reference(settings, i) for i in range(steps)]
    known = 1 if seen[0] else 0
    gradients = edits * (2 * guided - (known if guided else 0))
    second = edits * (2 * steps - known)
    if settings.reuse_forward:
        second -= gradients
    return {INVERSION: steps, REFERENCE: sum(seen), GUIDED: gradients, BACKWARD: gradients, SECOND: second}


def _needs_reference(settings: EditSettings, i: int) -> bool:
    """Whether step i needs the reference's maps or estimate, or has to make its next sample.

    The implicit mask compares estimates in the first half of the steps.
    """
    if not settings.source_correction or settings.guides(i):
        return True
    compared = settings.keep_background > 0 and i < max(1, settings.steps // 2)
    return compared and not settings.noise_correction


def flops(settings: EditSettings, costs: Costs) -> float:
    """What one inversion and edit of one picture cost at least, decoding included."""
    rows = rows_needed(settings)
    forwards = sum(count for stage, count in rows.items() if stage != BACKWARD)
    return forwards * costs.forward + rows[BACKWARD] * costs.backward + costs.encode + costs.decode


@cache
def costs_of(models: str, size: int, attention_resolution: int | None) -> Costs:
    """Counted for one picture of `size` pixels; the gradient is that of maps up to the resolution."""
    unet, vae, tokens = _shapes(models)
    side = size // latent_factor(vae)
    with torch.device("meta"), torch.no_grad():
        sample = torch.zeros(1, unet.config.in_channels, side, side)
        words = torch.zeros(1, tokens, unet.config.cross_attention_dim)
        pixels = torch.zeros(1, 3, size, size)
        limit = None if attention_resolution is None else attention_resolution**2
        with frozen(unet), cross_attention(unet, max_positions=limit) as control:
            maps: dict[str, torch.Tensor] = {}
            with FlopCounterMode(display=False) as forward, control.record(maps):
                predict(unet, sample, 0.0, words)
            with torch.enable_grad(), control.compare(AttentionMaps(maps), [0]) as distances:
                leaf = sample.clone().requires_grad_(True)
                with FlopCounterMode(display=False) as both:
                    predict(unet, leaf * 1, 0.0, words)  # the counter cannot watch a leaf itself
                    torch.autograd.grad(torch.stack(distances).sum(), leaf)
        with FlopCounterMode(display=False) as encode:
            vae.encode(pixels)
        with FlopCounterMode(display=False) as decode:
            vae.decode(sample)
    one, two = forward.get_total_flops(), both.get_total_flops()
    return Costs(one, two - one, encode.get_total_flops(), decode.get_total_flops())


def _shapes(models: str) -> tuple[Any, Any, int]:
    """UNet and VAE without numbers, and the number of tokens."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        if models != EMBEDDED:
            config = CONFIGS[models]
            unet = UNet2DConditionModel(**config["unet"]).eval()
            return unet, AutoencoderKL(latent_channels=4, **config["vae"]).eval(), config["tokens"]
        from zoo.registry import WEIGHTS

        folder = WEIGHTS / "diffusion"
        parts = [
            kind.from_config(kind.load_config(folder / name)).eval()
            for kind, name in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"))
        ]
        tokenizer = json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text())
        return parts[0], parts[1], int(tokenizer["model_max_length"])


def matrix_rate(threads: int, device: str = "cpu", repeats: int = 20) -> float:
    """FLOPs a second of a matrix product or a 3×3 convolution, whichever is faster, in this process.

    float32 on a processor, float16 on a GPU, as the edits. The best of `repeats`: it stands for what the
    machine can do.
    """
    torch.set_num_threads(threads)
    on = {"device": device, "dtype": torch.float32 if device == "cpu" else torch.float16}
    side, batch = (1024, 1) if device == "cpu" else (8192, 64)
    a, b = (torch.randn(side, side, **on) for _ in range(2))
    image, kernel = torch.randn(batch, 320, 32, 32, **on), torch.randn(320, 320, 3, 3, **on)
    calls = (
        (lambda: a @ b, 2 * side**3),
        (lambda: torch.nn.functional.conv2d(image, kernel, padding=1), 2 * 9 * batch * (320 * 32) ** 2),
    )
    rates = []
    with torch.inference_mode():
        for call, work in calls:
            call()
            for _ in range(repeats):
                begin = now()
                call()
                rates.append(work / (now() - begin))
    return max(rates)


def measured_rate(threads: int, device: str = "cpu") -> float:
    """`matrix_rate` in a process of its own, as everything that it is compared with."""
    return float(in_own_process("benchmarks.speed", ["--rate", device, "--threads", str(threads)], threads))
