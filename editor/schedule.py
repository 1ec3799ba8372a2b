"""The deterministic DDIM arithmetic, in both directions, as pure functions of a table of noise levels.

A schedule is the list of jumps between noise levels that a run makes. Denoising walks it from noise to
picture, inversion walks the very same jumps backwards, so that both agree on every level.
Source: Song et al., "Denoising Diffusion Implicit Models", equation 12; the timestep and end-point
conventions are those of diffusers' `DDIMScheduler` and `DDIMInverseScheduler`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from editor.errors import EditorError

if TYPE_CHECKING:
    import torch

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Schedule:
    """The jumps of one run, in the order in which they are taken.

    `timesteps[i]` is what the UNet is told at jump i, which takes a sample from the cumulative noise
    level `levels[i][0]` to `levels[i][1]` (ᾱ, 1 is a clean picture). `clip` bounds the predicted clean
    sample, None leaves it alone (latent models).
    """

    timesteps: tuple[int, ...]
    levels: tuple[tuple[float, float], ...]
    prediction_type: str = "epsilon"
    clip: float | None = None

    #: A deterministic schedule neither scales the sample nor keeps a state.
    init_sigma: float = 1.0

    def __len__(self) -> int:
        return len(self.timesteps)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], steps: int) -> Schedule:
        """The denoising schedule of `steps` jumps for a diffusers scheduler's config.

        Any config with a beta schedule serves (PNDM's, Euler's, DDPM's): it is read as its DDIM twin.
        Raises EditorError for an unknown prediction type or a number of steps outside 1 to the number of
        training timesteps.
        """
        table = NoiseTable.from_config(config)
        times, levels = table.jumps(steps)
        return cls(times, levels, table.prediction_type, table.clip)

    def reversed(self) -> Schedule:
        """The same jumps from picture to noise: the schedule of DDIM inversion.

        The UNet is told the *target* level's timestep, as the published inversion does. Raises
        ValueError where the clean end has no noise at all and the model predicts the clean sample,
        because the noise in a clean picture cannot then be told.
        """
        if self.prediction_type == "sample" and self.levels[-1][1] >= 1.0:
            raise EditorError(
                "a model with prediction_type 'sample' cannot be inverted from a level without noise; "
                "set set_alpha_to_one to false in the scheduler's config"
            )
        return replace(
            self,
            timesteps=self.timesteps[::-1],
            levels=tuple((end, start) for start, end in self.levels[::-1]),
        )

    def scale(self, i: int) -> float:
        """The factor from sample to UNet input at jump i: always 1 for DDIM."""
        return 1.0

    def step(self, i: int, output: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """Take jump i: the UNet's output and the sample it was given to the sample at the next level."""
        level, target = self.levels[i]
        clean, noise = self._split(output, sample, level)
        if self.clip is not None:
            clean = clean.clamp(-self.clip, self.clip)
        return target**0.5 * clean + (1 - target) ** 0.5 * noise

    def fork(self, rows: list[int]) -> Schedule:
        """A schedule for another pass over the given rows: itself, since it has no state."""
        return self

    def noise_map(self, i: int) -> tuple[float, float]:
        """(a, b) such that the predicted noise at jump i is a · output + b · sample.

        The level is that of the sample that the UNet was given, also in inversion.
        """
        level = self.levels[i][0]
        if self.prediction_type == "epsilon":
            return 1.0, 0.0
        if self.prediction_type == "v_prediction":
            return level**0.5, (1 - level) ** 0.5
        return -(level**0.5) / (1 - level) ** 0.5, 1 / (1 - level) ** 0.5

    def _split(
        self, output: torch.Tensor, sample: torch.Tensor, level: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean sample and the noise that the UNet's output predicts."""
        alpha, sigma = level**0.5, (1 - level) ** 0.5
        if self.prediction_type == "epsilon":
            return (sample - sigma * output) / alpha, output
        if self.prediction_type == "v_prediction":
            return alpha * sample - sigma * output, alpha * output + sigma * sample
        return output, (sample - alpha * output) / sigma


@dataclass(frozen=True)
class NoiseTable:
    """What a scheduler config says about noise levels, read once through diffusers' own DDIM class."""

    levels: tuple[float, ...]
    final: float
    prediction_type: str
    clip: float | None
    config: Mapping[str, Any]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseTable:
        scheduler = ddim_twin(config)
        kind = scheduler.config.prediction_type
        if kind not in PREDICTION_TYPES:
            raise EditorError(f"prediction_type is {kind!r}; expected one of {', '.join(PREDICTION_TYPES)}")
        if scheduler.config.thresholding:
            raise EditorError(
                "the scheduler asks for dynamic thresholding, which is for models of pixels, not of latents; "
                "set thresholding to false in its config"
            )
        return cls(
            levels=tuple(scheduler.alphas_cumprod.double().tolist()),
            final=float(scheduler.final_alpha_cumprod),
            prediction_type=kind,
            clip=scheduler.config.clip_sample_range if scheduler.config.clip_sample else None,
            config=dict(scheduler.config),
        )

    def jumps(self, steps: int) -> tuple[tuple[int, ...], tuple[tuple[float, float], ...]]:
        """Timesteps from noisy to clean, with the levels each jump starts and ends at."""
        count = len(self.levels)
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= count:
            raise EditorError(f"the number of steps is {steps!r}; expected a whole number from 1 to {count}")
        stride = count // steps
        times = self._timesteps(steps, stride)
        levels = tuple(
            (self.levels[t], self.levels[t - stride] if t >= stride else self.final) for t in times
        )
        return times, levels

    def _timesteps(self, steps: int, stride: int) -> tuple[int, ...]:
        import numpy as np

        last = len(self.levels) - 1
        spacing = self.config["timestep_spacing"]
        if spacing == "leading":
            # With as many steps as training timesteps the usual offset of 1 would leave the table.
            offset = min(self.config["steps_offset"], last - (steps - 1) * stride)
            return tuple(offset + stride * k for k in reversed(range(steps)))
        if spacing == "trailing":
            walk = np.round(np.arange(last + 1, 0, -(last + 1) / steps))[:steps] - 1
        elif spacing == "linspace":
            walk = np.linspace(0, last, steps).round()[::-1]
        else:
            raise EditorError(
                f"timestep_spacing is {spacing!r}; expected 'leading', 'trailing' or 'linspace'"
            )
        return tuple(int(t) for t in walk)


def ddim_twin(config: Mapping[str, Any], kind: str = "") -> Any:
    """diffusers' DDIMScheduler with the noise levels of any scheduler's config.

    Where the config is silent (PNDM and Euler have neither key), the values are those of latent
    diffusion, not the class's own: no clipping of the sample, the last jump ends at the first level.
    """
    from diffusers import DDIMScheduler

    if "num_train_timesteps" not in config or "beta_schedule" not in config:
        kind = kind or config.get("_class_name", "unknown")
        raise EditorError(
            f"the scheduler ({kind}) has no beta schedule, so it has no DDIM twin; "
            "expected the scheduler of a Stable Diffusion 1.x or 2.x model"
        )
    defaults = {"clip_sample": False, "set_alpha_to_one": False}
    try:
        return DDIMScheduler.from_config({**defaults, **config})
    except NotImplementedError as fault:
        raise EditorError(
            f"the scheduler ({kind or config.get('_class_name', 'unknown')}): {fault}"
        ) from fault
