"""Reference and guided denoising in lock-step: one picture followed by any number of edits of it.

At each step the reference pass shows its cross-attention maps, and every edit is at once guided by them,
so only one step's maps are ever held. For deterministic samplers this gives what the published order (all
of the reference, then all of the edit) gives; for the others both draw the same noise.
Parmar et al. 2023, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from editor.attention import cross_attention
from editor.convolution import small_map_products
from editor.guidance import frozen
from editor.lockstep import LockStep
from editor.masks import ImplicitMask
from editor.settings import EditSettings
from editor.steps import Conditioning, OnStep, Sampler, alone, notify


@dataclass(frozen=True)
class Edited:
    """Latents `[K, C, H, W]` of the edits and `[B, C, H, W]` of the reconstructions, float32.

    `drift` `[steps, K]` is the guidance loss of each step before it was followed, 0 where none was;
    the smaller, the closer the edit's maps stayed to the picture's.
    """

    edits: torch.Tensor
    reference: torch.Tensor
    drift: torch.Tensor


@torch.inference_mode(False)  # the gradient needs ordinary tensors, also for callers in inference mode
@torch.no_grad()
def edit(
    unet: Any,
    noise: torch.Tensor,
    conditioning: Conditioning,
    edited: torch.Tensor,
    sampler: Sampler,
    settings: EditSettings,
    *,
    sources: Sequence[int] | None = None,
    trajectory: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    free: Sequence[int] = (),
    on_step: OnStep | None = None,
    unet_kwargs: Mapping[str, Any] | None = None,
) -> Edited:
    """Denoise `noise` `[B, C, H, W]` under its prompt, and K edits of it under `edited` `[K, tokens, dim]`.

    Edit k starts from picture `sources[k]` (None: edit k from picture k, or all from the only one).
    `trajectory` `[steps + 1, B, C, H, W]` is the inversion's, for `source_correction`. `mask`
    `[B or 1, 1, H, W]` in [0, 1] keeps the reference where it is 0. `free` names the
    edits that `keep_background` is not for. `noise` is not scaled here.
    """
    noise, edited = noise.detach().clone().float(), edited.detach().clone()
    conditioning = conditioning.copy()
    _check(noise, conditioning, edited, sampler, settings, trajectory)
    rows = _sources(sources, noise.shape[0], edited.shape[0])
    run = LockStep(unet, conditioning, edited, settings, rows, unet_kwargs)
    reference = noise
    edits = reference[rows]
    follower = sampler.fork(rows)
    keep = None if mask is None else mask.to(reference).expand(noise.shape[0], -1, -1, -1)[rows]
    implicit = None
    if settings.keep_background:
        implicit = ImplicitMask(settings.keep_background, len(sampler), free)
    positions = None if settings.attention_resolution is None else settings.attention_resolution**2
    drifts = []
    attention = cross_attention(unet, max_positions=positions)
    with alone(unet), frozen(unet), small_map_products(unet), attention as control:
        for i, timestep in enumerate(sampler.timesteps):
            known = None
            if settings.source_correction and trajectory is not None:
                known = trajectory[len(sampler) - 1 - i].to(reference)
            compared = implicit is not None and implicit.collects
            seen = run.reference_step(control, sampler, i, reference, known, compared)
            reference = notify(on_step, "reference", i, timestep, seen.after)
            step = run.edit_step(control, follower, i, edits, seen)
            edits = step.after
            for allowed in (keep, None if implicit is None else implicit.update(step.change)):
                if allowed is not None:
                    edits = allowed * edits + (1 - allowed) * reference[rows]
            edits = notify(on_step, "edit", i, timestep, edits)
            drifts.append(step.drift)
    return Edited(edits, reference, torch.stack(drifts))


def _sources(sources: Sequence[int] | None, pictures: int, edits: int) -> list[int]:
    """The picture that each edit starts from."""
    if sources is None:
        if pictures not in (1, edits):
            raise ValueError(
                f"{edits} edits of {pictures} pictures: say by `sources` which picture each edit is of"
            )
        return [0] * edits if pictures == 1 else list(range(edits))
    rows = [int(row) for row in sources]
    if len(rows) != edits or not all(0 <= row < pictures for row in rows):
        raise ValueError(f"sources is {rows}; expected {edits} numbers from 0 to {pictures - 1}")
    return rows


def _check(
    noise: torch.Tensor,
    conditioning: Conditioning,
    edited: torch.Tensor,
    sampler: Sampler,
    settings: EditSettings,
    trajectory: torch.Tensor | None,
) -> None:
    """Refuse shapes that do not belong together, naming them."""
    if noise.ndim != 4:
        raise ValueError(
            f"the noise has shape {tuple(noise.shape)}; expected [batch, channels, height, width]"
        )
    if conditioning.prompt.shape[0] != noise.shape[0]:
        raise ValueError(
            f"{conditioning.prompt.shape[0]} prompts for {noise.shape[0]} pictures; expected one each"
        )
    if edited.ndim != 3 or edited.shape[1:] != conditioning.prompt.shape[1:]:
        raise ValueError(
            f"edited embeddings have shape {tuple(edited.shape)}; expected [edits, "
            f"{conditioning.prompt.shape[1]}, {conditioning.prompt.shape[2]}] as the prompt's"
        )
    if len(sampler) != settings.steps:
        raise ValueError(f"the sampler takes {len(sampler)} steps, the settings say {settings.steps}")
    if settings.source_correction and trajectory is None:
        raise ValueError(
            "source_correction needs the inversion's trajectory: invert with keep_trajectory=True"
        )
    if trajectory is not None and trajectory.shape != (len(sampler) + 1, *noise.shape):
        raise ValueError(
            f"the trajectory has shape {tuple(trajectory.shape)}; expected "
            f"{(len(sampler) + 1, *noise.shape)}: the edit takes as many steps as the inversion"
        )
