"""The columns of the results, and the figures that only scenes have; the others are the editor's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from editor.figures import (
    Interval,
    background_figures,
    bootstrap,
    masked_source,
    psnr_of,
    self_similarity,
    ssim_map,
    structure_distance,
    unit,
)

__all__ = [
    "Figure",
    "Interval",
    "background_figures",
    "bootstrap",
    "masked_source",
    "object_mask",
    "overlap",
    "psnr_of",
    "self_similarity",
    "ssim_map",
    "structure_distance",
    "unit",
]

#: A pixel belongs to the edited object when its mean difference to the empty scene is above this part of the range.
OBJECT_DIFFERENCE = 0.06


@dataclass(frozen=True)
class Figure:
    """A column: its key in the results, its title, and by what it is multiplied for people to read."""

    key: str
    title: str
    factor: float = 1.0
    digits: int = 2
    higher: bool = True


def object_mask(picture: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Where a `uint8` picture `[H, W, 3]` shows something that the empty scene does not, `[H, W]` bool.

    A pixel counts when most of its 3 × 3 neighbours differ, so that neither noise nor a thin outline counts.
    """
    differs = np.abs(unit(picture) - unit(empty)).mean(axis=2) > OBJECT_DIFFERENCE
    votes = F.avg_pool2d(
        torch.from_numpy(differs.astype(np.float64))[None, None], 3, 1, 1, count_include_pad=False
    )
    return votes[0, 0].numpy() > 0.5


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = float((a | b).sum())
    return float((a & b).sum()) / union if union else 1.0
