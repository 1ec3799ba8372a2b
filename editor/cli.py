"""`edit-image`: edit pictures along directions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from library.console import emit_json, json_option, library_option, reports_failures, say, say_notes

if TYPE_CHECKING:
    from editor.inversion import Edit, Inversion
    from editor.session import Editor
    from library.direction import Direction
    from library.store import Library

__all__ = ["main"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("images", nargs=-1, type=click.Path(), metavar="[IMAGE]...")
@click.option(
    "-d",
    "--direction",
    "expressions",
    multiple=True,
    required=True,
    metavar="EXPRESSION",
    help='A direction, such as cat2dog, cat2dog@3 or "0.8*cat2dog + day2night"; may be repeated.',
)
@click.option("--prompt", metavar="TEXT", help="Make a picture of TEXT and edit it, instead of IMAGE.")
@click.option("-o", "--output", type=click.Path(), help="File, or folder, to write to [IMAGE-DIRECTION.png].")
@click.option("--steps", type=click.IntRange(1, 999), default=50, show_default=True, help="Denoising steps.")
@click.option(
    "--strength", type=float, default=1.0, show_default=True, help="Of the direction; negative goes back."
)
@click.option(
    "--guidance", type=float, metavar="λ", help="Cross-attention guidance: how firmly structure is held."
)
@click.option("--guidance-scale", type=float, help="Classifier-free guidance.")
@click.option("--caption", help="What the picture shows [ask the captioner].")
@click.option("--caption-prefix", metavar="TEXT", help="How the captioner's answer begins.")
@click.option("--negative-prompt", help="What to move away from [the caption; for --prompt nothing].")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything that is drawn at random.")
@click.option(
    "--models", help="Model set, hub id or local diffusers folder (else DIRECTIONS_MODELS, embedded)."
)
@click.option("--size", type=click.IntRange(8), help="Shorter side in pixels [the model's own].")
@click.option("--device", help="cpu, cuda, cuda:1, mps [the best there is].")
@click.option("--sheet", is_flag=True, help="Also write input, reconstruction and edit side by side.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@library_option
@json_option
@click.version_option(package_name="edit-directions")
@reports_failures()
def main(
    images: tuple[str, ...],
    expressions: tuple[str, ...],
    library_path: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Edit pictures along directions from the library; no prompt, no training.

    \b
    edit-image photo.png -d cat2dog
    edit-image photo.png -d "0.8*cat2dog + day2night" --sheet
    edit-image *.png -d cat2dog -d cat2tiger -o edits/
    edit-image --prompt "a cat on the grass" -d cat2dog
    """
    if bool(images) == bool(options["prompt"]):
        raise click.UsageError(
            "give pictures or --prompt, and not both, such as: edit-image photo.png -d cat2dog"
        )
    from library.store import Library

    plan = list(planned(images, expressions, options))
    library = Library(library_path)
    check_directions(library, expressions)
    check_pictures(images)
    quiet()
    from editor.session import Editor

    editor = Editor(options["models"], device=options["device"])
    directions = [directed(library, expression, editor) for expression in expressions]
    reports = []
    for source, outputs in plan:
        inversion, edits = _edit_one(editor, source, directions, options, silent=as_json)
        for expression, edit, output in zip(expressions, edits, outputs, strict=True):
            report = _write(edit, expression, output, inversion, options)
            reports.append(report)
            if not as_json:
                _say_edit(report)
    if as_json:
        emit_json(reports)


@dataclass(frozen=True)
class Source:
    """A picture's path, or None for the picture that the prompt makes."""

    path: str | None

    @property
    def stem(self) -> str:
        return Path(self.path).stem if self.path else "prompt"


