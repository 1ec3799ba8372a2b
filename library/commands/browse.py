"""`directions`, `search`, `similar` and `show`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from library.commands.common import encoder_option, open_library, output_options, with_library
from library.console import emit_json, say, say_notes
from library.tables import age, emit_rows, printable, size_text

if TYPE_CHECKING:
    from library.catalog import Entry, Page, Query
    from library.direction import Direction
    from library.evaluation import Evaluation
    from library.store import Library

__all__ = ["list_", "list_catalog", "listing_options", "search", "show", "similar"]

FIRST_PAGE = 50
IDENTITY = ("name", "version", "source", "target", "encoder", "sha256")
SORTS = ("name", "created", "quality", "success", "encoder", "size")


def listing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what a listing can be narrowed, ordered and paged by."""
    options = (
        click.option("--tag", "tags", multiple=True, help="Only those with this tag (may be repeated)."),
        click.option("--encoder", default="", help="Only those of this encoder id, or its short name."),
        click.option("--concept", default="", help="Only those from or to this concept."),
        click.option("--sort", type=click.Choice(SORTS), default="name", help="Newest and best come first."),
        click.option("--reverse", is_flag=True, help="The other way round."),
        click.option("--all", "all_versions", is_flag=True, help="Every version, not only the latest."),
        click.option("--limit", type=click.IntRange(0), help=f"Rows at most; 0: all [table: {FIRST_PAGE}]."),
        click.option("--page", type=click.IntRange(1), default=1, help="Which page of --limit rows."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def list_catalog(
    library: Library, form: str, limit: int | None, page: int, text: str = "", **filters: Any
) -> None:
    """Print one page of the catalog; damaged files are reported beside it, on stderr."""
    from library.catalog import Query, select

    rows = limit if limit is not None else (FIRST_PAGE if form == "table" or page > 1 else 0)
    query = Query(text=text, limit=rows, offset=(page - 1) * rows, **filters)
    found = select(library, query)
    shown = map(_row, found.entries)
    emit_rows((entry.as_dict() for entry in found.entries), form, shown)
    for fault in found.faults:
        say(printable(f"damaged: {fault}"))
    if form == "table":
        _footer(library, query, found, page)


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "version": entry.version,
        "concepts": entry.concepts,
        "encoder": entry.encoder,
        "quality": "" if entry.quality is None else f"{entry.quality:.2f}",
        "success": "" if entry.success is None else f"{entry.success:.0%}",
        "tags": " ".join((*entry.tags, *(f"@{alias}" for alias in entry.aliases))),
        "age": age(entry.created),
    }


def _footer(library: Library, query: Query, found: Page, page: int) -> None:
    if not found.entries:
        narrowed = query.text or query.tags or query.encoder or query.concept
        if narrowed:
            say("nothing matches; `directions` lists everything")
        elif page > 1:
            say(f"there is no page {page}")
        else:
            say(f"{library.path} is empty; make a direction: mkdir-direction cat dog")
        return
    if found.mentioned:
        which = f"the last {found.mentioned}" if found.mentioned < len(found.entries) else "all of these"
        say(f"{which}: found by the captions alone")
    if found.more:
        total = f" of {found.total}" if found.total is not None else ""
        say(f"{len(found.entries)} rows{total}; more with --page {page + 1} or --limit 0")


@click.command("list")
@listing_options
@output_options
@with_library
def list_(library: Library, **options: Any) -> None:
    """The catalog, as without a command."""
    list_catalog(library, **options)


@click.command()
@click.argument("text", nargs=-1, required=True)
@listing_options
@output_options
@with_library
def search(library: Library, text: tuple[str, ...], **options: Any) -> None:
    """Find directions by name, concept, tag or caption: every word, each as a beginning."""
    list_catalog(library, text=" ".join(text), **options)


@click.command()
@click.argument("reference", metavar="NAME")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="Rows at most.")
@encoder_option
@output_options
@with_library
def similar(library: Library, reference: str, limit: int, encoder: str | None, form: str) -> None:
    """Directions of the same encoder that point most nearly the same way."""
    from library.similar import neighbours

    found, faults = neighbours(library, library.resolve(reference, encoder))
    rows = [{"name": ref, "cosine": round(cosine, 4)} for ref, cosine in found[:limit]]
    emit_rows(rows, form)
    for fault in faults:
        say(f"damaged: {fault}")
    if not rows:
        say("no other direction of this encoder")


