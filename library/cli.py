"""`directions`: the catalog and everything that can be done with it."""

from __future__ import annotations

import click

from library.console import json_option, library_option, reports_failures


@click.group(invoke_without_command=True)
@library_option
@json_option
@reports_failures()
@click.pass_context
def main(context: click.Context, library_path: str | None, as_json: bool) -> None:
    """Browse and keep edit directions. Without a command: the catalog."""
    context.obj = library_path
    if context.invoked_subcommand:
        return
    from library.store import Library

    for version in Library(library_path).walk():
        click.echo(f"{version.ref}  {version.encoder}")
