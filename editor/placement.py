"""Where in a caption a direction is added: position by position, or from the concept's own token on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from editor.models import Models
from editor.settings import EditSettings, Placement
from editor.spaces import check_direction
from zoo.text import concept_position, encode_text, token_count
from zoo.words import swap_concept

if TYPE_CHECKING:
    from editor.inversion import Inversion

#: The part of the whole change that the mean one has to carry for "auto" to take it: where it points to it as closely
#: as the anchored one (less `SLACK`, in cosine), and where it points there `CLEARLY` more closely. Of the embedded
#: models' mean changes cat → dog carries 0.32 to 0.44 and horse → zebra 0.41 to 0.59; glasses 0.33 to 0.6, 0.2
#: nearer; places 0.5 to 0.9, 0.3 nearer; hats 0.11 to 0.3. Forty pictures each: anchored, 100% dogs and 90% zebras;
#: mean, 90% and 100%.
CARRIED, CARRIED_NEARER = 0.41, 1 / 3
SLACK, CLEARLY = 0.02, 0.06
#: And of what the anchored change carries, where it is not clearly nearer (of a style's 0.9 the mean has half).
BESIDE = 0.6
#: The same for synthetic pictures, always, for there the change has to prevail against noise. Prompts' pictures edited
#: at the scale that makes them: anchored, 20 of 20 zebras, 5 of 20 places; mean, 5 and 20 (of what the anchored
#: change carries, zebras' mean has all and places' twice to four times as much).
BESIDE_SYNTHETIC = 1.5
#: The part of the guidance scale that "auto" leaves to the anchored change, which is whole, and to a mean one that
#: carries that much of it. Sixty horses to zebras with the mean change: at 4 as many zebras as at 5, and a third less
#: error in the background; at 3 as many, at 6 fewer.
WHOLE, MOST = 0.5, 0.8
#: Below this cosine of the two changes half of the scale is left to a mean one, too. Glasses have at most 0.3, places
#: at least 0.29, animals 0.5. Twenty dogs, lions and bears, at 4 and 2.5: 80 and 95%, 70 and 100%, 85 and 85% wear
#: them and are the same animal, with a PSNR of the rest of 30 and 36 dB; nights to sunsets at 3: 60% instead of 90%.
ASIDE = 0.28


def settled(settings: EditSettings, models: Models, direction: Any, inversion: Inversion) -> EditSettings:
    """The settings with "auto" placement decided for one edit; others as they are.

    Both placements are held against what the text encoder itself makes of this caption with the one concept in
    place of the other. The mean change is taken where it points there as closely as the anchored one and carries
    enough of it (a place, which stands near the end of most captions; glasses; horse → zebra): four fifths of the
    guidance scale make up for the rest, and half does where the two have little in common (glasses). Else (most
    animals; a hat; a style, which stands far from what it changes) the anchored change is taken, which is whole, at
    half of the guidance scale. A synthetic picture is made by the guidance scale itself, which is then left as it
    is. A direction that has no anchored parts is added as published, at the scale that is asked for.
    """
    if settings.placement != "auto":
        return settings
    caption, embeds = inversion.caption, inversion.embeds[0]
    anchored, placement = place(models, direction, caption, embeds, "anchored")
    if placement == "mean":
        return replace(settings, placement="mean")
    mean, _ = place(models, direction, caption, embeds, "mean")
    whole = swap(models, direction, caption, embeds)
    carried, beside = (
        float((x * whole).sum() / whole.square().sum().clamp(min=1e-12)) for x in (mean, anchored)
    )
    nearer = _cosine(mean, whole) - _cosine(anchored, whole)
    if inversion.latents is None:
        least = max(CARRIED, BESIDE_SYNTHETIC * beside)
    else:
        least = CARRIED_NEARER if nearer >= CLEARLY else max(CARRIED, BESIDE * beside)
    enough = nearer >= -SLACK and carried >= least
    chosen: Placement = "mean" if enough else "anchored"
    part = MOST if chosen == "mean" and _cosine(mean, anchored) >= ASIDE else WHOLE
    scale = settings.guidance_scale if inversion.latents is None else part * settings.guidance_scale
    return replace(settings, placement=chosen, guidance_scale=scale)


def swap(models: Models, direction: Any, caption: str, embeds: torch.Tensor) -> torch.Tensor:
    """What changes in the caption's embedding `[tokens, dim]` where each part's concept is replaced by the other.

    The caption must name a concept of each part: "anchored" placement is possible.
    """
    total = torch.zeros_like(embeds)
    for part in direction.anchored:
        for source, target, sign in ((part.source, part.target, 1), (part.target, part.source, -1)):
            text = swap_concept(caption, source, target)
            if text is not None:
                embedded = encode_text([text], models.tokenizer, models.text_encoder)[0]
                total += sign * part.weight * (embedded.to(embeds) - embeds)
                break
    return total


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def place(
    models: Models, direction: Any, caption: str, embeds: torch.Tensor, placement: Placement
) -> tuple[torch.Tensor, Placement]:
    """What to add to the caption's embedding `[tokens, dim]`, float32 as it, and the placement that it has.

    "mean" is the published one: the difference of mean embeddings, whose rows are absolute positions, so that
    a concept's own token receives the average over all the places where captions had it. "anchored" makes the
    change where the concept stands in this caption: its tokens become those of the other concept, what follows
    moves up or back to make room, and both take the mean change that they had in the direction's captions.
    It falls back on "mean" for a direction without anchored parts (a foreign one), and where the caption names
    neither concept of a part.
    """
    whole = check_direction(models, direction)
    parts = getattr(direction, "anchored", ())
    if placement == "mean" or not parts:
        return whole, "mean"
    embeds = embeds.to(whole)
    total = torch.zeros_like(whole)
    for part in parts:
        change = _changed(models, part, caption, embeds)
        if change is None:
            change = _changed(models, part.times(-1), caption, embeds)
            if change is None:
                return whole, "mean"
            change = -change
        total += part.weight * change
    return total, "anchored"


def anchor(part: Any, caption: str, tokenizer: Any) -> tuple[int, int, int] | None:
    """Where a part's source stands in a caption: its first token's number, its tokens, the target's.

    None where it does not stand there.
    """
    start = concept_position(caption, part.source, tokenizer)
    if start is None:
        return None
    old, new = (token_count(text, tokenizer) - 2 for text in (part.source, part.target))
    return start, old, new


def _changed(models: Models, part: Any, caption: str, embeds: torch.Tensor) -> torch.Tensor | None:
    """What the part's change adds to the caption's embedding; None where its source does not stand there."""
    found = anchor(part, caption, models.tokenizer)
    if found is None:
        return None
    start, old, new = found
    source, target = (torch.as_tensor(mean) for mean in (part.source_mean, part.target_mean))
    rows = len(embeds)
    # Where each row of the changed caption comes from: the concept's rows, the last one as often as it takes,
    # then what followed it.
    inside = [min(row, old - 1) for row in range(new)]
    origin = torch.tensor([*inside, *range(old, rows)])[: rows - start].clamp(max=rows - 1)
    arrived = torch.arange(len(origin))
    moved = embeds[start + origin.clamp(max=rows - 1 - start)] + target[arrived] - source[origin]
    change = torch.zeros_like(embeds)
    change[start : start + len(moved)] = moved - embeds[start : start + len(moved)]
    return change
