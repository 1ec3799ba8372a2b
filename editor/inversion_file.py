"""The bytes of a saved `Inversion`: safetensors with one metadata key, `record`.

Tensors: `noise`, `embeds` and, where they exist, `latents` and `trajectory`, float32 as in `Inversion`;
`picture` is uint8 `[H, W, 3]`. The record is canonical JSON with a format number, every other field,
and the sha256 of the tensors and of the record itself without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from editor.errors import EditorError
from editor.inversion import Inversion
from library.fileformat import canonical_json

FORMAT = 1
#: What the record of a file holds besides its format and its digest.
FIELDS: dict[str, type] = {
    "caption": str, "steps": int, "seed": int, "size": list, "negative_prompt": str, "models": str,
    "record": dict,
}  # fmt: skip


def encode(inversion: Inversion) -> bytes:
    """The file's bytes; the same inversion gives the same bytes. EditorError where JSON cannot hold its record."""
    tensors = {"noise": inversion.noise, "embeds": inversion.embeds}
    for name in ("latents", "trajectory"):
        if (tensor := getattr(inversion, name)) is not None:
            tensors[name] = tensor
    if inversion.picture is not None:
        tensors["picture"] = torch.from_numpy(np.array(inversion.picture))
    # A copy each: safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    record = {name: getattr(inversion, name) for name in FIELDS} | {"format": FORMAT}
    record |= {"size": list(inversion.size), "record": dict(inversion.record)}
    try:
        record["sha256"] = _digest(tensors, record)
    except (TypeError, ValueError) as error:
        raise EditorError(f"the record of this inversion cannot be written as JSON: {error}") from error
    return save(tensors, {"record": canonical_json(record)})


def read(path: Path) -> Inversion:
    """The inversion in a file, every byte checked; it belongs to no editor. Raises EditorError naming the file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError as error:
        raise EditorError(f"{path}: no such file; expected one written by Inversion.save") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise EditorError(f"{path} is damaged or is no saved inversion: {error}") from error
    if set(metadata) != {"record"}:
        raise EditorError(f"{path} is no saved inversion: its metadata is not the one key 'record'")
    try:
        return _checked(json.loads(metadata["record"]), tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EditorError(f"{path} is damaged or is no saved inversion: {error}") from error


def _checked(record: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Inversion:
    if not isinstance(record.get("format"), int):
        raise ValueError("its record has no format number")
    if record["format"] > FORMAT:
        raise ValueError(f"it is of format {record['format']}; this program reads up to {FORMAT}: update it")
    digest = record.pop("sha256")
    if digest != _digest(tensors, record):
        raise ValueError("its sha256 does not match its content")
    for name, kind in FIELDS.items():
        if not isinstance(record[name], kind):
            raise ValueError(f"its {name} is {type(record[name]).__name__}; expected {kind.__name__}")
    width, height = record["size"]
    _check_shapes(tensors, record["steps"], (height, width))
    picture = tensors.get("picture")
    return Inversion(
        **{**{name: record[name] for name in FIELDS}, "size": (width, height)},
        noise=tensors["noise"],
        embeds=tensors["embeds"],
        latents=tensors.get("latents"),
        trajectory=tensors.get("trajectory"),
        picture=None if picture is None else Image.fromarray(picture.numpy()),
    )


def _check_shapes(tensors: Mapping[str, torch.Tensor], steps: int, size: tuple[int, int]) -> None:
    """`size` is (height, width)."""
    noise, embeds = tensors["noise"], tensors["embeds"]
    if noise.ndim != 4 or len(noise) != 1 or embeds.ndim != 3 or len(embeds) != 1:
        raise ValueError(
            f"its noise is {list(noise.shape)} and its embeds {list(embeds.shape)}; "
            "expected [1, channels, height, width] and [1, tokens, dim]"
        )
    expected = {
        "noise": noise.shape,
        "embeds": embeds.shape,
        "latents": noise.shape,
        "trajectory": (steps + 1, *noise.shape),
        "picture": (*size, 3),
    }
    for name, tensor in tensors.items():
        if name not in expected:
            raise ValueError(f"it holds a tensor {name!r}; expected {', '.join(expected)}")
        dtype = torch.uint8 if name == "picture" else torch.float32
        if tuple(tensor.shape) != tuple(expected[name]) or tensor.dtype != dtype:
            raise ValueError(
                f"its {name} is {tensor.dtype} {list(tensor.shape)}; expected {dtype} {list(expected[name])}"
            )


def _digest(tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> str:
    whole = hashlib.sha256(canonical_json(record).encode())
    for name in sorted(tensors):
        whole.update(name.encode())
        whole.update(tensors[name].numpy().tobytes())
    return whole.hexdigest()
