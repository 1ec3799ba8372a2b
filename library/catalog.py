"""The catalog: what a library holds, filtered, sorted, searched and paged, without reading a tensor."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from library.errors import StorageError
from library.index import discard, open_indexes
from library.index_evaluations import checked_evaluation, columns, joins
from library.layer import Layer
from library.names import is_word_character
from library.rows import COLUMNS, IndexDamaged, checked_row

if TYPE_CHECKING:
    import pandas as pd

    from library.store import Library

__all__ = ["SORTS", "Entry", "Page", "Query", "catalog", "select"]

SORTS = ("name", "created", "quality", "success", "encoder", "size")
FIGURES = ("quality", "success")  # which a version may lack
MEASURED = 3  # columns of a measurement
REPEATED = ("encoder", "author", "models", "created", "evaluated")  # 100,000 rows share a few of each
ROW = ", ".join(f"e.{column}" for column in (*COLUMNS, "crc"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One version as the catalog shows it. `library` is the folder that it lies in.

    success: the share of edits that showed the target when it was last measured, at the UTC time `evaluated`.
    """

    name: str
    version: int
    source: str
    target: str
    encoder: str
    quality: float | None
    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    created: str
    author: str
    models: str
    captions: int
    parents: tuple[str, ...]
    tokens: int
    dim: int
    size: int
    success: float | None
    evaluated: str
    library: str

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def concepts(self) -> str:
        if self.source or self.target:
            return f"{self.source} → {self.target}"
        return " + ".join(self.parents).replace("+ -", "- ")

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON-able values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {name: list(values[name]) for name in ("tags", "aliases", "parents")}


@dataclass(frozen=True)
class Query:
    """What to list. Filters combine; `text` must match word by word, each as a beginning."""

    text: str = ""
    tags: tuple[str, ...] = ()
    encoder: str = ""
    concept: str = ""
    all_versions: bool = False
    sort: str = "name"
    reverse: bool = False
    limit: int = 0  # 0 is no limit
    offset: int = 0


@dataclass(frozen=True)
class Page:
    """The entries asked for, whether more follow, and the damaged files met beside them.

    mentioned: how many of the entries, the last ones, a search found by their captions alone.
    """

    entries: list[Entry]
    more: bool
    total: int | None
    faults: list[str]
    mentioned: int = 0


def select(library: Library, query: Query) -> Page:
    """The page of the catalog that `query` asks for, as the files are now. Raises StorageError."""
    layers, unread = _readable(library)
    page = _with_indexes(layers, lambda connection: _page(connection, layers, query))
    return replace(page, faults=[*unread, *page.faults])


def faults(library: Library) -> list[str]:
    """Damaged files, as far as their headers tell."""
    return select(library, Query(limit=1)).faults


def _readable(library: Library) -> tuple[list[Layer], list[str]]:
    """The layers that are there, and a line for each below the user's own that cannot be read.

    Raises StorageError where that one cannot.
    """
    layers, unread = [], []
    for layer in library.layers:
        try:
            with os.scandir(layer.folder):
                layers.append(layer)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as fault:
            reason = (fault.strerror or str(fault)).lower()
            if layer.writable:
                raise StorageError(f"cannot read {layer.folder}: {reason}") from fault
            unread.append(f"{layer.folder} cannot be read: {reason}")
    return layers, unread


def _with_indexes(layers: list[Layer], ask: Callable[[sqlite3.Connection], Page]) -> Page:
    if not layers:
        return Page([], False, 0, [])
    for attempt in range(3):
        try:
            with open_indexes(layers) as (connection, unread):
                page = ask(connection)
                return replace(page, faults=[*page.faults, *unread])
        except (sqlite3.DatabaseError, IndexDamaged, ValueError, TypeError):
            if attempt == 2:
                raise
            for layer in layers:  # the index is damaged: make it again from the files
                discard(layer)
    raise AssertionError("unreachable")


def _page(connection: sqlite3.Connection, layers: list[Layer], query: Query) -> Page:
    faults = [
        fault
        for number in range(len(layers))
        for (fault,) in connection.execute(
            f"SELECT fault FROM l{number}.entry WHERE fault IS NOT NULL ORDER BY name, encoder, version"
        )
    ]
    wanted = query.offset + query.limit + 1 if query.limit else -1
    total: int | None = None
    if query.text.strip():
        words = " ".join(f'"{word}"*' for word in _words(query.text))
        if not words:  # nothing but punctuation
            return Page([], False, None, faults)
        entries = _select(connection, layers, query, wanted, f"title : ({words})")
        named = len(entries)
        if wanted < 0 or len(entries) < wanted:  # then those whose captions say it
            found = {(entry.name, entry.encoder, entry.version) for entry in entries}
            others = _select(connection, layers, query, wanted, words)
            entries += [e for e in others if (e.name, e.encoder, e.version) not in found]
    else:
        entries = _select(connection, layers, query, wanted)
        named = len(entries)
        total = _count(connection, layers, query)
    end = query.offset + query.limit if query.limit else len(entries)
    page = entries[query.offset : end]
    mentioned = len(page) - min(len(page), max(0, named - query.offset))
    return Page(page, len(entries) > end, total, faults, mentioned)


def _words(text: str) -> list[str]:
    """What the index has of a text as words: it is parted at everything but letters, their marks and digits."""
    return "".join(c if is_word_character(c) else " " for c in text).split()


