"""The one place of the editor that loads models: a diffusers folder or hub id to a frozen record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editor.errors import EditorError, ModelsUnavailable
from zoo.loading import device_refusal, load_from, one_at_a_time, whole

if TYPE_CHECKING:
    import torch

#: What a diffusers folder of a text-to-image model has at its top.
MODEL_INDEX = "model_index.json"
#: The side of Stable Diffusion's latents, for a model that does not say what it was trained on.
USUAL_SIZE = 64


@dataclass(frozen=True)
class Models:
    """A Stable Diffusion model, loaded: everything that the editor's loops take as arguments.

    `captioner` is where the image captioner is loaded from when a caption is first asked for; `defaults`
    are the edit settings that suit this model where they differ from the editor's own, `regulariser` the
    same for inversions.
    """

    name: str
    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler_config: Mapping[str, Any]
    captioner: str | None = None
    revision: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    regulariser: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def factor(self) -> int:
        """Pixels of a picture for one of its latents, along each side."""
        return latent_factor(self.vae)

    @property
    def native_size(self) -> int:
        """The side in pixels of the pictures that the UNet was trained on."""
        return min(native_latents(self.unet, self.vae)) * self.factor

    @property
    def names(self) -> tuple[str, ...]:
        """What foreign directions are declared to be for: the name, and every set that is loaded from there."""
        from zoo.registry import MODEL_SETS

        return (self.name, *(known.name for known in MODEL_SETS.values() if known.diffusion == self.name))

    @cached_property
    def encoder_id(self) -> str:
        """The identity of the text encoder and its tokenizer, as directions carry it."""
        from zoo.fingerprint import encoder_id

        return encoder_id(self.text_encoder, self.tokenizer)


def native_latents(unet: Any, vae: Any) -> tuple[int, int]:
    """Rows and columns of the latents that the UNet was trained on.

    It does not need to say: then they are those of the autoencoder's pictures, or Stable Diffusion's.
    """
    size = unet.config.sample_size
    if size is None:
        pixels = getattr(getattr(vae, "config", None), "sample_size", None)
        rows, columns = _both(pixels or 0)
        size = (rows // latent_factor(vae), columns // latent_factor(vae)) if pixels else USUAL_SIZE
    return _both(size)


def _both(size: int | Sequence[int]) -> tuple[int, int]:
    rows, columns = (size, size) if isinstance(size, int) else size
    return rows, columns


def latent_factor(vae: Any) -> int:
    """Pixels of a picture for one of its latents: the autoencoder halves once between its blocks."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


#: What else there is where a captioner, or a safety checker, cannot be loaded.
CAPTION_YOURSELF = "or say what the picture shows: --caption TEXT"
WITHOUT_CHECKER = "or edit without the safety checker: --no-safety"


@dataclass(frozen=True)
class Captioner:
    """A BLIP model and its processor."""

    model: Any
    processor: Any


