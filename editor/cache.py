"""`InversionCache`: a bounded folder of inversions and captions, so that a picture is inverted once.

A file is named by the sha256 of everything that decides its content, written whole, and checked when it is
read; a damaged one is deleted and made again. The cache only ever saves time: a folder that cannot be
written to costs one remark.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editor.errors import EditorError
from editor.record import write_whole
from library.fileformat import canonical_json
from library.settings import expanded

if TYPE_CHECKING:
    from editor.inversion import Inversion

__all__ = ["InversionCache", "key_of"]

#: Part of every key: raise it when the same settings come to mean another inversion or caption.
FORMAT = 1
LIMIT_BYTES = 2 * 2**30
#: The files that are ours, half-written ones of an ended program included; others are never deleted.
OWN_NAME = re.compile(r"[0-9a-f]{64}\.(safetensors|json)|\.[0-9a-f]{64}\..*")


def key_of(facts: Mapping[str, Any]) -> str:
    """The name of the file whose content the facts decide."""
    text = json.dumps({"format": FORMAT, **facts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class InversionCache:
    """At most `limit_bytes` in `folder`; what was used longest ago goes first.

    `tell` is given the one remark about a folder that cannot be written to. Any number of programs may use
    a folder at once.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        limit_bytes: int = LIMIT_BYTES,
        tell: Callable[[str], object] = warnings.warn,
    ) -> None:
        self.folder = expanded(folder, "--cache")
        self.limit_bytes = limit_bytes
        self._tell: Callable[[str], object] | None = tell

    def __repr__(self) -> str:
        return f"<InversionCache {self.folder}>"

    def get(self, key: str) -> Inversion | None:
        """The inversion kept under `key`, which belongs to no editor, or None."""
        from editor.inversion import Inversion

        return self._read(self.folder / f"{key}.safetensors", Inversion.load)

    def put(self, key: str, inversion: Inversion) -> None:
        """Keep an inversion; its record must be JSON-able."""
        from editor.inversion_file import encode

        self._write(self.folder / f"{key}.safetensors", encode(inversion))

    def get_caption(self, key: str) -> str | None:
        """The caption kept under `key`, or None."""
        return self._read(self.folder / f"{key}.json", _read_caption)

    def put_caption(self, key: str, caption: str) -> None:
        """Keep a caption."""
        text = canonical_json({"caption": caption, "sha256": hashlib.sha256(caption.encode()).hexdigest()})
        self._write(self.folder / f"{key}.json", text.encode())

    def recall(
        self, facts: Sequence[Mapping[str, Any]], make: Callable[[Sequence[int]], Sequence[Inversion]]
    ) -> list[Inversion]:
        """The inversions that the facts decide; `make` makes those that are missing, given their places.

        One asked for alone is never answered by one that was made in a batch, which differs in rounding:
        so it is the same, to the last bit, with and without a cache.
        """
        lone = [key_of({**fact, "alone": True}) for fact in facts]
        batched = [key_of({**fact, "alone": False}) for fact in facts]
        found = [self.get(key) for key in lone]
        if len(facts) > 1:
            found = [known or self.get(key) for known, key in zip(found, batched, strict=True)]
        missing = [place for place, known in enumerate(found) if known is None]
        made = dict(zip(missing, make(missing) if missing else [], strict=True))
        for place, inversion in made.items():
            self.put((lone if len(missing) == 1 else batched)[place], inversion)
        return [
            replace(known, record={**known.record, "cached": True}) if known else made[place]
            for place, known in enumerate(found)
        ]

    def _read(self, path: Path, load: Callable[[Path], Any]) -> Any:
        """What `load` makes of a file, which is then the last to go; None, and no file, if it is damaged."""
        with suppress(OSError):
            if not path.is_file():
                return None
            try:
                loaded = load(path)
            except (EditorError, ValueError, KeyError, TypeError):
                path.unlink(missing_ok=True)
                return None
            with suppress(OSError):
                os.utime(path)
            return loaded
        return None

    def _write(self, path: Path, data: bytes) -> None:
        if len(data) > self.limit_bytes:
            return
        try:
            self._make_room(self.limit_bytes - len(data))
            write_whole(path, lambda file: file.write(data))
        except EditorError as error:
            if self._tell:
                self._tell(f"{error}; without a cache, every picture is inverted anew")
            self._tell = None

    def _make_room(self, limit: int) -> None:
        """Delete files, the longest unused first, until the rest takes at most `limit` bytes."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= limit:
                return
            with suppress(OSError):
                path.unlink(missing_ok=True)
                total -= size

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """(time, bytes, path) of each file of the cache."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                with suppress(OSError):
                    if not OWN_NAME.fullmatch(path.name):
                        continue
                    stat = path.stat()
                    yield stat.st_mtime_ns, stat.st_size, path


def _read_caption(path: Path) -> str:
    kept = json.loads(path.read_text(encoding="utf-8"))
    caption = str(kept["caption"])
    if kept["sha256"] != hashlib.sha256(caption.encode()).hexdigest():
        raise ValueError("the caption is damaged")
    return caption
