"""One thing to time in a process of its own, and what it is given: models, embeddings, a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.processes import (
    FULL,
    QUICK,
    SCHEDULER,
    in_own_process,
    random_models,
    smooth_picture,
    standing,
)

if TYPE_CHECKING:
    import torch

PEER_NAME = "peer"
EMBEDDED, SD, TINY = "embedded", "sd", "tiny"
CONFIGS = {SD: FULL, TINY: QUICK}


@dataclass(frozen=True)
class Job:
    """An inversion and edits of it.

    who: the peer, or a preset's name. models: the embedded ones, or Stable Diffusion 1.4's architecture or a tiny
    one with random weights. size in pixels, of square pictures. half: float16 weights. without: an
    optimisation that is undone, see `benchmarks.speed.without`. latents: a file that the edits' latents are written to.
    """

    who: str
    models: str = EMBEDDED
    size: int = 64
    steps: int = 50
    directions: int = 1
    pictures: int = 1
    threads: int = 1
    device: str = "cpu"
    half: bool = False
    without: str | None = None
    latents: str | None = None

    def run(self) -> dict[str, Any]:
        """The figures of `benchmarks.speed.work.work`, from a process of its own."""
        return in_own_process("benchmarks.speed", ["--worker", json.dumps(asdict(self))], self.threads)

    def standing(self) -> AbstractContextManager[Callable[[], dict[str, Any]]]:
        """`run`, time and again in one process, which has loaded and prepared everything for the first time."""
        return standing(
            "benchmarks.speed", ["--worker", json.dumps(asdict(self)), "--standing"], self.threads
        )


@dataclass(frozen=True)
class Setup:
    """Everything loaded that a job needs; embeddings `[1, tokens, dim]` float32, the picture in [0, 1]."""

    unet: Any
    vae: Any
    scheduler_config: Any
    caption: torch.Tensor
    direction: torch.Tensor
    image: torch.Tensor

    @property
    def factor(self) -> int:
        from editor.models import latent_factor

        return latent_factor(self.vae)


def set_up(job: Job) -> Setup:
    """Load or build the models, and make the inputs, the same for whoever edits."""
    import torch
    from diffusers import DDIMScheduler

    if job.models == EMBEDDED:
        from editor.models import load_models
        from zoo.text import encode_text

        models = load_models(EMBEDDED, job.device, torch.float16 if job.half else torch.float32)
        words = encode_text(
            ["a cat on the grass", "a dog on the grass"], models.tokenizer, models.text_encoder
        )
        caption, target = words.float().split(1)
        unet, vae, scheduler_config = models.unet, models.vae, models.scheduler_config
    else:
        from editor.models import placed

        config, place = CONFIGS[job.models], torch.device(job.device)
        unet, vae = random_models(config, job.device)
        if job.half:
            unet, vae = placed(unet.half(), place), vae.half()
        shape = (1, config["tokens"], config["unet"]["cross_attention_dim"])
        caption, target = (torch.randn(shape, generator=torch.Generator().manual_seed(k)) for k in range(2))
        caption, target = caption.to(job.device), target.to(job.device)
        scheduler_config = DDIMScheduler.from_config(SCHEDULER).config
    image = smooth_picture(job.size).to(job.device)
    return Setup(unet, vae, scheduler_config, caption, target - caption, image)
