"""What the commands share: the library they work on, and the options that name things."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from library.console import library_option, reports_failures

if TYPE_CHECKING:
    from library.store import Library

__all__ = ["encoder_option", "form_of", "open_library", "output_options", "with_library"]

encoder_option = click.option("--encoder", help="The encoder id, where a name exists for several.")


def open_library(path: str | None = None) -> Library:
    """The library of `--library`, wherever on the command line it stood."""
    from library.store import Library

    context = click.get_current_context(silent=True)
    return Library(path or (context.find_root().obj if context else None))


def with_library(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--library` and `--debug`, reports failures, and calls the function with the Library first."""

    @library_option
    @reports_failures()
    @functools.wraps(function)
    def wrapper(*args: Any, library_path: str | None, **kwargs: Any) -> Any:
        return function(open_library(library_path), *args, **kwargs)

    return wrapper


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json` and `--format`; the function gets `form`."""
    from library.tables import format_option

    @format_option
    @click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
    @functools.wraps(function)
    def wrapper(*args: Any, as_json: bool, form: str, **kwargs: Any) -> Any:
        return function(*args, form=form_of(form, as_json), **kwargs)

    return wrapper


def form_of(form: str, as_json: bool) -> str:
    """`--json` before `--format`."""
    return "json" if as_json else form
