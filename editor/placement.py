"""Where in a caption a direction is added: position by position, or from the concept's own token on."""

from __future__ import annotations

from typing import Any

import torch

from editor.models import Models
from editor.settings import Placement
from editor.spaces import check_direction
from zoo.text import concept_position, token_count


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
