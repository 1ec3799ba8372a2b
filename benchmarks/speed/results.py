"""The results on disk: one file of all parts, each as it was last measured, and the page and plot made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.report import machine
from benchmarks.speed.growth import plot
from benchmarks.speed.parts import Section

FIGURES, PAGE, PLOT = "speed.json", "speed.md", "speed.png"


def keep(name: str, section: Section, folder: Path, how: str) -> None:
    """Put a part's figures in place of its former ones, and write page and plot anew."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FIGURES
    parts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    parts[name] = {
        "measured": f"{date.today()}, {machine()}, {how}",
        "note": section.note,
        "rows": [row.as_dict() for row in section.rows],
        "stages": section.stages,
        "curves": section.curves.as_dict() if section.curves else None,
    }
    file.write_text(json.dumps(parts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(page(parts), encoding="utf-8")
    if section.curves:
        plot(section.curves, folder / PLOT)


def page(parts: Mapping[str, Any]) -> str:
    """All parts as Markdown."""
    lines = ["# What an edit costs", "", "Made by `python -m benchmarks.speed`; docs/speed.md says how."]
    for name, part in parts.items():
        lines += ["", f"## {name}", "", part["note"] or part["measured"]]
        if part["rows"]:
            lines += ["", "| | value | unit | promised | |", "|---|---|---|---|---|"]
        for row in part["rows"]:
            holds = {True: "ok", False: "missed", None: ""}[row.get("holds")]
            cells = (row["name"], f"{row['value']:.4g}", row["unit"], row.get("target", ""), holds)
            lines.append(f"| {' | '.join(cells)} |")
        for title, table in part["stages"].items():
            lines += ["", f"Seconds a stage, {title}:", "", *stage_lines(table)]
        if part["curves"]:
            lines += ["", f"![time and memory against each axis]({PLOT})"]
    return "\n".join(lines) + "\n"


def stage_lines(table: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A Markdown table: a row a stage, a column a method, seconds; a stage that nobody has is left out."""
    names = list(dict.fromkeys(who for seconds in table.values() for who in seconds))
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for stage, seconds in table.items():
        if seconds:
            cells = [f"{seconds[who]:.3g}" if who in seconds else "" for who in names]
            lines.append(f"| {stage} | {' | '.join(cells)} |")
    return lines
