"""`log`, `diff`, `path`, `compose`, `alias`, `tag` and `untag`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from library.commands.common import encoder_option, output_options, with_library
from library.console import emit_json, json_option, say_notes
from library.tables import emit_rows, printable

if TYPE_CHECKING:
    from library.history import Difference
    from library.store import Library

__all__ = ["alias", "compose", "diff", "log", "path", "tag", "untag"]


@click.command()
@click.argument("name")
@encoder_option
@output_options
@with_library
def log(library: Library, name: str, encoder: str | None, form: str) -> None:
    """Every version of NAME, newest first: who made it, when, how, and what changed."""
    from library.history import log as history

    rows = [asdict(line) for line in history(library, name, encoder)]
    several = len({row["encoder"] for row in rows}) > 1
    people = [
        {
            "version": row["ref"],
            **({"encoder": row["encoder"]} if several else {}),
            "when": row["created"].replace("T", " ").removesuffix("Z"),
            "who": row["author"],
            "made": row["made"] or f"damaged: {row['problem']}",
            "changed": row["changed"],
        }
        for row in rows
    ]
    emit_rows(rows, form, people)


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--captions", is_flag=True, help="Print the captions that differ.")
@encoder_option
@json_option
@with_library
def diff(
    library: Library, before: str, after: str, captions: bool, encoder: str | None, as_json: bool
) -> None:
    """What differs between two directions: concepts, captions, settings, norm and cosine."""
    from library.history import compare

    one, other = library.resolve(before, encoder), library.resolve(after, encoder)
    difference = compare(one, other)
    if as_json:
        emit_json(asdict(difference))
        return
    _print_difference(difference, captions)
    say_notes([*one.notes, *other.notes])


def _print_difference(difference: Difference, captions: bool) -> None:
    click.echo(f"{difference.before} → {difference.after}")
    for key, (old, new) in difference.fields.items():
        click.echo(f"  {key + ':':<18} {_shown(old)} → {_shown(new)}")
    for side, (gone, new) in difference.captions.items():
        click.echo(f"  {side + ' captions:':<18} {len(gone)} gone, {len(new)} new")
        if captions:
            for sign, texts in (("-", gone), ("+", new)):
                for text in texts:
                    click.echo(f"    {sign} {printable(text)}")
    click.echo(f"  {'norm:':<18} {difference.norms[0]:.4g} → {difference.norms[1]:.4g}")
    cosine = "none: different encoders or shapes" if difference.cosine is None else f"{difference.cosine:.4f}"
    click.echo(f"  {'cosine:':<18} {cosine}")


def _shown(value: Any) -> str:
    return "none" if value is None else printable(f"{value:.6g}" if isinstance(value, float) else str(value))


@click.command()
@click.argument("reference", metavar="NAME")
@encoder_option
@with_library
def path(library: Library, reference: str, encoder: str | None) -> None:
    """Print the file of a version."""
    click.echo(library.find(reference, encoder).path)


@click.command()
@click.argument("expression")
@click.option("--name", required=True, help="The name to save it as.")
@click.option("--tag", "tags", multiple=True, help="A tag for it (may be repeated).")
@encoder_option
@json_option
@with_library
def compose(
    library: Library, expression: str, name: str, tags: tuple[str, ...], encoder: str | None, as_json: bool
) -> None:
    """Save a sum of directions, such as "0.7*cat2dog + day2winter - photo2sketch"."""
    from dataclasses import replace

    from library.labels import tags_of
    from library.names import check_name

    check_name(name)
    total = library.resolve(expression, encoder)
    kept = {key: value for key, value in total.record.items() if key not in ("created", "author", "tool")}
    if total.version is not None:  # a copy keeps its tags
        tags = (*tags_of(library, library.find(total.ref, encoder)), *tags)
    record = {**kept, "parents": total.parents, "tags": list(dict.fromkeys(tags))}
    saved = library.save(replace(total.renamed(name), record=record))
    say_notes(total.notes)
    if as_json:
        emit_json(saved.record)
    else:
        click.echo(f"{saved.ref} = {total.name}")


@click.command()
@click.argument("reference", metavar="NAME[@VERSION]")
@click.argument("alias_name", metavar="ALIAS")
@click.option("--delete", is_flag=True, help="Forget the alias instead.")
@encoder_option
@with_library
def alias(library: Library, reference: str, alias_name: str, delete: bool, encoder: str | None) -> None:
    """Let NAME@ALIAS mean this version from now on."""
    from library.labels import drop_alias, set_alias
    from library.names import parse_reference

    if delete:
        name = parse_reference(reference).name
        version = drop_alias(library, name, alias_name, encoder)
        click.echo(f"{name}@{alias_name} is forgotten; it was {version.ref}")
    else:
        version = set_alias(library, reference, alias_name, encoder)
        click.echo(f"{version.name}@{alias_name} is {version.ref}")


def _retag(library: Library, reference: str, encoder: str | None, **change: tuple[str, ...]) -> None:
    from library.labels import change_tags

    tags = change_tags(library, reference, encoder=encoder, **change)
    click.echo(f"{library.find(reference, encoder).ref}: {' '.join(tags) or 'no tags'}")


@click.command()
@click.argument("reference", metavar="NAME[@VERSION]")
@click.argument("tags", nargs=-1, required=True)
@encoder_option
@with_library
def tag(library: Library, reference: str, tags: tuple[str, ...], encoder: str | None) -> None:
    """Add tags to a version."""
    _retag(library, reference, encoder, add=tags)


@click.command()
@click.argument("reference", metavar="NAME[@VERSION]")
@click.argument("tags", nargs=-1, required=True)
@encoder_option
@with_library
def untag(library: Library, reference: str, tags: tuple[str, ...], encoder: str | None) -> None:
    """Take tags off a version."""
    _retag(library, reference, encoder, remove=tags)
