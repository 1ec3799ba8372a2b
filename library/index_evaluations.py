"""The index's part about measurements: which versions were measured, with what success, and when."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from typing import Any

from library.errors import DirectionsError
from library.evaluation import read_evaluation
from library.layer import Layer
from library.rows import DIGEST, IndexDamaged, row_check, stamp_of

__all__ = ["TABLE", "bring_up_evaluations", "checked_evaluation", "columns", "joins"]

TABLE = """
CREATE TABLE {s}.evaluation(name TEXT, encoder TEXT, version INTEGER, leaf INTEGER, stamp INTEGER,
    digest TEXT, success REAL, evaluated TEXT, crc INTEGER, PRIMARY KEY(name, encoder, version)) WITHOUT ROWID;
"""


def bring_up_evaluations(
    connection: sqlite3.Connection,
    schema: str,
    layer: Layer,
    place: tuple[str, str],
    leaf: int,
    found: Mapping[int, os.stat_result],
) -> bool:
    """Read the measurements in the folder of one name and encoder that changed; `found` has their files' status.

    A damaged one counts as none. They are rows of their own, for a version may lie in another library. The result
    is whether all could be read; else the next use has to try again.
    """
    read = True
    name, encoder = place
    rows = connection.execute(f"SELECT version, stamp FROM {schema}.evaluation WHERE leaf=?", (leaf,))
    known = dict(rows.fetchall())
    for version in known.keys() | found.keys():
        status = found.get(version)
        stamp = None if status is None else stamp_of(status)
        if stamp is not None and stamp == known.get(version):
            continue
        if version in known:
            connection.execute(
                f"DELETE FROM {schema}.evaluation WHERE name=? AND encoder=? AND version=?",
                (name, encoder, version),
            )
        if stamp is None:
            continue
        try:
            measured = read_evaluation(layer.evaluation_path(name, encoder, version))
        except OSError:
            read = False
            continue
        except DirectionsError:
            continue
        shown = [measured.sha256[:DIGEST], measured.success, measured.created]
        crc = row_check([name, encoder, version, *shown])
        connection.execute(
            f"INSERT INTO {schema}.evaluation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (name, encoder, version, leaf, stamp, *shown, crc),
        )
    return read


def joins(connection: sqlite3.Connection, layers: int) -> list[str]:
    """The joins that give entries `e` their measurements: one for each layer that has any, the upper first."""
    measured = [
        number
        for number in range(layers)
        if connection.execute(f"SELECT EXISTS (SELECT 1 FROM l{number}.evaluation)").fetchone()[0]
    ]
    return [
        f"LEFT JOIN l{n}.evaluation v{place} ON v{place}.name = e.name AND v{place}.encoder = e.encoder "
        f"AND v{place}.version = e.version AND v{place}.digest = e.digest"
        for place, n in enumerate(measured)
    ]


def columns(count: int) -> str:
    """What to select of `count` joins: success, evaluated and their checksum, of the uppermost that has them."""
    shown = []
    for column in ("success", "evaluated", "crc"):
        parts = [f"v{place}.{column}" for place in range(count)]
        value = f"coalesce({', '.join(parts)})" if count > 1 else parts[0] if parts else "NULL"
        shown.append(f"{value} AS measured_{column}")
    return ", ".join(shown)


def checked_evaluation(values: Mapping[str, Any], measured: tuple[Any, ...]) -> tuple[float | None, str]:
    """The success and time of a row of the catalog; raises IndexDamaged where they are not as they were written."""
    success, evaluated, crc = measured
    if crc is None:
        return None, ""
    row = [values["name"], values["encoder"], values["version"], values["digest"], success, evaluated]
    if row_check(row) != crc:
        raise IndexDamaged("a measurement")
    return success, evaluated
