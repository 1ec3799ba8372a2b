"""Where the words of a caption look, in a picture and in its edits: a replay of a few noise levels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from editor.attention import AttentionMaps, cross_attention
from editor.errors import EditorError
from editor.images import pad_to_multiple, to_pixels
from editor.inversion import Edit, Inversion
from editor.latents import encode_pixels
from editor.placement import anchor, place
from editor.schedule import Schedule
from editor.steps import alone, predict
from zoo.text import tokenized
from zoo.words import UNNEEDED, forms, words_of

#: Noise levels at which maps are taken, evenly over the steps.
LEVELS = 5
#: Layers of this many resolutions, from the finest on, are averaged; coarser ones place nothing.
RESOLUTIONS = 2
#: The part of a picture that counts as looking away from a concept.
AWAY = 0.4

#: A word of a caption with the positions of its tokens.
Word = tuple[str, list[int]]


def word_maps(
    inversion: Inversion, latents: torch.Tensor, embeds: torch.Tensor, levels: int = LEVELS
) -> torch.Tensor:
    """Where each token looks in pictures of `latents` `[R, C, h, w]` under `embeds` `[R, tokens, dim]`.

    Gives `[R, tokens, h, w]` float32 on the CPU, means over heads, levels and the layers of the two finest
    resolutions. It is a pass of its own, and cheap: the pictures are brought to a handful of the inversion's
    noise levels, all with the noise that the inversion has there (its own picture is then on its
    trajectory), and the UNet is evaluated once a level. So these are the maps of finished pictures, not
    those that guidance saw while an edit was made.
    """
    editor = inversion._editor()
    unet, device = editor.models.unet, editor.device
    schedule = Schedule.from_config(editor.models.scheduler_config, inversion.steps)
    count = min(levels, inversion.steps)
    height, width = latents.shape[2:]
    total = torch.zeros(())
    with torch.no_grad(), alone(unet), cross_attention(unet) as control:
        for k in range(count):
            i = int((k + 0.5) * inversion.steps / count)
            level = schedule.levels[i][0]
            noisy = level**0.5 * latents + (1 - level) ** 0.5 * noise_at(inversion, i, level)
            seen: dict[str, torch.Tensor] = {}
            with control.record(seen):
                predict(unet, noisy.to(device), schedule.timesteps[i], embeds.to(device))
            total = total + _finest(seen).pictures(height, width).cpu()
    return total / count


def before_and_after(inversion: Inversion, edit: Edit, levels: int = LEVELS) -> torch.Tensor:
    """`word_maps` of the picture under its caption and of the edit under its own, `[2, tokens, h, w]`."""
    latents, embeds = latents_of(inversion, edit), conditionings(inversion, edit)
    return word_maps(inversion, torch.cat([latents, edit.latents]), embeds, levels)


def conditionings(inversion: Inversion, edit: Edit) -> torch.Tensor:
    """The embeddings of the caption and of the edit, `[2, tokens, dim]`."""
    if edit.direction is None:
        raise EditorError("this edit does not know its direction; make it again with Inversion.edit")
    models, placement = inversion._editor().models, edit.record["placement"]
    offset, _ = place(models, edit.direction, inversion.caption, inversion.embeds[0], placement)
    return torch.cat([inversion.embeds, inversion.embeds + edit.record["strength"] * offset])


def latents_of(inversion: Inversion, edit: Edit) -> torch.Tensor:
    """The latents of the picture that was edited, `[1, C, h, w]`; a synthetic one is encoded again."""
    if inversion.latents is not None:
        return inversion.latents
    models = inversion._editor().models
    pixels = pad_to_multiple(to_pixels([edit.reconstruction]), models.factor)
    return encode_pixels(models.vae, pixels, sample=False).cpu()


def caption_words(caption: str, tokenizer: Any) -> list[Word]:
    """Each word with the positions of its tokens; punctuation, special and cut-off tokens are left out."""
    whole = {"truncation": True, "max_length": tokenizer.model_max_length}
    offsets = tokenized(tokenizer, caption, **whole, return_offsets_mapping=True)["offset_mapping"]
    found = []
    for match in re.finditer(r"\w\S*\w|\w", caption):
        begin, end = match.span()
        places = [k for k, (start, stop) in enumerate(offsets) if begin <= start and start < stop <= end]
        if places:
            found.append((match.group(), places))
    return found


def edited_words(words: Sequence[Word], edit: Edit, caption: str, tokenizer: Any) -> list[Word]:
    """The same words with the positions that their tokens have in the edit's own conditioning.

    They move where the direction was anchored at its concept and the other concept takes more tokens or
    fewer: the concept's words then have all of the new one's. A sum of directions moves nothing.
    """
    parts: Sequence[Any] = getattr(edit.direction, "anchored", ())
    if edit.record.get("placement") != "anchored" or len(parts) != 1:
        return list(words)
    found = anchor(parts[0], caption, tokenizer)
    if found is None:
        return list(words)
    start, old, new = found
    concept = set(range(start, start + old))
    moved = []
    for word, places in words:
        kept = [k if k < start else k + new - old for k in places if k not in concept]
        inside = range(start, start + new) if concept & set(places) else ()
        moved.append((word, [k for k in [*inside, *kept] if k < tokenizer.model_max_length]))
    return moved


def away_from(inversion: Inversion, edit: Edit, concept: str) -> NDArray[np.bool_] | None:
    """The part of the picture that looks least at a concept, `[height, width]`; None where it is not named.

    Least both before the edit and after it, because what the direction brings (a hat) may need a place of
    its own. It is 40% of the picture.
    """
    needed = [word for word in words_of(concept) if word not in UNNEEDED]
    tokenizer = inversion._editor().models.tokenizer
    words = [
        (word, places)
        for word, places in caption_words(inversion.caption, tokenizer)
        if any(forms(one) & set(words_of(word)) for one in needed)
    ]
    if not words:
        return None
    maps = before_and_after(inversion, edit)
    spans = (words, edited_words(words, edit, inversion.caption, tokenizer))
    looks = [maps[row, sorted({k for _, at in spans[row] for k in at})].sum(dim=0) for row in (0, 1)]
    heat = torch.maximum(looks[0] / looks[0].max(), looks[1] / looks[1].max())
    factor = inversion._editor().models.factor
    size = (heat.shape[1] * factor, heat.shape[0] * factor)
    large = np.asarray(Image.fromarray(heat.numpy()).resize(size, Image.Resampling.BILINEAR))
    values = large[: inversion.size[1], : inversion.size[0]]
    return values < np.quantile(values, AWAY)


def noise_at(inversion: Inversion, i: int, level: float) -> torch.Tensor:
    """The noise `[1, C, h, w]` in the inversion's sample before step i, at the noise level `level` (ᾱ).

    Without a trajectory it is the noise that the inversion ends in.
    """
    if inversion.trajectory is None or inversion.latents is None:
        return inversion.noise
    sample = inversion.trajectory[inversion.steps - i]
    return (sample - level**0.5 * inversion.latents) / (1 - level) ** 0.5


def _finest(layers: dict[str, torch.Tensor]) -> AttentionMaps:
    """The maps of the finest resolutions alone."""
    sizes = sorted({layer.shape[2] for layer in layers.values()}, reverse=True)[:RESOLUTIONS]
    return AttentionMaps({name: layer for name, layer in layers.items() if layer.shape[2] in sizes})
