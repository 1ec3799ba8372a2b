"""`rm`, `gc` and `verify`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from library.commands.common import encoder_option, output_options, with_library
from library.console import emit_json, json_option, say
from library.tables import emit_rows, printable, size_text

if TYPE_CHECKING:
    from library.store import Library

__all__ = ["gc", "rm", "verify"]

yes_option = click.option("--yes", is_flag=True, help="Do it; without this only the plan is printed.")


@click.command()
@click.argument("references", metavar="NAME[@VERSION]...", nargs=-1, required=True)
@yes_option
@encoder_option
@json_option
@with_library
def rm(library: Library, references: tuple[str, ...], yes: bool, encoder: str | None, as_json: bool) -> None:
    """Remove versions (NAME alone: all of them). Prints the plan; --yes executes it."""
    from library.upkeep import plan_removal

    plan = plan_removal(library, references, encoder)
    if yes:
        plan.execute()
    if as_json:
        files = [str(version.path) for version in plan.versions]
        emit_json({"files": files, "aliases": plan.aliases, "bytes": plan.bytes, "done": yes})
        return
    for version in plan.versions:
        click.echo(f"{'removed' if yes else 'would remove'} {version.ref}  {version.encoder}  {version.path}")
    for alias in plan.aliases:
        click.echo(f"{'removed' if yes else 'would remove'} alias {alias}")
    click.echo(f"{'freed' if yes else 'frees'} {size_text(plan.bytes)}")
    if not yes:
        say("nothing was removed; add --yes to do it")


@click.command()
@yes_option
@click.option(
    "--older-than", type=float, default=3600.0, show_default=True, help="Seconds a leftover must be old."
)
@json_option
@with_library
def gc(library: Library, yes: bool, older_than: float, as_json: bool) -> None:
    """Sweep up what writers that died left behind. Prints the plan; --yes executes it."""
    from library.upkeep import plan_sweep

    plan = plan_sweep(library, older_than)
    if yes:
        plan.execute()
    if as_json:
        paths = [str(path) for path in (*plan.files, *plan.folders)]
        emit_json({"paths": paths, "bytes": plan.bytes, "done": yes})
        return
    for path in (*plan.files, *plan.folders):
        click.echo(f"{'removed' if yes else 'would remove'} {path}")
    click.echo(f"{'freed' if yes else 'frees'} {size_text(plan.bytes)}")
    if not yes and (plan.files or plan.folders):
        say("nothing was removed; add --yes to do it")


@click.command()
@output_options
@with_library
def verify(library: Library, form: str) -> None:
    """Read every byte of the library; names what is damaged, exit 1 if anything is."""
    from tqdm import tqdm

    count = 0
    with tqdm(unit=" files", disable=None, leave=False) as bar:

        def progress(done: int) -> None:
            nonlocal count
            count = done
            bar.update()

        faults = library.verify(progress)
    if form == "table":
        for fault in faults:
            named = fault.problem if fault.path in fault.problem else f"{fault.path}: {fault.problem}"
            click.echo(printable(named))
        if not faults:
            click.echo(f"all is well in {count} version{'' if count == 1 else 's'}")
    else:
        emit_rows([asdict(fault) for fault in faults], form)
    if faults:
        say(f"{len(faults)} damaged; restore them from a copy, or: directions rm NAME@VERSION")
        sys.exit(1)
