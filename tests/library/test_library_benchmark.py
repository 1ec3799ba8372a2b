"""The benchmark runs, and its report says what was missed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import library as package

ROOT = Path(package.__file__).parents[1]


def test_a_small_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.library", "--quick", "--versions", "40"]
    out = tmp_path / "rows.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [*command, "--json", str(out)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert process.returncode in (0, 1), process.stderr  # 1: a busy machine misses a target
    rows = {row["name"]: row for row in json.loads(out.read_text())}
    assert rows["versions"] == {"name": "versions", "value": 40, "unit": ""}
    assert rows["Library.load"]["target"] == "≤ 5" and isinstance(rows["Library.load"]["holds"], bool)
    assert "Python" in process.stdout.splitlines()[-1]


def test_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.report import at_least, at_most, measured, report

    rows = [at_most("a", 2, "s", 1), at_least("b", 2, "dB", 1), measured("c", 3, "")]
    assert report(rows, tmp_path / "x.json") == 1 and report(rows[1:]) == 0
    written = json.loads((tmp_path / "x.json").read_text())
    assert written[0] == {"name": "a", "value": 2, "unit": "s", "target": "≤ 1", "holds": False}
    assert written[2] == {"name": "c", "value": 3, "unit": ""}
    assert "MISSED" in capsys.readouterr().out
