"""`directions`: the catalog and everything that can be done with it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from library.commands import browse, exchange, upkeep, versions
from library.commands.common import form_of
from library.console import json_option, library_option, reports_failures
from library.tables import format_option

__all__ = ["main"]


#: Commands of the packages above, which this one may not import: where each is, looked up when it is asked for.
ABOVE = {"evaluate": "editor.evaluate_cli"}


class Commands(click.Group):
    """The commands of this package, and those of the packages above."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), *ABOVE])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in ABOVE:
            return getattr(import_module(ABOVE[name]), name)
        return super().get_command(context, name)


@click.group(
    cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@browse.listing_options
@format_option
@json_option
@library_option
@click.version_option(package_name="edit-directions")
@reports_failures()
@click.pass_context
def main(context: click.Context, library_path: str | None, as_json: bool, form: str, **options: Any) -> None:
    """Browse and keep edit directions. Without a command: the catalog.

    NAME is the latest version, NAME@3 version 3, NAME@blessed an alias. Where a direction is shown
    or composed, a sum such as "0.8*cat2dog + day2winter" is one too.
    """
    context.obj = library_path
    if context.invoked_subcommand is None:
        browse.catalog_command(library_path, form=form_of(form, as_json), **options)


for command in (
    browse.search,
    browse.similar,
    browse.show,
    versions.log,
    versions.diff,
    versions.path,
    versions.compose,
    versions.alias,
    versions.tag,
    versions.untag,
    upkeep.rm,
    upkeep.gc,
    upkeep.verify,
    exchange.import_,
    exchange.export,
    exchange.push,
    exchange.pull,
):
    main.add_command(command)
