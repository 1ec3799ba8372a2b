"""Scenes drawn in bulk, as arrays, kept in the work folder."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.recipe.scenes import Scene, draw_scene, sample_scene


def draw_scenes(scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures ``[n, 64, 64, 3] uint8`` and object masks ``[n, 64, 64] bool``."""
    drawn = [draw_scene(s) for s in scenes]
    return np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn])


def _draw_seeds(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    return draw_scenes([sample_scene(s) for s in seeds])


def training_pictures(work: Path, count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` training scenes: ``[n, 3, 64, 64] uint8`` and masks ``[n, 1, 64, 64] bool``."""
    path = work / f"scenes-{count}.npz"
    if not path.exists():
        chunks = [range(i, min(i + 500, count)) for i in range(0, count, 500)]
        with ProcessPoolExecutor() as pool:
            parts = list(pool.map(_draw_seeds, chunks))
        work.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(
            temporary,
            pictures=np.concatenate([p[0] for p in parts]),
            masks=np.concatenate([p[1] for p in parts]),
        )
        os.replace(temporary, path)
    stored = np.load(path)
    pictures = torch.from_numpy(stored["pictures"]).permute(0, 3, 1, 2).contiguous()
    return pictures, torch.from_numpy(stored["masks"])[:, None]


def to_float(pictures: Tensor) -> Tensor:
    """``uint8`` pictures to float32 in [-1, 1]."""
    return pictures.float() / 127.5 - 1
