"""The settings of an edit, as one frozen record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

#: `guidance_limit` for models that predict the velocity (Stable Diffusion 2.x).
VELOCITY_GUIDANCE_LIMIT = 0.1

#: Where a direction is added to a caption's embedding; see `editor.placement`.
Placement = Literal["mean", "anchored", "auto"]


@dataclass(frozen=True)
class EditSettings:
    """How an edit is made. Everything below the first three is off by default: the published algorithm.

    steps: jumps from noise to picture; the inversion's number.
    guidance_scale: classifier-free guidance, off at 1 and below.
    cross_attention_guidance: λ, how far each step follows the gradient of the maps' drift. 0 is off.

    placement: where the direction is added: "mean", at every token alike, "anchored", from the concept's on, or
        "auto", whichever is nearer to swapping the words, at half of the guidance scale where that is "anchored",
        else at 0.8 or, where the two have little in common, half; of a synthetic picture at all of it.
    guidance_until: the part of the steps, from the first on, in which maps are followed; in [0, 1].
    conditional_only: guide by the prompt's half alone; both halves then move together.
    attention_resolution: follow only maps of at most this number of rows × columns squared; None is all.
    reuse_forward: take the noise estimate of the guided pass itself instead of a second evaluation.
    source_correction: put the reference back on the inversion's trajectory at each step
        (Ju et al., "PnP Inversion", ICLR 2024).
    noise_correction: move with the reference, plus what the direction changes in the edit's own estimate
        (Lee et al., "Noise correction by prompt interpolation", ECCV 2024); guidance_scale weighs the change.
    interpolation: the part of the steps over which the edited prompt is faded in; 0 is at once (same paper).
    keep_background: hold what the direction changes least: at most this part of its largest change; 0 is off.
        Of a place, whose change reaches the picture's edges, 1.5 times that part (0.85 at most) of the edges'
        change: what stands before it. It is not for sums of directions, of which a weak one may change what a
        strong one leaves alone.
    guidance_limit: the largest root mean square by which guidance moves a sample in one step; None is any.
        Models of the velocity have gradients so large that the published step explodes.
    max_rows: evaluate the UNet on at most this many rows at once; None is all.
    """

    steps: int = 50
    guidance_scale: float = 5.0
    cross_attention_guidance: float = 0.1
    placement: Placement = "mean"
    guidance_until: float = 1.0
    conditional_only: bool = False
    attention_resolution: int | None = None
    reuse_forward: bool = False
    source_correction: bool = False
    noise_correction: bool = False
    interpolation: float = 0.0
    keep_background: float = 0.0
    guidance_limit: float | None = None
    max_rows: int | None = None

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, plain(getattr(self, name)))
        for name in ("guidance_scale", "cross_attention_guidance", "guidance_limit"):
            value = getattr(self, name)
            if value is None and name == "guidance_limit":
                continue
            if not isinstance(value, (int, float)):
                raise TypeError(f"{name} is {value!r}; expected a number")
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; expected a finite number of at least 0")
        if not 0 <= self.guidance_until <= 1:
            raise ValueError(f"guidance_until is {self.guidance_until}; expected a part from 0 to 1")
        if self.placement not in get_args(Placement):
            raise ValueError(
                f"placement is {self.placement!r}; expected one of {', '.join(get_args(Placement))}"
            )
        if not 0 <= self.keep_background < 1:
            raise ValueError(f"keep_background is {self.keep_background}; expected a part from 0 to below 1")
        if not 0 <= self.interpolation <= 1:
            raise ValueError(f"interpolation is {self.interpolation}; expected a part from 0 to 1")
        for name in ("attention_resolution", "max_rows"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int):
                raise TypeError(f"{name} is {value!r}; expected a whole number, or None for no limit")
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1, or None for no limit")

    def guides(self, i: int) -> bool:
        """Whether step i follows the maps."""
        return self.cross_attention_guidance != 0 and i < self.guidance_until * self.steps

    def blend(self, i: int) -> float:
        """How much of the edited prompt step i sees, in (0, 1]."""
        return min(1.0, (i + 1) / (self.interpolation * self.steps)) if self.interpolation else 1.0


def plain(value: Any) -> Any:
    """A number of numpy's or torch's as Python's own, which a record can hold; anything else as it is."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value
