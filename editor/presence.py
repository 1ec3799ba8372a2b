"""Whether an edit is there: whether the model takes the edited picture for what the direction leads to.

No classifier is asked, the diffusion model is one (Li et al., "Your Diffusion Model is Secretly a Zero-Shot
Classifier", ICCV 2023): of two prompts the one that fits a noisy picture lets the UNet find its noise better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from editor.errors import EditorError
from editor.inversion import Edit
from editor.latents import draw_noise, seeded
from editor.placement import place
from editor.schedule import Schedule
from editor.steps import alone, predict
from editor.wordmaps import latents_of

#: Noise levels at which pictures are compared, evenly over the timesteps.
LEVELS = 4


class PresenceUnknown(EditorError):
    """The picture itself is no nearer to its caption than to the target, so that nothing can be compared."""


def presence(edits: Sequence[Edit], levels: int = LEVELS) -> list[float]:
    """For edits of one inversion along one direction, how far each has come towards the direction's target.

    -1 is the picture itself, 0 as near to the target as to the source, 1 as near to the target as the picture
    was to the source. Source is the caption, target the caption moved wholly along the direction (strength 1;
    of edits with negative strengths, which go back, -1), at the concept's own token where that can be. Nearness
    is the mean square error of the noise that the UNet finds under each, over `levels` noise levels with the
    same noise for all. Costs `levels` evaluations of the UNet with two rows for each edit and for the picture.
    Raises PresenceUnknown where the picture is no nearer to its caption than to the target, EditorError for
    edits that do not know what they are of.
    """
    first = edits[0]
    if first.inversion is None or first.direction is None:
        raise EditorError("these edits do not know what they are of; make them with Inversion.edit")
    inversion, models = first.inversion, first.inversion._editor().models
    offset, _ = place(models, first.direction, inversion.caption, inversion.embeds[0], "anchored")
    forward = first.record["strength"] >= 0
    if not forward:
        offset = -offset
    latents = torch.cat([latents_of(inversion, first), *(edit.latents for edit in edits)]).to(models.device)
    embeds = torch.cat([inversion.embeds, inversion.embeds + offset]).to(models.device)
    closer = _closer(models, latents, embeds, levels, first.record["settings"]["max_rows"])
    own = -closer[0]
    if own <= 0:
        raise PresenceUnknown(
            f"the models find the picture no nearer to its caption {inversion.caption!r} than to what "
            f"{first.direction.name or 'the direction'} {'leads to' if forward else 'comes from'}; say what it shows "
            f"with {inversion.caption_option}"
        )
    return (closer[1:] / own).tolist()


def _closer(
    models: Any, latents: torch.Tensor, embeds: torch.Tensor, levels: int, max_rows: int | None
) -> torch.Tensor:
    """How much better the noise in latents `[N, C, h, w]` is found under the second of two embeddings, `[N]`."""
    count = len(latents)
    conditioning = embeds.repeat_interleave(count, dim=0)
    # The last level is next to no noise, in which nothing can be told apart.
    schedule = Schedule.from_config(models.scheduler_config, levels + 1)
    size = max_rows or 2 * count
    total = torch.zeros(count)
    for i in range(levels):
        level, timestep = schedule.levels[i][0], schedule.timesteps[i]
        noise = draw_noise((1, *latents.shape[1:]), seeded(i), latents.device)
        inputs = torch.cat([level**0.5 * latents + (1 - level) ** 0.5 * noise] * 2)
        with torch.no_grad(), alone(models.unet):
            output = torch.cat(
                [
                    predict(models.unet, inputs[k : k + size], timestep, conditioning[k : k + size])
                    for k in range(0, len(inputs), size)
                ]
            )
        of_output, of_input = schedule.noise_map(i)
        errors = (of_output * output + of_input * inputs - noise).square().mean(dim=(1, 2, 3)).cpu()
        total += errors[:count] - errors[count:]
    return total / levels
