"""`edit-image --plan`: what would be made, how much at a time, and with how much memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from editor.fitting import (
    available,
    counted,
    edits_each,
    first_that_fits,
    forecast,
    loads,
    most_alike,
    work_of,
)
from editor.memory import MEBIBYTE, Forecast, extra_weights, outline
from editor.plan import Task, Writing, edits_of
from editor.request import Request

if TYPE_CHECKING:
    import torch

    from editor.fitting import Load

HALF = "float32 does not fit into the GPU's memory: UNet and autoencoder are float16"


def preview(
    request: Request, tasks: Sequence[Task], writing: Writing, batch: int | None = None, safety: bool = True
) -> dict[str, Any]:
    """The plan of a request, JSON-able; sizes in bytes. Reads the models' configurations, not their weights.

    `safety`: whether the models' safety checker is loaded too. Raises ModelsUnavailable.
    """
    from editor.jobs import plain_settings
    from editor.models import choose_device
    from editor.session import Editor

    dtype = request.dtype or "float32"
    device, models = choose_device(request.device), outline(request.models, _type(dtype))
    settings = plain_settings(request, Editor(models))
    free = available(device)
    extra = extra_weights(
        request.models, captioner=bool(request.images) and not request.caption, safety=safety
    )
    found: dict[Load, Forecast] = {}

    def need(load: Load) -> int:
        shapes = outline(request.models, _type("float16")) if load.half else models
        made = forecast(request, tasks, shapes, settings, load, device.type)
        found[load] = Forecast({**made.weights, **extra}, made.phases)
        return found[load].peak

    alike = most_alike(request, tasks, models)
    choices = loads(settings, device.type, edits_each(request, writing), batch, request.dtype is None, alike)
    load = first_that_fits(choices, need, free)
    if load not in found:
        need(load)
    work, expected = work_of(request, tasks, models, load, False), found[load]
    return {
        "models": models.name,
        "device": str(device),
        "dtype": "float16" if load.half else dtype,
        "size": list(work.size),
        "steps": request.steps,
        "edits": edits_of(tasks) * edits_each(request, writing, knobs=True),
        "batch": {"pictures": load.pictures, "edits": load.edits, "rows": load.rows(settings)},
        "memory": {
            "weights": dict(expected.weights),
            "working": dict(expected.phases),
            "peak": expected.peak,
            "available": free,
        },
        "writes": [
            {
                "input": task.path or request.prompt,
                "direction": request.expressions[place],
                "files": [str(f) for f in (path, path.with_suffix(".json"), *writing.beside(path).values())],
            }
            for task in tasks
            for place, path in task.outputs.items()
        ],
    }


def preview_lines(plan: dict[str, Any]) -> list[str]:
    """The plan for people."""
    memory, batch = plan["memory"], plan["batch"]
    width, height = plan["size"]
    phase = max(memory["working"], key=memory["working"].get)
    free = memory["available"]
    room = "what is available is not known" if free is None else f"{_megabytes(free)} available"
    short = free is not None and memory["peak"] > free
    lines = [
        f"models  {plan['models']} on {plan['device']}, {plan['dtype']}",
        f"edits   {plan['edits']} of {plan['steps']} steps at {width}×{height}",
        f"batch   {counted(batch['pictures'], 'picture')} inverted, {counted(batch['edits'], 'edit')} made at a "
        f"time; at most {counted(batch['rows'], 'row')} of the UNet a call",
        f"memory  {_megabytes(memory['peak'])} predicted, beside the program itself: "
        f"weights {_megabytes(sum(memory['weights'].values()))}, "
        f"working {_megabytes(memory['working'][phase])} ({phase}); {room}",
    ]
    lines += ["        that does not fit: try a smaller --size or another --device"] if short else []
    return lines + [
        f"writes  {', '.join(one['files'])}  ({one['input']}, {one['direction']})" for one in plan["writes"]
    ]


def precision(
    request: Request, tasks: Sequence[Task], writing: Writing, batch: int | None, safety: bool = True
) -> torch.dtype | None:
    """The type asked for, else float16 for a GPU into which float32 does not fit and float16 does; None is float32.

    `safety`: as for `preview`.
    """
    from editor.models import choose_device

    if request.dtype is not None:
        return _type(request.dtype)
    if choose_device(request.device).type != "cuda":
        return None
    plan = preview(request, tasks, writing, batch, safety)
    return _type("float16") if plan["dtype"] == "float16" else None


def _type(name: str) -> torch.dtype:
    import torch

    found: torch.dtype = getattr(torch, name)
    return found


def _megabytes(count: int) -> str:
    size = count / MEBIBYTE
    return f"{size / 1024:.1f} GiB" if size >= 1024 else f"{size:.0f} MiB"
