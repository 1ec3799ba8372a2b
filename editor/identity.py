"""What decides an inversion or a caption, as JSON-able facts: the same facts, the same result."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from editor.models import Models
from editor.record import versions
from editor.regularize import Regulariser

WEIGHT_ENDINGS = (".safetensors", ".bin", ".json")


def picture_facts(picture: Image.Image) -> dict[str, Any]:
    """The pixels of an RGB picture and its (width, height)."""
    return {"sha256": hashlib.sha256(picture.tobytes()).hexdigest(), "size": list(picture.size)}


def inversion_facts(
    models: dict[str, Any],
    picture: Image.Image,
    caption: str,
    steps: int,
    seed: int,
    regulariser: Regulariser,
    sample: bool,
    size: int | str | None,
) -> dict[str, Any]:
    """Everything that `Editor.invert` depends on; `models` are the `models_facts`."""
    return {
        "what": "inversion",
        "picture": picture_facts(picture),
        "caption": caption,
        "models": models,
        "steps": steps,
        "seed": seed,
        "regulariser": asdict(regulariser),
        "sample": sample,
        "size": size,
        "versions": versions(),
    }


def caption_facts(
    captioner: str, picture: Image.Image, prefix: str | None, max_new_tokens: int
) -> dict[str, Any]:
    """Everything that `Editor.caption` depends on; `captioner` is a folder or hub id."""
    return {
        "what": "caption",
        "picture": picture_facts(picture),
        "captioner": captioner,
        "files": file_stamps(captioner, None, [""]),
        "prefix": prefix,
        "max_new_tokens": max_new_tokens,
        "versions": versions(),
    }


def models_facts(models: Models, from_files: bool) -> dict[str, Any]:
    """What an inversion depends on in the models.

    `from_files` says that UNet and VAE are as their files have them, whose sizes and times then stand for
    the weights; otherwise, and where no files are found, the weights themselves are hashed.
    """
    weights: Any = None
    if from_files:
        weights = file_stamps(models.unet.config.get("_name_or_path"), models.revision, ["unet", "vae"])
    if not weights:
        weights = [[dict(part.config), _weights_sha256(part)] for part in (models.unet, models.vae)]
    return {
        "name": models.name,
        "revision": models.revision,
        "encoder": models.encoder_id,
        "scheduler": dict(models.scheduler_config),
        "weights": weights,
        "dtype": str(models.unet.dtype),
        "device": models.device.type,
    }


def file_stamps(location: str | None, revision: str | None, folders: Sequence[str]) -> list[list[Any]]:
    """Relative path, size and time of a model's files; [] where it has none on this machine."""
    found = []
    for folder in folders:
        here = _local_folder(location, revision, folder) if location else None
        for path in sorted(here.iterdir()) if here else []:
            if path.suffix in WEIGHT_ENDINGS:
                stat = path.stat()
                found.append([f"{folder}/{path.name}", stat.st_size, stat.st_mtime_ns])
    return found


def _local_folder(location: str, revision: str | None, folder: str) -> Path | None:
    """Where a part of a model lies: in its folder, or in the hub's cache."""
    if Path(location).is_dir():
        return Path(location) / folder
    from huggingface_hub import try_to_load_from_cache

    config = f"{folder}/config.json" if folder else "config.json"
    path = try_to_load_from_cache(location, config, revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def _weights_sha256(module: torch.nn.Module) -> str:
    whole = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()
