"""Running: a request's pictures through the editor, in batches, and what comes out to its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editor.errors import EditorError
from editor.plan import Task, Writing
from editor.progress import Progress, unbroken
from editor.request import Recorded, Request

if TYPE_CHECKING:
    from PIL import Image

    from editor.inversion import Edit, Inversion
    from editor.session import Editor
    from library.direction import Direction


def run(
    request: Request,
    tasks: Sequence[Task],
    editor: Editor,
    directions: Sequence[Direction],
    writing: Writing,
    progress: Progress,
    finished: Callable[[dict[str, Any]], None],
    batch: int = 1,
    silent: bool = False,
) -> None:
    """Make and save every edit; `finished` is told of each as soon as its files are there.

    Pictures of one size are inverted `batch` at a time, and as many edits are made at a time. In a
    batch a picture comes out as it would alone but for rounding.
    """
    from editor.record import file_facts, save_picture
    from editor.replay import direction_facts

    mask = file_facts(request.mask) if request.mask is not None else None
    for group in _groups(tasks, editor, request.size, batch):
        inversions = _inverted(request, group, editor, progress, silent)
        wanted = [
            (task, inversion, place)
            for task, inversion in zip(group, inversions, strict=True)
            for place in range(len(directions))
        ]
        if writing.sweep is not None:
            for task, inversion, place in wanted:
                sheet, record = _swept(request, inversion, directions[place], writing.sweep)
                output = task.outputs[place]
                with unbroken():
                    save_picture(sheet, output, record, writing.force)
                    finished({"output": str(output), "sheet": None, "attention": None, "record": record})
                    progress.finished()
            continue
        for chunk in _chunks(wanted, batch):
            edits = _edited(request, editor, [(i, directions[place]) for _, i, place in chunk], progress)
            about = {**_facts(request, editor), "mask": mask, "batch": len(chunk)}
            for (task, inversion, place), edit in zip(chunk, edits, strict=True):
                about |= {"input": task.picture, "expression": request.expressions[place]}
                facts = direction_facts(directions[place])
                record = {**edit.record, **about, "direction": {**edit.record["direction"], **facts}}
                with unbroken():
                    finished(_saved(edit, record, task.outputs[place], inversion, writing, request.recorded))
                    progress.finished()


def _groups(tasks: Sequence[Task], editor: Editor, size: Any, batch: int) -> Iterator[Sequence[Task]]:
    """Tasks whose pictures have one size once they are brought to `size`, at most `batch` together."""
    if batch == 1:
        yield from _chunks(tasks, 1)
        return
    from PIL import Image

    from editor.images import fit

    shorter = editor.models.native_size if size == "native" else size
    by_size: dict[Any, list[Task]] = {}
    for task in tasks:
        size = task.size
        if size is not None and isinstance(shorter, int):
            size = fit(Image.new("1", size), shorter).size
        by_size.setdefault(size, []).append(task)
    for alike in by_size.values():
        yield from _chunks(alike, batch)


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[k : k + size] for k in range(0, len(items), size))


def _inverted(
    request: Request, tasks: Sequence[Task], editor: Editor, progress: Progress, silent: bool
) -> list[Inversion]:
    paths = [task.path for task in tasks if task.path is not None]
    if not paths:
        size = None if request.size == "native" else request.size
        return [editor.imagine(request.prompt or "", request.steps, request.seed, size=size)]
    captions = []
    for path in paths:
        caption = request.caption
        if caption is None:
            caption = editor.caption(path, request.caption_prefix)
        captions.append(caption)
        if not silent:
            progress.print(f"{path}: {caption}")
    inversions = editor.invert_all(
        paths,
        captions,
        request.steps,
        [request.seed] * len(paths),
        size=request.size,
        regulariser=editor.regulariser(**request.regulariser),
        sample=request.sample,
        on_step=progress.on_step,
    )
    for path, inversion in zip(paths, inversions, strict=True):
        if inversion.record["cached"]:
            progress.skip(request.steps)
            if not silent:
                progress.print(f"{path}: inversion found in the cache")
    return inversions


def _edited(
    request: Request, editor: Editor, jobs: Sequence[tuple[Inversion, Direction]], progress: Progress
) -> list[Edit]:
    try:
        return editor.edit_all(
            [(inversion, direction, request.strength) for inversion, direction in jobs],
            negative_prompt=request.negative_prompt,
            mask=request.mask,
            on_step=progress.on_step,
            **request.settings,
        )
    except ValueError as error:  # settings that do not fit the models or each other, which the loops explain
        raise EditorError(str(error)) from error


def _facts(request: Request, editor: Editor) -> dict[str, Any]:
    """What a record says of a whole run, so that it can be repeated: see `editor.replay`."""
    from editor.record import versions
    from library.records import now, tool_version
    from zoo.registry import MODEL_SETS

    name = editor.models.name
    local = name not in MODEL_SETS and Path(name).is_dir()
    return {
        "prompt": request.prompt,
        "models_folder": str(Path(name).absolute()) if local else None,
        "device": editor.device.type,
        "created": now(),
        "tool": tool_version(),
        "versions": versions(),
    }


def _saved(
    edit: Edit,
    record: Mapping[str, Any],
    output: Path,
    inversion: Inversion,
    writing: Writing,
    recorded: Recorded | None,
) -> dict[str, Any]:
    """Write the picture, its record and, where asked for, the sheet; what there is to report."""
    from editor.pictures import attention_sheet
    from editor.record import save_picture, write_whole
    from editor.replay import settled
    from editor.sheets import contact_sheet

    findings = [asdict(finding) for finding in edit.findings]
    record = settled({**record, "findings": findings}, recorded)
    save_picture(edit.image, output, record, writing.force)
    start = [("input", inversion.picture)] if inversion.picture else []
    last = (record["expression"], edit.image)
    made = {
        "sheet": lambda: contact_sheet([[*start, ("reconstruction", edit.reconstruction), last]]),
        "attention": lambda: attention_sheet(inversion, edit),
    }
    report: dict[str, Any] = {"output": str(output), "sheet": None, "attention": None, "record": record}
    for kind, path in writing.beside(output).items():
        picture = made[kind]()
        write_whole(path, lambda file, picture=picture: picture.save(file, "PNG"))
        report[kind] = str(path)
    return report


def _swept(
    request: Request, inversion: Inversion, direction: Direction, knobs: Mapping[str, Sequence[float]]
) -> tuple[Image.Image, dict[str, Any]]:
    """The sheet of a sweep, and the record of its first edit with the values of all."""
    shared = {"negative_prompt": request.negative_prompt, "mask": request.mask, **request.settings}
    result = inversion.sweep(direction, **knobs, **shared)
    return result.sheet(), {**result[0].record, "sweep": [dict(values) for values in result.values]}
