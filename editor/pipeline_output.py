"""What `StableDiffusionPix2PixZeroPipeline.invert` returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Pix2PixInversionPipelineOutput:
    """`latents` `[B, C, h, w]` float32, the noise; `images`, that noise decoded, made when first looked at.

    Decoding the noise costs about three evaluations of the UNet and shows nothing but noise, so it is not
    done for those who only want the latents. Indexing, slicing, unpacking, `items` and the like work as for
    diffusers' outputs. Pickling makes the images, for they cannot be made where the pipeline is not.
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

    def values(self) -> tuple[torch.Tensor, Any]:
        return self.to_tuple()

    def items(self) -> tuple[tuple[str, Any], ...]:
        return tuple(zip(self.keys(), self.values(), strict=True))

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self.keys() else default

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in self.keys():
                raise KeyError(f"{key!r}; expected 'latents' or 'images'")
            return getattr(self, key)
        names = self.keys()[key]
        return self[names] if isinstance(names, str) else tuple(self[name] for name in names)

    def __getstate__(self) -> dict[str, Any]:
        return {"latents": self.latents, "_images": self.images, "_decode": None}

    def __iter__(self) -> Any:
        return iter(self.keys())

    def __len__(self) -> int:
        return 2
