"""`Room`: how much is computed at a time, made smaller once when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from editor.errors import EditorError
from editor.fitting import Load, counted, rows_per_edit
from editor.settings import EditSettings

#: What errors of torch that are no `OutOfMemoryError` say: a processor's allocator, cuBLAS and cuDNN, CUDA itself.
LACK_OF_MEMORY = ("can't allocate memory", "STATUS_ALLOC_FAILED", "CUDA error: out of memory")

Item = TypeVar("Item")
Result = TypeVar("Result")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a GPU's, or that of torch's allocator on a processor."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in LACK_OF_MEMORY)


class Room:
    """The load of a run, and what to do when even that is too much."""

    def __init__(self, load: Load, settings: EditSettings, tell: Callable[[str], object]) -> None:
        self.load, self.settings, self.tell = load, settings, tell
        self.tight = False

    def edits(self, jobs: Sequence[Item], make: Callable[[Sequence[Item]], Sequence[Result]]) -> list[Result]:
        """`make` of all jobs, at most `load.edits` at a time, which it reads `load.max_rows` for."""
        return self._parts(jobs, make, lambda: self.load.edits, self._fewer_edits)

    def pictures(
        self, jobs: Sequence[Item], make: Callable[[Sequence[Item]], Sequence[Result]]
    ) -> list[Result]:
        """`make` of all jobs, at most `load.pictures` at a time."""
        return self._parts(jobs, make, lambda: self.load.pictures, self._fewer_pictures)

    def _parts(
        self,
        jobs: Sequence[Item],
        make: Callable[[Sequence[Item]], Sequence[Result]],
        size: Callable[[], int],
        shrink: Callable[[int], str | None],
    ) -> list[Result]:
        made: list[Result] = []
        while len(made) < len(jobs):
            part = jobs[len(made) : len(made) + size()]
            try:
                made += make(part)
                continue
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                line = None if self.tight else shrink(len(part))
                if line is None:
                    raise EditorError(
                        f"out of memory with {len(part)} at a time; try a smaller --size, --batch 1, "
                        "--max-rows 1, or another --device"
                    ) from error
            # Out of the `except`: until its end the error holds on to the tensors of what failed.
            self.tight = True
            self.tell(f"out of memory: again with {line}")
            _release()
        return made

    def _fewer_edits(self, count: int) -> str | None:
        """Halve the rows of a call where they are limited already, else the edits, at last the rows of one."""
        most = count * rows_per_edit(self.settings)
        rows = min(self.load.max_rows or most, most)
        if count > 1 and (rows == most or rows == 1):
            self.load = replace(self.load, edits=count // 2)
            return f"{counted(self.load.edits, 'edit')} at a time instead of {count}"
        if rows == 1:
            return None
        self.load = replace(self.load, max_rows=rows // 2)
        return f"{counted(rows // 2, 'row')} of the UNet at a time instead of {rows}"

    def _fewer_pictures(self, count: int) -> str | None:
        if count == 1:
            return None
        self.load = replace(self.load, pictures=count // 2)
        return f"{counted(self.load.pictures, 'picture')} at a time instead of {count}"


def _release() -> None:
    """Give back what is no longer used."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def as_settings(load: Load) -> dict[str, Any]:
    """The setting that a load changes."""
    return {} if load.max_rows is None else {"max_rows": load.max_rows}
