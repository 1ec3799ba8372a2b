"""How much memory an edit will take, from the models' configurations alone: nothing is loaded or computed.

The editor's own loops run for a step or two on the meta device, and what they would hold is counted
(`editor.footprint`), so that the prediction follows whatever the loops come to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from editor.models import (
    CAPTION_YOURSELF,
    WITHOUT_CHECKER,
    Models,
    check_kind,
    load_by,
    names_safety_checker,
    or_else,
    resolved,
)
from editor.regularize import Regulariser
from editor.settings import EditSettings
from zoo.loading import one_at_a_time

if TYPE_CHECKING:
    import torch

MEBIBYTE = 2**20
#: What a processor's heap grows to over what is alive in it: it keeps gaps between what was freed. Measured on
#: the embedded models and on Stable Diffusion 1.4's with glibc 2.36: 1.4 to 1.6 with guidance. Of a GPU torch takes
#: more than is alive, for the blocks of recorded steps (`editor.graphs`) and what its kernels keep: 1.9 times at
#: Stable Diffusion 1.4's, 512 pixels.
HEAP = {"cpu": 1.5, "cuda": 1.9}
#: Code that kernels generate and buffers that they keep, bytes.
KERNELS = 16 * MEBIBYTE


@dataclass(frozen=True)
class Work:
    """What is to be held at once: `edits` of `pictures` at `size` (width, height) in pixels.

    real: pictures are inverted, not made from a prompt. own_negative: the negative prompt is the caption, so
    that the reference pass has one row a picture. steps: of the trajectory.
    """

    size: tuple[int, int]
    pictures: int = 1
    edits: int = 1
    steps: int = 50
    real: bool = True
    own_negative: bool = True


@dataclass(frozen=True)
class Forecast:
    """Bytes of each model's weights, and the most that each phase of the work holds besides."""

    weights: Mapping[str, int]
    phases: Mapping[str, int]

    @property
    def working(self) -> int:
        return max(self.phases.values())

    @property
    def peak(self) -> int:
        return sum(self.weights.values()) + self.working


@one_at_a_time
def outline(models: Any = None, dtype: torch.dtype | None = None) -> Models:
    """`load_models` without weights or tokenizer: the modules lie on the meta device, made from configurations.

    Raises ModelsUnavailable with the ways out.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    chosen = resolved(models)
    location, revision = str(chosen.diffusion), getattr(chosen, "revision", None)
    scheduler_config = check_kind(location, revision)

    def config(loader: Callable[..., Any], folder: str) -> Any:
        return load_by(loader, folder, location, subfolder=folder, revision=revision)

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config(UNet2DConditionModel.load_config, "unet"))
        vae = AutoencoderKL.from_config(config(AutoencoderKL.load_config, "vae"))
        text_encoder = CLIPTextModel(config(CLIPTextConfig.from_pretrained, "text_encoder"))
    return Models(
        name=getattr(chosen, "name", location),
        unet=(unet if dtype is None else unet.to(dtype)).eval(),
        vae=(vae if dtype is None else vae.to(dtype)).eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=None,
        scheduler_config=scheduler_config,
        captioner=getattr(chosen, "captioner", None),
        revision=revision,
        defaults=dict(getattr(chosen, "defaults", None) or {}),
        regulariser=dict(getattr(chosen, "regulariser", None) or {}),
    )


def extra_weights(models: Any = None, *, captioner: bool, safety: bool) -> dict[str, int]:
    """Bytes of what is loaded beside the diffusion model: its captioner, its safety checker where it has one."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import BlipConfig, BlipForConditionalGeneration, CLIPConfig

    chosen, found = resolved(models), {}
    location, revision = str(chosen.diffusion), getattr(chosen, "revision", None)
    with torch.device("meta"):
        if captioner and chosen.captioner:
            with or_else(CAPTION_YOURSELF):
                config = load_by(BlipConfig.from_pretrained, "captioner", chosen.captioner)
            found["captioner"] = size_of(BlipForConditionalGeneration(config))
        if safety and names_safety_checker(location, revision):
            folder = {"subfolder": "safety_checker", "revision": revision}
            with or_else(WITHOUT_CHECKER):
                config = load_by(CLIPConfig.from_pretrained, "safety checker", location, **folder)
            found["safety checker"] = size_of(StableDiffusionSafetyChecker(config))
    return found


def predict(models: Models, settings: EditSettings, work: Work, device: str = "cpu") -> Forecast:
    """What the work will hold on a device of this type, with loaded models or with their `outline`."""
    import torch

    from editor.edit import edit
    from editor.footprint import footprint
    from editor.invert import invert
    from editor.latents import decode_latents, encode_pixels
    from editor.schedule import Schedule
    from editor.steps import Conditioning

    unet, vae = _bare(models.unet), _bare(models.vae)
    known = [tensor for module in (unet, vae) for tensor in (*module.parameters(), *module.buffers())]
    steps = min(2, work.steps)  # what is only known in the first step saves memory in no other
    schedule = Schedule.from_config(models.scheduler_config, steps)
    width, height = (-(-side // models.factor) for side in work.size)
    text = models.text_encoder.config
    guided = sum(i < settings.guidance_until * work.steps for i in range(steps))
    chosen = replace(settings, steps=steps, keep_background=0.0, guidance_until=guided / steps)

    def latents(count: int) -> torch.Tensor:
        return torch.empty(count, unet.config.in_channels, height, width, device="meta")

    def embeds(count: int) -> torch.Tensor:
        return torch.empty(count, text.max_position_embeddings, text.hidden_size, device="meta")

    def encoded() -> object:
        pixels = torch.empty(work.pictures, 3, height * models.factor, width * models.factor, device="meta")
        return encode_pixels(vae, pixels)

    def inverted() -> object:
        prompt, bare = Conditioning(embeds(work.pictures)), Regulariser(steps=0)
        return invert(unet, latents(work.pictures), prompt, schedule.reversed(), regulariser=bare)

    def edited() -> object:
        prompt = embeds(work.pictures)
        trajectory = None
        if settings.source_correction:
            trajectory = torch.stack([latents(work.pictures)] * (steps + 1))
        return edit(
            unet,
            latents(work.pictures),
            Conditioning(prompt, embeds(work.pictures)),
            embeds(work.edits),
            schedule,
            chosen,
            sources=[k * work.pictures // work.edits for k in range(work.edits)],
            trajectory=trajectory,
        )

    def decoded() -> object:
        return decode_latents(vae, latents(work.pictures + work.edits))

    phases = {"encode": encoded, "invert": inverted} if work.real else {}
    phases |= {"edit": edited, "decode": decoded}
    # Inversions keep theirs on the way, stacked, and once more on the device when they are edited.
    trajectory = 2 * (work.steps + 1) * latents(work.pictures).nbytes if work.real else 0
    held = {}
    with footprint(known, equal=work.own_negative) as counted:
        for name, phase in phases.items():
            counted.peak = counted.live
            phase()
            held[name] = round(HEAP.get(device, 1.0) * counted.peak) + trajectory + KERNELS
    parts = {"unet": models.unet, "vae": models.vae, "text encoder": models.text_encoder}
    return Forecast({name: size_of(module) for name, module in parts.items()}, held)


def size_of(module: Any) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _bare(module: Any) -> Any:
    """The module itself where it is on the meta device, else one of its configuration there."""
    import torch

    if module.device.type == "meta":
        return module
    with torch.device("meta"):
        made = type(module).from_config(module.config).eval()
    return made if made.dtype == module.dtype else made.to(module.dtype)
