"""The index: a disposable sqlite file that remembers what the headers of a library say.

It is never believed about what exists: every use compares the folders' times with what it remembers
and reads what changed. Damaged, locked or unwritable, it is made again, elsewhere if need be.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from library.errors import DamagedFile
from library.fileformat import read_header
from library.index_evaluations import TABLE, bring_up_evaluations
from library.layer import EVALUATION_FILE, VERSION_FILE, Layer, VersionPath
from library.records import check_place
from library.rows import COLUMNS, IndexDamaged, Labels, describe, row_check, stamp_of, to_json
from library.settings import user_folder

__all__ = ["INDEX_FILE", "discard", "open_indexes"]

INDEX_FILE = ".index.sqlite"
SCHEMA = 3  # raise it when the tables below change, or what they mean: an index of another is thrown away
WAIT = 60.0  # seconds for another process that is filling the index
RECENT = 2_000_000_000  # ns: a folder changed so lately may change again within one tick of its clock
UNSURE = -1
BEYOND_US = {  # the low byte of an error code: not damage, and throwing the index away would not help
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM,
}  # fmt: skip

TABLES = f"""
CREATE TABLE {{s}}.folder(name TEXT PRIMARY KEY, mtime INTEGER) WITHOUT ROWID;
CREATE TABLE {{s}}.leaf(id INTEGER PRIMARY KEY, name TEXT, encoder TEXT, mtime INTEGER,
    UNIQUE(name, encoder));
CREATE TABLE {{s}}.entry(id INTEGER PRIMARY KEY AUTOINCREMENT,
    leaf INTEGER, head INTEGER, stamp INTEGER, recorded TEXT,
    {", ".join(COLUMNS)}, crc INTEGER);
CREATE UNIQUE INDEX {{s}}.entry_place ON entry(leaf, version);
CREATE INDEX {{s}}.entry_head ON entry(name, encoder, version) WHERE head;
CREATE INDEX {{s}}.entry_created ON entry(created, name) WHERE head;
CREATE INDEX {{s}}.entry_name ON entry(name, encoder, version);
CREATE INDEX {{s}}.entry_fault ON entry(fault) WHERE fault IS NOT NULL;
{TABLE.format(s="{s}").strip()}
CREATE VIRTUAL TABLE {{s}}.words USING fts5(title, captions, content='', detail=column);
PRAGMA {{s}}.user_version={SCHEMA};
"""


def index_path(layer: Layer) -> Path | None:
    """Beside the versions where that can be written, else in the user's cache folder, if there is a home."""
    if layer.writable and os.access(layer.folder, os.W_OK):
        return layer.folder / INDEX_FILE
    digest = hashlib.sha256(os.fsencode(layer.folder)).hexdigest()[:16]
    cache = user_folder("cache")
    return cache and cache / f"index-{digest}.sqlite"


@contextlib.contextmanager
def open_indexes(layers: list[Layer]) -> Iterator[tuple[sqlite3.Connection, list[str]]]:
    """A connection with the brought-up index of each layer attached as l0, l1, …

    And a line for each folder that could not be read.
    """
    unread: list[str] = []
    connection = sqlite3.connect(":memory:", isolation_level=None, timeout=WAIT)
    try:
        for number, layer in enumerate(layers):
            _attach(connection, f"l{number}", layer, unread)
        yield connection, list(dict.fromkeys(unread))
    finally:
        connection.close()


def discard(layer: Layer) -> None:
    """Throw a layer's index away."""
    path = index_path(layer)
    for victim in (path, path.with_name(path.name + "-journal")) if path else ():
        with contextlib.suppress(OSError):
            victim.unlink()


