"""What one edit costs: every method in a process of its own, one picture at a time, inversion included."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.processes import MEBIBYTE, forget_peak, in_own_process, peak, resident
from benchmarks.quality.batch import Batch
from benchmarks.quality.figures import Figure
from benchmarks.quality.methods import Method
from benchmarks.quality.tasks import Task
from editor.session import Editor

COSTS = (
    Figure("seconds", "seconds an edit", 1, 2, higher=False),
    Figure("memory", "peak memory above the weights, MiB", 1, 1, higher=False),
)
#: Pictures that are timed, after one that is not.
TIMED = 5


def measure_costs(
    editor: Editor, task: Task, method: Method, steps: int, pictures: int = TIMED
) -> list[dict[str, float]]:
    """Seconds and peak memory (MiB) of each of the task's first pictures, alone; in this process.

    The first is edited once more, in one step, before the clock starts. Memory is that of the process, or of the
    GPU where the editor is on one, above what it held before the first edit; it is left out where the
    system does not report it.
    """
    samples = task.load(range(min(pictures, len(task.keys))))
    method.prepare()
    held = _held(editor)
    method.run(Batch(editor, samples[:1], 1), method.values[0])
    found = []
    for sample in samples:
        _held(editor)
        begin = time.perf_counter()
        method.run(Batch(editor, [sample], steps), method.values[0])
        top = _top(editor)  # waits for the GPU
        values = {"seconds": time.perf_counter() - begin}
        if held is not None and top is not None:
            values["memory"] = (top - held) / MEBIBYTE
        found.append(values)
    return found


def _held(editor: Editor) -> int | None:
    """Bytes held now; the peak so far is forgotten. None where the system does not say."""
    if editor.device.type == "cuda":
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        forget_peak()
        return resident()
    except OSError:
        return None


def _top(editor: Editor) -> int | None:
    """The most bytes held since `_held`."""
    if editor.device.type == "cuda":
        import torch

        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    try:
        return peak()
    except (OSError, RuntimeError):
        return None


def of_own_process(method: str, arguments: Sequence[str]) -> list[dict[str, float]]:
    """`measure_costs` of one method in a process of its own; `arguments` are the benchmark's."""
    return in_own_process("benchmarks.quality", ["--cost-of", method, *arguments], None)
