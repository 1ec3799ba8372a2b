"""The two halves of one lock-step: the reference shows its maps, the edits follow them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from editor.attention import AttentionMaps, CrossAttention
from editor.guidance import Guidance, guidance_gradient
from editor.settings import EditSettings
from editor.steps import Conditioning, Estimate, Sampler, denoise, predict


@dataclass(frozen=True)
class Seen:
    """What an edit may use of the reference's step: its maps, and its output under the negative prompt."""

    maps: AttentionMaps
    negative: torch.Tensor


class LockStep:
    """What stays the same over the steps of one call of `edit`."""

    def __init__(
        self,
        unet: Any,
        conditioning: Conditioning,
        edited: torch.Tensor,
        settings: EditSettings,
        rows: list[int],
        unet_kwargs: Mapping[str, Any] | None,
    ) -> None:
        if settings.guidance_scale <= 1:
            conditioning = Conditioning(conditioning.prompt)
        self.unet, self.settings, self.rows, self.unet_kwargs = unet, settings, rows, unet_kwargs
        self.reference = conditioning.collapse()
        self.prompt, self.edited = conditioning.prompt[rows], edited.to(conditioning.prompt)
        self.negative = None if conditioning.negative is None else conditioning.negative[rows]
        self.halves = conditioning.halves

    def reference_step(
        self, control: CrossAttention, sampler: Sampler, i: int, sample: torch.Tensor
    ) -> tuple[torch.Tensor, Seen]:
        """Denoise the reference; in a guided step also its maps."""
        maps: dict[str, torch.Tensor] = {}
        estimates: list[Estimate] = []

        def keep(estimate: Estimate, _: torch.Tensor, __: int) -> torch.Tensor:
            estimates.append(estimate)
            return estimate.combined

        arguments = (self.unet, sampler, i, sample, self.reference, self.settings.guidance_scale)
        if self.settings.guides(i):
            with control.record(maps):
                after = denoise(*arguments, refine=keep, unet_kwargs=self.unet_kwargs)
        else:
            after = denoise(*arguments, refine=keep, unet_kwargs=self.unet_kwargs)
        first = estimates[0]
        return after, Seen(AttentionMaps(maps), first.prompt if first.negative is None else first.negative)

    def edit_step(
        self, control: CrossAttention, sampler: Sampler, i: int, sample: torch.Tensor, seen: Seen
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Guide and denoise the edits; also their drift `[K]`."""
        blend = self.settings.blend(i)
        prompt = self.edited if blend == 1 else blend * self.edited + (1 - blend) * self.prompt
        conditioning = Conditioning(prompt, self.negative)
        scale, count = sampler.scale(i), len(sample)
        inputs = torch.cat([sample * scale] * self.halves)
        drift, output = sample.new_zeros(count), None
        # At the first step the negative half is the reference's own: same sample, same prompt.
        known = seen.negative[self.rows] if i == 0 and self.halves == 2 else None
        if self.settings.guides(i):
            inputs, drift, output = self._guide(
                control, inputs, sampler.timesteps[i], conditioning, seen.maps, known
            )
            if self.settings.conditional_only:
                known = None  # that half has moved with the other
            # As published, the unconditional half is what goes on; the other only shaped its estimate.
            sample = inputs[:count] / scale

        def correct(estimate: Estimate, _: torch.Tensor, __: int) -> torch.Tensor:
            if not self.settings.noise_correction or estimate.negative is None:
                return estimate.combined
            return estimate.combined + seen.negative[self.rows] - estimate.negative

        if output is None and known is not None:
            output = torch.cat([known, self._predict(inputs[count:], sampler.timesteps[i], prompt)])
        elif output is None:
            output = self._predict(inputs, sampler.timesteps[i], conditioning.rows)
        return denoise(
            self.unet,
            sampler,
            i,
            sample,
            conditioning,
            self.settings.guidance_scale,
            output=output,
            refine=correct,
        ), drift

    def _guide(
        self,
        control: CrossAttention,
        inputs: torch.Tensor,
        timestep: float,
        conditioning: Conditioning,
        maps: AttentionMaps,
        known: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Inputs moved against the gradient, the drift `[K]`, and the UNet's output where it is reused.

        `known` is the output for the negative half where that is the reference's: its gradient is zero.
        """
        count, targets, embeds = len(self.rows), self._target_rows(), conditioning.rows
        together = self.settings.conditional_only and self.halves == 2
        first = count if together or known is not None else 0
        found = self._gradient(control, inputs[first:], timestep, embeds[first:], maps, targets[first:])
        gradient = found.gradient
        if first:
            gradient = torch.cat([gradient if together else torch.zeros_like(gradient), gradient])
        moved = inputs - self._bounded(self.settings.cross_attention_guidance * gradient)
        drift = found.loss.view(-1, count).sum(dim=0)
        if not self.settings.reuse_forward:
            return moved, drift, None
        if first == 0:
            return moved, drift, found.output
        negative = self._predict(inputs[:first], timestep, embeds[:first]) if known is None else known
        return moved, drift, torch.cat([negative, found.output])

    def _bounded(self, move: torch.Tensor) -> torch.Tensor:
        """Moves `[R, C, H, W]` shortened to a root mean square of at most `guidance_limit`, row by row."""
        limit = self.settings.guidance_limit
        if limit is None:
            return move
        size = move.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return move * (limit / size.clamp(min=limit))

    def _target_rows(self) -> list[int]:
        """For each row of the edits' UNet inputs, the row of the reference's maps that it should resemble."""
        pictures = self.reference.prompt.shape[0]
        shift = pictures if self.reference.negative is not None else 0
        return [row + shift * half for half in range(self.halves) for row in self.rows]

    def _gradient(
        self,
        control: CrossAttention,
        inputs: torch.Tensor,
        timestep: float,
        embeds: torch.Tensor,
        maps: AttentionMaps,
        targets: list[int],
    ) -> Guidance:
        """`guidance_gradient`, in slices of at most `max_rows` rows."""
        size = self.settings.max_rows or len(targets)
        parts = [
            guidance_gradient(
                self.unet,
                control,
                inputs[k : k + size],
                timestep,
                embeds[k : k + size],
                maps,
                targets[k : k + size],
                self.halves,
                self.unet_kwargs,
            )
            for k in range(0, len(targets), size)
        ]
        return Guidance(
            torch.cat([part.gradient for part in parts]),
            torch.cat([part.loss for part in parts]),
            torch.cat([part.output for part in parts]),
        )

    def _predict(self, inputs: torch.Tensor, timestep: float, embeds: torch.Tensor) -> torch.Tensor:
        """`predict`, in slices of at most `max_rows` rows."""
        size = self.settings.max_rows or len(inputs)
        return torch.cat(
            [
                predict(self.unet, inputs[k : k + size], timestep, embeds[k : k + size], self.unet_kwargs)
                for k in range(0, len(inputs), size)
            ]
        )
