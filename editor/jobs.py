"""Running: a request's pictures through the editor, in batches, and what comes out to its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from editor.errors import EditorError
from editor.outputs import Looks, flagged, looked, report_of, saved, withheld
from editor.plan import Task, Writing
from editor.progress import Progress, unbroken
from editor.request import Request

if TYPE_CHECKING:
    from PIL import Image

    from editor.auto import Choice
    from editor.inversion import Edit, Inversion
    from editor.session import Editor
    from editor.settings import EditSettings
    from library.direction import Direction


def run(
    request: Request,
    tasks: Sequence[Task],
    editor: Editor,
    directions: Sequence[Direction],
    writing: Writing,
    progress: Progress,
    finished: Callable[[dict[str, Any]], None],
    batch: int | None = None,
    silent: bool = False,
    looks: Looks | None = None,
) -> None:
    """Make and save every edit; `finished` is told of each as soon as its files are there.

    `batch` pictures of one size are inverted and edits made at a time, None: what fits (`editor.fitting.fitted`);
    where memory runs out all the same, it is halved once. What the UNet sees in one call with others comes out
    as it would alone but for rounding.
    """
    from editor.fitting import available, edits_each, fitted, sizes_of
    from editor.record import save_picture
    from editor.replay import settled
    from editor.room import Room, as_settings

    looks = looks or Looks()
    settings = plain_settings(request, editor)
    count, free = edits_each(request, writing), available(editor.device)
    load = fitted(request, tasks, editor.models, settings, count, batch, free)
    room = Room(load, settings, progress.print)

    def edited(chunk: Sequence[Any]) -> list[tuple[Edit, int]]:
        """The edits, and how many of them the UNet saw in one call."""
        jobs = [(i, directions[place], choice) for (_, i, place), choice in chunk]
        made = _edited(request, editor, jobs, progress, as_settings(room.load))
        together = room.load.together(settings, len(chunk))
        return [(edit, together) for edit in made]

    def swept(jobs: Sequence[tuple[Inversion, Direction]]) -> list[tuple[Image.Image, Mapping[str, Any]]]:
        rows, knobs = as_settings(room.load), writing.sweep or {}
        return [_swept(request, inversion, along, knobs, looks, rows, progress) for inversion, along in jobs]

    def chosen(parts: Sequence[tuple[Task, Inversion, int]]) -> list[Choice | None]:
        rows = as_settings(room.load)
        return [_chosen(request, *part, directions, progress, rows, silent) for part in parts]

    def inverted(group: Sequence[Task]) -> list[Inversion]:
        return _inverted(request, group, editor, progress, silent)

    for group in _groups(tasks, sizes_of(request, tasks, editor.models), load.pictures):
        inversions = room.pictures(group, inverted)
        wanted = [
            (task, inversion, place)
            for task, inversion in zip(group, inversions, strict=True)
            for place in task.outputs
        ]
        if writing.sweep is not None:
            for task, inversion, place in wanted:
                ((sheet, record),) = room.edits([(inversion, directions[place])], swept)
                output = task.outputs[place]
                about = {"batch": room.load.together(settings), "expression": request.expressions[place]}
                record = settled({**record, **about, "preset": request.preset}, request.recorded)
                with unbroken():
                    if flagged(record):
                        finished(withheld(record, output, writing))
                    else:
                        save_picture(sheet, output, record, writing.replaces(output))
                        finished(report_of(output, record))
                    progress.finished()
            continue
        choices = [choice for one in wanted for choice in room.edits([one], chosen)]
        for chunk in _alike(list(zip(wanted, choices, strict=True)), room.load.edits):
            edits = room.edits(chunk, edited)
            for ((task, inversion, place), choice), (edit, together) in zip(chunk, edits, strict=True):
                about = {"batch": together, "expression": request.expressions[place]}
                about |= {"auto": asdict(choice)} if choice else {}
                output = task.outputs[place]
                record = {**edit.record, **about, "preset": request.preset}
                record = looked(edit, record, output, writing, request, looks)
                with unbroken():
                    finished(saved(edit, record, output, inversion, writing))
                    progress.finished()


def _groups(tasks: Sequence[Task], sizes: Sequence[tuple[int, int]], batch: int) -> Iterator[Sequence[Task]]:
    """Tasks whose pictures have one size, at most `batch` together."""
    if batch == 1:
        yield from _chunks(tasks, 1)
        return
    by_size: dict[tuple[int, int], list[Task]] = {}
    for task, size in zip(tasks, sizes, strict=True):
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


def _chosen(
    request: Request,
    task: Task,
    inversion: Inversion,
    place: int,
    directions: Sequence[Direction],
    progress: Progress,
    rows: Mapping[str, Any],
    silent: bool,
) -> Choice | None:
    """What --auto chooses for one edit, told; None where nothing is to be chosen."""
    if not request.auto:
        return None
    from editor.auto import choose, most_steps

    made = 0

    def on_step(stage: str, i: int, timestep: float, latents: Any) -> None:
        nonlocal made
        made += 0 if stage == "reference" else len(latents)
        progress.on_step(stage, i, timestep, latents)

    settings = {**request.settings, **rows}
    try:
        choice = choose(
            inversion,
            directions[place],
            None if "strength" in request.auto else request.strength,
            None if "guidance" in request.auto else settings.pop("cross_attention_guidance"),
            negative_prompt=request.negative_prompt,
            mask=request.mask,
            on_step=on_step,
            **settings,
        )
    except ValueError as error:
        raise EditorError(str(error)) from error
    progress.skip(most_steps(request.steps) - made)
    if not silent:
        progress.print(f"{task.path or request.prompt}, {request.expressions[place]}: {choice.reason}")
    return choice


def _alike(wanted: Sequence[tuple[Any, Choice | None]], size: int) -> Iterator[Sequence[Any]]:
    """Edits of one guidance each, which a batch has in common, at most `size` together."""
    by_guidance: dict[float | None, list[Any]] = {}
    for one, choice in wanted:
        by_guidance.setdefault(choice.guidance if choice else None, []).append((one, choice))
    for alike in by_guidance.values():
        yield from _chunks(alike, size)


def _edited(
    request: Request,
    editor: Editor,
    jobs: Sequence[tuple[Inversion, Direction, Choice | None]],
    progress: Progress,
    rows: Mapping[str, Any],
) -> list[Edit]:
    """The edits of one batch, whose choices have one guidance, or are None; `rows` as of `as_settings`."""
    first = jobs[0][2]
    chosen = {} if first is None else {"cross_attention_guidance": first.guidance}
    try:
        return editor.edit_all(
            [(inv, along, c.strength if c else request.strength) for inv, along, c in jobs],
            negative_prompt=request.negative_prompt,
            mask=request.mask,
            on_step=progress.on_step,
            **{**request.settings, **rows, **chosen},
        )
    except ValueError as error:  # settings that do not fit the models or each other, which the loops explain
        raise EditorError(str(error)) from error


def plain_settings(request: Request, editor: Editor) -> EditSettings:
    """The request's settings over the model set's own; EditorError for what does not fit together."""
    try:
        return editor.settings(**request.settings)
    except ValueError as error:
        raise EditorError(str(error)) from error


def _swept(
    request: Request,
    inversion: Inversion,
    direction: Direction,
    knobs: Mapping[str, Sequence[float]],
    looks: Looks,
    rows: Mapping[str, Any],
    progress: Progress,
) -> tuple[Image.Image, dict[str, Any]]:
    """The sheet of a sweep, and the record of its first edit with the values of all."""
    from editor.sweep import sweep

    shared = {"negative_prompt": request.negative_prompt, "mask": request.mask, "on_step": progress.on_step}
    shared |= {**request.settings, **rows}
    result = sweep(inversion, direction, knobs, request.strength, **shared)
    shown = [result[0].reconstruction, *(edit.image for edit in result)]
    verdict = looks.safety(shown) if looks.safety else None
    return result.sheet(), {**result.record, "safety": verdict}
