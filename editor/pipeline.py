"""`StableDiffusionPix2PixZeroPipeline`: the diffusers API on this package's loops.

A drop-in for the class of that name, deprecated in diffusers. For one picture at a time in float32 with DDIM
it gives the same numbers to rounding. Where the published code goes wrong it differs:

* In a batch, every picture's own prompt embedding is edited and regularised by itself, so that a batch gives
  what single calls give (the published code edits the second row of the batch, and pools the batch's KL).
* Without classifier-free guidance (`guidance_scale` ≤ 1) the prompt is edited all the same.
* `generator=None` is seed 0, not the global generator: the same call gives the same picture.
* Pictures are padded to a multiple of the autoencoder's factor, never squashed (see `editor.images`).
* Noise drawn by a scheduler is the same for the reference and the edit.
* For velocity prediction the inversion's regulariser reads the noise at the sample's own level, and guidance
  moves a sample by a root mean square of at most `VELOCITY_GUIDANCE_LIMIT` a step.

The steps in between are not methods here: `_encode_prompt`, `decode_latents`, `prepare_latents` and the like of
the deprecated class are missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMInverseScheduler,
    DiffusionPipeline,
    SchedulerMixin,
    UNet2DConditionModel,
)
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import StableDiffusionLoraLoaderMixin, TextualInversionLoaderMixin
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.utils import USE_PEFT_BACKEND, scale_lora_layers, unscale_lora_layers
from transformers import (
    BlipForConditionalGeneration,
    BlipProcessor,
    CLIPTextModel,
    CLIPTokenizer,
)
from transformers.image_processing_base import ImageProcessingMixin

from editor import pipeline_inputs as inputs
from editor.edit import edit
from editor.images import one_picture
from editor.invert import invert
from editor.latents import decode_latents, draw_noise, encode_pixels
from editor.models import caption_room, latent_factor, native_latents
from editor.pipeline_output import Pix2PixInversionPipelineOutput
from editor.regularize import Regulariser
from editor.safety import run_checker
from editor.samplers import inverse_twin, is_twin, make_sampler, usable
from editor.schedule import Schedule
from editor.settings import VELOCITY_GUIDANCE_LIMIT, EditSettings, plain
from editor.steps import Conditioning
from zoo.text import dropped_words, encode_text, text_length

__all__ = ["Pix2PixInversionPipelineOutput", "StableDiffusionPix2PixZeroPipeline"]

logger = logging.getLogger(__name__)

CAPTION_START = "a photography of"
CAPTION_TOKENS = 128

Callback = Callable[[int, int, torch.Tensor], None]
Generator = torch.Generator | list[torch.Generator] | None


class StableDiffusionPix2PixZeroPipeline(
    DiffusionPipeline,
    StableDiffusionMixin,
    TextualInversionLoaderMixin,
    StableDiffusionLoraLoaderMixin,
):
    """Edit pictures along a direction of text embeddings, keeping their structure (Parmar et al., 2023).

    Components as in diffusers: `vae`, `text_encoder`, `tokenizer`, `unet`, `scheduler` (DDIM, DDPM, LMS,
    Euler or Euler ancestral; another is replaced by its DDIM twin with a log line), and optionally
    `feature_extractor` and `safety_checker`, `inverse_scheduler` (None: made from the scheduler, anew whenever
    one is assigned), `caption_generator` and `caption_processor` (BLIP). All survive `save_pretrained`, also if
    assigned later.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components = [  # noqa: RUF012 - diffusers reads a plain list
        "safety_checker",
        "feature_extractor",
        "caption_generator",
        "caption_processor",
        "inverse_scheduler",
    ]
    _exclude_from_cpu_offload = ["safety_checker"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]  # noqa: RUF012

    #: While a callback runs: the pass that its step belongs to, "invert", "reference" or "edit".
    stage: str | None = None

    _inverse_derived = False

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        feature_extractor: ImageProcessingMixin | None = None,
        safety_checker: StableDiffusionSafetyChecker | None = None,
        inverse_scheduler: DDIMInverseScheduler | None = None,
        caption_generator: BlipForConditionalGeneration | None = None,
        caption_processor: BlipProcessor | None = None,
        requires_safety_checker: bool = True,
    ) -> None:
        super().__init__()
        if safety_checker is None and requires_safety_checker:
            logger.warning(
                "The safety checker is off: keep to the model's licence, and do not show unfiltered pictures "
                "to the public. Pass `requires_safety_checker=False` to say that this is meant."
            )
        if safety_checker is not None and feature_extractor is None:
            raise ValueError(
                "a safety checker needs a `feature_extractor` to look at pictures with; "
                "pass one, or `safety_checker=None`"
            )
        scheduler = usable(scheduler)
        # the one that another pipeline derived comes back from a folder or from `components`
        derived = inverse_scheduler is None or is_twin(inverse_scheduler)
        if scheduler is not None and derived:
            inverse_scheduler = inverse_twin(scheduler)
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
            caption_processor=caption_processor,
            caption_generator=caption_generator,
            inverse_scheduler=inverse_scheduler,
        )
        self._inverse_derived = derived
        self.vae_scale_factor = latent_factor(vae) if vae is not None else 8
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.register_to_config(requires_safety_checker=requires_safety_checker)

    def __setattr__(self, name: str, value: Any) -> None:
        """A component assigned by attribute is registered as one passed to the constructor.

        With a scheduler comes its inverse, unless one was assigned.
        """
        if name == "scheduler":
            value = usable(value)
        late = name in self._optional_components and value is not None and name in self.__dict__
        if late and self.config[name][0] is None:
            super().__setattr__(name, None)
            self.register_to_config(**{name: (type(value).__module__.split(".")[0], type(value).__name__)})
        super().__setattr__(name, value)
        if name == "inverse_scheduler":
            self._inverse_derived = value is None
        elif name == "scheduler" and value is not None and self._inverse_derived:
            self.inverse_scheduler = inverse_twin(value)
            self._inverse_derived = True

    def encode_prompt(
        self,
        prompt: str | list[str] | None,
        device: torch.device | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | list[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Prompt and negative prompt embeddings, `[prompts · num_images_per_prompt, tokens, dim]` each.

        One negative prompt serves all prompts; None is ""; it gets as many tokens as they. The second is None
        without classifier-free guidance. `clip_skip` leaves out that many of the text encoder's last layers for
        the prompt.
        """
        count = inputs.check_prompts(prompt, prompt_embeds)
        device = device or self._execution_device
        if prompt_embeds is None:
            prompt_embeds = self._encode(inputs.as_texts(prompt), device, lora_scale, clip_skip)
        dtype = self.text_encoder.dtype if self.text_encoder is not None else self.unet.dtype
        prompt_embeds = prompt_embeds.to(device, dtype)
        if do_classifier_free_guidance and negative_prompt_embeds is None:
            texts = inputs.as_texts("" if negative_prompt is None else negative_prompt, "negative_prompt")
            if len(texts) not in (1, count):
                raise ValueError(f"{len(texts)} negative prompts for {count} prompts; expected 1 or {count}")
            length, longest = prompt_embeds.shape[1], text_length(self.tokenizer, self.text_encoder)
            if not 2 <= length <= longest:  # the start and the end token are always there
                raise ValueError(
                    f"`prompt_embeds` has {length} tokens, and a negative prompt can be encoded with 2 to "
                    f"{longest}; pass `negative_prompt_embeds` of the same shape too"
                )
            negative_prompt_embeds = self._encode(texts, device, lora_scale, length=length)
            inputs.check_embeds(prompt_embeds, "prompt_embeds", tuple(negative_prompt_embeds.shape[1:]))
        if not do_classifier_free_guidance or negative_prompt_embeds is None:
            return prompt_embeds.repeat_interleave(num_images_per_prompt, dim=0), None
        inputs.check_embeds(negative_prompt_embeds, "negative_prompt_embeds", tuple(prompt_embeds.shape[1:]))
        if len(negative_prompt_embeds) not in (1, count):
            raise ValueError(
                f"`negative_prompt_embeds` has shape {tuple(negative_prompt_embeds.shape)} "
                f"for {count} prompts; expected 1 or {count} rows"
            )
        negative = negative_prompt_embeds.to(device, dtype).expand(count, -1, -1)
        return (
            prompt_embeds.repeat_interleave(num_images_per_prompt, dim=0),
            negative.repeat_interleave(num_images_per_prompt, dim=0),
        )

    def _encode(
        self,
        texts: list[str],
        device: torch.device,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
        length: int | None = None,
    ) -> torch.Tensor:
        """Texts to embeddings, with learned tokens and LoRA layers where they are loaded.

        `length` is their number of tokens, None the text encoder's own.
        """
        texts = [self.maybe_convert_prompt(text, self.tokenizer) for text in texts]
        length = length or text_length(self.tokenizer, self.text_encoder)
        for text in texts:
            lost = dropped_words(text, self.tokenizer, length)
            if lost:
                logger.warning(
                    "The text encoder reads %d tokens; this end of the prompt was cut off: %r", length, lost
                )
        if lora_scale is not None:
            self._lora_scale = lora_scale
        scaled = lora_scale is not None and USE_PEFT_BACKEND  # without PEFT there are no layers to scale
        if scaled:
            scale_lora_layers(self.text_encoder, lora_scale)
        try:
            return encode_text(texts, self.tokenizer, self.text_encoder, plain(clip_skip), device, length)
        finally:
            if scaled:
                unscale_lora_layers(self.text_encoder, lora_scale)

    @torch.no_grad()
    def get_embeds(self, prompt: str | list[str], batch_size: int = 16) -> torch.Tensor:
        """The mean embedding of some captions, `[1, tokens, dim]`, encoded `batch_size` at a time."""
        batch_size = inputs.positive(batch_size, "batch_size")
        texts, device = inputs.as_texts(prompt), self._execution_device
        batches = [self._encode(texts[k : k + batch_size], device) for k in range(0, len(texts), batch_size)]
        return torch.cat(batches).mean(0)[None]

    @torch.no_grad()
    def generate_caption(self, images: Any) -> str | list[str]:
        """A caption, begun with "a photography of" where the captioner knows these words.

        A list of pictures gets a list of captions.
        """
        if self.caption_generator is None or self.caption_processor is None:
            raise ValueError(
                "there is no captioner: pass `caption_generator` (a BlipForConditionalGeneration) and "
                "`caption_processor` (its BlipProcessor) to from_pretrained"
            )
        many = isinstance(images, (list, tuple))
        pictures = [one_picture(image) for image in (images if many else [images])]
        model, device = self.caption_generator, self._execution_device
        tokenizer = self.caption_processor.tokenizer
        known = tokenizer.unk_token_id not in tokenizer(CAPTION_START).input_ids
        start = [CAPTION_START] * len(pictures) if known else None
        values = self.caption_processor(pictures, start, return_tensors="pt")
        before = model.device
        moves = before.type != "meta"  # hooks fetch the weights of an offloaded one layer by layer
        if moves:
            model.to(device)
        try:
            room = caption_room(model, values, CAPTION_TOKENS)
            tokens = model.generate(**values.to(device, model.dtype), max_new_tokens=room)
        finally:
            if moves:
                model.to(before)
        captions = self.caption_processor.batch_decode(tokens, skip_special_tokens=True)
        return captions if many else captions[0]

    def construct_direction(self, embs_source: torch.Tensor, embs_target: torch.Tensor) -> torch.Tensor:
        """The direction from source to target, `[1, tokens, dim]`: the difference of the means."""
        inputs.check_embeds(embs_source, "source_embeds")
        inputs.check_embeds(embs_target, "target_embeds", tuple(embs_source.shape[1:]))
        return (embs_target.mean(0) - embs_source.mean(0)).unsqueeze(0)

    def run_safety_checker(
        self, image: torch.Tensor | np.ndarray, device: torch.device, dtype: torch.dtype
    ) -> tuple[Any, list[bool] | None]:
        """The pictures with flagged ones blacked out, and the flags (None without a checker).

        Pictures are pixels `[B, 3, H, W]` in [-1, 1], or an array `[B, H, W, 3]` in [0, 1].
        """
        if self.safety_checker is None:
            return image, None
        if isinstance(image, torch.Tensor):
            pictures = self.image_processor.postprocess(image, output_type="pil")
        else:
            pictures = self.image_processor.numpy_to_pil(image)
        image, flags = run_checker(
            self.safety_checker, self.feature_extractor, pictures, image, device, dtype
        )
        flagged = [k for k, flag in enumerate(flags) if flag]
        if flagged:
            logger.warning(
                "The safety checker withheld picture %s: black pictures are returned in their place, and "
                "`nsfw_content_detected` says which. Try another prompt or seed.",
                ", ".join(map(str, flagged)),
            )
        return image, flags

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        source_embeds: torch.Tensor | None = None,
        target_embeds: torch.Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int | None = 1,
        eta: float = 0.0,
        generator: Generator = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        cross_attention_guidance_amount: float = 0.1,
        output_type: str | None = "pil",
        return_dict: bool = True,
        callback: Callback | None = None,
        callback_steps: int | None = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> StableDiffusionPipelineOutput | tuple[Any, list[bool] | None]:
        """Generate pictures of the prompts, edited along the direction from source to target.

        prompt: one text or a list; or `prompt_embeds` `[prompts, tokens, dim]`. Contains the source concept.
        source_embeds, target_embeds: `[any, tokens, dim]`, embeddings of captions of the two concepts.
        height, width: of the pictures in pixels, any number; None is the latents' size or the model's own.
        guidance_scale: of classifier-free guidance, off at 1 and below.
        negative_prompt: what to steer away from, one for all or one each; or `negative_prompt_embeds`. For a
            real picture give its caption. Not used without guidance.
        num_images_per_prompt: pictures for each prompt; they follow each other in the batch.
        eta: how much noise DDIM adds, from 0 to 1; other schedulers ignore it.
        generator: one, or a list of one for each picture; on any device. None is seed 0.
        latents: the noise to start from, `[pictures, C, h, w]` of any dtype, as `invert` returns it.
        cross_attention_guidance_amount: λ, how strongly the reference's attention maps are followed.
        output_type: "pil", "np" `[B, H, W, 3]` and "pt" `[B, 3, H, W]` in [0, 1], or "latent" in the
            autoencoder's dtype.
        callback: called with (step, timestep, latents) every `callback_steps` steps of the reference and of
            the edit, which take turns; of an autoencoder in half precision with a copy in its dtype.
            `callback_on_step_end(pipe, step, timestep, kwargs)` comes after every step of both, and may
            return other latents, nothing else. `pipe.stage` says whose step it is.
        cross_attention_kwargs: for the attention processors; `scale` is that of LoRA layers.
        clip_skip: how many of the text encoder's last layers to leave out.

        Returns a StableDiffusionPipelineOutput, or (images, flags). Raises ValueError or TypeError, with the
        shape or type that was given and the one that was expected.
        """
        prompts = inputs.check_prompts(prompt, prompt_embeds)
        copies = inputs.positive(
            1 if num_images_per_prompt is None else num_images_per_prompt, "num_images_per_prompt"
        )
        every = inputs.positive(1 if callback_steps is None else callback_steps, "callback_steps")
        num_inference_steps, pictures = plain(num_inference_steps), prompts * copies
        output_type = inputs.as_output_type(output_type)
        generator = inputs.as_generators(generator, pictures)
        if source_embeds is None or target_embeds is None:
            raise ValueError(
                "`source_embeds` and `target_embeds` are both needed; the edit goes from one to the other"
            )
        device = self._execution_device
        conditioning = self._conditioning(
            device,
            guidance_scale,
            cross_attention_kwargs,
            prompt=prompt,
            num_images_per_prompt=copies,
            negative_prompt=negative_prompt,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            clip_skip=clip_skip,
        )
        inputs.check_embeds(source_embeds, "source_embeds", tuple(conditioning.prompt.shape[1:]))
        direction = self.construct_direction(source_embeds, target_embeds).to(conditioning.prompt)
        noise = self._noise(height, width, latents, pictures, generator, device)
        sampler = make_sampler(self.scheduler, num_inference_steps, pictures, generator, eta)
        extra = {"prompt_embeds": conditioning.prompt, "negative_prompt_embeds": conditioning.negative}
        with self.progress_bar(total=num_inference_steps) as bar:
            result = edit(
                self.unet,
                noise * sampler.init_sigma,
                conditioning,
                conditioning.prompt + direction,
                sampler,
                self._settings(num_inference_steps, guidance_scale, cross_attention_guidance_amount),
                on_step=inputs.as_on_step(
                    self,
                    callback,
                    every,
                    callback_on_step_end,
                    self._tensor_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs),
                    extra,
                    bar.update,
                ),
                unet_kwargs=_unet_kwargs(cross_attention_kwargs),
            )
        images, flags = self._finish(result.edits, output_type, height, width, device)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, flags
        return StableDiffusionPipelineOutput(images=images, nsfw_content_detected=flags)

    @torch.no_grad()
    def invert(
        self,
        prompt: str | list[str] | None = None,
        image: Any = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 1,
        generator: Generator = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        cross_attention_guidance_amount: float = 0.1,
        output_type: str | None = "pil",
        return_dict: bool = True,
        callback: Callback | None = None,
        callback_steps: int | None = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        lambda_auto_corr: float = 20.0,
        lambda_kl: float = 20.0,
        num_reg_steps: int = 5,
        num_auto_corr_rolls: int = 5,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Pix2PixInversionPipelineOutput | tuple[torch.Tensor, Any]:
        """Turn pictures into the noise that regenerates them under their captions.

        prompt: the caption, or one for each picture; or `prompt_embeds` `[prompts, tokens, dim]`.
        image: a PIL image, array or path, or a tensor (see `editor.images.to_pixels`), or a list of them;
            one of any size, several of one size; an RGB array may be in [-1, 1], as a tensor may. A floating
            tensor of the latents' channels is taken for scaled latents and not encoded; `latents` says so
            explicitly.
        generator: draws the autoencoder's sample and the regulariser's rolls; one, or a list of one for each
            picture; on any device. None is seed 0.
        cross_attention_guidance_amount: accepted for compatibility; there is no reference to follow yet.
        output_type: of `images`, the noise decoded, which is only made when looked at.
        lambda_auto_corr, lambda_kl, num_reg_steps, num_auto_corr_rolls: strength and rounds of the
            regulariser; 0 switches it off.

        Callbacks as in `__call__`. Returns latents `[pictures, C, h, w]` float32.
        """
        prompts = inputs.check_prompts(prompt, prompt_embeds)
        every = inputs.positive(1 if callback_steps is None else callback_steps, "callback_steps")
        num_inference_steps = plain(num_inference_steps)
        if (image is None) == (latents is None):
            raise ValueError("expected one of `image` and `latents`, the picture and its encoding")
        device, channels = self._execution_device, self.unet.config.in_channels
        pixels, clean = None, latents
        if latents is None:
            latent_channels = channels if self.vae is None else self.vae.config.latent_channels
            clean, pixels = inputs.split_image(image, latent_channels, self.vae_scale_factor)
            if pixels is not None and self.vae is None:
                raise ValueError(
                    "there is no autoencoder to encode `image` with; pass `vae`, or the encoded picture as `latents`"
                )
        given = len(pixels if pixels is not None else clean)  # type: ignore[arg-type]
        pictures = inputs.match_batch(given, prompts)
        output_type = inputs.as_output_type(output_type)
        generator = inputs.as_generators(generator, pictures)
        if pixels is not None:
            if isinstance(generator, list):
                pixels = pixels.expand(pictures, -1, -1, -1)
            clean = encode_pixels(self.vae, pixels, generator, device=device)
        shape = (len(clean), channels, *clean.shape[-2:])  # type: ignore[arg-type, union-attr]
        x0 = inputs.check_latents(clean, shape).to(device).expand(pictures, -1, -1, -1)
        conditioning = self._conditioning(
            device,
            guidance_scale,
            cross_attention_kwargs,
            prompt=prompt,
            prompt_embeds=prompt_embeds,
            num_images_per_prompt=pictures // prompts,
        )
        regulariser = Regulariser(lambda_auto_corr, lambda_kl, num_reg_steps, num_auto_corr_rolls)
        extra = {"prompt_embeds": conditioning.prompt, "negative_prompt_embeds": conditioning.negative}
        inverse = self.inverse_scheduler or inverse_twin(self.scheduler)
        schedule = Schedule.from_config(inverse.config, num_inference_steps).reversed()
        with self.progress_bar(total=num_inference_steps) as bar:
            noise = invert(
                self.unet,
                x0,
                conditioning,
                schedule,
                regulariser=regulariser,
                generator=generator,
                guidance_scale=guidance_scale,
                on_step=inputs.as_on_step(
                    self,
                    callback,
                    every,
                    callback_on_step_end,
                    self._tensor_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs),
                    extra,
                    bar.update,
                ),
                unet_kwargs=_unet_kwargs(cross_attention_kwargs),
            ).noise

        def decode(values: torch.Tensor) -> Any:
            images = self._decode(values, output_type, self._execution_device)
            self.maybe_free_model_hooks()
            return images

        self.maybe_free_model_hooks()
        output = Pix2PixInversionPipelineOutput(noise, decode)
        return output if return_dict else output.to_tuple()

    def _conditioning(
        self,
        device: torch.device,
        guidance_scale: float,
        cross_attention_kwargs: dict[str, Any] | None,
        **prompts: Any,
    ) -> Conditioning:
        """The embeddings of a call, float32."""
        prompt, negative = self.encode_prompt(
            device=device,
            do_classifier_free_guidance=guidance_scale > 1.0,
            lora_scale=(cross_attention_kwargs or {}).get("scale"),
            **prompts,
        )
        return Conditioning(prompt.float(), None if negative is None else negative.float())

    def _settings(self, steps: int, guidance_scale: float, amount: float) -> EditSettings:
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        return EditSettings(
            steps=steps,
            guidance_scale=guidance_scale,
            cross_attention_guidance=amount,
            guidance_limit=VELOCITY_GUIDANCE_LIMIT if velocity else None,
        )

    def _noise(
        self,
        height: int | None,
        width: int | None,
        latents: torch.Tensor | None,
        pictures: int,
        generator: Generator,
        device: torch.device,
    ) -> torch.Tensor:
        """The latents to start from, `[pictures, C, h, w]` float32: given, or drawn."""
        if latents is not None and (not isinstance(latents, torch.Tensor) or latents.ndim != 4):
            what = getattr(latents, "shape", type(latents).__name__)
            raise ValueError(f"`latents` is {what}; expected a tensor [pictures, channels, height, width]")
        native = native_latents(self.unet, self.vae)
        rows, columns = inputs.latent_size(height, width, latents, native, self.vae_scale_factor)
        shape = (pictures, self.unet.config.in_channels, rows, columns)
        if latents is None:
            return draw_noise(shape, generator, device)
        return inputs.check_latents(latents, shape).to(device)

    def _tensor_inputs(self, callback: Any, names: Sequence[str]) -> Sequence[str]:
        names = getattr(callback, "tensor_inputs", names)
        unknown = [name for name in names if name not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` has {unknown}; "
                f"expected some of {self._callback_tensor_inputs}"
            )
        return names

    def decodable(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents in the dtype that the autoencoder takes."""
        return latents if self.vae is None else latents.to(self.vae.dtype)

    def _decode(self, latents: torch.Tensor, output_type: str, device: torch.device) -> Any:
        if output_type == "latent":
            return latents
        image = decode_latents(self.vae, latents, device)
        return self.image_processor.postprocess(image, output_type=output_type)

    def _finish(
        self,
        latents: torch.Tensor,
        output_type: str,
        height: int | None,
        width: int | None,
        device: torch.device,
    ) -> tuple[Any, list[bool] | None]:
        """Decoded, cut to the asked size and checked pictures, and the checker's flags."""
        if output_type == "latent":
            return self.decodable(latents), None
        image = decode_latents(self.vae, latents, device)[..., :height, :width]
        image, flags = self.run_safety_checker(image, device, self.unet.dtype)
        whole = [not flag for flag in flags] if flags else [True] * len(image)
        return self.image_processor.postprocess(image, output_type=output_type, do_denormalize=whole), flags


def _unet_kwargs(cross_attention_kwargs: dict[str, Any] | None) -> dict[str, Any] | None:
    return {"cross_attention_kwargs": cross_attention_kwargs} if cross_attention_kwargs else None
