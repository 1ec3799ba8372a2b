"""`edit-image` from nothing: the time until the UNet is first evaluated, and how much of it are imports.

python -m benchmarks.speed.cold BEGIN ARGUMENTS...    # one run of the command that started at BEGIN
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from benchmarks.report import environment

ROOT = Path(__file__).parents[2]
#: A line of `python -X importtime`: microseconds of a module itself, of all that it imported, its name.
IMPORT = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|", re.MULTILINE)


class Reached(BaseException):
    """The first denoising step is about to be made."""


def cold(timed_imports: bool = False) -> float:
    """Seconds from the start of a process to its first denoising step, or those of them that imports take."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *(["-X", "importtime"] if timed_imports else [])]
        command += ["-m", "benchmarks.speed.cold", repr(time.time()), str(ROOT / "examples" / "cat.png")]
        command += ["-d", "cat2dog", "--models", "embedded", "--device", "cpu", "--no-cache"]
        command += ["-o", str(Path(folder) / "edit.png")]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment()
        )
    if timed_imports:
        return sum(map(int, IMPORT.findall(done.stderr))) / 1e6
    return float(done.stdout.splitlines()[-1])


def run_until_first_step(begin: float, arguments: list[str]) -> float:
    """Run the command in this process; the seconds since `begin` when it would evaluate the UNet."""
    import editor.steps as steps

    def reached(*_: Any, **__: Any) -> NoReturn:
        raise Reached

    from editor.cli import main

    with patch.object(steps, "predict", reached):
        try:
            main(arguments, standalone_mode=False)
        except Reached:
            return time.time() - begin
    raise RuntimeError("edit-image ended without a denoising step")


if __name__ == "__main__":
    print(run_until_first_step(float(sys.argv[1]), sys.argv[2:]))
