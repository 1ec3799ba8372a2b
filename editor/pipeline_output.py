"""What `StableDiffusionPix2PixZeroPipeline.invert` returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Pix2PixInversionPipelineOutput:
    """`latents` `[B, C, h, w]` float32, the noise; `images`, that noise decoded, made when first looked at.

    Decoding the noise costs about three evaluations of the UNet and shows nothing but noise, so it is not
    done for those who only want the latents. Indexing and unpacking work as for diffusers' outputs.
    """

    def __init__(self, latents: torch.Tensor, decode: Callable[[torch.Tensor], Any]) -> None:
        self.latents = latents
        self._decode = decode
        self._images: Any = None

    @property
    def images(self) -> Any:
        if self._images is None:
            self._images = self._decode(self.latents)
        return self._images

    def to_tuple(self) -> tuple[torch.Tensor, Any]:
        return self.latents, self.images

    def keys(self) -> tuple[str, str]:
        return "latents", "images"

    def __getitem__(self, key: str | int) -> Any:
        if key in (0, "latents"):
            return self.latents
        if key in (1, "images"):
            return self.images
        raise KeyError(f"{key!r}; expected 'latents' or 'images'")

    def __iter__(self) -> Any:
        return iter(self.keys())

    def __len__(self) -> int:
        return 2
