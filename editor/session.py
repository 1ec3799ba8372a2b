"""`Editor`: load a model set once, then caption, invert and edit pictures with it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from editor.cache import InversionCache, key_of
from editor.edit import Edited, edit
from editor.errors import EditorError
from editor.fitting import Load
from editor.identity import caption_facts, inversion_facts, models_facts
from editor.images import (
    check_mask,
    check_pixels,
    check_proportions,
    fit,
    latent_mask,
    one_picture,
    pad_to_multiple,
    to_pictures,
    to_pixels,
)
from editor.inversion import Edit, Inversion, check_alike, check_steps, trajectories
from editor.invert import invert
from editor.latents import decode_latents, draw_noise, encode_pixels, seeded
from editor.models import Captioner, Models, caption_room, load_captioner, load_models, located
from editor.placement import place, settled
from editor.presets import preset_options, preset_settings
from editor.record import picture_origin, versions
from editor.regularize import Regulariser
from editor.request import REGULARISER, Request, check_seed, check_strength, check_text
from editor.schedule import Schedule
from editor.settings import VELOCITY_GUIDANCE_LIMIT, EditSettings, plain
from editor.spaces import described
from editor.steps import Conditioning, OnStep
from library.records import now, tool_version
from zoo.loading import LOADING
from zoo.text import dropped_words, encode_text

#: Invert and edit at the size that the model was trained on.
NATIVE = "native"
#: Steps of an inversion where neither a number nor a preset is given.
DEFAULT_STEPS = Request.steps


class Editor:
    """A model set, loaded, with the three things that one does with it: caption, invert, edit.

    `models` is the name of a set, a diffusers folder, a hub id, or loaded `Models`; None is the default
    set. `device` None is a GPU where there is one; `dtype` is that of UNet and VAE, None is float32 (all
    arithmetic on latents is float32 in any case). The captioner is loaded when it is first asked.
    `cache` is a folder, or an `InversionCache`, in which inversions and captions are looked up and kept; None
    keeps nothing. Weights changed after they were loaded, and an `on_step` that changes latents, need a cache
    of their own.
    """

    def __init__(
        self,
        models: Any = None,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        cache: InversionCache | str | PathLike[str] | None = None,
    ) -> None:
        self.models: Models = load_models(models, device, dtype)
        #: Name, hub id or absolute folder of the models, which tells whose an inversion is.
        self.located = located(self.models.name)
        self.cache = InversionCache(cache) if isinstance(cache, (str, PathLike)) else cache
        self._as_their_files = self.models is not models
        self._captioner: Captioner | None = None

    def __repr__(self) -> str:
        return f"<Editor {self.models.name} on {self.models.device}>"

    @property
    def device(self) -> torch.device:
        return self.models.device

    @cached_property
    def _models_facts(self) -> dict[str, Any]:
        return models_facts(self.models, self._as_their_files)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What the record of every edit says of where it was made."""
        folder = self.located
        return {
            "models_folder": folder if Path(folder).is_absolute() else None,
            "device": self.device.type,
            "dtype": str(self.models.unet.dtype).removeprefix("torch."),
            "tool": tool_version(),
            "versions": versions(),
        }

    def settings(self, preset: str | None = None, **changes: Any) -> EditSettings:
        """The model set's own defaults, a preset over them, and the given changes over both.

        TypeError names an unknown setting, EditorError an unknown preset; see `editor.presets`.
        """
        known = {f.name for f in fields(EditSettings)}
        unknown = sorted(set(changes) - known)
        if unknown:
            meant = "; cross_attention_guidance is meant" if unknown[0] == "guidance" else ""
            raise TypeError(
                f"unknown setting {unknown[0]!r}{meant}; the settings are {', '.join(sorted(known))}"
            )
        defaults = {k: v for k, v in self.models.defaults.items() if k in known}
        if self.models.scheduler_config.get("prediction_type") == "v_prediction":
            defaults.setdefault("guidance_limit", VELOCITY_GUIDANCE_LIMIT)
        chosen = {} if preset is None else preset_settings(preset)
        return EditSettings(**{**defaults, **chosen, **{k: plain(v) for k, v in changes.items()}})

    def regulariser(self, preset: str | None = None, **changes: Any) -> Regulariser:
        """The model set's own regularisation of inversions, a preset's over it, the given changes over both."""
        known = {f.name for f in fields(Regulariser)}
        defaults = {k: v for k, v in self.models.regulariser.items() if k in known}
        options = {} if preset is None else preset_options(preset)
        chosen = {REGULARISER[k]: v for k, v in options.items() if k in REGULARISER}
        return Regulariser(**{**defaults, **chosen, **{k: plain(v) for k, v in changes.items()}})

    def caption(self, image: Any, prefix: str | None = None, max_new_tokens: int = 40) -> str:
        """What the captioner says the picture shows; `prefix` begins the caption. Always the same answer."""
        if self.models.captioner is None:
            raise EditorError(f"{self.models.name} has no captioner; give the caption yourself")
        picture = one_picture(image)
        if self.cache is None:
            return self._ask(picture, prefix, max_new_tokens)
        key = key_of(caption_facts(self.models.captioner, picture, prefix, max_new_tokens))
        caption = self.cache.get_caption(key)
        if caption is None:
            caption = self._ask(picture, prefix, max_new_tokens)
            self.cache.put_caption(key, caption)
        return caption

    def _ask(self, picture: Image.Image, prefix: str | None, max_new_tokens: int) -> str:
        with LOADING:
            if self._captioner is None:
                self._captioner = load_captioner(str(self.models.captioner), self.device)
        model, processor = self._captioner.model, self._captioner.processor
        inputs = processor(picture, prefix, return_tensors="pt").to(model.device)
        room = caption_room(model, inputs, max_new_tokens)
        with torch.no_grad():
            # Beams are searched greedily: nothing is drawn, so nothing is taken from a global generator.
            tokens = model.generate(**inputs, max_new_tokens=room, num_beams=3, do_sample=False)
        return processor.decode(tokens[0], skip_special_tokens=True).strip()

    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Prompt embeddings, `[prompts, tokens, dim]` float32; what is too long for the encoder is cut."""
        if isinstance(prompts, str):
            raise EditorError("encode takes a list of prompts; for a single one: encode([prompt])")
        return encode_text(prompts, self.models.tokenizer, self.models.text_encoder).float()

    def decode(self, latents: torch.Tensor, size: tuple[int, int] | None = None) -> list[Image.Image]:
        """Latents `[B, C, h, w]` as pictures, cut to `size` (width, height)."""
        pixels = decode_latents(self.models.vae, latents.to(self.device))
        self._check_finite(
            pixels, "the autoencoder made no picture", "its weights, or the latents, are damaged"
        )
        return to_pictures(pixels, size)

    def _check_finite(self, values: torch.Tensor, problem: str, remedy: str) -> None:
        """Raise EditorError for what is no number, with what helps: another type first, where that is float16."""
        if values.isfinite().all():
            return
        if torch.float16 in (self.models.unet.dtype, self.models.vae.dtype):
            remedy = "float16 cannot hold what these models compute: choose --dtype float32, or bfloat16"
        raise EditorError(f"{problem}; {remedy}")

    def invert(
        self,
        image: Any,
        caption: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        *,
        preset: str | None = None,
        size: int | str | None = NATIVE,
        regulariser: Regulariser | None = None,
        sample: bool = True,
        keep_trajectory: bool = True,
        on_step: OnStep | None = None,
    ) -> Inversion:
        """Turn a picture into the noise that regenerates it under its caption (None: ask the captioner).

        `size` is the length in pixels of the shorter side that the picture is brought to: "native" the
        model's own, None as it is. `seed` draws the autoencoder's sample (`sample=False` takes its
        mean) and the regulariser's rolls. `preset` has steps and a regulariser, too: give it here and to the
        edit; `steps` (None: the preset's, else 50) and `regulariser` win over it. An inversion from the cache
        says so in its record.
        """
        captions = None if caption is None else [caption]
        return self.invert_all(
            [image],
            captions,
            steps,
            [seed],
            preset=preset,
            size=size,
            regulariser=regulariser,
            sample=sample,
            keep_trajectory=keep_trajectory,
            on_step=on_step,
        )[0]

    def invert_all(
        self,
        images: Sequence[Any],
        captions: Sequence[str | None] | None = None,
        steps: int | None = None,
        seeds: Sequence[int] | None = None,
        *,
        preset: str | None = None,
        size: int | str | None = NATIVE,
        regulariser: Regulariser | None = None,
        sample: bool = True,
        keep_trajectory: bool = True,
        on_step: OnStep | None = None,
    ) -> list[Inversion]:
        """`invert` of several pictures in one batch; each comes out as it would alone.

        They must be equally large once brought to `size`. One caption (None: ask the captioner) and one seed each.
        """
        if isinstance(images, (str, PathLike, Image.Image)):
            raise EditorError("invert_all takes a list of pictures; for a single one there is invert")
        if isinstance(captions, str):
            raise EditorError(
                "invert_all takes a list of captions, one a picture; for the same one: [caption] * len(images)"
            )
        images = list(images)
        if not images:
            raise EditorError("there is nothing to invert: no picture was given")
        steps = _steps(steps, preset)
        settings = regulariser or self.regulariser(preset)
        size = plain(size)
        shorter = self._shorter(size)
        pictures = [one_picture(image) for image in images]
        origins = [picture_origin(image) for image in images]
        for picture, image in zip(pictures, images, strict=True):
            check_proportions(picture, image)
        if shorter is not None:
            pictures = [fit(picture, shorter) for picture in pictures]
        seeds = [0] * len(pictures) if seeds is None else [plain(seed) for seed in seeds]
        for seed in seeds:
            check_seed(seed)
        given = [None] * len(pictures) if captions is None else list(captions)
        if not len(pictures) == len(given) == len(seeds):
            raise EditorError(
                f"{len(pictures)} pictures, {len(given)} captions and {len(seeds)} seeds; expected one each"
            )
        for text in given:
            if text is not None:
                check_text(text, "caption", ", or None to ask the captioner")
        texts = [
            self.caption(picture) if text is None else text
            for picture, text in zip(pictures, given, strict=True)
        ]
        keep = keep_trajectory or self.cache is not None

        def make(places: Sequence[int]) -> list[Inversion]:
            with self._own_types():
                return self._invert(
                    [pictures[k] for k in places],
                    [texts[k] for k in places],
                    [seeds[k] for k in places],
                    steps,
                    size,
                    settings,
                    sample,
                    keep,
                    on_step,
                )

        if self.cache is None:
            inversions = make(range(len(pictures)))
        else:
            facts = [
                inversion_facts(self._models_facts, picture, caption, steps, seed, settings, sample, size)
                for picture, caption, seed in zip(pictures, texts, seeds, strict=True)
            ]
            inversions = self.cache.recall(facts, make)
        if not keep_trajectory:
            inversions = [replace(inversion, trajectory=None) for inversion in inversions]
        return [
            replace(inversion, editor=self, record={**inversion.record, "origin": origin})
            for inversion, origin in zip(inversions, origins, strict=True)
        ]

    def _own_types(self) -> torch.autocast:
        """No autocast around us changes what is computed, cached and recorded."""
        return torch.autocast(self.device.type, enabled=False)

    def _shorter(self, size: int | str | None) -> int | None:
        """What the shorter side is brought to, in pixels; None is as it is. EditorError for anything else."""
        if size == NATIVE:
            return self.models.native_size
        least = self.models.factor
        if size is None or (isinstance(size, int) and size >= least):
            return size
        raise EditorError(
            f"size is {size!r}; expected the shorter side in pixels (at least {least}), {NATIVE!r}, or None "
            "for the picture's own"
        )

    def _invert(
        self,
        pictures: list[Image.Image],
        captions: list[str],
        seeds: list[int],
        steps: int,
        size: int | str | None,
        settings: Regulariser,
        sample: bool,
        keep_trajectory: bool,
        on_step: OnStep | None,
    ) -> list[Inversion]:
        """`invert_all` of pictures that have their size, captions and seeds, past any cache."""
        begin, models = time.perf_counter(), self.models
        generators = [seeded(seed) for seed in seeds]
        embeds = self.encode(captions)
        pixels = pad_to_multiple(to_pixels(pictures), models.factor)
        latents = encode_pixels(models.vae, pixels, generators, sample)
        schedule = Schedule.from_config(models.scheduler_config, steps).reversed()
        result = invert(
            models.unet,
            latents,
            Conditioning(embeds),
            schedule,
            regulariser=settings,
            generator=generators,
            keep_trajectory=keep_trajectory,
            on_step=on_step,
        )
        self._check_finite(
            result.noise,
            "the inversion came to no noise",
            "weaken the regulariser, or fetch the models again",
        )
        common = {
            "regulariser": asdict(settings),
            "sample": sample,
            "size": size,
            "batch": len(pictures),
            "cached": False,
            "seconds": round(time.perf_counter() - begin, 3),
        }
        return [
            Inversion(
                noise=result.noise[k : k + 1].cpu(),
                caption=captions[k],
                embeds=embeds[k : k + 1].cpu(),
                steps=steps,
                seed=seeds[k],
                size=picture.size,
                negative_prompt=captions[k],
                models=self.located,
                picture=picture,
                latents=latents[k : k + 1].cpu(),
                trajectory=None if result.trajectory is None else result.trajectory[:, k : k + 1].cpu(),
                record={**common, "caption_lost": dropped_words(captions[k], models.tokenizer)},
                editor=self,
            )
            for k, picture in enumerate(pictures)
        ]

    def imagine(
        self,
        prompt: str,
        steps: int = 50,
        seed: int = 0,
        *,
        size: int | tuple[int, int] | None = None,
        negative_prompt: str | None = "",
    ) -> Inversion:
        """The start of a synthetic picture: random noise that the prompt will turn into one.

        `size` is the side, or (width, height), of the picture in pixels; None is the model's own. What the
        autoencoder takes only larger is cut off at the right and the bottom, as of pictures that are padded.
        """
        negative_prompt = "" if negative_prompt is None else negative_prompt
        check_text(prompt, "prompt")
        check_text(negative_prompt, "negative_prompt")
        steps, seed = plain(steps), plain(seed)
        width, height = _sides(self.models.native_size if size is None else plain(size))
        check_pixels((width, height), "the picture")
        factor = self.models.factor
        shape = (1, self.models.unet.config.in_channels, -(-height // factor), -(-width // factor))
        return Inversion(
            noise=draw_noise(shape, seeded(seed), "cpu"),
            caption=prompt,
            embeds=self.encode([prompt]).cpu(),
            steps=steps,
            seed=seed,
            size=(width, height),
            negative_prompt=negative_prompt,
            models=self.located,
            editor=self,
        )

    def generate(
        self,
        prompt: str,
        direction: Any,
        strength: float = 1.0,
        *,
        steps: int | None = None,
        seed: int = 0,
        size: int | tuple[int, int] | None = None,
        negative_prompt: str | None = "",
        **settings: Any,
    ) -> Edit:
        """A synthetic picture of the prompt, and its edit; the picture is the edit's `reconstruction`.

        `steps` None: those of the `preset` in `settings`, else 50.
        """
        steps = _steps(steps, settings.get("preset"))
        start = self.imagine(prompt, steps, seed, size=size, negative_prompt=negative_prompt)
        return self.edit(start, direction, strength, **settings)

    def edit(
        self,
        inversion: Inversion,
        direction: Any,
        strength: float = 1.0,
        *,
        negative_prompt: str | None = None,
        mask: Any = None,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> Edit:
        """Edit an inverted picture along a direction; `settings` are those of `EditSettings`, and `preset`.

        `negative_prompt` None is the inversion's own: the caption for a real picture, "" for a synthetic
        one. `mask` is a picture of any size whose white may change; transparent counts as black. Raises
        EncoderMismatch for a direction of another text encoder.
        """
        return self.edit_all(
            [(inversion, direction, strength)],
            negative_prompt=negative_prompt,
            mask=mask,
            on_step=on_step,
            **settings,
        )[0]

    def edit_all(
        self,
        jobs: Sequence[tuple[Inversion, Any, float]],
        *,
        negative_prompt: str | None = None,
        mask: Any = None,
        on_step: OnStep | None = None,
        preset: str | None = None,
        **settings: Any,
    ) -> list[Edit]:
        """Several edits in one batch: (inversion, direction, strength) each, as each would be alone.

        Every inversion's reference pass is made once, whatever the number of its edits. The inversions
        must have the same number of steps and the same size. `preset` names settings of `editor.presets`,
        over which those given win; steps and regulariser are the inversions' (`invert(…, preset=…)`).
        """
        jobs = list(jobs)
        owned = {id(inversion): self._owned(inversion) for inversion, _, _ in jobs}
        jobs = [(owned[id(inversion)], along, plain(strength)) for inversion, along, strength in jobs]
        inversions = [job[0] for job in jobs]
        check_alike(inversions)
        if negative_prompt is not None:
            check_text(negative_prompt, "negative_prompt")
        for _, _, strength in jobs:
            check_strength(strength)
        if mask is not None:
            check_mask(mask)
        check_steps(inversions[0], settings)
        asked = self.settings(preset, **{**settings, "steps": inversions[0].steps})
        synthetic = replace(asked, source_correction=False)  # what was made from noise is its own original
        each = [
            settled(synthetic if inversion.latents is None else asked, self.models, along, inversion)
            for inversion, along, _ in jobs
        ]
        edits: dict[int, Edit] = {}
        for alike in dict.fromkeys(each):
            places = [k for k, chosen in enumerate(each) if chosen == alike]
            with self._own_types():
                made = self._edit_alike([jobs[k] for k in places], alike, negative_prompt, mask, on_step)
            edits.update(zip(places, made, strict=True))
        about = {"preset": preset, "settings": asdict(asked), "created": now(), **self._facts}
        about["mask"] = None if mask is None else picture_origin(mask)
        return [replace(edits[k], record={**edits[k].record, **about}) for k in range(len(jobs))]

    def _owned(self, inversion: Inversion) -> Inversion:
        """The inversion with this editor where it has none; EditorError for one of other models."""
        if located(inversion.models) != self.located:
            raise EditorError(
                f"the picture was inverted with the models {inversion.models}, the editor has "
                f"{self.models.name}; invert the picture again with this editor"
            )
        return inversion if inversion.editor is not None else replace(inversion, editor=self)

    def _edit_alike(
        self,
        jobs: Sequence[tuple[Inversion, Any, float]],
        settings: EditSettings,
        negative_prompt: str | None,
        mask: Any,
        on_step: OnStep | None,
    ) -> list[Edit]:
        """`edit_all` of jobs that have the same settings, which are decided."""
        begin = time.perf_counter()
        inversions = list({id(job[0]): job[0] for job in jobs}.values())
        sources = [next(i for i, known in enumerate(inversions) if known is job[0]) for job in jobs]
        first = inversions[0]
        placed = [
            place(self.models, direction, inversion.caption, inversion.embeds[0], settings.placement)
            for inversion, direction, _ in jobs
        ]
        negatives = [
            inv.negative_prompt if negative_prompt is None else negative_prompt for inv in inversions
        ]
        device = self.device
        prompt = torch.cat([inv.embeds for inv in inversions]).to(device)
        edited = torch.stack(
            [
                prompt[row] + strength * offset.to(device)
                for row, (_, _, strength), (offset, _) in zip(sources, jobs, placed, strict=True)
            ]
        )
        trajectory = None
        if settings.source_correction:
            trajectory = trajectories(inversions).to(device)
        result = edit(
            self.models.unet,
            torch.cat([inv.noise for inv in inversions]).to(device),
            Conditioning(prompt, self._negatives(negatives, inversions, prompt)),
            edited,
            Schedule.from_config(self.models.scheduler_config, first.steps),
            settings,
            sources=sources,
            trajectory=trajectory,
            free=[
                k for k, (_, direction, _) in enumerate(jobs) if len(getattr(direction, "anchored", ())) > 1
            ],
            mask=None if mask is None else latent_mask(mask, first.size, self.models.factor),
            on_step=on_step,
        )
        self._check_finite(
            result.edits,
            "the edit left the numbers that a picture can have",
            "lower the strength, guidance or guidance scale",
        )
        common = {
            "guidance_scale": settings.guidance_scale,
            "batch": Load(1, len(jobs), settings.max_rows).together(settings),
            "seconds": round(time.perf_counter() - begin, 3),
        }
        placements: list[str] = [placement for _, placement in placed]
        return self._edits(jobs, sources, inversions, result, negatives, placements, common)

    def _negatives(
        self, negatives: list[str], inversions: list[Inversion], prompt: torch.Tensor
    ) -> torch.Tensor:
        """Negative embeddings; the caption's own where the texts are equal, so that work is saved."""
        rows = [
            prompt[k] if text == inversion.caption else self.encode([text])[0].to(prompt)
            for k, (text, inversion) in enumerate(zip(negatives, inversions, strict=True))
        ]
        return torch.stack(rows)

    def _edits(
        self,
        jobs: Sequence[tuple[Inversion, Any, float]],
        sources: list[int],
        inversions: list[Inversion],
        result: Edited,
        negatives: list[str],
        placements: list[str],
        common: dict[str, Any],
    ) -> list[Edit]:
        size = inversions[0].size
        references, images = self.decode(result.reference, size), self.decode(result.edits, size)
        return [
            Edit(
                image=images[k],
                reconstruction=references[row].copy(),
                record={
                    "models": self.models.name,
                    "revision": self.models.revision,
                    "encoder": self.models.encoder_id,
                    "prompt": inversion.caption if inversion.latents is None else None,
                    "input": inversion.record.get("origin"),
                    "caption": inversion.caption,
                    "negative_prompt": negatives[row],
                    "seed": inversion.seed,
                    "size": list(inversion.size),
                    "inversion": {k: v for k, v in inversion.record.items() if k != "origin"},
                    "direction": described(direction),
                    "expression": getattr(direction, "ref", ""),
                    "placement": placements[k],
                    "strength": strength,
                    **common,
                },
                latents=result.edits[k : k + 1].cpu(),
                drift=tuple(result.drift[:, k].tolist()),
                inversion=inversion,
                direction=direction,
            )
            for k, (row, (inversion, direction, strength)) in enumerate(zip(sources, jobs, strict=True))
        ]


def _steps(steps: Any, preset: str | None) -> Any:
    """The steps of an inversion: those given, which the schedule checks, else the preset's, else 50."""
    if steps is not None:
        return plain(steps)
    return DEFAULT_STEPS if preset is None else preset_options(preset)["steps"]


def _sides(size: Any) -> tuple[int, int]:
    """Width and height of a synthetic picture, from one side or from both; EditorError for anything else."""
    both = [size, size] if isinstance(size, int) else size
    sides = [plain(side) for side in both] if isinstance(both, Iterable) else []
    if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
        raise EditorError(
            f"size is {size!r}; expected a whole number of at least 1 pixel a side, or (width, height), or "
            "None for the model's own"
        )
    return sides[0], sides[1]
