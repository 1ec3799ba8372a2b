"""Choosing how much to compute at a time, so that it fits into the memory that there is."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from editor.memory import Forecast, Work, predict
from editor.plan import Task, Writing
from editor.request import Request
from editor.settings import EditSettings

if TYPE_CHECKING:
    from editor.models import Models

Choice = TypeVar("Choice")

#: No edit holds more than this many times the UNet's widest map, that of its first level; measured: 200 to 320.
MOST_MAPS = 1000


@dataclass(frozen=True)
class Load:
    """How many pictures are inverted and edits made at a time, the UNet's rows a call (None: all), half precision."""

    pictures: int
    edits: int
    max_rows: int | None
    half: bool = False

    def together(self, settings: EditSettings, edits: int | None = None) -> int:
        """How many of so many edits the UNet sees in one call; 1 where each comes out as it would alone."""
        limit = self.max_rows or self.edits * rows_per_edit(settings)
        return min(edits or self.edits, max(1, limit // rows_per_edit(settings)))

    def rows(self, settings: EditSettings) -> int:
        """The UNet's most rows in one call of the guided pass."""
        most = self.edits * rows_per_edit(settings)
        return min(self.max_rows or most, most)


def edits_each(request: Request, writing: Writing, knobs: bool = False) -> int:
    """How many edits of a picture are made together: its directions, or a sweep's strengths.

    knobs: instead, how many edits go to one file, of all of the sweep's knobs.
    """
    sweep = writing.sweep or {}
    if knobs:
        return math.prod(len(values) for values in sweep.values())
    return len(sweep.get("strength", ())) or (1 if sweep else len(request.expressions))


def rows_per_edit(settings: EditSettings) -> int:
    """The UNet's rows for one edit: two with classifier-free guidance."""
    return 2 if settings.guidance_scale > 1 or settings.noise_correction else 1


def counted(number: int, thing: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def available(device: str | Any = "cpu") -> int | None:
    """Bytes of memory that are free on a device; None where the system does not say."""
    import torch

    place = torch.device(device)
    if place.type == "cuda":
        return int(torch.cuda.mem_get_info(place)[0])
    if place.type != "cpu":
        return None
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def first_that_fits(choices: Iterable[Choice], need: Callable[[Choice], int], room: int | None) -> Choice:
    """The first choice that needs at most `room` bytes, else the last; the first where the room is unknown."""
    for choice in choices:
        if room is None or need(choice) <= room:
            return choice
    return choice


def loads(
    settings: EditSettings,
    device: str,
    count: int,
    batch: int | None,
    halves: bool = False,
    alike: int = 1,
) -> Iterator[Load]:
    """What to try, best first, for `count` edits of each picture, of which `alike` at most have one size; see `Load`.

    Without a batch given, all edits of one picture share its inversion and its reference pass. A processor
    evaluates them one by one, which costs it little, and then they are to the last bit what they are alone;
    a GPU takes as many rows as fit. A batch given, and rows given, stay as they are.
    """
    each = rows_per_edit(settings)
    first = Load(1, count, settings.max_rows)
    if batch:
        pictures = min(batch, alike)
        first = Load(pictures, min(batch, pictures * count), settings.max_rows)
    if batch or settings.max_rows:
        yield first
        rows: list[int | None] = []
    else:
        rows = [each] if device == "cpu" and count > 1 else [None]
        rows += [each * n for n in (2**k for k in range(10, -1, -1)) if n < count and device != "cpu"]
        rows += [1] if each > 1 else []
        yield from (replace(first, max_rows=limit) for limit in rows)
    if halves and device == "cuda":
        yield from (replace(first, max_rows=limit, half=True) for limit in rows or [settings.max_rows])


def roomy(models: Models, settings: EditSettings, load: Load, work: Work, room: int | None) -> bool:
    """Whether the work fits beyond doubt, so that nothing has to be predicted."""
    width, height = (-(-side // models.factor) for side in work.size)
    widest = load.rows(settings) * models.unet.config.block_out_channels[0] * width * height * 4
    return room is None or MOST_MAPS * widest <= room


def sizes_of(request: Request, tasks: Sequence[Task], models: Models) -> list[tuple[int, int]]:
    """The size of each task's picture, once it is brought to the request's."""
    from editor.images import fitted_size

    size = models.native_size if request.size == "native" else request.size
    asked = (size, size) if isinstance(size, int) else tuple(size or (models.native_size,) * 2)
    sizes = []
    for task in tasks:
        if task.size is None:
            sizes.append((int(asked[0]), int(asked[1])))
        else:
            sizes.append(fitted_size(task.size, size) if isinstance(size, int) else task.size)
    return sizes


def most_alike(request: Request, tasks: Sequence[Task], models: Models) -> int:
    """How many pictures have one size, and so can be computed together."""
    return max(Counter(sizes_of(request, tasks, models)).values())


def work_of(request: Request, tasks: Sequence[Task], models: Models, load: Load, negative: bool) -> Work:
    """The largest of the request's pictures, as so many are computed at a time."""
    return Work(
        max(sizes_of(request, tasks, models), key=lambda one: one[0] * one[1]),
        pictures=load.pictures,
        edits=load.edits,
        steps=request.steps,
        real=request.prompt is None,
        own_negative=not negative and request.prompt is None,
    )


def forecast(
    request: Request, tasks: Sequence[Task], models: Models, settings: EditSettings, load: Load, device: str
) -> Forecast:
    """What a load of the request will hold."""
    work = work_of(request, tasks, models, load, request.negative_prompt is not None)
    return predict(models, replace(settings, max_rows=load.max_rows), work, device)


def fitted(
    request: Request,
    tasks: Sequence[Task],
    models: Models,
    settings: EditSettings,
    count: int,
    batch: int | None,
    room: int | None,
) -> Load:
    """The load for loaded models and `count` edits of each picture, by what is predicted where room is scarce."""
    device = models.device.type
    choices = list(loads(settings, device, count, batch, alike=most_alike(request, tasks, models)))
    if roomy(models, settings, choices[0], work_of(request, tasks, models, choices[0], False), room):
        return choices[0]

    def need(load: Load) -> int:
        return forecast(request, tasks, models, settings, load, device).working

    return first_that_fits(choices, need, room)
