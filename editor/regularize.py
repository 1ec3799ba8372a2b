"""Regularisation of the inversion's noise: gradients of auto-correlation and KL divergence in closed form.

Parmar et al., "Zero-shot Image-to-Image Translation", section 3.2. With n the noise, r a random roll and
m = mean(n · roll(n, r)), one level of the pyramid and one axis contribute m² to the loss and
(2m/HW)(roll(n, r) + roll(n, −r)) to its gradient. Rolling and average pooling are matrix products from the
left (rows) or the right (columns), so a level, an axis and a roll are one pair of matrices, and the whole
gradient (all channels, levels and axes) is two batched products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

#: The pyramid ends at the first level with this many rows or fewer.
SMALLEST_LEVEL = 8
#: Rows times columns below which the published steps overshoot until nothing finite is left.
SMALLEST_AREA = 48
#: Added to the variance inside the logarithm of the KL divergence.
KL_EPSILON = 1e-7
#: Below this range torch draws one 32-bit word a number whatever the range, which `draw_rolls` relies on.
_ONE_WORD = 2**24


@dataclass(frozen=True)
class Regulariser:
    """How strongly, and in how many rounds, inversion pulls its noise towards white Gaussian noise.

    The defaults are the published ones. Zero switches a term off.
    """

    auto_corr: float = 20.0
    kl: float = 20.0
    steps: int = 5
    rolls: int = 5

    @property
    def rounds(self) -> int:
        """Auto-correlation gradients taken in one inversion step, each with rolls of its own."""
        return self.steps * self.rolls if self.auto_corr > 0 else 0

    @property
    def active(self) -> bool:
        return self.steps > 0 and (self.rounds > 0 or self.kl > 0)


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """The sizes of the pyramid's levels: halved until there are at most 8 rows (or one column)."""
    sizes = [(height, width)]
    while sizes[-1][0] > SMALLEST_LEVEL and sizes[-1][1] > 1:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def draw_rolls(
    generator: torch.Generator, rounds: int, channels: int, sizes: Sequence[tuple[int, int]], images: int = 1
) -> torch.Tensor:
    """Rolls for every round, image, channel and level, `[rounds, images, channels, levels]` int64 on the CPU.

    Uniform in [0, H // 2) of the level (0 is possible, as published in diffusers; the authors' own code
    starts at 1). The numbers are those that one call of `torch.randint` after another would draw in
    the order round, image, channel, level, which is the order of the published implementation. The
    generator may live on any device.
    """
    highs = [max(1, height // 2) for height, _ in sizes]
    shape = (rounds, images, channels, len(sizes))
    device = generator.device
    whole = math.lcm(*highs)
    if whole <= _ONE_WORD:
        # A draw is a 32-bit word modulo the range, so drawing modulo the common multiple and reducing
        # gives the very numbers of level-by-level calls, in one call.
        words = torch.randint(whole, shape, generator=generator, device=device).cpu()
        return words % torch.tensor(highs)
    numbers = [
        int(torch.randint(highs[level], (1,), generator=generator, device=device))
        for _ in range(math.prod(shape[:-1]))
        for level in range(len(sizes))
    ]
    return torch.tensor(numbers).reshape(shape)


class AutoCorrelation:
    """The auto-correlation loss and gradient for noise of one height and width.

    Holds, for every level and roll, the matrices that pool, roll both ways and pool back:
    about `2 H³` numbers together.
    """

    def __init__(self, height: int, width: int, device: torch.device | str = "cpu") -> None:
        self.sizes = level_sizes(height, width)
        self._rolls_rows, self._pools_rows = _matrices(height, [h for h, _ in self.sizes], self.sizes)
        self._rolls_cols, self._pools_cols = _matrices(width, [w for _, w in self.sizes], self.sizes)
        starts = [0]
        for h, _ in self.sizes[:-1]:
            starts.append(starts[-1] + max(1, h // 2))
        areas = [float(h * w) for h, w in self.sizes]
        self._starts = torch.tensor(starts, device=device)
        self._areas = torch.tensor(areas * 2, dtype=torch.float32, device=device)[:, None, None]
        self._rolls_rows, self._pools_rows = self._rolls_rows.to(device), self._pools_rows.to(device)
        self._rolls_cols, self._pools_cols = self._rolls_cols.to(device), self._pools_cols.to(device)

    def loss(self, noise: torch.Tensor, rolls: torch.Tensor) -> torch.Tensor:
        """The loss of each image, `[B]`, for noise `[B, C, H, W]` and rolls `[B, C, levels]`."""
        _, correlation = self._products(noise, rolls)
        return correlation.square().sum(dim=(1, 2, 3, 4))

    def gradient(self, noise: torch.Tensor, rolls: torch.Tensor) -> torch.Tensor:
        """∂ loss / ∂ noise, `[B, C, H, W]` float32, for rolls `[B, C, levels]` int64 on the same device."""
        rolled, correlation = self._products(noise, rolls)
        return (2 * correlation / self._areas * rolled).sum(dim=2)

    def _products(self, noise: torch.Tensor, rolls: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rolled both ways and added `[B, C, 2·levels, H, W]`; the correlations `[B, C, 2·levels, 1, 1]`."""
        entry = rolls + self._starts
        pools = noise.shape[:2] + self._pools_rows.shape
        left = torch.cat([self._rolls_rows[entry], self._pools_rows.expand(pools)], dim=2)
        pools = noise.shape[:2] + self._pools_cols.shape
        right = torch.cat([self._pools_cols.expand(pools), self._rolls_cols[entry]], dim=2)
        rolled = left @ noise.unsqueeze(2) @ right
        # n·(roll by r + roll by −r) counts every pair twice, and pooling back is the adjoint of pooling.
        correlation = (noise.unsqueeze(2) * rolled).sum(dim=(3, 4), keepdim=True) / (2 * self._areas)
        return rolled, correlation


def kl_gradient(noise: torch.Tensor, per_image: bool = True) -> torch.Tensor:
    """Gradient of var + mean² − 1 − log(var + 1e-7), unbiased variance, `[B, C, H, W]`.

    Mean and variance are each image's own, so that a batch gives what single pictures give; the
    published code takes them over the whole batch, which `per_image=False` reproduces. The same for B = 1.
    """
    dims = (1, 2, 3) if per_image else (0, 1, 2, 3)
    variance, mean = torch.var_mean(noise, dim=dims, keepdim=True)
    count = math.prod(noise.shape[d] for d in dims)
    slope = 2 / (count - 1) * (1 - 1 / (variance + KL_EPSILON))
    return slope * (noise - mean) + 2 / count * mean


def regularise(
    noise: torch.Tensor,
    rolls: torch.Tensor | None,
    settings: Regulariser,
    correlation: AutoCorrelation | None,
    stretch: float = 1.0,
) -> torch.Tensor:
    """Noise `[B, C, H, W]` float32 moved towards white Gaussian noise; the input is left alone.

    `rolls` `[rounds, B, C, levels]` on the noise's device. `stretch` is |∂ noise / ∂ model output|: the
    published descent is on the model's output, which for v-prediction is not the noise itself. Noise of
    fewer than 48 positions takes shorter steps, because the published ones diverge there.
    """
    rate = stretch**2 * min(1.0, noise.shape[2] * noise.shape[3] / SMALLEST_AREA) ** 2
    for k in range(settings.steps):
        if settings.rounds and rolls is not None and correlation is not None:
            for j in range(settings.rolls):
                gradient = correlation.gradient(noise, rolls[k * settings.rolls + j])
                noise = noise - settings.auto_corr / settings.rolls * rate * gradient
        if settings.kl > 0:
            noise = noise - settings.kl * rate * kl_gradient(noise)
    return noise


def _matrices(
    full: int, axis: Sequence[int], sizes: Sequence[tuple[int, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """For one axis: `[sum of H_l // 2, full, full]` of Dᵀ(R_r + R_rᵀ)D and `[levels, full, full]` of DᵀD."""
    pool = torch.eye(full, dtype=torch.float64)
    rolls: list[torch.Tensor] = []
    pools: list[torch.Tensor] = []
    for (rows, _), length in zip(sizes, axis, strict=True):
        pool = pool[:length] if not pools else _halve(pool, length)
        pools.append(pool.T @ pool)
        eye = torch.eye(length, dtype=torch.float64)
        for r in range(max(1, rows // 2)):
            ring = eye.roll(r, dims=0) + eye.roll(-r, dims=0)
            rolls.append(pool.T @ ring @ pool)
    return torch.stack(rolls).float(), torch.stack(pools).float()


def _halve(pool: torch.Tensor, length: int) -> torch.Tensor:
    """Average neighbouring rows; an odd last row is dropped, as `avg_pool2d(2)` does."""
    return (pool[0 : 2 * length : 2] + pool[1 : 2 * length : 2]) / 2
