"""How every benchmark reports: a table with the machine, `--json FILE`, exit 1 when a target is missed.

parser = arguments("What the library costs at scale.")
options = parser.parse_args()
sys.exit(report([at_most("load", 0.002, "s", 0.005), measured("files", 1000, "")], options.json))
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Row", "arguments", "at_least", "at_most", "machine", "measured", "report"]


@dataclass(frozen=True)
class Row:
    """One figure; target and holds are None where nothing was promised."""

    name: str
    value: float
    unit: str
    target: str | None = None
    holds: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row as it is written to a file: without target and holds where there is no promise."""
        fields = {"name": self.name, "value": self.value, "unit": self.unit}
        return fields if self.target is None else {**fields, "target": self.target, "holds": self.holds}


def at_most(name: str, value: float, unit: str, limit: float) -> Row:
    """A figure that must not be above `limit`."""
    return Row(name, value, unit, f"≤ {limit:g}", value <= limit)


def at_least(name: str, value: float, unit: str, limit: float) -> Row:
    """A figure that must not be below `limit`."""
    return Row(name, value, unit, f"≥ {limit:g}", value >= limit)


def measured(name: str, value: float, unit: str) -> Row:
    """A figure without a promise."""
    return Row(name, value, unit)


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    return parser


def environment(**changes: str) -> dict[str, str]:
    """That of a process which is measured cold: as for an installed program, Python keeps compiled modules."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **changes}


def machine() -> str:
    """One line that says where figures were measured."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        processor = names[0] if names else processor
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    gpu = f", {torch.cuda.get_device_name()}" if torch and torch.cuda.is_available() else ""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{processor}, {cores} cores{load}{gpu}, {platform.system()}, Python {platform.python_version()}"


def report(rows: Sequence[Row], path: Path | None = None, note: str = "") -> int:
    """Print the table and write the file; the exit status: 1 when a target is missed."""
    cells = [("", "value", "unit", "target", "")]
    cells += [
        (
            row.name,
            f"{row.value:.4g}",
            row.unit,
            row.target or "",
            {True: "ok", False: "MISSED", None: ""}[row.holds],
        )
        for row in rows
    ]
    widths = [max(len(line[n]) for line in cells) for n in range(5)]
    for name, value, *rest in cells:
        line = [name.ljust(widths[0]), value.rjust(widths[1])]
        line += [cell.ljust(width) for cell, width in zip(rest, widths[2:], strict=True)]
        print("  ".join(line).rstrip())
    print(f"\n{machine()}{f'; {note}' if note else ''}")
    if path:
        path.write_text(json.dumps([row.as_dict() for row in rows], indent=2, ensure_ascii=False) + "\n")
    return 1 if any(row.holds is False for row in rows) else 0
