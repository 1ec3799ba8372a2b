"""Figures of edited pictures as pure functions, and intervals of their means; docs/quality.md has their sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

#: SSIM's window and constants for pixels in [0, 1]: Wang et al. 2004, section III-B and III-C.
WINDOW, SIGMA, C1, C2 = 11, 1.5, 0.01**2, 0.03**2
RESAMPLES = 2000
#: dB that stand for no error at all.
MOST_PSNR = 100.0
#: The 97.5th percentile of the normal distribution: that of a 95% interval.
Z = 1.959964


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% bootstrap interval, and how many values it is of."""

    mean: float
    low: float
    high: float
    count: int


def unit(pixels: np.ndarray) -> np.ndarray:
    """`uint8` pixels to float64 in [0, 1]."""
    return pixels.astype(np.float64) / 255


def masked_source(edit: np.ndarray, source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The edit `[H, W, 3]` with the source's own pixels where `mask` `[H, W]` is set: only the rest can differ."""
    return np.where(mask[..., None], source, edit)


def ssim_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The structural similarity of pictures `[H, W, 3]` in [0, 1], for each window that fits: `[H − 10, W − 10]`.

    Mean over the colours. Raises ValueError for pictures smaller than the window.
    """
    if min(a.shape[:2]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW} pixels a side; got {a.shape[:2]}")
    line = torch.exp(-((torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    line = line / line.sum()

    def blur(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(x, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))

    x, y = (torch.from_numpy(p.astype(np.float64)).permute(2, 0, 1)[:, None] for p in (a, b))
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    both = blur(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + C1) * (2 * both + C2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))
    return similarity.mean(dim=(0, 1)).numpy()


def background_figures(edit: np.ndarray, source: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """PSNR in dB, SSIM and mean squared error ([0, 1] pixels) of `uint8` pictures outside `mask`.

    Empty where the mask covers everything. SSIM's windows see the source's pixels inside the mask on both sides.
    """
    outside = ~mask
    if not outside.any():
        return {}
    error = float(((unit(edit) - unit(source)) ** 2)[outside].mean())
    found = {"background_psnr": psnr_of(error), "background_mse": error}
    border = WINDOW // 2
    within = outside[border:-border, border:-border]
    if within.any():
        similarity = ssim_map(unit(masked_source(edit, source, mask)), unit(source))
        found["background_ssim"] = float(similarity[within].mean())
    return found


def psnr_of(error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of pixels in [0, 1]; at most `MOST_PSNR`."""
    return float(-10 * np.log10(max(error, 10 ** (-MOST_PSNR / 10))))


def decibels(psnr: float) -> str:
    """`31.2 dB`, or `exact`: as it is where the reference is held on the inversion's own trajectory."""
    return "exact" if psnr > MOST_PSNR - 0.05 else f"{psnr:.1f} dB"


def self_similarity(features: torch.Tensor) -> torch.Tensor:
    """Cosines between all positions: features `[B, positions, channels]` to `[B, positions, positions]`."""
    directions = F.normalize(features.double(), dim=2)
    return directions @ directions.transpose(1, 2)


def structure_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the self-similarities of features `[B, positions, channels]`: `[B]`.

    Tumanyan et al. 2022, "Splicing ViT Features for Semantic Appearance Transfer", section 3.2.
    """
    return (self_similarity(a) - self_similarity(b)).square().mean(dim=(1, 2))


def bootstrap(values: Sequence[float], seed: int = 0) -> Interval:
    """The mean of values and its 95% interval: the percentiles of the means of 2000 resamples (Efron 1979)."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("a bootstrap needs at least one value; got none")
    generator = np.random.default_rng(seed)
    means = array[generator.integers(array.size, size=(RESAMPLES, array.size))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(array.mean()), float(low), float(high), array.size)


def wilson(hits: int, count: int) -> Interval:
    """The share of hits and its 95% interval, which is sound near 0 and 1 too (Wilson 1927)."""
    if not 0 <= hits <= count or count < 1:
        raise ValueError(f"{hits} hits of {count}; expected at least one try, and no more hits than tries")
    share, spread = hits / count, Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z * (share * (1 - share) / count + spread / (4 * count)) ** 0.5 / (1 + spread)
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), count)
