"""What every command line here does alike: failures as one line, `--debug`, JSON, notes on stderr."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, TextIO, TypeVar, cast

import click

from library.errors import DirectionsError

__all__ = [
    "debug_option",
    "emit_json",
    "json_option",
    "library_option",
    "reports_failures",
    "say",
    "say_notes",
]

Function = TypeVar("Function", bound=Callable[..., Any])
# How a command ends: 0 done, 1 failed, 2 wrongly called (click's own), and
WITHHELD = 3  # done, but for pictures that the safety checker flagged
INTERRUPTED = 130  # what shells report for SIGINT

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
library_option = click.option(
    "--library",
    "library_path",
    type=click.Path(file_okay=False),
    help="The library's folder (else DIRECTIONS_LIBRARY, the config file, the user data folder).",
)


class OneLine(click.ClickException):
    """A known failure: `error: …` on stderr, exit 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.message}", err=True)


def _debugging(context: click.Context | None = None) -> bool:
    context = context or click.get_current_context(silent=True)
    asked = bool(context and context.find_root().meta.get("library.debug"))
    return asked or bool(os.environ.get("DIRECTIONS_DEBUG"))


def _set_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().meta["library.debug"] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="On failure, show the traceback too.",
)


def reports_failures(*known: type[Exception]) -> Callable[[Function], Function]:
    """Decorate a command's function, under `@click.command`: adds `--debug`; a DirectionsError or one of
    `known`, or what the system refused, becomes one line on stderr and exit 1 (with `--debug`, after the
    traceback), Ctrl-C exit 130.

        @click.command()
        @click.argument("name")
        @reports_failures(ZooError)
        def show(name: str) -> None: ...
    """
    kinds: tuple[type[Exception], ...] = (DirectionsError, *known)

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                    # What its encoding lacks is no reason to fail.
                    stream.reconfigure(errors="backslashreplace")
            try:
                return function(*args, **kwargs)
            except kinds as fault:
                if _debugging():
                    traceback.print_exc()
                raise OneLine(" ".join(str(fault).split())) from fault
            except OSError as fault:
                if fault.errno == errno.EPIPE:  # nobody reads on: click ends without a word
                    raise
                if _debugging():
                    traceback.print_exc()
                raise OneLine(_refusal(fault)) from fault
            except KeyboardInterrupt:
                if _debugging():
                    traceback.print_exc()
                click.echo("interrupted", err=True)
                sys.exit(INTERRUPTED)

        return cast(Function, debug_option(wrapper))

    return decorate


def _refusal(fault: OSError) -> str:
    """What the system refused, in one line; what standard output did not take is given up."""
    if fault.errno is None:  # a library's own words
        return " ".join(str(fault).split()) or type(fault).__name__
    what = f" {fault.filename}" if fault.filename is not None else ""
    try:
        if not what and sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        what = " standard output"
        _give_up(sys.stdout)
    return f"cannot read or write{what}: {(fault.strerror or str(fault)).lower()}"


def _give_up(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere: Python would try again at its end, and complain then too."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def emit_json(value: Any) -> None:
    """Print `value` as JSON on stdout; numpy numbers, paths and other things as their plain form."""
    click.echo(_json(value))


def emit_json_lines(rows: Iterable[Any]) -> None:
    """Print an array of rows, one at a time: a large listing is never held whole as text."""
    opening = "[\n"
    for row in rows:
        click.echo(opening + "  " + _json(dict(row)).replace("\n", "\n  "), nl=False)
        opening = ",\n"
    click.echo("[]" if opening == "[\n" else "\n]")


def _json(value: Any) -> str:
    """JSON text; all escaped where standard output is not UTF-8, which JSON is, or a name is not."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    encoding = str(getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    try:
        text.encode("utf-8" if encoding.startswith("utf") else "ascii")
    except UnicodeEncodeError:
        return json.dumps(value, indent=2, default=_plain)
    return text


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "_asdict"):
        return value._asdict()
    return str(value)


def say(line: str) -> None:
    """A remark for the person, on stderr."""
    click.echo(line, err=True)


def say_notes(notes: Iterable[str]) -> None:
    """What a direction wants to be known (`Direction.notes`), on stderr."""
    for note in notes:
        say(f"note: {note}")
