"""Cross-attention guidance: how far the maps have drifted, and the gradient of that for the UNet's inputs.

Parmar et al., section 3.3: L = Σ over layers of ‖A − A_ref‖², as published the mean over all heads of both
halves. The gradient goes to the inputs only; the UNet's weights are frozen for its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from editor.attention import AttentionMaps, CrossAttention
from editor.steps import dtype_of, predict

#: float16 gradients of the loss start near its smallest numbers; a power of two is exact both ways.
HALF_PRECISION_SCALE = 2.0**8


@dataclass(frozen=True)
class Guidance:
    """The gradient `[R, C, H, W]` float32, each row's loss `[R]`, and the UNet's output at the inputs."""

    gradient: torch.Tensor
    loss: torch.Tensor
    output: torch.Tensor


def guidance_gradient(
    unet: Any,
    control: CrossAttention,
    inputs: torch.Tensor,
    timestep: float | torch.Tensor,
    embeds: torch.Tensor,
    targets: AttentionMaps,
    target_rows: list[int],
    halves: int,
    unet_kwargs: Mapping[str, Any] | None = None,
) -> Guidance:
    """∂L/∂inputs for inputs `[R, C, H, W]` float32 and embeddings `[R, tokens, dim]`.

    Row r is compared with row `target_rows[r]` of the recorded maps. Rows do not influence each other,
    so any number of pictures and directions go in one batch. `halves` is the number of rows that the
    published mean runs over for one picture (2 with classifier-free guidance).
    """
    scale = HALF_PRECISION_SCALE if dtype_of(unet) == torch.float16 else 1.0
    with torch.enable_grad(), control.compare(targets, target_rows) as distances:
        leaf = inputs.detach().clone().requires_grad_(True)
        output = predict(unet, leaf, timestep, embeds, unet_kwargs)
        if not distances:
            raise ValueError(
                "no cross-attention layer was recorded in the reference pass, so there is nothing to guide "
                f"by; allow larger maps than {control.max_positions} positions"
            )
        loss = torch.stack(distances).sum(dim=0) / halves
        (gradient,) = torch.autograd.grad(loss.sum() * scale, leaf)
    return Guidance(gradient / scale, loss.detach(), output.detach())


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """No parameter of the model asks for a gradient, and it is in evaluation mode, inside the block.

    Both are put back as they were on leaving, also by an exception.
    """
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = [module for module in model.modules() if module.training]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        for module in training:
            module.training = False
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
        for module in training:
            module.training = True
