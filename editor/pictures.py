"""Where each word of a caption looks: cross-attention maps as heat over the picture and over its edit."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from editor.attention import AttentionMaps, cross_attention
from editor.errors import EditorError
from editor.images import pad_to_multiple, to_pixels
from editor.inversion import Edit, Inversion
from editor.latents import encode_pixels
from editor.placement import place
from editor.schedule import Schedule
from editor.sheets import Labelled, contact_sheet, enlarged
from editor.steps import predict

#: Noise levels at which maps are taken, evenly over the steps.
LEVELS = 5
#: Layers of this many resolutions, from the finest on, are averaged; coarser ones place nothing.
RESOLUTIONS = 2
_COLOURS = "inferno"  # dark to bright, perceived evenly
_CELL = 224  # pixels along the longer side of a picture, at least
_TEXT = 22  # pixels
_ACROSS = 8  # words; a longer caption goes on in two more rows
_OPACITY = (0.3, 0.8)  # of the heat, where a word looks least and where it looks most


def attention_sheet(inversion: Inversion, what: Any, *, levels: int = LEVELS) -> Image.Image:
    """For each word of the caption where it looks: above in the picture, below in its edit.

    `what` is an `Edit` of this inversion, or a direction, which is then applied with the default settings.
    A caption of many words takes several such pairs of rows. A word's heat has one scale for both of its
    pictures, so they can be compared. The maps are those of `word_maps`. Raises EditorError for a caption
    without words.
    """
    edit = what if isinstance(what, Edit) else inversion.edit(what)
    editor = inversion._editor()
    words = caption_words(inversion.caption, editor.models.tokenizer)
    if not words:
        raise EditorError(f"the caption {inversion.caption!r} has no words to show the attention of")
    embeds = torch.cat([inversion.embeds, edited_embeds(inversion, edit)])
    latents = torch.cat([clean_latents(inversion, edit), edit.latents])
    maps = word_maps(inversion, latents, embeds, levels)
    low, high = maps.amin(dim=(0, 2, 3), keepdim=True), maps.amax(dim=(0, 2, 3), keepdim=True)
    heat = (maps - low) / (high - low).clamp(min=1e-12)
    before = edit.picture or edit.reconstruction
    label = str(edit.record.get("direction", {}).get("name", "")) or "edit"
    pair = ((0, "picture", before), (1, label, edit.image))
    rows: list[list[Labelled | None]] = []
    for begin in range(0, len(words), _ACROSS):
        for row, name, picture in pair:
            start = (name, enlarged(picture, _CELL)) if begin == 0 else None
            rows.append([start])
            for k, word in list(enumerate(words))[begin : begin + _ACROSS]:
                rows[-1].append((word, overlay(picture, heat[row, k], editor.models.factor)))
    return contact_sheet(rows, _TEXT)


def word_maps(
    inversion: Inversion, latents: torch.Tensor, embeds: torch.Tensor, levels: int = LEVELS
) -> torch.Tensor:
    """Where each word of the caption looks in pictures of `latents` `[R, C, h, w]`: `[R, words, h, w]`.

    A pass of its own, and cheap: the pictures are brought to a handful of the inversion's noise levels, all
    with the noise that the inversion has there (the first picture is then on the inversion's
    trajectory), and the UNet is evaluated once a level under `embeds` `[R, tokens, dim]`. So these are the maps of
    the finished pictures, not those that guidance saw while an edit was made. Means over heads, levels
    and the layers of the two finest resolutions, summed over a word's tokens; on the CPU.
    """
    editor = inversion._editor()
    schedule = Schedule.from_config(editor.models.scheduler_config, inversion.steps)
    count = min(levels, inversion.steps)
    chosen = [int((k + 0.5) * inversion.steps / count) for k in range(count)]
    height, width = latents.shape[2:]
    total = torch.zeros(())
    with torch.no_grad(), cross_attention(editor.models.unet) as control:
        for i in chosen:
            level = schedule.levels[i][0]
            noisy = level**0.5 * latents + (1 - level) ** 0.5 * noise_at(inversion, i, level)
            seen: dict[str, torch.Tensor] = {}
            with control.record(seen):
                predict(
                    editor.models.unet,
                    noisy.to(editor.device),
                    schedule.timesteps[i],
                    embeds.to(editor.device),
                )
            total = total + finest(AttentionMaps(seen)).pictures(height, width).cpu()
    tokens = total / count
    spans = word_tokens(inversion.caption, editor.models.tokenizer)
    return torch.stack([tokens[:, places].sum(dim=1) for _, places in spans], dim=1)


def noise_at(inversion: Inversion, i: int, level: float) -> torch.Tensor:
    """The noise `[1, C, h, w]` in the inversion's sample before step i, at the noise level `level` (ᾱ).

    Without a trajectory it is the noise that the inversion ends in.
    """
    if inversion.trajectory is None or inversion.latents is None:
        return inversion.noise
    sample = inversion.trajectory[inversion.steps - i]
    return (sample - level**0.5 * inversion.latents) / (1 - level) ** 0.5


def clean_latents(inversion: Inversion, edit: Edit) -> torch.Tensor:
    """The picture's latents `[1, C, h, w]` on the CPU; a synthetic picture is encoded again."""
    if inversion.latents is not None:
        return inversion.latents
    models = inversion._editor().models
    pixels = pad_to_multiple(to_pixels([edit.reconstruction]), models.factor)
    return encode_pixels(models.vae, pixels, sample=False).cpu()


