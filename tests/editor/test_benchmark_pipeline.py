"""The pipeline's benchmark runs, and its tiny comparison with the deprecated pipeline holds."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from .conftest import GOLDEN
from .peer import PEER


def test_quick(tmp_path: Path) -> None:
    if find_spec(PEER) is None:
        pytest.skip("this diffusers no longer has the deprecated pipeline")
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.pipeline", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=GOLDEN.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert rows["relative L2 of the edit latents"]["holds"] is True
    assert rows["relative L2 of the noise latents"]["holds"] is True
    assert rows["ours: edit"]["value"] > 0 and "target" not in rows["time, ours / peer"]
