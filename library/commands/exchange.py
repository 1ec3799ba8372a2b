"""`import`, `export`, `push` and `pull`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from library.commands.common import encoder_option, with_library
from library.console import emit_json, json_option
from library.errors import StorageError

if TYPE_CHECKING:
    from library.direction import Direction
    from library.store import Library

__all__ = ["export", "import_", "pull", "push"]

existing = click.Path(path_type=Path)


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=existing)
@click.option("--name", help="The name to save it as.")
@click.option("--encoder", help="The model set or encoder id that a foreign file is declared to be for.")
@click.option("--source", default="", help="The source concept [of a pair: the first file's name].")
@click.option("--target", default="", help="The target concept [of a pair: the second file's name].")
@json_option
@with_library
def import_(
    library: Library,
    files: tuple[Path, ...],
    name: str | None,
    encoder: str | None,
    source: str,
    target: str,
    as_json: bool,
) -> None:
    """Take in SOURCE.pt TARGET.pt, one .safetensors or .pt, or a .zip bundle.

    A pair of mean embeddings, or a bare tensor, needs --name and --encoder; an exported file or a
    bundle brings its own.
    """
    from library.exchange import adopt_file, import_bundle, import_pair

    results: list[tuple[Direction, bool]]
    if files[0].suffix == ".zip" and len(files) == 1:
        if name or encoder or source or target:
            raise click.UsageError(
                "a bundle brings its own names, encoders and concepts: leave --name, --encoder, --source and "
                "--target out"
            )
        results = import_bundle(library, files[0])
    elif len(files) == 1:
        results = [adopt_file(library, files[0], name, encoder, (source, target))]
    elif len(files) == 2:
        if not name or not encoder:
            raise click.UsageError("a pair needs --name NAME and --encoder ID, such as --encoder sd-1.4")
        pair = import_pair(library, files[0], files[1], name, encoder, (source, target))
        results = [(pair, True)]
    else:
        raise click.UsageError("expected one file, or two: the source's and the target's mean embeddings")
    _report(results, as_json)


def _report(results: list[tuple[Direction, bool]], as_json: bool) -> None:
    if as_json:
        emit_json([{"ref": d.ref, "encoder": d.encoder, "new": new} for d, new in results])
        return
    for direction, new in results:
        declared = " (declared)" if direction.record.get("declared") else ""
        note = "" if new else "  was here already"
        click.echo(f"{direction.ref}  {direction.encoder}{declared}{note}")


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=existing,
    help="FILE.safetensors to write [named after the direction]; with --pt a folder.",
)
@click.option("--pt", is_flag=True, help="Write the mean embeddings as a pair, SOURCE.pt and TARGET.pt.")
@click.option(
    "--bundle", type=existing, metavar="FILE.zip", help="Write all of them, with records, to one file."
)
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@encoder_option
@json_option
@with_library
def export(
    library: Library,
    names: tuple[str, ...],
    output: Path | None,
    pt: bool,
    bundle: Path | None,
    force: bool,
    encoder: str | None,
    as_json: bool,
) -> None:
    """Write directions to files: .safetensors, a pair of .pt, or a bundle."""
    from library.exchange import check_output, export_bundle, export_file

    if bundle:
        if pt or output:
            raise click.UsageError("--bundle stands alone: leave --pt and --output out")
        _check_ending(bundle, ".zip", "give --bundle FILE.zip")
        check_output(library, bundle, force)
        export_bundle(library, names, bundle, encoder)
        written = [bundle]
    elif len(names) > 1:
        raise click.UsageError("several directions go into one file with --bundle FILE.zip")
    elif pt:
        from library.foreign import pair_paths, write_pair

        direction, folder = library.resolve(names[0], encoder), output or Path()
        for path in pair_paths(direction, folder):
            check_output(library, path, force)
        written = list(write_pair(direction, folder))
    else:
        if output:
            _check_ending(output, ".safetensors", "give -o FILE.safetensors, or --pt for a pair of .pt")
        path = output or Path(f"{_stem(library.resolve(names[0], encoder))}.safetensors")
        check_output(library, path, force)
        written = [export_file(library, names[0], path, encoder)]
    if as_json:
        emit_json([str(path) for path in written])
    else:
        for path in written:
            click.echo(path)


def _stem(direction: Direction) -> str:
    from library.exchange import export_name
    from library.names import slug

    name = export_name(direction)
    return name if direction.version is None else slug(name)


def _check_ending(path: Path, ending: str, advice: str) -> None:
    """Raise StorageError for a file that `import` would not take for what it is."""
    if path.suffix != ending:
        raise StorageError(f"cannot write {path}: its ending is not {ending}; {advice}")


repo_argument = click.argument("repo", metavar="USER/REPO")


@click.command()
@repo_argument
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--revision", default="main", show_default=True, help="The branch to push to.")
@click.option("--private", is_flag=True, help="Make the repository private if it is new.")
@encoder_option
@json_option
@with_library
def push(library: Library, repo: str, names: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Send versions to a Hugging Face Hub repository, as one commit."""
    from dataclasses import asdict

    from library.hub import push as send

    pushed = send(library, repo, names, **options)
    if as_json:
        emit_json(asdict(pushed))
        return
    for path in pushed.sent:
        click.echo(f"sent {path}")
    for path in pushed.present:
        click.echo(f"was there already: {path}")
    click.echo(f"{pushed.repo} is at {pushed.commit}")


@click.command()
@repo_argument
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("--revision", help="A commit, tag or branch to take it from.")
@json_option
@with_library
def pull(library: Library, repo: str, names: tuple[str, ...], revision: str | None, as_json: bool) -> None:
    """Take versions from a Hugging Face Hub repository, each checked on the way in."""
    from library.hub import pull as fetch

    pulled = fetch(library, repo, names, revision)
    _report(pulled.versions, as_json)
    if not as_json:
        click.echo(f"{repo} is at {pulled.commit}")
