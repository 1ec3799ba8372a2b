"""Attention as pictures: where each word of a caption looks, as heat over the picture and over its edit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from editor.errors import EditorError
from editor.inversion import Edit, Inversion
from editor.sheets import Labelled, contact_sheet, enlarged
from editor.wordmaps import LEVELS, before_and_after, caption_words, edited_words

_COLOURS = "inferno"  # dark to bright, perceived evenly
_CELL = 224  # pixels along the longer side of a picture, at least
_TEXT = 22  # pixels
_ACROSS = 8  # words; a longer caption goes on in two more rows
_OPACITY = (0.3, 0.8)  # of the heat, where a word looks least and where it looks most


def attention_sheet(inversion: Inversion, what: Any, *, levels: int = LEVELS) -> Image.Image:
    """For each word of the caption where it looks: above in the picture, below in its edit.

    `what` is an `Edit` of this inversion, or a direction, which is then applied with the default settings.
    A word's heat has one scale for both of its pictures, so that they can be compared. The maps come from a
    short pass of their own over `levels` noise levels (`editor.wordmaps.word_maps`). Raises EditorError for
    a caption without words.
    """
    edit = what if isinstance(what, Edit) else inversion.edit(what)
    models = inversion._editor().models
    words = caption_words(inversion.caption, models.tokenizer)
    if not words:
        raise EditorError(f"the caption {inversion.caption!r} has no words to show the attention of")
    after = edited_words(words, edit, inversion.caption, models.tokenizer)
    maps = before_and_after(inversion, edit, levels)
    heat = torch.stack(
        [
            torch.stack([maps[row, places].sum(dim=0) for _, places in spans])
            for row, spans in ((0, words), (1, after))
        ]
    )
    low, high = heat.amin(dim=(0, 2, 3), keepdim=True), heat.amax(dim=(0, 2, 3), keepdim=True)
    heat = (heat - low) / (high - low).clamp(min=1e-12)
    name = edit.record["direction"]["name"] or "edit"
    pictures = (("picture", edit.picture or edit.reconstruction), (name, edit.image))
    rows: list[list[Labelled | None]] = []
    for begin in range(0, len(words), _ACROSS):
        for row, (label, picture) in enumerate(pictures):
            rows.append([(label, enlarged(picture, _CELL)) if begin == 0 else None])
            for k in range(begin, min(begin + _ACROSS, len(words))):
                rows[-1].append((words[k][0], overlay(picture, heat[row, k], models.factor)))
    return contact_sheet(rows, _TEXT)


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
