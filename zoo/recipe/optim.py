"""The optimiser that the recipe trains with: Muon for matrices and convolutions, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by Newton–Schulz iteration (Jordan et al. 2024).

    ``torch.optim.Muon`` takes only two-dimensional parameters and iterates in bfloat16, which has no fast
    kernel on most CPUs; this one flattens convolutions to ``[out, in·kh·kw]`` and stays in float32.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("momentum", torch.zeros_like(p.grad))
                average.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalise(p.grad.lerp(average, group["momentum"]).flatten(1))
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.add_(update.view_as(p), alpha=-group["lr"] * scale)


def orthogonalise(g: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix to ``g`` ``[rows, columns]``, approximately."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    if not wide:
        x = x.T
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


def make_optimizers(
    models: Iterable[nn.Module], muon_lr: float, adam_lr: float, weight_decay: float = 0.0
) -> list[torch.optim.Optimizer]:
    """Muon over every weight matrix and convolution inside the models, AdamW over everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for model in models:
        for name, p in model.named_parameters():
            inner = p.ndim >= 2 and not any(
                k in name for k in ("conv_in", "conv_out", "embed", "shared", "lm_head")
            )
            (matrices if inner else others).append(p)
    return [
        Muon(matrices, lr=muon_lr),
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.98), weight_decay=weight_decay),
    ]
