"""`directions`: the catalog and everything that can be done with it."""

from __future__ import annotations

import builtins
import difflib
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click
from click.core import ParameterSource

from library.commands import browse
from library.commands.common import form_of
from library.console import json_option, library_option, reports_failures
from library.tables import format_option

__all__ = ["main"]


#: Module → its commands, imported when they are asked for: a listing should not wait for what it does not need. The
#: last is of a package above, which this one may not import.
COMMANDS = {
    "library.commands.browse": ("list", "search", "similar", "show"),
    "library.commands.versions": ("log", "diff", "path", "compose", "alias", "tag", "untag"),
    "library.commands.upkeep": ("rm", "gc", "verify"),
    "library.commands.exchange": ("import", "export", "push", "pull"),
    "editor.evaluate_cli": ("evaluate",),
}


#: What people call a command, and what it is called here.
OTHER_WORDS = {
    "ls": "list",
    "compare": "diff for two directions, similar for the nearest ones",
    "check": "verify",
    "share": "export and push",
    "publish": "push",
    "fetch": "pull",
    "delete": "rm",
    "remove": "rm",
    "info": "show",
}


class Commands(click.Group):
    """A group whose commands are imported one by one."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(name for names in COMMANDS.values() for name in names)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        for module, names in COMMANDS.items():
            if name in names:
                return getattr(
                    import_module(module), f"{name}_" if hasattr(builtins, name) or iskeyword(name) else name
                )
        return None

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        meant = OTHER_WORDS.get(args[0])
        if meant is not None:
            context.fail(f"no such command {args[0]!r}; there is {meant}")
        known = self.list_commands(context)
        if args[0] not in known and (near := difflib.get_close_matches(args[0], known, n=2)):
            context.fail(f"no such command {args[0]!r}; did you mean {' or '.join(near)}?")
        return super().resolve_command(context, args)


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
    else:
        _refuse_before(context, context.invoked_subcommand)


def _refuse_before(context: click.Context, command: str) -> None:
    """Raise UsageError for an option of the listing that stands before a command, which would not see it."""
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.name not in ("library_path", "debug"):
            raise click.UsageError(
                f"{option.opts[0]} stands before {command}: give it behind, if {command} takes it"
            )
