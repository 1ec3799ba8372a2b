"""The benchmark runs from end to end on a small encoder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_quick_run_writes_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks.discovery",
        "--quick",
        "--captions",
        "8",
        "--json",
        str(file),
    ]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert rows["embed 8 a side, small encoder: times faster"]["target"].startswith("≥")
    assert rows["embed 8 a side, small encoder: times faster in bfloat16"]["target"].startswith("≥")
    changed, by_seed = (
        rows[f"cat2dog, embedded models: changed by {what}"]["value"] for what in ("bfloat16", "another seed")
    )
    assert 0 < changed < by_seed / 4, "bfloat16 is told from float32, and matters less than the captions"
    assert rows["peak memory of 80 over 8"]["holds"] is True