def planned(
    images: tuple[str, ...], expressions: tuple[str, ...], options: dict[str, Any]
) -> Iterator[tuple[Source, list[Path]]]:
    """Every source with the file that each of its edits goes to; refuses what exists or would be overwritten."""
    from editor.record import check_free
    from library.names import slug

    sources = [Source(path) for path in images] or [Source(None)]
    single = len(sources) == len(expressions) == 1
    output = Path(options["output"]) if options["output"] else None
    to_file = output is not None and single and bool(output.suffix) and not output.is_dir()
    taken: set[Path] = set()
    for source in sources:
        files = []
        for expression in expressions:
            name = f"{source.stem}-{slug(expression)}.png"
            path = output if to_file and output else (output or Path()) / name
            for number in range(2, 1000):
                if path not in taken:
                    break
                path = path.with_stem(f"{Path(name).stem}-{number}")
            taken.add(path)
            check_free(path, options["force"])
            files.append(path)
        yield source, files


def check_directions(library: Library, expressions: tuple[str, ...]) -> None:
    """Fail on an unknown or damaged direction before any model is loaded."""
    from library.errors import AmbiguousDirection

    for expression in expressions:
        with suppress(AmbiguousDirection):  # the models will say which encoder is meant
            library.resolve(expression)


def check_pictures(images: tuple[str, ...]) -> None:
    """Fail on a missing or damaged picture before any model is loaded."""
    from editor.images import read_picture

    for path in images:
        read_picture(path)


def directed(library: Library, expression: str, editor: Editor) -> Direction:
    """The direction that an expression names, for the editor's text encoder."""
    models = editor.models
    direction = library.resolve(expression, [models.encoder_id, models.name], models.name)
    say_notes(direction.notes)
    return direction


def _edit_one(
    editor: Editor, source: Source, directions: list[Direction], options: dict[str, Any], silent: bool
) -> tuple[Inversion, list[Edit]]:
    from tqdm import tqdm

    steps = options["steps"]
    settings = {
        key: options[option]
        for key, option in (("cross_attention_guidance", "guidance"), ("guidance_scale", "guidance_scale"))
        if options[option] is not None
    }
    passes = 2 if source.path else 1
    with tqdm(total=passes * steps, desc=source.stem, unit="step", leave=False) as bar:

        def on_step(stage: str, i: int, timestep: float, latents: Any) -> None:
            if stage != "reference":
                bar.set_postfix_str(stage, refresh=False)
                bar.update()

        if source.path:
            caption = options["caption"]
            if caption is None:
                caption = editor.caption(source.path, options["caption_prefix"])
            if not silent:
                bar.clear()
                say(f"{source.path}: {caption}")
            inversion = editor.invert(
                source.path, caption, steps, options["seed"], on_step=on_step,
                **({"size": options["size"]} if options["size"] else {}),
            )  # fmt: skip
        else:
            inversion = editor.imagine(options["prompt"], steps, options["seed"], size=options["size"])
        edits = editor.edit_all(
            [(inversion, direction, options["strength"]) for direction in directions],
            negative_prompt=options["negative_prompt"],
            on_step=on_step,
            **settings,
        )
    return inversion, edits


def _write(
    edit: Edit, expression: str, output: Path, inversion: Inversion, options: dict[str, Any]
) -> dict[str, Any]:
    from editor.record import save_picture, versions, write_whole
    from editor.sheets import contact_sheet

    record = {**edit.record, "expression": expression, "versions": versions()}
    save_picture(edit.image, output, record, options["force"])
    report: dict[str, Any] = {"output": str(output), "sheet": None, "record": record}
    if options["sheet"]:
        start = [("input", inversion.picture)] if inversion.picture else []
        cells = [*start, ("reconstruction", edit.reconstruction), (expression, edit.image)]
        path = output.with_stem(output.stem + "-sheet").with_suffix(".png")
        write_whole(path, lambda f: contact_sheet([cells]).save(f, "PNG"))
        report["sheet"] = str(path)
    return report


def _say_edit(report: dict[str, Any]) -> None:
    if report["sheet"]:
        click.echo(f"sheet  {report['sheet']}")
    click.echo(f"saved  {report['output']}")


def quiet() -> None:
    """Only our own progress and messages: the libraries' remarks are for programmers."""
    import warnings

    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
