"""The bytes of a version file: safetensors with one metadata key. `FORMAT.md` describes them."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from library.errors import DamagedFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FORMAT", "Header", "canonical_json", "decode", "digest", "encode", "read_header"]

FORMAT = 1
TENSOR_NAMES = ("direction", "source", "target")
ANCHORED = "anchored.{:03}.{}"  # number of the entry in the record's `anchors`, side
LONGEST_HEADER = 32 * 2**20  # thousands of captions fit; a damaged length does not make us allocate
LARGEST_TENSOR = 64 * 2**20  # bytes; SD's largest encoder needs 0.4 MB
BLANK_DIGEST = "0" * 64
REQUIRED = ("name", "version", "encoder")
FIELDS: dict[str, type] = {
    "name": str, "version": int, "encoder": str, "source": str, "target": str, "created": str,
    "author": str, "tool": str, "captions": dict, "generation": dict, "models": dict, "quality": dict,
    "parents": list, "tags": list, "anchors": list, "rebuilt_from": dict, "origin": dict,
}  # fmt: skip
ANCHOR: dict[str, type] = {"source": str, "target": str, "weight": float}


@dataclass(frozen=True)
class Header:
    """A version file's header: its record, tensor shapes and where the data starts."""

    record: dict[str, Any]
    shapes: dict[str, tuple[int, int]]
    data_start: int
    size: int


def canonical_json(value: Any) -> str:
    """Sorted keys, no spaces, text as it is (not escaped); NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(tensors: Mapping[str, NDArray[np.float32]]) -> str:
    """The `sha256` that a record of these tensors has."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(tensors[name].astype("<f4", order="C", copy=False).tobytes())
    return whole.hexdigest()


def encode(
    tensors: Mapping[str, NDArray[np.float32]], record: Mapping[str, Any]
) -> tuple[bytes, dict[str, Any]]:
    """The file's bytes and the record with its two digests. Same input, same bytes.

    tensors: `direction`, and optionally `source`, `target` and `anchored.000.source` …, each [tokens, dim]
    float32 C-contiguous.
    """
    layout: dict[str, Any] = {}
    chunks: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        chunk = tensors[name].astype("<f4", order="C", copy=False).tobytes()
        shape = [int(n) for n in tensors[name].shape]
        layout[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(chunk)]}
        offset += len(chunk)
        chunks.append(chunk)
    data = b"".join(chunks)
    full = {k: v for k, v in record.items() if k not in ("sha256", "record_sha256")}
    full |= {"sha256": hashlib.sha256(data).hexdigest(), "record_sha256": BLANK_DIGEST}
    digest = hashlib.sha256(canonical_json(full).encode()).hexdigest()
    full["record_sha256"] = digest
    header = {"__metadata__": {"record": canonical_json(full)}, **layout}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LONGEST_HEADER:
        raise ValueError(f"the record takes {len(text)} bytes; at most {LONGEST_HEADER} are allowed")
    return len(text).to_bytes(8, "little") + text + data, full


