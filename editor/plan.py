"""Planning: the pictures of a request, and which file each of their edits goes to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from editor.errors import EditorError, PictureError
from editor.record import check_free, picture_format, read_record
from editor.request import Request


@dataclass(frozen=True)
class Writing:
    """Where edits go: a file or folder, or None for the current folder; with which pictures beside them.

    force: over old files. skip: past edits whose files are there, and over what is left of an interrupted one.
    checked: a safety checker may withhold pictures. attention: the PNG, or with several edits the
    folder, for pictures of where words look; None: no such pictures. sweep: knobs and their values; one sheet of
    them is written in place of an edit.
    """

    output: str | None = None
    sheet: bool = False
    force: bool = False
    skip: bool = False
    checked: bool = True
    attention: str | None = None
    sweep: Mapping[str, Sequence[float]] | None = None

    def replaces(self, output: Path) -> bool:
        """Whether the files of an edit may be there already."""
        if self.skip and not self.force:
            with suppress(PictureError):
                record = read_record(output if os.path.exists(output) else output.with_suffix(".json"))
                return {"direction", "settings"} <= record.keys()
        return self.force

    def beside(self, output: Path) -> dict[str, Path]:
        """The other pictures that are written with an edit, by kind; always PNG."""
        found: dict[str, Path] = {}
        if self.sweep is not None:
            return found
        if self.sheet:
            found["sheet"] = output.with_stem(f"{output.stem}-sheet").with_suffix(".png")
        if self.attention is not None:
            place = Path(self.attention)
            found["attention"] = place if self.attention_file else place / f"{output.stem}-attention.png"
        return found

    @property
    def attention_file(self) -> bool:
        """Whether `attention` is one file and no folder."""
        return bool(self.attention and Path(self.attention).suffix and not os.path.isdir(self.attention))


@dataclass(frozen=True)
class Task:
    """The file for each edit of a picture, by its direction's place; path and (width, height) of a picture."""

    outputs: Mapping[int, Path]
    path: str | None = None
    size: tuple[int, int] | None = None


def planned(request: Request, writing: Writing) -> list[Task]:
    """Every picture with the files that its edits go to, read once, before any model is loaded.

    Edits that are to be skipped are left out, and so are pictures that have no others. Refuses files that exist,
    pictures that are missing, damaged or too elongated, sizes that are too large, and to write over what is edited.
    """
    from editor.images import check_mask, check_pixels, check_proportions, fitted_size, read_picture

    outputs = _outputs(request, writing)
    if request.mask is not None:
        check_mask(request.mask)
    side = request.size if isinstance(request.size, int) else None
    if request.prompt is not None:
        if side:
            check_pixels((side, side), "the picture")
        return [Task(outputs[0])] if outputs[0] else []
    tasks = []
    for path, files in zip(request.images, outputs, strict=True):
        if not files:
            continue
        picture = read_picture(path)
        check_proportions(picture, path)
        if side:
            fitted_size(picture.size, side)
        tasks.append(Task(files, path, picture.size))
    return tasks


def edits_of(tasks: Sequence[Task]) -> int:
    """How many files of edits the tasks write."""
    return sum(len(task.outputs) for task in tasks)


def _outputs(request: Request, writing: Writing) -> list[dict[int, Path]]:
    from library.names import slug

    sources: tuple[str | None, ...] = request.images or (None,)
    single = len(sources) == len(request.expressions) == 1
    if writing.attention_file and not (single and str(writing.attention).lower().endswith(".png")):
        raise EditorError(
            f"--show-attention {writing.attention}: expected a .png file for one edit, or a folder for several"
        )
    output = Path(writing.output) if writing.output else None
    to_file = output is not None and single and bool(output.suffix) and not os.path.isdir(output)
    read = {os.path.realpath(path) for path in (*request.images, *filter(None, [request.mask]))}
    taken: set[Path] = set()
    found = []
    for source in sources:
        files = {}
        for place, expression in enumerate(request.expressions):
            called = (
                request.recorded.record["expression"] if request.pinned and request.recorded else expression
            )
            stem = request.stem or f"{Path(source).stem if source else 'prompt'}-{slug(called)}"
            path = output if to_file and output else (output or Path()) / f"{stem}.png"
            for number in count(2):
                if path not in taken:
                    break
                path = path.with_stem(f"{stem}-{number}")
            taken.add(path)
            picture_format(path)
            written = (path, path.with_suffix(".json"), *writing.beside(path).values())
            if len(set(written)) < len(written):
                raise EditorError(
                    f"{written[-1]} is written with the edit already; draw its attention elsewhere"
                )
            for file in written:
                if os.path.realpath(file) in read:
                    raise EditorError(f"{file} is what is edited; write elsewhere with -o")
            if writing.skip and _there(path, writing):
                continue
            replaces = writing.replaces(path)
            for file in written:
                check_free(file, replaces)
            files[place] = path
        found.append(files)
    return found


def _there(path: Path, writing: Writing) -> bool:
    """Whether an edit's files are there: its record, too, where the picture has no room for it, or it was withheld."""
    from editor.outputs import flagged

    record = path.with_suffix(".json")
    if not os.path.exists(path):
        with suppress(PictureError):
            return writing.checked and os.path.exists(record) and flagged(read_record(record))
        return False
    needed = [*writing.beside(path).values(), *([] if picture_format(path) == "PNG" else [record])]
    return all(file.exists() for file in needed)
