"""Our loops with one optimisation undone at a time, so that a run says what each is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from editor.presets import PUBLISHED
from editor.regularize import AutoCorrelation, Regulariser, kl_gradient
from editor.settings import EditSettings


def _rolled_one_by_one(
    noise: torch.Tensor,
    rolls: torch.Tensor | None,
    settings: Regulariser,
    correlation: AutoCorrelation | None,
    stretch: float = 1.0,
) -> torch.Tensor:
    """`regularise` of one picture of at least 48 positions, as published: channel by channel, level by level."""
    for k in range(settings.steps):
        for j in range(settings.rolls):
            assert rolls is not None and correlation is not None
            with torch.enable_grad():
                leaf = noise.detach().requires_grad_(True)
                loss = _published_loss(leaf, rolls[k * settings.rolls + j][0].tolist())
                loss.backward()  # type: ignore[no-untyped-call]
            assert leaf.grad is not None
            noise = noise - settings.auto_corr / settings.rolls * stretch**2 * leaf.grad
        noise = noise - settings.kl * stretch**2 * kl_gradient(noise)
    return noise


def _published_loss(noise: torch.Tensor, rolls: list[list[int]]) -> torch.Tensor:
    """Of noise `[1, C, H, W]`, with the rolls of each channel and level (Parmar et al. 2023, section 3.2)."""
    loss = noise.new_zeros(())
    for channel, shifts in enumerate(rolls):
        level = noise[:, channel : channel + 1]
        for shift in shifts:
            for axis in (2, 3):
                loss = loss + (level * level.roll(shift, axis)).mean() ** 2
            level = F.avg_pool2d(level, 2)
    return loss


def _gradients_of_everything(loss: torch.Tensor, leaf: torch.Tensor) -> tuple[torch.Tensor]:
    """The gradient of the inputs, where the weights' are computed too."""
    torch.autograd.backward(loss)
    assert leaf.grad is not None
    return (leaf.grad,)


def _distance_by_autograd(control: Any, name: str, maps: torch.Tensor) -> None:
    """`CrossAttention.take` with the differences of every layer kept for the backward pass."""
    if control._targets is not None:
        difference = maps - control._targets[name][control._rows]
        control._distances.append(difference.square().sum(dim=(2, 3)).mean(dim=1))
    elif control._maps is not None:
        control._maps[name] = maps.detach()


def _settings_without(
    option: str, original: Callable[[str, int], tuple[EditSettings, Regulariser]], preset: str, steps: int
) -> tuple[EditSettings, Regulariser]:
    settings, regulariser = original(preset, steps)
    return replace(settings, **{option: PUBLISHED[option]}), regulariser


def _no_block(_: Any) -> AbstractContextManager[None]:
    return nullcontext()


#: Optimisation that leaves the result as it is → what stands in its place where it is undone.
EXACT: Mapping[str, Mapping[str, Any]] = {
    "caption row": {"editor.steps.Conditioning.collapse": lambda conditioning: conditioning},
    "first step": {"editor.lockstep.LockStep._known_half": lambda *_: None},
    "regulariser": {"editor.invert.regularise": _rolled_one_by_one},
    "input gradient": {
        "editor.edit.frozen": _no_block,
        "editor.guidance.torch.autograd.grad": _gradients_of_everything,
    },
    "map distance": {"editor.attention.CrossAttention.take": _distance_by_autograd},
    "products": {"editor.edit.small_map_products": _no_block, "editor.invert.small_map_products": _no_block},
    "type": {
        "editor.steps.dtype_of": lambda unet: unet.dtype,
        "editor.guidance.dtype_of": lambda unet: unet.dtype,
    },
}
#: The same, of what a GPU alone gains by.
ON_GPU: Mapping[str, Mapping[str, Any]] = {
    "graphs": {"editor.graphs.replayable": lambda unet: False},
    "layout": {"editor.models.placed": lambda model, place: model.to(place).eval()},
}
#: Options of the preset `balanced` that evaluate less.
OPTIONS = ("guidance_until", "reuse_forward", "source_correction")


@contextmanager
def undone(name: str | None) -> Iterator[None]:
    """Inside the block the named optimisation, or option of a preset, is undone; None undoes nothing."""
    with ExitStack() as stack:
        for place, other in {**EXACT, **ON_GPU}.get(name or "", {}).items():
            stack.enter_context(patch(place, other))
        if name in OPTIONS:
            from benchmarks.speed import work

            stack.enter_context(
                patch.object(work, "settings_of", partial(_settings_without, name, work.settings_of))
            )
        yield
