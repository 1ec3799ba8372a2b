"""How like two pictures are: noise in dB, and edges whatever their colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Pixels along the shorter side at which edges are compared, so that the size of a picture does not matter.
SIDE = 64


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio of two RGB pictures of one size, in dB; infinite where they are equal."""
    error = (np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)) ** 2
    return float(10 * np.log10(255**2 / error.mean())) if error.any() else float("inf")


def edge_likeness(one: Image.Image, other: Image.Image, where: NDArray[np.bool_] | None = None) -> float:
    """Correlation of two pictures' strength of edges, in [-1, 1], over the pixels `where`; 1 without edges.

    The edges are the gradients of the grey pictures at `SIDE` pixels along the shorter side.
    """
    scale = SIDE / min(one.size)
    size = (round(one.width * scale), round(one.height * scale))
    edges = []
    for picture in (one, other):
        grey = np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), float)
        edges.append(np.hypot(*np.gradient(grey)))
    if where is None:
        chosen = np.ones(edges[0].shape, bool)
    else:
        chosen = np.asarray(Image.fromarray(where).resize(size, Image.Resampling.NEAREST))
    first, second = (e[chosen] - e[chosen].mean() for e in edges)
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths else 1.0