def _select(
    connection: sqlite3.Connection, layers: list[Layer], query: Query, limit: int, match: str = ""
) -> list[Entry]:
    """Entries from all layers in the order asked for; at most `limit` of them unless that is negative."""
    down = query.reverse != (query.sort in ("created", *FIGURES, "size"))
    column = "measured_success" if query.sort == "success" else f"e.{query.sort}"
    order = f"{column} {'DESC' if down else 'ASC'}{' NULLS LAST' if query.sort in FIGURES else ''}"
    order += ", e.name, e.encoder, e.version DESC"
    as_found = bool(match) and query.sort == "name" and not query.reverse
    if as_found:
        order = "w.rowid"  # much the same order, and no sorting of thousands of matches for one page
    elif query.sort == "name":
        order = f"e.name {'DESC' if down else 'ASC'}, e.encoder, e.version DESC"
    entries: list[Entry] = []
    measured = joins(connection, len(layers))
    for number, layer in enumerate(layers):
        conditions, values = _conditions(number, len(layers), query)
        table = f"l{number}.entry e"
        if match:
            table = f"l{number}.words w CROSS JOIN {table} ON e.id = w.rowid"
            conditions, values = ["w.words MATCH ?", *conditions], [match, *values]
        statement = (
            f"SELECT {ROW}, {columns(len(measured))} FROM {' '.join([table, *measured])} "
            f"WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ?"
        )
        entries += [_entry(row, layer) for row in connection.execute(statement, (*values, limit))]
    if len(layers) > 1 and not as_found:  # else each layer was cut in another order than this
        entries.sort(key=lambda e: (e.name, e.encoder, -e.version))
        if query.sort in FIGURES:
            figure = attrgetter(query.sort)
            entries.sort(key=lambda e: (figure(e) is None, (figure(e) or 0) * (-1 if down else 1)))
        else:
            entries.sort(key=lambda e: getattr(e, query.sort), reverse=down)
    return entries


def _count(connection: sqlite3.Connection, layers: list[Layer], query: Query) -> int:
    total = 0
    for number in range(len(layers)):
        conditions, values = _conditions(number, len(layers), query)
        statement = f"SELECT count(*) FROM l{number}.entry e WHERE {' AND '.join(conditions)}"
        total += connection.execute(statement, values).fetchone()[0]
    return total


def _conditions(number: int, layers: int, query: Query) -> tuple[list[str], list[Any]]:
    """What a row of layer `number` must fulfil, not being hidden by another layer included."""
    conditions = ["e.fault IS NULL"] if query.all_versions else ["e.head"]
    values: list[Any] = []
    for other in range(layers):
        hides = "o.version = e.version" if query.all_versions else "o.version > e.version"
        if not query.all_versions and other < number:
            hides = "o.version >= e.version"
        if other < number or (other > number and not query.all_versions):
            conditions.append(
                f"NOT EXISTS (SELECT 1 FROM l{other}.entry o WHERE o.name = e.name AND o.encoder = e.encoder "
                f"AND {'o.fault IS NULL' if query.all_versions else 'o.head'} AND {hides})"
            )
    for tag in query.tags:
        conditions.append("EXISTS (SELECT 1 FROM json_each(e.tags) WHERE value = ?)")
        values.append(tag)
    if query.encoder:
        conditions.append("(e.encoder = ? OR substr(e.encoder, 1, ?) = ?)")
        values += [query.encoder, len(query.encoder) + 1, query.encoder + "-"]
    if query.concept:
        conditions.append("(e.source = ? OR e.target = ?)")
        values += [query.concept, query.concept]
    return conditions, values


def _entry(row: tuple[Any, ...], layer: Layer) -> Entry:
    values = checked_row(row[:-MEASURED])
    values["success"], values["evaluated"] = checked_evaluation(values, row[-MEASURED:])
    del values["fault"], values["digest"]
    for key in ("tags", "aliases", "parents"):
        values[key] = () if values[key] in ("[]", None) else tuple(json.loads(values[key]))
    for key in REPEATED:
        values[key] = sys.intern(values[key])
    return Entry(**values, library=sys.intern(str(layer.folder)))


def catalog(library: Library) -> pd.DataFrame:
    """One row for every version, by name, encoder and version.

    Columns: the fields of `Entry` in their order. name, source, target, encoder, author, models, library:
    str; version, captions, tokens, dim, size (bytes): int64; quality: float64, NaN where none was
    recorded; success: float64, the share of edits that showed the target when it was last measured, NaN
    where it never was, and evaluated: when, datetime64, UTC, or NaT; tags, aliases, parents: lists of str;
    created: datetime64, UTC. Damaged files are not rows: `library.verify()` names them.
    """
    import pandas as pd

    entries = select(library, Query(all_versions=True)).entries
    frame = pd.DataFrame([entry.as_dict() for entry in entries], columns=[f.name for f in fields(Entry)])
    integers = dict.fromkeys(("version", "captions", "tokens", "dim", "size"), "int64")
    frame = frame.astype({**integers, **dict.fromkeys(FIGURES, "float64")})
    for column in ("created", "evaluated"):
        frame[column] = pd.to_datetime(frame[column], utc=True, errors="coerce", format="ISO8601")
    return frame.sort_values(["name", "encoder", "version"], ignore_index=True)
