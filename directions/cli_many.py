"""`mkdir-direction --pairs` and `--concepts`: many at once, with one bar and one table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from library.console import INTERRUPTED, emit_json, say
from library.tables import table, terminal_width

if TYPE_CHECKING:
    from directions.discovery import Discovery
    from directions.pairs import Outcome
    from library.store import Library

__all__ = ["run_concepts", "run_pairs"]


def run_pairs(library: Library, discovery: Discovery, path: str, as_json: bool) -> None:
    """Make every pair of a table; exit 1 if one failed, 130 after Ctrl-C, with what is done in the table."""
    from directions.pairs import discover_pairs, read_pairs
    from directions.progress import Bar

    pairs = read_pairs(path)
    outcomes: list[Outcome] = []
    stopped = False
    with Bar(len(pairs)) as bar:
        discovery.progress = bar

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            bar.advance(outcome.pair.title)

        try:
            discover_pairs(pairs, discovery, library, done)
        except KeyboardInterrupt:
            stopped = True
    _print([outcome.as_row() for outcome in outcomes], as_json)
    count = {status: sum(o.status == status for o in outcomes) for status in ("made", "present", "failed")}
    say(f"{count['made']} made, {count['present']} there already, {count['failed']} failed, of {len(pairs)}")
    if stopped:
        say("interrupted; what is done is saved, and the same command goes on from there")
        sys.exit(INTERRUPTED)
    if count["failed"]:
        sys.exit(1)


def run_concepts(discovery: Discovery, path: str, as_json: bool) -> None:
    """Write and embed every concept of a list, so that any direction between two of them is made at once."""
    from directions.errors import DiscoveryError
    from directions.progress import Bar
    from directions.sources import read_captions

    lines = (" ".join(line.split()) for line in read_captions(path))
    concepts = list({discovery.spelling(line): None for line in lines if line})
    rows: list[dict[str, Any]] = []
    stopped = False
    with Bar(len(concepts)) as bar:
        discovery.progress = bar
        for concept in concepts:
            try:
                rows.append(discovery.concept_page(concept))
            except DiscoveryError as fault:
                rows.append({"concept": concept, "captions": 0, "on_concept": None, "spread": None,
                             "nearest": "", "problem": str(fault)})  # fmt: skip
            except KeyboardInterrupt:
                stopped = True
                break
            bar.advance(concept)
    _print(rows, as_json)
    if stopped:
        say("interrupted; what is done is kept, and the same command goes on from there")
        sys.exit(INTERRUPTED)
    if discovery.cache.refusal:
        raise DiscoveryError(f"{discovery.cache.refusal}; what could not be kept is not prepared")
    if any(row["problem"] for row in rows):
        sys.exit(1)


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        emit_json(rows)
        return
    for line in table(rows, terminal_width()):
        click.echo(line)