@click.command()
@click.argument("reference", metavar="NAME")
@click.option("--captions", is_flag=True, help="Print the captions too.")
@click.option(
    "--plot", type=click.Path(dir_okay=False), metavar="OUT.png", help="Draw it: energy, neighbours."
)
@encoder_option
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@with_library
def show(
    library: Library, reference: str, captions: bool, plot: str | None, encoder: str | None, as_json: bool
) -> None:
    """The record of a direction: how it was made, by whom, and how good it is."""
    if plot:
        from library.plot import check_drawing

        check_drawing(plot)
    direction = library.resolve(reference, encoder)
    details = _details(library, direction)
    measured = _measured(library, direction)
    if as_json:
        sheet = str(measured.sheet) if measured and measured.sheet else None
        emit_json(
            {
                **{k: getattr(direction, k) for k in IDENTITY},  # of which a sum's record has nothing
                **direction.record,
                **{k: details[k] for k in ("tags", "aliases", "file", "norm", "shape")},
                "evaluation": {**measured.record, "sheet": sheet} if measured else None,
            }
        )
    else:
        if measured:
            details["measured"] = measured.line
        for key, value in details.items():
            if value not in ("", None, [], {}):
                click.echo(f"{key + ':':<12} {printable(_text(value))}")
        if captions:
            for side, texts in (direction.record.get("captions") or {}).items():
                click.echo(f"\n{side} captions ({len(texts)}):")
                for text in texts:
                    click.echo(f"  {printable(text)}")
    say_notes(direction.notes)
    if plot:
        from library.plot import draw

        draw(library, direction, plot)
        say(f"drew {plot}")


def _details(library: Library, direction: Direction) -> dict[str, Any]:
    from library.history import how_made
    from library.labels import tags_of

    record = direction.record
    details: dict[str, Any] = {"name": direction.ref, "concepts": ""}
    if direction.source or direction.target:
        details["concepts"] = f"{direction.source} → {direction.target}"
    details |= {
        "encoder": direction.encoder + (" (declared)" if record.get("declared") else ""),
        "shape": list(direction.tensor.shape),
        "norm": round(direction.norm, 4),
        "made": how_made(record),
        "models": record.get("models"),
        "generation": record.get("generation"),
        "quality": _figures(record.get("quality") or {}),
        "created": record.get("created"),
        "author": record.get("author"),
        "tool": record.get("tool"),
        "origin": record.get("origin"),
        "tags": record.get("tags", []),
        "aliases": [],
        "file": "",
        "sha256": record.get("sha256"),
    }
    if direction.version is not None:
        from library.lookup import alike

        place = library.find(direction.ref, direction.encoder)
        aliases = library.lookup.aliases(place.name, place.encoder)
        details["tags"] = tags_of(library, place)
        details["aliases"] = sorted(
            alias
            for alias, meant in aliases.items()
            if meant == place or (meant.version == place.version and alike(meant, place))
        )
        details["file"] = str(place.path)
        details["size"] = size_text(place.path.stat().st_size)
    return details


def _measured(library: Library, direction: Direction) -> Evaluation | None:
    """The last measurement of a saved version; a sum has none."""
    from library.evaluation import evaluation_of

    if direction.version is None:
        return None
    return evaluation_of(library, library.find(direction.ref, direction.encoder))


def _figures(quality: dict[str, Any]) -> dict[str, Any]:
    """Single figures and words; curves and tables are for the picture and for --json."""
    return {key: value for key, value in quality.items() if isinstance(value, (str, int, float))}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{key} {_text(inner)}" for key, inner in value.items() if inner not in ({}, [], "", None)
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def catalog_command(path: str | None, **options: Any) -> None:
    """What `directions` without a command does."""
    list_catalog(open_library(path), **options)