def _attach(connection: sqlite3.Connection, schema: str, layer: Layer, unread: list[str]) -> None:
    path = index_path(layer)
    for _ in range(2):
        try:
            if path and layer.folder.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                _bring_up_file(path, layer, unread)
                connection.execute(f"ATTACH ? AS {schema}", (str(path),))
                connection.execute(f"SELECT count(*) FROM {schema}.leaf")
                return
            break
        except (sqlite3.DatabaseError, IndexDamaged) as fault:
            if getattr(fault, "sqlite_errorcode", 0) & 0xFF in BEYOND_US:
                break
            discard(layer)
        except OSError:
            break
    with contextlib.suppress(sqlite3.Error):
        connection.execute(f"DETACH {schema}")
    connection.execute(f"ATTACH ':memory:' AS {schema}")
    make_tables(connection, schema)
    bring_up(connection, schema, layer, Difference.between(connection, schema, layer, unread), unread)


def _bring_up_file(path: Path, layer: Layer, unread: list[str]) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=WAIT)
    try:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-32768")
        connection.execute("PRAGMA cell_size_check=ON")
        made = connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA
        difference = Difference.between(connection, "main", layer, unread) if made else None
        if difference is not None and not (difference.changed or difference.gone):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            make_tables(connection, "main")
            difference = difference or Difference.between(connection, "main", layer, unread)
            bring_up(connection, "main", layer, difference, unread)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
    finally:
        connection.close()


@dataclass(frozen=True)
class Difference:
    """What a library's folders hold that its index does not know: `changed` names with their folders' times.

    `restored`: names and encoders of damaged versions that are other files by now, which their folders need not tell.
    """

    changed: dict[str, int]
    gone: frozenset[str]
    restored: frozenset[tuple[str, str]]

    @classmethod
    def between(
        cls, connection: sqlite3.Connection, schema: str, layer: Layer, unread: list[str]
    ) -> Difference:
        """What to read again: every folder's time is compared with the one remembered."""
        folders, leaves = _remembered(connection, schema)
        names = _subfolders(layer.folder, unread)
        root = str(layer.folder)
        changed = {name: mtime for name, mtime in names.items() if folders.get(name) != mtime}
        for (name, encoder), (_, mtime) in leaves.items():
            try:
                same = os.stat(f"{root}/{name}/{encoder}").st_mtime_ns == mtime
            except OSError:
                same = False
            if not same and name in names:
                changed[name] = names[name]
        faulty = f"SELECT name, encoder, version, stamp FROM {schema}.entry WHERE fault IS NOT NULL"
        restored = {
            (name, encoder)
            for name, encoder, version, stamp in connection.execute(faulty)
            if name in names and _is_another(layer.path(name, encoder, version), stamp)
        }
        changed |= {name: names[name] for name, _ in restored}
        return cls(changed, frozenset(folders.keys() - names.keys()), frozenset(restored))


def bring_up(
    connection: sqlite3.Connection, schema: str, layer: Layer, difference: Difference, unread: list[str]
) -> None:
    """Read what changed; a line for each folder that cannot be read goes to `unread`."""
    folders, leaves = _remembered(connection, schema)
    recent = time.time_ns() - RECENT
    encoders_of: dict[str, set[str]] = {}
    for name, encoder in leaves:
        encoders_of.setdefault(name, set()).add(encoder)
    for name in difference.gone:
        for encoder in encoders_of.get(name, ()):
            _forget_leaf(connection, schema, leaves.pop((name, encoder))[0])
        connection.execute(f"DELETE FROM {schema}.folder WHERE name=?", (name,))
    for name, mtime in sorted(difference.changed.items()):
        encoders = encoders_of.get(name, set())
        if folders.get(name) != mtime:
            known = len(unread)
            present = set(_subfolders(layer.folder / name, unread))
            if len(unread) > known:  # what hindered it can go away without a trace in the folder's time
                mtime = UNSURE
            for gone in encoders - present:
                _forget_leaf(connection, schema, leaves.pop((name, gone))[0])
            connection.execute(f"REPLACE INTO {schema}.folder VALUES (?, ?)", (name, _settled(mtime, recent)))
            encoders = present
        for encoder in sorted(encoders):
            known_leaf = leaves.get((name, encoder))
            if known_leaf and (name, encoder) in difference.restored:
                known_leaf = (known_leaf[0], UNSURE)
            _bring_up_leaf(connection, schema, layer, name, encoder, known_leaf, unread)


