"""Closed-form gradients against recorded ones, autograd, and the published order of draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from editor.regularize import (
    AutoCorrelation,
    Regulariser,
    draw_rolls,
    kl_gradient,
    level_sizes,
    regularise,
)

from .conftest import relative


def published_loss(noise: torch.Tensor, rolls: torch.Tensor) -> torch.Tensor:
    """The published loops over pictures, channels and levels."""
    total = torch.zeros((), dtype=noise.dtype)
    for b in range(noise.shape[0]):
        for c in range(noise.shape[1]):
            n = noise[b : b + 1, c : c + 1]
            for level, _ in enumerate(level_sizes(*noise.shape[2:])):
                r = int(rolls[b, c, level])
                total = total + (n * n.roll(r, 2)).mean() ** 2 + (n * n.roll(r, 3)).mean() ** 2
                if level + 1 < rolls.shape[2]:
                    n = F.avg_pool2d(n, 2)
    return total


@pytest.mark.parametrize("name", ["64", "32x48", "24x20", "8", "b2"])
def test_recorded_gradients(golden: Any, meta: Any, name: str) -> None:
    units, record = golden("units"), meta["units"][name]
    noise = units[f"ac_{name}_x"]
    correlation = AutoCorrelation(*noise.shape[2:])
    rolls = torch.tensor(record["rolls"]).reshape(*noise.shape[:2], -1)
    assert relative(correlation.gradient(noise, rolls), units[f"ac_{name}_grad"]) < 2e-6
    assert correlation.loss(noise, rolls).sum().item() == pytest.approx(record["auto_corr"], rel=1e-5)
    assert relative(kl_gradient(noise, per_image=False), units[f"kl_{name}_grad"]) < 2e-6


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), batch=st.integers(1, 3), seed=st.integers(0, 2**31)
)
def test_any_size_equals_autograd(height: int, width: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, 3, height, width, generator=generator, requires_grad=True)
    correlation = AutoCorrelation(height, width)
    rolls = draw_rolls(generator, 1, 3, correlation.sizes, batch)[0]
    loss = published_loss(noise, rolls)
    (expected,) = torch.autograd.grad(loss, noise)
    with torch.no_grad():
        assert torch.allclose(correlation.gradient(noise, rolls), expected, atol=1e-5, rtol=1e-4)
        assert torch.allclose(correlation.loss(noise, rolls).sum(), loss, rtol=1e-4)


def test_kl_equals_autograd_and_is_per_image() -> None:
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = (noise * torch.tensor([1.0, 3.0])[:, None, None, None] + 0.5).requires_grad_()
    variance, mean = torch.var_mean(noise, dim=(1, 2, 3))
    (expected,) = torch.autograd.grad((variance + mean**2 - 1 - torch.log(variance + 1e-7)).sum(), noise)
    gradient = kl_gradient(noise.detach())
    assert relative(gradient, expected) < 1e-12
    assert torch.equal(gradient[1:], kl_gradient(noise.detach()[1:]))


@pytest.mark.parametrize("height", [1, 2, 8, 16, 45, 64, 90, 126, 1022])
def test_draws_are_the_published_ones(height: int) -> None:
    """Also for 1022 rows, where no common multiple of the ranges is small enough for one call."""
    sizes = level_sizes(height, 64)
    drawn = draw_rolls(torch.Generator().manual_seed(7), 3, 4, sizes, 2)
    generator = torch.Generator().manual_seed(7)
    for numbers in drawn.reshape(-1, len(sizes)):
        for level, (rows, _) in enumerate(sizes):
            high = max(1, rows // 2)
            assert numbers[level] == torch.randint(high, (1,), generator=generator).item()
    assert drawn.shape == (3, 2, 4, len(sizes))


def test_recorded_draws(meta: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    torch.randn(1, 4, 16, 16, generator=generator)  # the posterior sample is the first draw
    drawn = draw_rolls(generator, 10 * 25, 4, level_sizes(16, 16))
    assert drawn.flatten().tolist() == meta["calls"]["invert_reg"]["rolls"]


def test_regularise_leaves_its_input_alone_and_whitens() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = F.avg_pool2d(torch.randn(1, 4, 32, 32, generator=generator), 3, 1, 1) * 3 + 0.2
    before, correlation = noise.clone(), AutoCorrelation(32, 32)
    strong = Regulariser()
    rolls = draw_rolls(generator, strong.rounds, 4, correlation.sizes)
    after = regularise(noise, rolls, strong, correlation)
    assert torch.equal(noise, before)
    assert correlation.loss(after, rolls[0]) < correlation.loss(before, rolls[0])
    assert abs(after.mean()) < abs(before.mean())


@pytest.mark.parametrize("side", [1, 2, 3, 4, 6])
def test_the_smallest_noise_stays_finite(side: int) -> None:
    """The published steps diverge below 7 by 7."""
    generator = torch.Generator().manual_seed(side)
    for _ in range(20):
        noise = torch.randn(1, 4, side, side, generator=generator)
        correlation = AutoCorrelation(side, side)
        rolls = draw_rolls(generator, Regulariser().rounds, 4, correlation.sizes)
        after = regularise(noise, rolls, Regulariser(), correlation)
        assert torch.isfinite(after).all() and after.std() < 2 * noise.std()


def test_off() -> None:
    off = Regulariser(auto_corr=0, kl=0)
    assert not off.active and off.rounds == 0
    assert not Regulariser(steps=0).active
