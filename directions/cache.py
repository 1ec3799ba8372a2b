"""What is kept between runs: captions that a model wrote, and the moments of embedded captions.

So one concept is written and embedded once, and N concepts make N² directions. Files are named by a hash of
everything that decides their content; one that is damaged is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from directions.captions import Captions
from directions.errors import DiscoveryError

if TYPE_CHECKING:
    from directions.embed import Moments

__all__ = ["Cache", "key_of", "model_stamp"]

FORMAT = 2
WEIGHT_ENDINGS = (".safetensors", ".bin", ".json", ".model")


def key_of(what: Mapping[str, Any]) -> str:
    """A file name made of everything that decides a file's content."""
    text = json.dumps({"format": FORMAT, **what}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def model_stamp(where: str) -> str:
    """What changes when a model changes: sizes and times of a local folder's files; a hub id as it is."""
    folder = Path(where)
    if not folder.is_dir():
        return where
    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_ENDINGS)
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return f"{folder.resolve()} {stamps}"


@dataclass
class Cache:
    """A folder of results; None for no cache. One that cannot be written to costs one remark, given to `tell`."""

    folder: Path | None
    #: Why something was not kept, the first time.
    refusal: str | None = field(default=None, init=False)
    tell: Callable[[str], object] = warnings.warn

    def check_writable(self) -> None:
        """Raise DiscoveryError where nothing can be kept."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as fault:
            raise DiscoveryError(
                f"{self._refused(fault)}; name another folder with DIRECTIONS_CACHE"
            ) from fault

    def captions(self, key: str) -> Captions | None:
        """Captions kept under `key`, or None."""
        try:
            values = json.loads(self._read(key, "json") or "null")
            return None if values is None else Captions(**{**values, "texts": tuple(values["texts"])})
        except (ValueError, TypeError, KeyError):
            return None

    def keep_captions(self, key: str, captions: Captions) -> None:
        self._write(key, "json", json.dumps(asdict(captions), ensure_ascii=False).encode())

    def moments(self, key: str, shape: tuple[int, int]) -> Moments | None:
        """Moments of `[tokens, dim]` embeddings kept under `key`, or None."""
        from directions.embed import BLOCKS, Moments

        data = self._read(key, "moments")
        if data is None or len(data) != 16 + 8 * (BLOCKS + 2) * shape[0] * shape[1]:
            return None
        values = np.frombuffer(data[16:], dtype="<f8").astype(np.float64).reshape(BLOCKS + 2, *shape)
        count, named = (int.from_bytes(data[k : k + 8], "little") for k in (0, 8))
        return Moments(count, values[:BLOCKS], values[BLOCKS], named, values[BLOCKS + 1] if named else None)

    def keep_moments(self, key: str, moments: Moments) -> None:
        anchored = np.zeros_like(moments.squares) if moments.anchored is None else moments.anchored
        parts = (moments.blocks, moments.squares, anchored)
        data = b"".join(part.astype("<f8", order="C", copy=False).tobytes() for part in parts)
        counts = b"".join(number.to_bytes(8, "little") for number in (moments.count, moments.named))
        self._write(key, "moments", counts + data)

    def _read(self, key: str, kind: str) -> bytes | None:
        """The content under `key` if its digest, the first 32 bytes, is right."""
        if self.folder is None:
            return None
        try:
            data = (self.folder / f"{key}.{kind}").read_bytes()
        except OSError:
            return None
        return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None

    def _write(self, key: str, kind: str, data: bytes) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".tmp-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(data).digest() + data)
                os.replace(temporary, self.folder / f"{key}.{kind}")
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
        except OSError as fault:
            if self.refusal is None:
                self.refusal = self._refused(fault)
                self.tell(f"{self.refusal}; without a cache, every concept is made anew")

    def _refused(self, fault: OSError) -> str:
        return f"cannot write to the cache {self.folder}: {(fault.strerror or str(fault)).lower()}"
