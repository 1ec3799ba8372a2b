"""The options of `edit-image` that set a field of `EditSettings` or `Regulariser`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from editor.settings import EditSettings

Function = TypeVar("Function", bound=Callable[..., Any])

#: What holds where an option is not given, in a help text.
OWN = "[the model set's own]"
#: Fields whose option is written by hand, under a name and with a help text of its own.
WRITTEN = {
    "cross_attention_guidance": click.option(
        "--guidance",
        "cross_attention_guidance",
        type=float,
        metavar="λ",
        help=f"Cross-attention guidance: how firmly structure is held; 0 is off {OWN}.",
    ),
    "guidance_scale": click.option(
        "--guidance-scale",
        type=float,
        help=f"Classifier-free guidance: how firmly the text is followed; 1 is off {OWN}.",
    ),
}

REGULARISER_OPTIONS = (
    click.option(
        "--auto-corr", type=click.FloatRange(min=0), help=f"Inversion: pull to uncorrelated noise {OWN}."
    ),
    click.option("--kl", type=click.FloatRange(min=0), help=f"Inversion: pull to noise of variance 1 {OWN}."),
    click.option(
        "--regulariser-steps", type=click.IntRange(min=0), help=f"Inversion: pulls in each step {OWN}."
    ),
    click.option(
        "--regulariser-rolls", type=click.IntRange(min=1), help=f"Inversion: rolls in each pull {OWN}."
    ),
)


class OrNone(click.ParamType):
    """A number, or the word "none" for no limit."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.name = "integer|none" if kind is int else "float|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "none":
            return None
        return (click.INT if self.kind is int else click.FLOAT).convert(value, param, ctx)


def settings_options(function: Function) -> Function:
    """Decorate a command: one option for each field of `EditSettings` but the steps, and the regulariser's.

    A field's line in the docstring of `EditSettings`, up to the first full stop and without its source in
    brackets, is its help.
    """
    lines, kinds = _described(EditSettings), get_type_hints(EditSettings)
    options = [
        WRITTEN.get(f.name) or _option(f.name, kinds[f.name], f.default, lines.get(f.name, ""))
        for f in fields(EditSettings)
        if f.name != "steps"
    ]
    for option in reversed([*options, *REGULARISER_OPTIONS]):
        function = option(function)
    return function


def _option(name: str, kind: Any, default: Any, line: str) -> Any:
    flag = "--" + name.replace("_", "-")
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=f"{line[:-1]} {OWN}.")
    if get_origin(kind) is Literal:
        return click.option(flag, name, type=click.Choice(get_args(kind)), help=f"{line[:-1]} {OWN}.")
    number = next(k for k in (int, float) if k is kind or k in get_args(kind))
    if default is None:
        return click.option(flag, name, type=OrNone(number), help=f"{line[:-1]} [none].")
    return click.option(flag, name, type=number, help=f"{line[:-1]} {OWN}.")


def _described(record: type) -> dict[str, str]:
    """Field → its sentence in the `name: sentence` lines of a docstring."""
    entries = re.findall(r"^(\w+): (.*(?:\n +.*)*)", inspect.getdoc(record) or "", re.MULTILINE)
    sentences = {}
    for name, text in entries:
        sentence = re.sub(r" \((same paper|[^()]*\d{4})\)", "", " ".join(text.split()))
        sentences[name] = sentence[:1].upper() + sentence[1:].partition(". ")[0].rstrip(".") + "."
    return sentences