@dataclass(frozen=True)
class SafetyChecker:
    """The classifier of Stable Diffusion 1.x that flags pictures, and what makes its inputs of them."""

    model: Any
    extractor: Any


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The asked device, else a GPU where there is one, else the CPU; raises ModelsUnavailable."""
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (missing := device_refusal(device)) is not None:
        raise ModelsUnavailable(missing)
    return torch.device(device)


def load_models(models: Any = None, device: Any = None, dtype: torch.dtype | None = None) -> Models:
    """Load a model set: its name, a diffusers folder, a hub id, or a record with a `diffusion` location.

    UNet and VAE take `dtype` (None: float32); the text encoder stays float32, because its identity and the
    directions are. A `Models` record is returned as it is. Raises ModelsUnavailable with the ways out.
    """
    return models if isinstance(models, Models) else _load_set(resolved(models), device, dtype)


@one_at_a_time
def _load_set(models: Any, device: Any, dtype: torch.dtype | None) -> Models:
    import torch

    location = str(models.diffusion)
    revision = getattr(models, "revision", None)
    scheduler_config = check_kind(location, revision)
    dtype = dtype or torch.float32
    if not isinstance(dtype, torch.dtype):
        raise ModelsUnavailable(f"dtype is {dtype!r}; expected one of torch's, such as torch.float16")
    place = choose_device(device)

    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from zoo.text import bound_length

    def part(cls: Any, folder: str, **kwargs: Any) -> Any:
        return _load(cls, location, subfolder=folder, revision=revision, **kwargs)

    unet = part(UNet2DConditionModel, "unet", dtype=dtype)
    vae = part(AutoencoderKL, "vae", dtype=dtype)
    text_encoder = part(CLIPTextModel, "text_encoder", dtype=torch.float32)
    return Models(
        name=getattr(models, "name", location),
        unet=placed(unet, place),
        vae=vae.to(place).eval(),
        text_encoder=text_encoder.to(place).eval(),
        tokenizer=bound_length(part(CLIPTokenizer, "tokenizer"), text_encoder),
        scheduler_config=scheduler_config,
        captioner=getattr(models, "captioner", None),
        revision=revision,
        defaults=dict(getattr(models, "defaults", None) or {}),
        regulariser=dict(getattr(models, "regulariser", None) or {}),
    )


def placed(unet: Any, place: torch.device) -> Any:
    """The UNet on a device, to be used, not trained; in half precision on an NVIDIA GPU with channels last.

    Its tensor cores convolve in that layout, and would else change every map to it and back.
    """
    import torch

    half = unet.dtype in (torch.float16, torch.bfloat16)
    last = half and place.type == "cuda" and torch.version.cuda is not None
    return unet.to(place, memory_format=torch.channels_last if last else None).eval()


@one_at_a_time
def load_captioner(location: str, device: Any = None) -> Captioner:
    """Load a BLIP captioner from a folder or hub id, in float32."""
    import torch
    from transformers import BlipForConditionalGeneration, BlipProcessor

    with or_else(CAPTION_YOURSELF):
        model = _load(BlipForConditionalGeneration, location, dtype=torch.float32)
        return Captioner(model.to(choose_device(device)).eval(), _load(BlipProcessor, location))


@contextmanager
def or_else(way_out: str) -> Iterator[None]:
    """Name the other way out where what is loaded inside the block cannot be."""
    try:
        yield
    except ModelsUnavailable as error:
        raise ModelsUnavailable(f"{error}; {way_out}") from error


def caption_room(model: Any, inputs: Mapping[str, Any], wanted: int) -> int:
    """How many tokens a BLIP captioner may write after its `inputs`: at most `wanted`, and those it has positions for.

    A search over several beams goes on past the end of the best one, so that a short caption may need them all.
    """
    begun = inputs["input_ids"].shape[1] if "input_ids" in inputs else 2  # its own start and end
    return max(1, min(wanted, int(model.config.text_config.max_position_embeddings) - begun))


@one_at_a_time
def load_safety_checker(models: str | None = None, device: Any = None) -> SafetyChecker | None:
    """The safety checker that a model set's `model_index.json` names, in float32; None where it names none."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    chosen = resolved(models)
    location, revision = str(chosen.diffusion), chosen.revision
    if not names_safety_checker(location, revision):
        return None
    model = _load(
        StableDiffusionSafetyChecker,
        location,
        subfolder="safety_checker",
        revision=revision,
        dtype=torch.float32,
    )
    extractor = _load(CLIPImageProcessor, location, subfolder="feature_extractor", revision=revision)
    return SafetyChecker(model.to(choose_device(device)).eval(), extractor)


def names_safety_checker(location: str, revision: str | None = None) -> bool:
    """Whether the `model_index.json` of a folder or hub id names a safety checker; raises ModelsUnavailable."""
    from diffusers import DiffusionPipeline

    index = load_by(DiffusionPipeline.load_config, "the model index", location, revision=revision)
    return bool((index.get("safety_checker") or [None])[0])


