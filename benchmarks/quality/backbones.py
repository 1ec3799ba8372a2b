"""CLIP, DINO and LPIPS, for figures of photographs; each is loaded when it is first asked for.

Nothing here is needed for the embedded models. LPIPS is an extra: `pip install torchmetrics torchvision`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.quality.figures import structure_distance, unit
from editor.errors import EditorError

CLIP_B32, CLIP_L14 = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"
DINO_B8 = "facebook/dino-vitb8"
#: ImageNet's pixels, which DINO was trained on: the mean and deviation of their pixels in [0, 1].
DINO_MEAN, DINO_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: The shorter side in pixels that pictures are brought to.
DINO_SIZE = 224


class BackboneUnavailable(EditorError):
    """A network that a figure needs is neither in a folder, nor cached, nor reachable, or its package is missing."""


def _load(what: str, location: str, load: Callable[[], Any]) -> Any:
    """Load, turning the libraries' many errors into one line with the ways out."""
    try:
        return load()
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackboneUnavailable(
            f"{what} cannot be loaded from {location} ({reason}); connect to the network once, "
            f"name a local folder with --{what.lower()}, or leave its figures out with --without {what.lower()}"
        ) from error


class Clip:
    """CLIP's agreement of pictures and texts."""

    def __init__(self, location: str, device: torch.device) -> None:
        from transformers import CLIPModel, CLIPProcessor

        self.device = device
        self.model = _load("CLIP", location, lambda: CLIPModel.from_pretrained(location, dtype=torch.float32))
        self.processor = _load("CLIP", location, lambda: CLIPProcessor.from_pretrained(location))
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
        self.model = _load("DINO", location, lambda: ViTModel.from_pretrained(location, dtype=torch.float32))
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
                "torchvision` and the network once; or leave its figures out with --without lpips"
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
            if not self.lenient:
                raise
            self.notes.append(str(error))
            return None
