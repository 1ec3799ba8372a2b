"""Many directions at once: a table of pairs, resumable, every direction saved as soon as it is made."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from directions.cache import key_of, model_stamp
from directions.errors import BadSetting
from directions.sources import read_captions
from library.errors import DirectionsError
from library.labels import change_tags, tags_of
from library.names import check_name, direction_name

if TYPE_CHECKING:
    from directions.discovery import Discovery
    from directions.settings import Settings
    from library.direction import Direction
    from library.store import Library

__all__ = ["Outcome", "Pair", "discover_pairs", "read_pairs"]

COLUMNS = (
    "source",
    "target",
    "name",
    "tags",
    "captions",
    "source_captions",
    "target_captions",
    "paired",
    "seed",
)
YES = frozenset(("1", "true", "yes", "y", "x", "paired"))
NO = frozenset(("", "0", "false", "no", "n"))


@dataclass(frozen=True)
class Pair:
    """One line of the table. captions, paired, seed: None leaves them to the settings; the two
    `…_captions` name text files."""

    source: str
    target: str
    name: str = ""
    tags: tuple[str, ...] = ()
    captions: int | None = None
    source_captions: str = ""
    target_captions: str = ""
    paired: bool | None = None
    seed: int | None = None

    @property
    def title(self) -> str:
        """The name it will be saved by."""
        return self.name or direction_name(self.source, self.target)

    def settings(self, base: Settings) -> Settings:
        """`base` with what this line says otherwise."""
        own = {key: getattr(self, key) for key in ("captions", "paired", "seed")}
        return replace(base, **{key: value for key, value in own.items() if value is not None})


@dataclass(frozen=True)
class Outcome:
    """What became of a pair. status: "made", "present" (made by an earlier run) or "failed"."""

    pair: Pair
    status: str
    direction: Direction | None = None
    problem: str = ""

    def as_row(self) -> dict[str, Any]:
        """For the summary table."""
        quality = self.direction.record.get("quality", {}) if self.direction else {}
        return {
            "name": self.direction.ref if self.direction else self.pair.title,
            "source": self.pair.source,
            "target": self.pair.target,
            "status": self.status,
            "agreement": quality.get("agreement"),
            "verdict": self.problem or quality.get("verdict", ""),
        }


def read_pairs(path: str | Path) -> list[Pair]:
    """The pairs of a CSV file with a heading; columns source, target and any of the others of COLUMNS.

    Tags are separated by spaces or semicolons. Caption files are looked for beside the table. Raises
    BadSetting naming the line.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            if twice := sorted({column for column in columns if columns.count(column) > 1}):
                raise BadSetting(f"{path} has the column {twice[0]} twice; leave one")
            unknown = sorted(set(columns) - set(COLUMNS))
            if unknown or not {"source", "target"} <= set(columns):
                raise BadSetting(
                    f"{path} has the columns {', '.join(columns) or 'none'}; expected source and target, and "
                    f"any of {', '.join(COLUMNS[2:])}"
                )
            pairs = [_pair(row, path, reader.line_num) for row in reader if any(row.values())]
    except OSError as fault:
        raise BadSetting(
            f"pairs cannot be read from {path}: {(fault.strerror or str(fault)).lower()}"
        ) from fault
    except (UnicodeDecodeError, csv.Error) as fault:
        raise BadSetting(f"{path} is not a CSV file in UTF-8: {fault}") from fault
    _refuse_clashes(pairs, path)
    if not pairs:
        raise BadSetting(f"{path} holds no pairs")
    return pairs


