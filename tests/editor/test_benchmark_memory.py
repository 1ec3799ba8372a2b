"""The memory benchmark runs, and on the smallest configurations its predictions hold."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.memory import main


def test_quick(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    assert main(["--quick", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    errors = [row for row in rows if row["name"].endswith("error of the prediction")]
    assert len(errors) == 2 and all(row["holds"] for row in errors)
