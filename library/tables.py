"""Rows for people and programs: a table that fits the terminal, CSV, JSON."""

from __future__ import annotations

import csv
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from library.console import emit_json_lines
from library.errors import StorageError

__all__ = ["age", "emit_rows", "format_option", "size_text", "table"]

NARROWEST = 8  # a column is not shortened below this
GAP = "  "

format_option = click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", help="How to print it."
)


def emit_rows(
    rows: Iterable[Mapping[str, Any]], form: str, shown: Iterable[Mapping[str, Any]] | None = None
) -> None:
    """Print `rows` as `form`; a table is made of `shown`, the same rows for people, if given.

    Raises StorageError where standard output is closed.
    """
    if sys.stdout is None:
        raise StorageError("standard output is closed: send the rows to a file or a program, or open it")
    if form == "table":
        for line in table(list(rows if shown is None else shown), terminal_width()):
            click.echo(line)
    elif form == "json":
        emit_json_lines(rows)
    else:
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({key: _cell(value) for key, value in row.items()})
        sys.stdout.flush()  # what the disk refuses is to be said here, not at Python's end


def table(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> list[str]:
    """The rows as aligned lines under a heading; the widest columns are shortened to fit `width`."""
    if not rows:
        return []
    columns = list(rows[0])
    cells = [columns, *([printable(_cell(row[column])) for column in columns] for row in rows)]
    keep = [n for n in range(len(columns)) if any(line[n] for line in cells[1:])] or [0]
    widths = {n: max(display_width(line[n]) for line in cells) for n in keep}
    while width and sum(widths.values()) + len(GAP) * (len(keep) - 1) > width:
        widest = max(widths, key=lambda n: widths[n])
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    numeric = {n for n in keep if all(isinstance(row[columns[n]], (int, float, type(None))) for row in rows)}
    lines = []
    for line in cells:
        fitted = [_fit(line[n], widths[n], right=n in numeric) for n in keep]
        lines.append(GAP.join(fitted).rstrip())
    return lines


def terminal_width() -> int | None:
    """Columns of the terminal (or of COLUMNS); None, no limit, when the output is a file or closed."""
    if (sys.stdout is not None and sys.stdout.isatty()) or os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    return None


def display_width(text: str) -> int:
    """Terminal cells that `text` takes: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def printable(text: str) -> str:
    """Without control characters: a record may come from a stranger, and a terminal obeys them."""
    return "".join(c if c.isprintable() or c == " " else "�" for c in text)


def age(created: str) -> str:
    """`3 d` since a UTC time of a record; empty if it is none."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return ""
    seconds = max(0.0, (datetime.now(UTC) - moment.replace(tzinfo=moment.tzinfo or UTC)).total_seconds())
    for unit, length in (("y", 31_557_600), ("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def size_text(count: int) -> str:
    """`1.4 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def _fit(text: str, width: int, right: bool = False) -> str:
    if display_width(text) > width:
        kept = ""
        for character in text:
            if display_width(kept + character) > width - 1:
                break
            kept += character
        text = kept + "…"
    padding = " " * (width - display_width(text))
    return padding + text if right else text + padding
