"""Foreign tensors in and out: `.pt` and safetensors files. Only here is torch imported, when needed."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from library.direction import Direction, as_matrix
from library.errors import BadFile, BadTensor, DamagedFile
from library.fileformat import decode
from library.publish import replace_file, storage_errors
from library.records import to_direction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["pair_paths", "read_pair", "read_single", "write_pair"]

#: Tokens and width of what the text encoders of known model sets give.
SHAPES = {"sd-1.4": (77, 768), "sd-1.5": (77, 768), "sd-2.1-base": (77, 1024), "sd-2.1": (77, 1024)}
LARGEST_FILE = 256 * 2**20
ENDINGS = (".pt", ".pth", ".bin", ".safetensors")


def read_pair(source: Path, target: Path, name: str, encoder: str, concepts: tuple[str, str]) -> Direction:
    """The direction between two files of mean embeddings, `[1, tokens, dim]` or `[N, tokens, dim]`.

    N embeddings are averaged. Raises BadFile naming the file and what was expected.
    """
    sides = [_mean(read_tensor(path, mean=True), path) for path in (source, target)]
    if sides[0].shape != sides[1].shape:
        raise BadFile(f"{source} is {list(sides[0].shape)} and {target} {list(sides[1].shape)}: not a pair")
    _check_shape(sides[0], encoder, source)
    return Direction(
        name=name,
        tensor=sides[1] - sides[0],
        encoder=encoder,
        source=concepts[0] or source.stem,
        target=concepts[1] or target.stem,
        source_embedding=sides[0],
        target_embedding=sides[1],
        record=_declared(encoder, source, target),
    )


def read_single(path: Path, name: str | None, encoder: str | None, concepts: tuple[str, str]) -> Direction:
    """One file: an exported version with its record, or a bare `[tokens, dim]` tensor.

    A bare tensor needs `name` and `encoder`. Raises BadFile.
    """
    if path.suffix == ".safetensors":
        _check_size(path)
        try:
            with storage_errors("read", path), open(path, "rb") as file:
                tensors, record = decode(file, path)
        except DamagedFile as fault:
            if "is not a direction" not in str(fault):
                raise BadFile(str(fault)) from fault
        else:
            saved = to_direction(tensors, record)
            if encoder and encoder != saved.encoder and saved.record.get("declared"):
                _check_shape(saved.tensor, encoder, path)
                models = {**(record.get("models") or {}), "name": encoder}
                anew = {**record, "encoder": encoder, "models": models}
                saved = replace(saved, encoder=encoder, record=anew)  # what was declared may be declared anew
            elif encoder and encoder != saved.encoder:
                raise BadFile(
                    f"{path} was made for encoder {saved.encoder}, not {encoder}: leave --encoder out"
                )
            own = (saved.source, saved.target)
            if not any(own):
                saved = replace(saved, source=concepts[0], target=concepts[1])
            elif any(given not in ("", known) for given, known in zip(concepts, own, strict=True)):
                raise BadFile(
                    f"{path} says that it leads from {saved.source!r} to {saved.target!r}: leave --source and "
                    "--target out"
                )
            return saved.renamed(name or saved.name)
    if not name or not encoder:
        raise BadFile(f"{path} says neither its name nor its encoder: add --name NAME and --encoder ID")
    tensor = read_tensor(path)
    try:
        matrix = as_matrix(tensor, str(path))
    except BadTensor as fault:
        raise BadFile(str(fault)) from fault
    _check_shape(matrix, encoder, path)
    return Direction(
        name=name,
        tensor=matrix,
        encoder=encoder,
        source=concepts[0],
        target=concepts[1],
        record=_declared(encoder, path),
    )


def read_tensor(path: Path, mean: bool = False) -> Any:
    """The one tensor of a `.pt` or safetensors file, as float32 numpy; nothing in the file is executed.

    mean: raise BadFile for a direction, as a mean embedding is expected.
    """
    _check_size(path)
    if path.suffix not in ENDINGS:
        raise BadFile(f"{path} is of a type that is not imported; expected {', '.join(ENDINGS)} or .zip")
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                content: Any = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        else:
            import torch

            content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as fault:  # torch and safetensors raise many kinds, all meaning the same here
        reason = str(fault).split("\n")[0][:200]
        if type(fault).__name__ == "UnpicklingError":  # torch's text advises to load it without any check
            reason = "it holds more than tensors, and nothing else in a file is ever executed"
        raise BadFile(f"{path} cannot be read as tensors: {type(fault).__name__}: {reason}") from fault
    if isinstance(content, dict):
        if "direction" in content and mean:
            raise BadFile(f"{path} is a direction, not a mean embedding: import one at a time")
        if "direction" in content:
            content = content["direction"]
        elif len(content) == 1:
            content = next(iter(content.values()))
        else:
            raise BadFile(f"{path} holds {len(content)} tensors; expected one, or one named 'direction'")
    if not hasattr(content, "detach"):
        raise BadFile(f"{path} holds a {type(content).__name__}; expected a tensor")
    if not content.is_floating_point():
        raise BadFile(f"{path} holds {content.dtype}; expected floating point numbers")
    return _plain(content.detach(), path).float().numpy()


def _plain(tensor: Any, path: Path) -> Any:
    """The tensor, where it has data of its own and not more than a file may have; raises BadFile."""
    import torch

    if tensor.layout != torch.strided or tensor.device.type == "meta":
        raise BadFile(f"{path} holds a tensor without plain data (sparse, or of shapes alone)")
    if 4 * tensor.numel() > LARGEST_FILE:
        raise BadFile(f"{path} holds {list(tensor.shape)}: more than {LARGEST_FILE} bytes in float32")
    return tensor


def pair_paths(direction: Direction, folder: Path) -> tuple[Path, Path]:
    """The files of `write_pair`; raises BadFile where there is no pair, and where both would have one name."""
    from library.names import slug

    if direction.source_embedding is None or direction.target_embedding is None:
        raise BadFile(
            f"{direction.ref} holds no mean embeddings to make a pair of (it was composed or imported as "
            "one tensor): export it as .safetensors"
        )
    source, target = (slug(concept) for concept in (direction.source, direction.target))
    if source == target:
        raise BadFile(
            f"{direction.ref} leads from {direction.source!r} to {direction.target!r}, which would both be "
            f"{source}.pt: export it as .safetensors"
        )
    return folder / f"{source}.pt", folder / f"{target}.pt"


def write_pair(direction: Direction, folder: Path) -> tuple[Path, Path]:
    """Write `cat.pt` and `dog.pt`, `[1, tokens, dim]` float32, as the published scripts read them."""
    import io

    import torch

    paths = pair_paths(direction, folder)
    for path, side in zip(paths, (direction.source_embedding, direction.target_embedding), strict=True):
        assert side is not None, "a pair has both"
        buffer = io.BytesIO()
        torch.save(torch.from_numpy(side.copy())[None], buffer)
        with storage_errors("write", path):
            replace_file(path, buffer.getvalue())
    return paths


def _mean(tensor: Any, path: Path) -> NDArray[np.float32]:
    import numpy as np

    if tensor.ndim == 3 and tensor.shape[0] >= 1:
        tensor = tensor.astype(np.float64).mean(axis=0).astype(np.float32)
    try:
        return as_matrix(tensor, str(path))
    except BadTensor as fault:
        raise BadFile(f"{fault}; mean embeddings are [1, tokens, dim] or [N, tokens, dim]") from fault


def _check_shape(tensor: NDArray[np.float32], encoder: str, path: Path) -> None:
    """Raise BadFile where the encoder that is declared gives embeddings of another shape."""
    wanted = SHAPES.get(encoder)
    if wanted is not None and tensor.shape != wanted:
        raise BadFile(
            f"{path} holds {list(tensor.shape)}, {encoder}'s embeddings are {list(wanted)}: made for another encoder?"
        )


def _declared(encoder: str, *paths: Path) -> dict[str, Any]:
    """The record of a file that carries no fingerprint: its encoder is what whoever imports it says."""
    return {"declared": True, "models": {"name": encoder}, "imported": [path.name for path in paths]}


def _check_size(path: Path) -> None:
    with storage_errors("read", path):
        size = os.stat(path).st_size
        if path.is_dir():
            raise BadFile(f"{path} is a folder; expected a file")
    if size > LARGEST_FILE:
        raise BadFile(f"{path} has {size} bytes; at most {LARGEST_FILE} are imported")
    if path.suffix != ".safetensors" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > LARGEST_FILE:
            raise BadFile(f"{path} unpacks to {unpacked} bytes; at most {LARGEST_FILE} are imported")
