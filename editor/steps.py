"""One denoising step, the only one there is: inversion, reference and guided passes all take it.

A step evaluates the UNet, combines the halves (classifier-free guidance) and lets a sampler jump to the next
noise level. Samples and all arithmetic on them are float32 whatever the UNet's dtype is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, RLock
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch

#: UNet → the dtypes of its first weight and of the whole.
_DTYPES: WeakKeyDictionary[Any, tuple[torch.dtype, torch.dtype]] = WeakKeyDictionary()

#: UNet → who may use it: its attention is another while maps are looked at.
_USES: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_USES_LOCK = Lock()

#: Called after every step with the pass ("invert", "reference" or "edit"), the step's number, the timestep
#: and the new latents `[B, C, H, W]` float32. A returned tensor takes the latents' place; anything else is
#: ignored. The UNet has to stay as it is.
OnStep = Callable[[str, int, float, torch.Tensor], Any]


@contextmanager
def alone(unet: Any) -> Iterator[None]:
    """Keep other threads from the UNet inside the block; the own one may enter again, as from `OnStep`."""
    with _USES_LOCK:
        lock = _USES.setdefault(unet, RLock())
    with lock:
        yield


class Sampler(Protocol):
    """What a step needs of a scheduler: `Schedule` for DDIM, `SchedulerSampler` for diffusers' others."""

    @property
    def timesteps(self) -> tuple[int, ...] | tuple[float, ...]: ...

    @property
    def init_sigma(self) -> float: ...

    def __len__(self) -> int: ...

    def scale(self, i: int) -> float: ...

    def step(self, i: int, output: torch.Tensor, sample: torch.Tensor) -> torch.Tensor: ...

    def fork(self, rows: list[int]) -> Sampler: ...


@dataclass(frozen=True)
class Conditioning:
    """Prompt embeddings `[B, tokens, dim]`, and the negative ones for classifier-free guidance, or None."""

    prompt: torch.Tensor
    negative: torch.Tensor | None = None

    def __post_init__(self) -> None:
        for name, embeds in (("prompt", self.prompt), ("negative", self.negative)):
            if embeds is not None and embeds.ndim != 3:
                raise ValueError(
                    f"{name} embeddings have shape {tuple(embeds.shape)}; expected [batch, tokens, dim]"
                )
        if self.negative is not None and self.negative.shape != self.prompt.shape:
            raise ValueError(
                f"negative embeddings have shape {tuple(self.negative.shape)}; "
                f"expected that of the prompt's, {tuple(self.prompt.shape)}"
            )

    @property
    def halves(self) -> int:
        """Rows given to the UNet for each sample: 2 with classifier-free guidance, else 1."""
        return 1 if self.negative is None else 2

    @property
    def rows(self) -> torch.Tensor:
        """The UNet's conditioning, negative half first: `[halves · B, tokens, dim]`."""
        return self.prompt if self.negative is None else torch.cat([self.negative, self.prompt])

    def copy(self) -> Conditioning:
        """The same numbers in tensors of its own."""
        return Conditioning(self.prompt.clone(), None if self.negative is None else self.negative.clone())

    def collapse(self) -> Conditioning:
        """Without the negative half where it equals the prompt.

        Guidance e + s(e − e) is then e, exactly, so that half of the work would be redundant.
        """
        if self.negative is not None and torch.equal(self.negative, self.prompt):
            return Conditioning(self.prompt)
        return self


@dataclass(frozen=True)
class Estimate:
    """The UNet's output `[B, C, H, W]` float32: both halves (negative is None without guidance), combined."""

    combined: torch.Tensor
    prompt: torch.Tensor
    negative: torch.Tensor | None = None


#: The UNet's output `[R, C, H, W]` float32 for its inputs `[R, C, H, W]`, the timestep and embeddings.
Evaluate = Callable[[torch.Tensor, float, torch.Tensor], torch.Tensor]

#: Changes a combined output before the jump, given the estimate, the sample and the step's number.
Refine = Callable[[Estimate, torch.Tensor, int], torch.Tensor]


def dtype_of(unet: Any) -> torch.dtype:
    """`unet.dtype`, for which diffusers walks through all modules: once, and again if the first weight has changed."""
    first = next(unet.parameters()).dtype
    known = _DTYPES.get(unet)
    if known is None or known[0] != first:
        known = _DTYPES[unet] = (first, unet.dtype)
    return known[1]


def predict(
    unet: Any,
    inputs: torch.Tensor,
    timestep: float | torch.Tensor,
    embeds: torch.Tensor,
    unet_kwargs: Mapping[str, Any] | None = None,
) -> torch.Tensor:
    """The UNet's float32 output for inputs `[R, C, H, W]` and embeddings `[R, tokens, dim]` of any dtype."""
    dtype = dtype_of(unet)
    result = unet(
        inputs.to(dtype),
        torch.as_tensor(timestep, device=inputs.device),
        encoder_hidden_states=embeds.to(dtype),
        **(unet_kwargs or {}),
    )
    return result.sample.float()


def combine(output: torch.Tensor, halves: int, guidance_scale: float) -> Estimate:
    """Classifier-free guidance (Ho and Salimans, 2022) on the UNet's output `[halves · B, C, H, W]`."""
    if halves == 1:
        return Estimate(output, output)
    negative, prompt = output.chunk(2)
    return Estimate(negative + guidance_scale * (prompt - negative), prompt, negative)


def denoise(
    evaluate: Evaluate,
    sampler: Sampler,
    i: int,
    sample: torch.Tensor,
    conditioning: Conditioning,
    guidance_scale: float = 1.0,
    *,
    refine: Refine | None = None,
) -> torch.Tensor:
    """Take step i from `sample` `[B, C, H, W]` float32 to the sample at the next level.

    `evaluate` is the UNet: `predict`, or what stands for it. `refine` may change the combined output before the jump.
    """
    inputs = torch.cat([sample * sampler.scale(i)] * conditioning.halves)
    output = evaluate(inputs, sampler.timesteps[i], conditioning.rows)
    estimate = combine(output, conditioning.halves, guidance_scale)
    combined = estimate.combined if refine is None else refine(estimate, sample, i)
    return sampler.step(i, combined, sample)


def notify(
    on_step: OnStep | None, stage: str, i: int, timestep: float, latents: torch.Tensor
) -> torch.Tensor:
    """Report a finished step; the latents to go on with."""
    replacement = on_step(stage, i, timestep, latents) if on_step is not None else None
    if not isinstance(replacement, torch.Tensor):  # a progress bar's update, say, tells whether it drew
        return latents
    if replacement.shape != latents.shape:
        raise ValueError(
            f"the callback returned latents of shape {tuple(replacement.shape)}; "
            f"expected {tuple(latents.shape)}"
        )
    return replacement.to(latents)
