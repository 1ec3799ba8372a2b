"""CLIP and DINO, networks that look at photographs; the embedded models do without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from editor.errors import EditorError
from editor.figures import structure_distance, unit

CLIP_B32 = "openai/clip-vit-base-patch32"
DINO_B8 = "facebook/dino-vitb8"
#: ImageNet's pixels, which DINO was trained on: the mean and deviation of their pixels in [0, 1].
DINO_MEAN, DINO_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: The shorter side in pixels that pictures are brought to.
DINO_SIZE = 224


class BackboneUnavailable(EditorError):
    """A network that a figure needs is neither in a folder, nor cached, nor reachable, or its package is missing."""


def _load(what: str, location: str, loader: Callable[..., Any], **options: Any) -> Any:
    """Load, turning the libraries' many errors into one line."""
    from zoo.loading import load_from

    try:
        return load_from(loader, location, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackboneUnavailable(
            f"{what} cannot be loaded from {location} ({reason}); connect to the network once"
        ) from error


class Clip:
    """CLIP's agreement of pictures and texts."""

    def __init__(self, location: str, device: torch.device) -> None:
        from transformers import CLIPModel, CLIPProcessor

        self.device = device
        self.model = _load("CLIP", location, CLIPModel.from_pretrained, dtype=torch.float32)
        self.processor = _load("CLIP", location, CLIPProcessor.from_pretrained)
        self.model.to(device).eval()

    @torch.no_grad()
    def cosines(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> torch.Tensor:
        """Cosines of every picture to every text, `[pictures, texts]` float32 on the CPU."""
        given = self.processor(
            text=list(texts), images=list(pictures), padding=True, truncation=True, return_tensors="pt"
        )
        found = self.model(**given.to(self.device))
        return (F.normalize(found.image_embeds, dim=1) @ F.normalize(found.text_embeds, dim=1).T).cpu()

    def accuracy(self, picture: Image.Image, source: str, target: str) -> float:
        """1 where the picture is closer to the target's text than to the source's (Parmar et al. 2023, section 4)."""
        old, new = self.cosines([picture], [f"a photo of a {word}" for word in (source, target)])[0].tolist()
        return float(new > old)

    def similarity(self, picture: Image.Image, text: str) -> float:
        """CLIPScore, 100 times the cosine, at least 0 (Hessel et al. 2021, in torchmetrics' scale)."""
        return max(0.0, 100 * self.cosines([picture], [text]).item())


class Dino:
    """Structure distance by the keys of the last layer of DINO's ViT-B/8 (Tumanyan et al. 2022)."""

    def __init__(self, location: str, device: torch.device) -> None:
        from transformers import ViTModel

        self.device = device
        self.model = _load("DINO", location, ViTModel.from_pretrained, dtype=torch.float32)
        self.model.to(device).eval()
        keys = [m for name, m in self.model.named_modules() if name.rsplit(".", 1)[-1] in ("k_proj", "key")]
        if not keys:
            raise BackboneUnavailable(f"{location} has no attention keys; expected a vision transformer")
        self.last_keys = keys[-1]

    @torch.no_grad()
    def keys(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels `[B, 3, H, W]` to the keys of every token, all heads in a row, `[B, tokens, dim]`."""
        mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (DINO_MEAN, DINO_DEVIATION))
        scale = DINO_SIZE / min(pixels.shape[2:])
        size = tuple(round(scale * side) for side in pixels.shape[2:])
        resized = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        found: list[torch.Tensor] = []
        hook = self.last_keys.register_forward_hook(lambda module, given, keys: found.append(keys))
        try:
            inputs = ((resized - mean) / deviation).to(self.device)
            self.model(inputs, interpolate_pos_encoding=True)
        finally:
            hook.remove()
        return found[0].cpu()

    def distance(self, edit: Image.Image, source: Image.Image, brightest: float = 1.0) -> float:
        """Structure distance of two pictures; `brightest` is the value that white has before normalisation."""
        pixels = [
            torch.from_numpy(unit(np.asarray(p)) * brightest).float().permute(2, 0, 1)[None]
            for p in (edit, source)
        ]
        a, b = (self.keys(p) for p in pixels)
        return float(structure_distance(a, b))