def read_header(file: BinaryIO, path: str | os.PathLike[str]) -> Header:
    """Read and check everything but the tensors' values; raises DamagedFile naming `path`."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(8)
    if len(start) < 8:
        raise DamagedFile(f"{path} is {'empty' if not start else 'cut off'} ({size} bytes)")
    length = int.from_bytes(start, "little")
    if length > LONGEST_HEADER:
        raise DamagedFile(f"{path} claims a header of {length} bytes; at most {LONGEST_HEADER} are allowed")
    if 8 + length > size:
        raise DamagedFile(f"{path} is cut off: its header needs {8 + length} bytes, the file has {size}")
    text = file.read(length)
    try:
        return _checked_header(json.loads(text.decode()), 8 + length, size)
    except DamagedFile as fault:
        raise DamagedFile(f"{path} {fault}") from fault
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
        raise DamagedFile(f"{path} has an unreadable header: {type(fault).__name__}") from fault


def _checked_header(header: dict[str, Any], data_start: int, size: int) -> Header:
    metadata = header.pop("__metadata__", {})
    if set(metadata) != {"record"}:
        raise DamagedFile("is not a direction: its metadata is not the one key 'record'")
    record_text = metadata["record"]
    record = json.loads(record_text, parse_constant=_refuse_constant)
    if type(record.get("format")) is not int or record["format"] < 1:
        raise DamagedFile("is not a direction: its record has no format number")
    if record["format"] > FORMAT:
        raise DamagedFile(f"is of format {record['format']}; this program reads up to {FORMAT}: update it")
    digest = str(record["record_sha256"])
    blanked = record_text.replace(f'"record_sha256":"{digest}"', f'"record_sha256":"{BLANK_DIGEST}"')
    if hashlib.sha256(blanked.encode()).hexdigest() != digest:
        raise DamagedFile("has a damaged record: its record_sha256 does not match")
    _check_types(record)
    parts = range(len(record.get("anchors") or []))
    anchored = {ANCHORED.format(k, side) for k in parts for side in ("source", "target")}
    if "direction" not in header or set(header) - set(TENSOR_NAMES) != anchored:
        raise DamagedFile(f"holds tensors {sorted(header)}; expected direction, and maybe source and target")
    shapes: dict[str, tuple[int, int]] = {}
    expected = 0
    for name in sorted(header):
        entry = header[name]
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        if entry["dtype"] != "F32":
            raise DamagedFile(f"holds {name} as {entry['dtype']}; expected F32")
        if len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in shape):
            raise DamagedFile(f"holds {name} of shape {shape}; expected [tokens, dim]")
        if begin != expected or end - begin != 4 * math.prod(shape):
            raise DamagedFile(f"has wrong data offsets for {name}")
        if end - begin > LARGEST_TENSOR:
            raise DamagedFile(f"holds {name} of {end - begin} bytes; at most {LARGEST_TENSOR} are allowed")
        shapes[name], expected = (shape[0], shape[1]), end
    if len(set(shapes.values())) != 1:
        raise DamagedFile(f"holds tensors of different shapes: {shapes}")
    if data_start + expected != size:
        raise DamagedFile(f"has {size} bytes; its header asks for {data_start + expected}")
    return Header(record, shapes, data_start, size)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_types(record: dict[str, Any]) -> None:
    """A record that hashes right may still come from a stranger: its fields must be what readers expect."""
    for key, kind in FIELDS.items():
        value = record.get(key) if key not in REQUIRED else record[key]
        if value is None and key not in REQUIRED:
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            raise DamagedFile(f"has a record whose {key} is {type(value).__name__}; expected {kind.__name__}")
    captions, parents = record.get("captions") or {}, record.get("parents") or []
    if record["version"] < 1:
        raise DamagedFile(f"has a record whose version is {record['version']}; expected at least 1")
    if not all(isinstance(captions.get(side, []), list) for side in ("source", "target")):
        raise DamagedFile("has a record whose captions are not two lists")
    texts = [text for side in ("source", "target") for text in captions.get(side, [])]
    if not all(isinstance(text, str) for text in (*texts, *(record.get("tags") or []))):
        raise DamagedFile("has a record whose captions or tags are not texts")
    if not all(isinstance(p, dict) and isinstance(p.get("weight", 1), (int, float)) for p in parents):
        raise DamagedFile("has a record whose parents are not weighted directions")
    for anchor in record.get("anchors") or []:
        if not isinstance(anchor, dict) or {k: type(v) for k, v in anchor.items()} != ANCHOR:
            raise DamagedFile(f"has a record with the anchor {anchor!r}; expected source, target and weight")
    if not isinstance((record.get("models") or {}).get("name", ""), str):
        raise DamagedFile("has a record whose model set has no name")


def decode(
    file: BinaryIO, path: str | os.PathLike[str]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """The tensors ([tokens, dim] float32, writable) and the record; every check made."""
    import numpy as np

    header = read_header(file, path)
    data = file.read()
    if hashlib.sha256(data).hexdigest() != header.record.get("sha256"):
        raise DamagedFile(f"{path} has damaged tensors: their sha256 does not match the record")
    tensors: dict[str, NDArray[np.float32]] = {}
    offset = 0
    for name in sorted(header.shapes):
        count = math.prod(header.shapes[name])
        flat = np.frombuffer(data, "<f4", count, offset).astype(np.float32)
        if not np.isfinite(flat).all():
            raise DamagedFile(f"{path} holds values in {name} that are not finite")
        tensors[name] = flat.reshape(header.shapes[name])
        offset += 4 * count
    return tensors, header.record