def _pair(row: dict[str, Any], path: Path, line: int) -> Pair:
    try:
        if None in row:
            raise BadSetting("has more values than the heading has columns")
        cells = {key: " ".join((value or "").split()) for key, value in row.items()}
        if not cells["source"] or not cells["target"]:
            raise BadSetting("names no source or no target")
        if cells.get("name"):
            check_name(cells["name"])
        yes = cells.get("paired", "").casefold()
        if yes not in YES | NO:
            raise BadSetting(f"has {yes!r} in the column paired; expected yes, no or nothing")
        return Pair(
            source=cells["source"],
            target=cells["target"],
            name=cells.get("name", ""),
            tags=tuple(cells.get("tags", "").replace(";", " ").split()),
            captions=int(cells["captions"]) if cells.get("captions") else None,
            source_captions=_beside(path, cells.get("source_captions", "")),
            target_captions=_beside(path, cells.get("target_captions", "")),
            paired=yes in YES if yes else None,
            seed=int(cells["seed"]) if cells.get("seed") else None,
        )
    except (ValueError, DirectionsError) as fault:
        raise BadSetting(f"{path} line {line}: {fault}") from fault


def _beside(path: Path, name: str) -> str:
    return str(path.parent / name) if name else ""


def _refuse_clashes(pairs: Sequence[Pair], path: Path) -> None:
    seen: dict[str, Pair] = {}
    for pair in pairs:
        other = seen.setdefault(pair.title, pair)
        if other is not pair:
            raise BadSetting(
                f"{path} makes {pair.title} twice, from {other.source} → {other.target} and from "
                f"{pair.source} → {pair.target}; give them names, or leave one out"
            )


def discover_pairs(
    pairs: Iterable[Pair],
    discovery: Discovery,
    library: Library,
    done: Callable[[Outcome], object] | None = None,
) -> list[Outcome]:
    """Make and save the direction of every pair that the library does not hold yet, made the same way.

    A pair that fails does not end the others. done is called after each. An interruption loses the pair in
    work and nothing else: the next run goes on from there.
    """
    outcomes: list[Outcome] = []
    for pair in pairs:
        outcome = _one(pair, discovery, library)
        outcomes.append(outcome)
        if done is not None:
            done(outcome)
    return outcomes


def _one(pair: Pair, discovery: Discovery, library: Library) -> Outcome:
    try:
        job, given = _job(pair, discovery)
        present = _present(library, pair.title, discovery.encoder.id, job)
        if present is not None:
            _add_tags(library, present, pair.tags)
            return Outcome(pair, "present", present)
        settings = pair.settings(discovery.settings)
        made = discovery.direction(
            pair.source, pair.target, name=pair.title, tags=pair.tags, settings=settings, **given
        )
        return Outcome(pair, "made", library.save(replace(made, record={**made.record, "job": job})))
    except DirectionsError as fault:
        return Outcome(pair, "failed", problem=str(fault))


def _job(pair: Pair, discovery: Discovery) -> tuple[str, dict[str, list[str] | None]]:
    """A digest of everything that decides the direction of a pair, and the captions given for it."""
    given = {
        side: read_captions(getattr(pair, side)) if getattr(pair, side) else None
        for side in ("source_captions", "target_captions")
    }
    settings = pair.settings(discovery.settings)
    if not settings.paired:  # then a blank line changes nothing
        given = {side: texts and [text for text in texts if text.strip()] for side, texts in given.items()}
    writer = model_stamp(discovery.models.captions) if settings.writer == "model" else ""
    decides = {**asdict(pair), "tags": None, **given, "settings": settings.as_dict(), "writer": writer}
    return key_of(decides), given


def _add_tags(library: Library, present: Direction, tags: Sequence[str]) -> None:
    """Tags that came to the table since it made the version, where that is the user's own; none is taken away."""
    version = library.find(present.ref, present.encoder)
    missing = set(tags) - set(present.record.get("tags", ())) - set(tags_of(library, version))
    if missing and version.path.is_relative_to(library.path):
        change_tags(library, present.ref, add=missing, encoder=present.encoder)


def _present(library: Library, name: str, encoder: str, job: str) -> Direction | None:
    """The newest version that was made by the same job."""
    if name not in library:
        return None
    try:
        versions = library.versions(name, encoder)
    except DirectionsError:
        return None
    for version in reversed(versions):
        try:
            if library.header(version).record.get("job") == job:
                return library.read(version.path, version)
        except DirectionsError:  # a damaged one counts as not there
            continue
    return None
