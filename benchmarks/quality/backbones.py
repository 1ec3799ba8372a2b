"""CLIP, DINO and LPIPS, for figures of photographs; each is loaded when it is first asked for.

Nothing here is needed for the embedded models. LPIPS is an extra: `pip install torchmetrics torchvision`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from editor.backbones import CLIP_B32, DINO_B8, BackboneUnavailable, Clip, Dino

__all__ = ["CLIP_B32", "CLIP_L14", "DINO_B8", "BackboneUnavailable", "Backbones", "Clip", "Dino", "Lpips"]

CLIP_L14 = "openai/clip-vit-large-patch14"


class Lpips:
    """Learned perceptual distance (Zhang et al. 2018), by torchmetrics."""

    def __init__(self, net: str, device: torch.device) -> None:
        self.device = device
        try:
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            self.measure = LearnedPerceptualImagePatchSimilarity(net_type=net).to(device)
        except (ImportError, OSError) as error:
            raise BackboneUnavailable(
                f"LPIPS cannot be loaded ({str(error).splitlines()[0]}); it needs `pip install torchmetrics "
                "torchvision` and the network once"
            ) from error

    @torch.no_grad()
    def distance(self, edit: np.ndarray, source: np.ndarray) -> float:
        """Distance of two pictures `[H, W, 3]` with pixels in [0, 1]."""
        a, b = (
            torch.from_numpy(p).float().permute(2, 0, 1)[None].to(self.device) * 2 - 1 for p in (edit, source)
        )
        return float(self.measure(a, b))


class Backbones:
    """The networks that were not left out. What cannot be loaded raises, or in a lenient set is None and noted."""

    def __init__(
        self,
        device: torch.device,
        *,
        clip: str,
        dino: str = DINO_B8,
        lpips: str = "alex",
        without: Sequence[str] = (),
        lenient: bool = False,
    ) -> None:
        self.device, self.lenient, self.without = device, lenient, tuple(without)
        self.locations = {"clip": clip, "dino": dino, "lpips": lpips}
        self.notes: list[str] = []

    @cached_property
    def clip(self) -> Clip | None:
        return self._get("clip", Clip)

    @cached_property
    def dino(self) -> Dino | None:
        return self._get("dino", Dino)

    @cached_property
    def lpips(self) -> Lpips | None:
        return self._get("lpips", Lpips)

    def load_all(self) -> None:
        """Load everything now, so that a long run does not fail at its first figure."""
        _ = self.clip, self.dino, self.lpips

    def identity(self) -> dict[str, str]:
        """What was loaded, from where: part of what a figure depends on."""
        return {name: place for name, place in self.locations.items() if getattr(self, name) is not None}

    def _get(self, name: str, kind: Callable[[str, torch.device], Any]) -> Any:
        if name in self.without:
            return None
        try:
            return kind(self.locations[name], self.device)
        except BackboneUnavailable as error:
            message = (
                f"{error}, name a local folder with --{name}, or leave its figures out with --without {name}"
            )
            if not self.lenient:
                raise BackboneUnavailable(message) from error
            self.notes.append(message)
            return None