def make_tables(connection: sqlite3.Connection, schema: str) -> None:
    """The tables of a new index; IndexDamaged for one of another schema."""
    version = connection.execute(f"PRAGMA {schema}.user_version").fetchone()[0]
    if version not in (0, SCHEMA):
        raise IndexDamaged(f"schema {version}")
    if version == 0:
        for statement in TABLES.format(s=schema).strip().split(";\n"):
            connection.execute(statement)


def _remembered(
    connection: sqlite3.Connection, schema: str
) -> tuple[dict[str, int], dict[tuple[str, str], tuple[int, int]]]:
    folders = dict(connection.execute(f"SELECT name, mtime FROM {schema}.folder"))
    rows = connection.execute(f"SELECT name, encoder, id, mtime FROM {schema}.leaf")
    return folders, {(name, encoder): (leaf, mtime) for name, encoder, leaf, mtime in rows}


def _is_another(path: Path, stamp: int) -> bool:
    try:
        return stamp_of(path.lstat()) != stamp
    except OSError:
        return False


def _subfolders(folder: Path, unread: list[str]) -> dict[str, int]:
    """Folders inside and when their entries last changed; a line for each that cannot be read goes to `unread`."""
    found: dict[str, int] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if _is_ours(entry):
                        found[entry.name] = entry.stat().st_mtime_ns
                except OSError as fault:
                    _name(entry.path, fault, unread)
    except OSError as fault:
        _name(folder, fault, unread)
    return found


