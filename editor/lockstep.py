"""The two halves of one lock-step: the reference shows its maps, the edits follow them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from editor.attention import AttentionMaps, CrossAttention
from editor.graphs import Replay, Tensors
from editor.guidance import Guidance, guidance_gradient
from editor.settings import EditSettings
from editor.steps import Conditioning, Estimate, Sampler, combine, denoise, predict

#: The UNet's output among the maps of its layers.
OUTPUT = "output"


@dataclass(frozen=True)
class Seen:
    """What an edit may use of the reference's step: where it began and ended, its maps and estimates.

    Estimates are None where the step was known without evaluating the UNet.
    """

    before: torch.Tensor
    after: torch.Tensor
    maps: AttentionMaps
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Step:
    """The edits' next samples `[K, C, H, W]`, their drift `[K]`, and what the direction changed in the estimate.

    The change is None where the reference's estimate is.
    """

    after: torch.Tensor
    drift: torch.Tensor
    change: torch.Tensor | None


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
        if settings.noise_correction:
            self.negative = self.prompt
        self.halves = 1 if self.negative is None else 2
        self.replay = Replay(unet, unet_kwargs)

    def reference_step(
        self,
        control: CrossAttention,
        sampler: Sampler,
        i: int,
        sample: torch.Tensor,
        known: torch.Tensor | None = None,
        compared: bool = True,
    ) -> Seen:
        """Denoise the reference, or take it to `known`; in a guided step also its maps.

        A known step that shows no maps, and whose estimate is not `compared` with the edits', is not evaluated.
        """
        compared = compared and not self.settings.noise_correction
        if known is not None and not compared and not self.settings.guides(i):
            return Seen(sample, known, AttentionMaps({}))
        maps: dict[str, torch.Tensor] = {}
        estimates: list[Estimate] = []

        def keep(estimate: Estimate, _: torch.Tensor, __: int) -> torch.Tensor:
            estimates.append(estimate)
            return estimate.combined

        def shown(inputs: torch.Tensor, timestep: float, embeds: torch.Tensor) -> torch.Tensor:
            maps.update(
                self.replay("reference and maps", partial(self._shown, control), inputs, timestep, embeds)
            )
            return maps.pop(OUTPUT)

        guided = self.settings.guides(i)
        after = denoise(
            shown if guided else partial(self.replay.predict, "reference"),
            sampler,
            i,
            sample,
            self.reference,
            self.settings.guidance_scale,
            refine=keep,
        )
        return Seen(sample, after if known is None else known, AttentionMaps(maps), estimates[0])

    def edit_step(
        self, control: CrossAttention, sampler: Sampler, i: int, sample: torch.Tensor, seen: Seen
    ) -> Step:
        """Guide and denoise the edits."""
        blend = self.settings.blend(i)
        prompt = self.edited if blend == 1 else blend * self.edited + (1 - blend) * self.prompt
        conditioning = Conditioning(prompt, self.negative)
        scale, count = sampler.scale(i), len(sample)
        inputs = torch.cat([sample * scale] * self.halves)
        drift, output = sample.new_zeros(count), None
        known = self._known_half(seen) if i == 0 else None
        if self.settings.guides(i):
            inputs, drift, output = self._guide(
                control, inputs, sampler.timesteps[i], conditioning, seen.maps, known
            )
            if self.settings.conditional_only:
                known = None  # that half has moved with the other
            # As published, the unconditional half is what goes on; the other only shaped its estimate.
            sample = inputs[:count] / scale
        if output is None and known is not None:
            output = torch.cat([known, self._predict(inputs[count:], sampler.timesteps[i], prompt)])
        elif output is None:
            output = self._predict(inputs, sampler.timesteps[i], conditioning.rows)
        estimate = combine(output, self.halves, self.settings.guidance_scale)
        if self.settings.noise_correction and estimate.negative is not None:
            change = estimate.prompt - estimate.negative
            # A deterministic jump is linear: the edit stays as far from the reference as its own change says.
            away = sampler.step(i, self.settings.guidance_scale * change, sample - seen.before[self.rows])
            return Step(seen.after[self.rows] + away, drift, change)
        compared = None if seen.estimate is None else estimate.combined - seen.estimate.combined[self.rows]
        return Step(sampler.step(i, estimate.combined, sample), drift, compared)

    def _shown(
        self, control: CrossAttention, inputs: torch.Tensor, timestep: float, embeds: torch.Tensor
    ) -> Tensors:
        """The UNet's output, and its maps layer by layer."""
        maps: dict[str, torch.Tensor] = {}
        with control.record(maps):
            output = predict(self.unet, inputs, timestep, embeds, self.unet_kwargs)
        return {OUTPUT: output, **maps}

    def _known_half(self, seen: Seen) -> torch.Tensor | None:
        """The first step's output for the negative half where it is the reference's: same sample, same prompt."""
        if seen.estimate is None or self.halves == 1:
            return None
        same = seen.estimate.prompt
        if not self.settings.noise_correction and seen.estimate.negative is not None:
            same = seen.estimate.negative
        return same[self.rows]

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
        first = shift if self.settings.noise_correction else 0
        return [row + max(first, shift * half) for half in range(self.halves) for row in self.rows]

    def _gradient(
        self,
        control: CrossAttention,
        inputs: torch.Tensor,
        timestep: float,
        embeds: torch.Tensor,
        maps: AttentionMaps,
        targets: list[int],
    ) -> Guidance:
        """`guidance_gradient`, in the calls of `_calls`."""
        calls = self._calls(len(targets))
        parts = [
            self._followed(
                control, inputs[rows], timestep, embeds[rows], maps, [targets[row] for row in rows]
            )
            for rows in calls
        ]
        return Guidance(
            _in_order(calls, [part.gradient for part in parts]),
            _in_order(calls, [part.loss for part in parts]),
            _in_order(calls, [part.output for part in parts]),
        )

    def _followed(
        self,
        control: CrossAttention,
        inputs: torch.Tensor,
        timestep: float,
        embeds: torch.Tensor,
        maps: AttentionMaps,
        targets: list[int],
    ) -> Guidance:
        """`guidance_gradient` of one call, recorded where that is possible.

        A graph holds a copy of the maps that it is given: those of these targets alone, so that one graph serves
        every picture.
        """
        used = sorted(set(targets))
        if self.replay.active and len(used) < len(next(iter(maps.layers.values()), ())):
            maps, targets = maps.select(used), [used.index(row) for row in targets]

        def gradient(
            inputs: torch.Tensor, timestep: float, embeds: torch.Tensor, *layers: torch.Tensor
        ) -> Tensors:
            given = AttentionMaps(dict(zip(maps.layers, layers, strict=True)))
            return vars(
                guidance_gradient(
                    self.unet,
                    control,
                    inputs,
                    timestep,
                    embeds,
                    given,
                    targets,
                    self.halves,
                    self.unet_kwargs,
                )
            )

        name = ("guided", *targets)
        return Guidance(**self.replay(name, gradient, inputs, timestep, embeds, *maps.layers.values()))

    def _predict(self, inputs: torch.Tensor, timestep: float, embeds: torch.Tensor) -> torch.Tensor:
        """`predict`, in the calls of `_calls`."""
        calls = self._calls(len(inputs))
        parts = [self.replay.predict("second", inputs[rows], timestep, embeds[rows]) for rows in calls]
        return _in_order(calls, parts)

    def _calls(self, count: int) -> list[list[int]]:
        """The rows, of `count` with one half after the other, that the UNet evaluates together.

        Whole edits, as many as `max_rows` allows: an edit that is evaluated by itself comes out the same
        to the last bit, whatever is made beside it.
        """
        limit, edits = self.settings.max_rows or count, len(self.rows)
        together = max(1, limit // self.halves)
        calls: list[list[int]] = []
        for k in range(0, edits, together):
            rows = [half + e for half in range(0, count, edits) for e in range(k, min(k + together, edits))]
            calls += [rows[j : j + limit] for j in range(0, len(rows), limit)]
        return calls


def _in_order(calls: list[list[int]], parts: list[torch.Tensor]) -> torch.Tensor:
    """The results of `calls` as one tensor, row by row."""
    order = [row for rows in calls for row in rows]
    return torch.cat(parts)[sorted(range(len(order)), key=order.__getitem__)]
