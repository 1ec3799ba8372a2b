"""The work of a job: invert a picture and edit it, as the peer does it and as the editor's own loops do."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.peer import pipeline
from benchmarks.processes import forget_peak, peak, pipeline_class, resident
from benchmarks.speed.job import EMBEDDED, PEER_NAME, Job, Setup, set_up
from benchmarks.speed.stages import Watch, now, watched
from benchmarks.speed.without import undone
from editor.edit import edit
from editor.invert import invert
from editor.latents import decode_latents, encode_pixels, seeded
from editor.presets import PRESETS, preset_settings
from editor.regularize import Regulariser
from editor.request import REGULARISER
from editor.schedule import Schedule
from editor.settings import EditSettings
from editor.steps import Conditioning


def settings_of(preset: str, steps: int) -> tuple[EditSettings, Regulariser]:
    """What a preset says, for a run of so many steps."""
    options = PRESETS[preset]
    regulariser = Regulariser(**{REGULARISER[k]: v for k, v in options.items() if k in REGULARISER})
    return EditSettings(steps=steps, **preset_settings(preset)), regulariser


@dataclass(frozen=True)
class Own:
    """The loops that `Editor` runs, on given embeddings."""

    setup: Setup
    job: Job

    def invert(self) -> Any:
        job, setup = self.job, self.setup
        generators = [seeded(0) for _ in range(job.pictures)]
        pixels = 2 * setup.image.repeat(job.pictures, 1, 1, 1) - 1
        latents = encode_pixels(setup.vae, pixels, generators)
        return invert(
            setup.unet,
            latents,
            Conditioning(setup.caption.repeat(job.pictures, 1, 1)),
            Schedule.from_config(setup.scheduler_config, job.steps).reversed(),
            regulariser=settings_of(job.who, job.steps)[1],
            generator=generators,
            keep_trajectory=settings_of(job.who, job.steps)[0].source_correction,
        )

    def edit(self, inverted: Any) -> torch.Tensor:
        """The latents `[pictures · directions, C, h, w]` of the edits, which are also decoded."""
        job, setup = self.job, self.setup
        caption = setup.caption.repeat(job.pictures, 1, 1)
        strengths = torch.linspace(1, 0.5, job.directions).view(-1, 1, 1).to(caption)
        edited = (setup.caption + strengths * setup.direction).repeat(job.pictures, 1, 1)
        result = edit(
            setup.unet,
            inverted.noise,
            Conditioning(caption, caption),
            edited,
            Schedule.from_config(setup.scheduler_config, job.steps),
            settings_of(job.who, job.steps)[0],
            sources=[k // job.directions for k in range(len(edited))],
            trajectory=inverted.trajectory,
        )
        decode_latents(setup.vae, result.edits)
        return result.edits


@dataclass(frozen=True)
class Peer:
    """The deprecated pipeline of diffusers, told to do what the preset `reference` does: one picture, one edit."""

    setup: Setup
    job: Job
    pipe: Any

    def invert(self) -> torch.Tensor:
        return self.pipe.invert(
            prompt_embeds=self.setup.caption,
            image=self.setup.image,
            num_inference_steps=self.job.steps,
            generator=seeded(0),
        ).latents

    def edit(self, noise: torch.Tensor) -> torch.Tensor:
        settings = settings_of("reference", self.job.steps)[0]
        decoded: list[torch.Tensor] = []
        vae, decode = self.setup.vae, self.setup.vae.decode

        def keep(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            decoded.append(latents.detach() * vae.config.scaling_factor)
            return decode(latents, *args, **kwargs)

        vae.decode = keep
        try:
            self.pipe(
                prompt_embeds=self.setup.caption,
                negative_prompt_embeds=self.setup.caption,
                source_embeds=torch.zeros_like(self.setup.direction),
                target_embeds=self.setup.direction,
                latents=noise,
                num_inference_steps=self.job.steps,
                guidance_scale=settings.guidance_scale,
                cross_attention_guidance_amount=settings.cross_attention_guidance,
                output_type="np",
            )
        finally:
            vae.decode = decode
        return decoded[-1]


def worker(job: Job) -> Own | Peer:
    setup = set_up(job)
    if job.who != PEER_NAME:
        return Own(setup, job)
    kind = pipeline_class(PEER_NAME)
    return Peer(setup, job, pipeline(kind, dict(setup.scheduler_config), vae=setup.vae, unet=setup.unet))


def work(job: Job) -> dict[str, Any]:
    """One of the `rounds`."""
    with closing(rounds(job)) as figures:
        return next(figures)


def rounds(job: Job) -> Generator[dict[str, Any]]:
    """Load everything once, and time it again and again, with what the job undoes undone."""
    with undone(job.without):
        yield from _rounds(job)


def _rounds(job: Job) -> Iterator[dict[str, Any]]:
    torch.set_num_threads(job.threads)
    made = worker(job)
    if (
        job.models == EMBEDDED or job.device != "cpu"
    ):  # else a step costs more than what a first call prepares
        short = type(made)(**{**vars(made), "job": Job(**{**vars(job), "steps": 4})})
        short.edit(short.invert())
    while True:
        yield timed(made)


def timed(made: Own | Peer) -> dict[str, Any]:
    """Seconds of inversion and edit and of their stages, UNet rows, peak bytes above the weights.

    On a GPU the peak is what torch took of its memory, weights included.
    """
    job = made.job
    held = _held(job.device)
    with watched(made.setup.unet, made.setup.vae, made.setup.caption) as watch:
        begin = now()
        with watch.phase(inverting=True):
            inverted = made.invert()
        middle = now()
        with watch.phase(inverting=False):
            latents = made.edit(inverted)
        end = now()
    if job.latents:
        from safetensors.torch import save_file

        save_file({"edit": latents.cpu().contiguous()}, job.latents)
    return {
        "invert": middle - begin,
        "edit": end - middle,
        "peak": _top(job.device) - held,
        **_as_dicts(watch),
    }


def _as_dicts(watch: Watch) -> dict[str, dict[str, float]]:
    return {"stages": dict(watch.seconds), "rows": dict(watch.rows)}


def _held(device: str) -> int:
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return 0
    forget_peak()
    return resident()


def _top(device: str) -> int:
    if device == "cpu":
        return peak()
    most = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()  # others take their turns meanwhile
    return most