def _name(folder: str | Path, fault: OSError, unread: list[str]) -> None:
    """One more line of what cannot be read; what has just been removed is none."""
    if not isinstance(fault, (FileNotFoundError, NotADirectoryError)):
        unread.append(f"{folder} cannot be read: {(fault.strerror or str(fault)).lower()}")


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """A folder that is not hidden and whose name is text; `verify` names the others."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return False
    return not entry.name.startswith(".") and entry.is_dir()


def _settled(mtime: int, recent: int) -> int:
    """The time to remember; UNSURE, which equals no time, for a folder that may still change unseen."""
    return mtime if mtime < recent else UNSURE


def _forget_leaf(connection: sqlite3.Connection, schema: str, leaf: int) -> None:
    connection.execute(f"DELETE FROM {schema}.entry WHERE leaf=?", (leaf,))
    connection.execute(f"DELETE FROM {schema}.evaluation WHERE leaf=?", (leaf,))
    connection.execute(f"DELETE FROM {schema}.leaf WHERE id=?", (leaf,))


def _bring_up_leaf(
    connection: sqlite3.Connection,
    schema: str,
    layer: Layer,
    name: str,
    encoder: str,
    known: tuple[int, int] | None,
    unread: list[str],
) -> None:
    folder = layer.leaf(name, encoder)
    recent = time.time_ns() - RECENT
    found: dict[int, os.stat_result] = {}
    measured: dict[int, os.stat_result] = {}
    try:
        mtime = folder.stat().st_mtime_ns
        if known and known[1] == mtime:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                for files, pattern in ((found, VERSION_FILE), (measured, EVALUATION_FILE)):
                    if (match := pattern.fullmatch(entry.name)) and int(match.group(1)):
                        files[int(match.group(1))] = entry.stat(follow_symlinks=False)
    except OSError as fault:
        found, measured, mtime = {}, {}, UNSURE
        _name(folder, fault, unread)
    remembered = _settled(mtime, recent)
    if known:
        leaf = known[0]
        connection.execute(f"UPDATE {schema}.leaf SET mtime=? WHERE id=?", (remembered, leaf))
    else:
        insert = f"INSERT INTO {schema}.leaf(name, encoder, mtime) VALUES (?, ?, ?)"
        leaf = int(connection.execute(insert, (name, encoder, remembered)).lastrowid or 0)
    read = bring_up_evaluations(connection, schema, layer, (name, encoder), leaf, measured)
    labels = Labels(layer, name, encoder)
    read = read and labels.read
    rows = connection.execute(
        f"SELECT version, id, stamp, tags, aliases, recorded FROM {schema}.entry WHERE leaf=?", (leaf,)
    )
    present = {version: rest for version, *rest in rows}
    for version, (row, stamp, tags, aliases, recorded) in present.items():
        status = found.get(version)
        if (
            status
            and stamp == stamp_of(status)
            and aliases == to_json(labels.aliases(version))
            and tags == to_json(labels.tags(version, json.loads(recorded)))
        ):
            del found[version]
        else:
            connection.execute(f"DELETE FROM {schema}.entry WHERE id=?", (row,))
    for version, status in sorted(found.items()):
        place = VersionPath(name, encoder, version, layer.path(name, encoder, version))
        read = _insert(connection, schema, leaf, place, status, labels) and read
    if not read:  # whatever hindered it can go away without a trace in the folder's time
        connection.execute(f"UPDATE {schema}.leaf SET mtime=? WHERE id=?", (UNSURE, leaf))
    connection.execute(
        f"UPDATE {schema}.entry SET head = (version IS "
        f"(SELECT max(version) FROM {schema}.entry WHERE leaf=?1 AND fault IS NULL)) WHERE leaf=?1",
        (leaf,),
    )


def _insert(
    connection: sqlite3.Connection,
    schema: str,
    leaf: int,
    place: VersionPath,
    status: os.stat_result,
    labels: Labels,
) -> bool:
    """Whether the file could be read, be it damaged; else the next use has to try again."""
    stamp = stamp_of(status)
    values: dict[str, Any] = dict.fromkeys(COLUMNS)
    values |= {"name": place.name, "version": place.version, "encoder": place.encoder, "size": status.st_size}
    values |= {"tags": "[]", "aliases": to_json(labels.aliases(place.version))}
    words, recorded = ("", ""), "[]"
    try:
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            raise DamagedFile(f"{place.path} is no file")  # and one that is a pipe would never end
        with open(place.path, "rb") as file:
            header = read_header(file, place.path)
        check_place(header.record, place, place.path)
        recorded = to_json(header.record.get("tags") or [])
        words = describe(values, header.record, labels)
        values["tokens"], values["dim"] = header.shapes["direction"]
    except DamagedFile as fault:
        values["fault"] = str(fault)
    except OSError as fault:
        if isinstance(fault, FileNotFoundError) and not stat.S_ISLNK(status.st_mode):
            return False  # it has just been removed
        values["fault"] = f"{place.path} cannot be read: {(fault.strerror or str(fault)).lower()}"
        stamp = UNSURE
    except (ValueError, TypeError, ArithmeticError, AttributeError) as fault:  # whole, but by a stranger
        values["fault"] = f"{place.path} has a record that cannot be shown: {type(fault).__name__}"
    row = [values[column] for column in COLUMNS]
    marks = ", ".join("?" * (len(row) + 5))
    columns = f"leaf, head, stamp, recorded, {', '.join(COLUMNS)}, crc"
    insert = f"INSERT INTO {schema}.entry({columns}) VALUES ({marks})"
    cursor = connection.execute(insert, (leaf, 0, stamp, recorded, *row, row_check(row)))
    if values["fault"] is None:
        insert = f"INSERT INTO {schema}.words(rowid, title, captions) VALUES (?, ?, ?)"
        connection.execute(insert, (cursor.lastrowid, *words))
    return stamp != UNSURE
