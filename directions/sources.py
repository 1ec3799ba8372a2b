"""Captions that a person gives: a text file a side, standard input, or any iterable of strings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from directions.captions import Captions, Sieve, clean
from directions.errors import BadCaptions

__all__ = ["from_texts", "parallel", "read_captions"]

STDIN = "-"
#: How None, NaN and what pandas has for them are written.
MISSING = ("None", "nan", "<NA>", "NaT")


def read_captions(path: str) -> list[str]:
    """The lines of a UTF-8 text file, or of standard input for `-`; blank ones too, so that line i stays line i.

    Raises BadCaptions, also where there are no others.
    """
    if path == STDIN and sys.stdin is None:
        raise BadCaptions("captions cannot be read from standard input: it is closed; name a file")
    try:
        text = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
        lines = text.decode("utf-8-sig").splitlines()
    except OSError as fault:
        raise BadCaptions(
            f"captions cannot be read from {path}: {(fault.strerror or str(fault)).lower()}"
        ) from fault
    except UnicodeDecodeError as fault:
        raise BadCaptions(f"{path} is not UTF-8 text (byte {fault.start}); save it as UTF-8") from fault
    if not any(line.strip() for line in lines):
        where = "standard input" if path == STDIN else path
        raise BadCaptions(f"{where} holds no captions; expected one a line")
    return lines


def from_texts(
    concept: str, texts: Iterable[str], fits: Callable[[str], bool], count: int | None = None
) -> Captions:
    """Given captions, cleaned; the first `count` if set. Those that do not name the concept are only counted.

    Raises BadCaptions when none is usable.
    """
    _refuse_one_text(concept, texts)
    captions = Sieve(concept, fits, require=False).take(_lines(concept, texts), count)
    if not captions.texts:
        raise BadCaptions(
            f"none of the {captions.drawn} captions given for {concept!r} is usable "
            f"({captions.empty} empty, {captions.too_long} too long for the text encoder)"
        )
    return captions


def _refuse_one_text(concept: str, texts: Any) -> None:
    """A text is an iterable of strings, too: of its letters; so is a table: of the names of its columns."""
    if isinstance(texts, (str, bytes)):
        raise BadCaptions(f"captions for {concept!r} are one text; expected a list of captions, or a file")
    if isinstance(texts, PathLike):
        raise BadCaptions(
            f"captions for {concept!r} are a path; give its lines: path.read_text().splitlines()"
        )
    if getattr(texts, "ndim", 1) != 1:
        raise BadCaptions(
            f"captions for {concept!r} have {texts.ndim} dimensions; give one column: frame['caption'], or "
            "array[:, 0]"
        )
    if isinstance(texts, Mapping) or not isinstance(texts, Iterable):
        raise BadCaptions(
            f"captions for {concept!r} are of type {type(texts).__name__}; expected a list of captions"
        )


def _lines(concept: str, texts: Iterable[Any]) -> Iterator[str]:
    """The texts, with an empty line for each that is missing; BadCaptions for what is no text."""
    for number, text in enumerate(texts, 1):
        if isinstance(text, str):
            yield text
        elif str(text) in MISSING:
            yield ""
        else:
            raise BadCaptions(
                f"caption {number} for {concept!r} is of type {type(text).__name__}; expected a text"
            )


def parallel(
    concepts: tuple[str, str],
    texts: tuple[Iterable[str], Iterable[str]],
    fits: Callable[[str], bool],
    count: int | None = None,
) -> tuple[Captions, Captions]:
    """Given captions whose line i of both sides belong together; a pair with an unusable half is left out.

    Blank lines that one side has more of at its end do not count.
    Raises BadCaptions when the sides differ in length or nothing is left.
    """
    for concept, given in zip(concepts, texts, strict=True):
        _refuse_one_text(concept, given)
    lines = [
        [clean(line) for line in _lines(concept, side)] for concept, side in zip(concepts, texts, strict=True)
    ]
    for longer in lines:
        while longer and not longer[-1] and len(longer) > min(map(len, lines)):
            longer.pop()
    if len(lines[0]) != len(lines[1]):
        raise BadCaptions(
            f"paired captions must be as many on both sides; {concepts[0]!r} has {len(lines[0])} and "
            f"{concepts[1]!r} {len(lines[1])}"
        )
    pairs = list(
        dict.fromkeys(pair for pair in zip(*lines, strict=True) if all(pair) and all(map(fits, pair)))
    )
    if not pairs:
        raise BadCaptions(f"none of the {len(lines[0])} caption pairs is usable")
    sides = []
    for side, concept in enumerate(concepts):
        kept = Sieve(concept, require=False)
        for pair in pairs[:count]:
            kept.offer(pair[side])
        kept_texts = tuple(pair[side] for pair in pairs[:count])
        result = replace(kept.result, texts=kept_texts, duplicates=0, drawn=len(kept_texts))
        sides.append(result)
    return sides[0], sides[1]
