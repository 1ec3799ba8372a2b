"""The plan of a comparison, its results on disk, and the loop that fills them in and can be interrupted."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.quality.batch import Batch
from benchmarks.quality.measures import Measure, Values
from benchmarks.quality.methods import Method
from benchmarks.quality.tasks import Task
from editor.session import Editor

#: The file of results in the output folder, one JSON object a line.
RESULTS = "results.jsonl"
EDITED, ORIGINALS = "pictures", "originals"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Cell:
    """One batch of a task under one method at one value of its knob; `key` names everything it depends on."""

    task: Task
    method: Method
    value: float
    numbers: tuple[int, ...]
    what: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        return digest(self.what)


def digest(what: Mapping[str, Any]) -> str:
    """16 hex digits of canonical JSON."""
    text = json.dumps(what, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(models: Any) -> dict[str, str]:
    """What a model set (with the judge) is: for local folders a digest of every file, else the hub's names."""
    from zoo.registry import WEIGHTS

    found = {}
    places = {name: str(getattr(models, name)) for name in ("diffusion", "captions", "captioner")}
    for name, place in (places | {"judge": str(WEIGHTS / "judge")}).items():
        folder = Path(place)
        if not folder.is_dir():
            found[name] = f"{place}@{getattr(models, 'revision', None) or 'main'}"
            continue
        hashed = hashlib.sha256()
        for file in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors", ".bin")):
            hashed.update(str(file.relative_to(folder)).encode() + file.read_bytes())
        found[name] = hashed.hexdigest()[:16]
    return found


def code_version() -> str:
    """A digest of the editor's and this benchmark's sources, so that a mixture of versions is noticed."""
    hashed = hashlib.sha256()
    for file in sorted((*(ROOT / "editor").glob("*.py"), *Path(__file__).parent.glob("*.py"))):
        hashed.update(file.name.encode() + file.read_bytes())
    return hashed.hexdigest()[:12]


def plan(
    tasks: Sequence[Task],
    methods: Sequence[Method],
    common: Mapping[str, Any],
    batch: int,
    curve_pictures: int,
) -> list[Cell]:
    """Every cell, batch by batch so that methods share inversions. `common` is what all cells depend on.

    The value of the tables is for all pictures, the others of the curve for the first `curve_pictures`.
    """
    cells = []
    for task in tasks:
        for first in range(0, len(task.keys), batch):
            numbers = tuple(range(first, min(first + batch, len(task.keys))))
            for method in methods:
                for place, value in enumerate(method.values):
                    if place and first >= curve_pictures:
                        continue
                    what = {
                        **common,
                        "task": task.name,
                        "pictures": [task.keys[n] for n in numbers],
                        "method": method.name,
                        "value": value,
                        "settings": dict(method.settings),
                    }
                    cells.append(Cell(task, method, value, numbers, what))
    return cells


class Results:
    """The results in a folder. A line cut short by an interruption is ignored, and its cell done again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / RESULTS
        self.records: dict[str, dict[str, Any]] = {}
        text = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
        self._whole_lines = text == "" or text.endswith("\n")
        for line in text.splitlines():
            try:
                record = json.loads(line)
                self.records[record["key"]] = record
            except (ValueError, KeyError, TypeError):
                continue

    def __contains__(self, key: str) -> bool:
        return key in self.records

    def add(self, record: dict[str, Any]) -> None:
        """Append a record, which has a `key`, and flush it."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write("" if self._whole_lines else "\n")
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._whole_lines = True
        self.records[record["key"]] = record

    def values(self, cells: Iterable[Cell]) -> Iterator[tuple[Cell, str, Values]]:
        """Cell, picture and figures of every finished cell."""
        for cell in cells:
            if cell.key in self.records:
                for picture, values in self.records[cell.key]["pictures"].items():
                    yield cell, picture, values

    def picture(self, cell: Cell, picture: str, kind: str = EDITED) -> Path:
        """Where a picture of the sheet is kept."""
        return self.folder / kind / cell.key / f"{digest({'picture': picture})}.png"


def run_cells(
    cells: Sequence[Cell],
    results: Results,
    editor: Editor,
    measure: Measure,
    steps: int,
    shown: Mapping[str, Sequence[str]],
) -> None:
    """Do the cells that are not done, with a progress bar; `shown` are the pictures a task that the sheet needs."""
    from tqdm import tqdm

    waiting = [cell for cell in cells if cell.key not in results]
    code = code_version()
    batch, loaded = None, None
    for cell in tqdm(waiting, file=sys.stderr, disable=not waiting, unit="batch"):
        place = (cell.task.name, cell.numbers)
        if batch is None or loaded != place:
            batch, loaded = Batch(editor, cell.task.load(cell.numbers), steps), place
        outcome = cell.method.run(batch, cell.value)
        values = measure(batch, outcome)
        keys = [sample.key for sample in batch.samples]
        if cell.value == cell.method.values[0]:
            for n, key in enumerate(keys):
                if key in shown.get(cell.task.name, ()):
                    for kind, pictures in ((EDITED, outcome.images), (ORIGINALS, batch.originals)):
                        path = results.picture(cell, key, kind)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        pictures[n].save(path)
        results.add(
            {
                "key": cell.key,
                "what": dict(cell.what),
                "code": code,
                "pictures": dict(zip(keys, values, strict=True)),
            }
        )