def edited_embeds(inversion: Inversion, edit: Edit) -> torch.Tensor:
    """The caption's embeddings moved along the edit's direction, `[1, tokens, dim]`."""
    if edit.direction is None:
        raise EditorError("this edit does not know its direction; make it again with Inversion.edit")
    models, placement = inversion._editor().models, edit.record["settings"]["placement"]
    offset, _ = place(models, edit.direction, inversion.caption, inversion.embeds[0], placement)
    return inversion.embeds + edit.record["strength"] * offset


def finest(maps: AttentionMaps, resolutions: int = RESOLUTIONS) -> AttentionMaps:
    """The layers of the finest resolutions alone."""
    sizes = sorted({layer.shape[2] for layer in maps.layers.values()}, reverse=True)[:resolutions]
    return AttentionMaps({name: layer for name, layer in maps.layers.items() if layer.shape[2] in sizes})


def caption_words(caption: str, tokenizer: Any) -> list[str]:
    """The words of a caption that the text encoder sees, as they stand there."""
    return [word for word, _ in word_tokens(caption, tokenizer)]


def word_tokens(caption: str, tokenizer: Any) -> list[tuple[str, list[int]]]:
    """Each word with the positions of its tokens; punctuation, special and cut-off tokens are left out."""
    offsets = tokenizer(
        caption, truncation=True, max_length=tokenizer.model_max_length, return_offsets_mapping=True
    )["offset_mapping"]
    found = []
    for match in re.finditer(r"\w[^\s]*\w|\w", caption):
        begin, end = match.span()
        places = [k for k, (start, stop) in enumerate(offsets) if begin <= start and start < stop <= end]
        if places:
            found.append((match.group(), places))
    return found


def overlay(picture: Image.Image, heat: torch.Tensor, factor: int) -> Image.Image:
    """The picture, enlarged and greyed, under a map `[h, w]` in [0, 1] of its latents, enlarged smoothly.

    `factor` is the pixels of the picture for one of its latents.
    """
    from matplotlib import colormaps

    large = enlarged(picture, _CELL)
    scale = large.width // picture.width * factor
    smooth = F.interpolate(heat[None, None], scale_factor=scale, mode="bilinear")[0, 0]
    values = smooth[: large.height, : large.width].numpy()[..., None]
    colours = colormaps[_COLOURS](values[..., 0])[..., :3] * 255
    grey = np.asarray(large.convert("L").convert("RGB"), dtype=np.float64)
    opacity = _OPACITY[0] + (_OPACITY[1] - _OPACITY[0]) * values
    return Image.fromarray(((1 - opacity) * grey + opacity * colours).round().astype(np.uint8))
