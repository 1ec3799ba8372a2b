"""`edit-image` from nothing: the time until the UNet is first evaluated, and how much of it are imports.

python -m benchmarks.speed.cold BEGIN ARGUMENTS...    # one run of the command that started at BEGIN
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from benchmarks.report import environment

ROOT = Path(__file__).parents[2]
#: Where every import statement and `import_module` arrives that finds its module not loaded.
_IMPORTS = importlib._bootstrap  # type: ignore[attr-defined]


class Reached(BaseException):
    """The first denoising step is about to be made."""


def cold() -> tuple[float, float]:
    """Seconds from the start of a process to its first denoising step, and those of them that imports take."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.speed.cold", repr(time.time())]
        command += [str(ROOT / "examples" / "cat.png"), "-d", "cat2dog", "--models", "embedded"]
        command += ["--device", "cpu", "--no-cache", "-o", str(Path(folder) / "edit.png")]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment()
        )
    whole, imports = done.stdout.splitlines()[-1].split()
    return float(whole), float(imports)


@contextmanager
def timed_imports() -> Iterator[list[float]]:
    """Yields a list that gets the seconds of every import made inside the block, imports within it included."""
    load, found, depth = _IMPORTS._find_and_load, [], 0

    def timed(*arguments: Any) -> Any:
        nonlocal depth
        depth += 1
        start = time.perf_counter()
        try:
            return load(*arguments)
        finally:
            depth -= 1
            if not depth:
                found.append(time.perf_counter() - start)

    with patch.object(_IMPORTS, "_find_and_load", timed):
        yield found


def run_until_first_step(begin: float, arguments: list[str]) -> tuple[float, float]:
    """Run the command in this process; seconds since `begin` when it would evaluate the UNet, and those of imports."""

    def reached(*_: Any, **__: Any) -> NoReturn:
        raise Reached

    with timed_imports() as imports:
        from editor.cli import main
        from library.startup import quick_imports

        quick_imports()  # as the command does before the models' libraries
        import editor.graphs as graphs

        with patch.object(graphs, "predict", reached):
            try:
                main(arguments, standalone_mode=False)
            except Reached:
                return time.time() - begin, sum(imports)
    raise RuntimeError("edit-image ended without a denoising step")


if __name__ == "__main__":
    print(*run_until_first_step(float(sys.argv[1]), sys.argv[2:]))