def check_kind(location: str, revision: str | None = None) -> Mapping[str, Any]:
    """The scheduler's config of a model that the editor's loops can run, told by its configurations alone.

    Raises ModelsUnavailable for any other, with what its `model_index.json` calls it.
    """
    from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel

    check_folder(location)
    index: Mapping[str, Any] = {}
    with suppress(ModelsUnavailable):  # the parts suffice; it has the kind's name
        index = load_by(DiffusionPipeline.load_config, "the model index", location, revision=revision)
    wrong = "it has no UNet" if index and not (index.get("unet") or [None])[0] else None
    if wrong is None:
        places: dict[str, Any] = {"location": location, "revision": revision}
        unet = load_by(UNet2DConditionModel.load_config, "unet", subfolder="unet", **places)
        vae = load_by(AutoencoderKL.load_config, "vae", subfolder="vae", **places)
        scheduler_config = read_scheduler_config(location, revision)
        wrong = unsuitable(unet, vae, scheduler_config)
    if wrong is None:
        return scheduler_config
    kind = str(index.get("_class_name") or "StableDiffusionPipeline")
    called = "" if kind == "StableDiffusionPipeline" else f" (a {kind})"
    if "; expected" not in wrong:
        wrong += "; expected a text-to-image model of Stable Diffusion 1.x or 2.x"
    raise ModelsUnavailable(f"{location}{called} cannot be used: {wrong}")


def unsuitable(unet: Mapping[str, Any], vae: Mapping[str, Any], scheduler: Mapping[str, Any]) -> str | None:
    """Why the editor's loops cannot run a model with these configurations; None where they can."""
    from editor.schedule import Schedule

    taken, given = unet.get("in_channels", 4), unet.get("out_channels", 4)
    latents = vae.get("latent_channels", 4)
    if not taken == given == latents:
        return (
            f"its UNet takes {taken} channels and gives {given}, and its autoencoder's latents have {latents}"
        )
    if unet.get("addition_embed_type") is not None:
        return f"its UNet needs more than the text ({unet['addition_embed_type']})"
    if unet.get("class_embed_type") is not None or unet.get("num_class_embeds") is not None:
        return "its UNet needs class labels beside the text"
    try:
        Schedule.from_config(scheduler, 1)
    except EditorError as error:
        return str(error)
    return None


def located(name: str) -> str:
    """The same for every spelling of a model set: its name or hub id as it is, a folder's absolute path."""
    from zoo.registry import MODEL_SETS

    return os.path.abspath(name) if name not in MODEL_SETS and os.path.isdir(name) else name


def resolved(models: Any) -> Any:
    """A record with a `diffusion` location, from the name of a model set, a path, a hub id or None."""
    if models is None or isinstance(models, (str, Path)):
        from zoo.registry import resolve

        return resolve(None if models is None else str(models))
    if not hasattr(models, "diffusion"):
        raise ModelsUnavailable(
            f"{type(models).__name__} is no model set; expected the name of one, a diffusers folder, "
            "a hub id, or a record with a `diffusion` location"
        )
    return models


def check_folder(location: str) -> None:
    from zoo.registry import refusal

    if (unknown := refusal(location)) is not None:
        raise ModelsUnavailable(unknown)
    folder = Path(location)
    if folder.is_dir() and not (folder / MODEL_INDEX).is_file():
        raise ModelsUnavailable(
            f"{location} is a folder without {MODEL_INDEX}; expected a Stable Diffusion model "
            "as diffusers saves it"
        )
    if not folder.exists() and (folder.is_absolute() or location.startswith((".", "~"))):
        raise ModelsUnavailable(f"{location}: no such folder; expected a diffusers folder or a hub id")


def read_scheduler_config(location: str, revision: str | None) -> Mapping[str, Any]:
    from diffusers import DDIMScheduler

    config = load_by(
        DDIMScheduler.load_config, "scheduler", location, subfolder="scheduler", revision=revision
    )
    return dict(config)


def _load(cls: Any, location: str, **kwargs: Any) -> Any:
    from transformers import PreTrainedModel

    loader = whole(cls) if issubclass(cls, PreTrainedModel) else cls.from_pretrained
    return load_by(loader, cls.__name__, location, **kwargs)


def load_by(loader: Callable[..., Any], what: str, location: str, **kwargs: Any) -> Any:
    """Load, turning the libraries' many errors for one thing into one line with the ways out."""

    try:
        return load_from(loader, location, **{k: v for k, v in kwargs.items() if v is not None})
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if Path(location).is_dir():
            raise ModelsUnavailable(f"{what} cannot be loaded from {location}: {reason}") from error
        raise ModelsUnavailable(
            f"{what} of {location} is neither cached nor reachable ({reason}); connect to the network once, "
            "name a local folder, or use the models that come with this program: --models embedded"
        ) from error
