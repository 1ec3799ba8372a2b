"""`edit-image`: edit pictures along directions."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from editor.options import settings_options
from editor.presets import PRESETS
from editor.request import DTYPES, Request
from library.console import (
    INTERRUPTED,
    WITHHELD,
    emit_json,
    json_option,
    library_option,
    reports_failures,
    say,
    say_notes,
)

if TYPE_CHECKING:
    from editor.cache import InversionCache
    from editor.outputs import Looks
    from editor.plan import Task, Writing
    from editor.session import Editor
    from library.direction import Direction
    from library.store import Library

__all__ = ["main"]

#: What --auto chooses → the parameter that fixes it.
AUTO = {"strength": "strength", "guidance": "cross_attention_guidance"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("images", nargs=-1, type=click.Path(), metavar="[IMAGE]...")
@click.option(
    "-d",
    "--direction",
    "expressions",
    multiple=True,
    metavar="EXPRESSION",
    help='A direction, such as cat2dog, cat2dog@3 or "0.8*cat2dog + day2night"; may be repeated.',
)
@click.option("--prompt", metavar="TEXT", help="Make a picture of TEXT and edit it, instead of IMAGE.")
@click.option(
    "--from",
    "record",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Do the edit that made FILE again; each option given replaces that one thing.",
)
@click.option("-o", "--output", type=click.Path(), help="File, or folder, to write to [IMAGE-DIRECTION.png].")
@click.option(
    "--steps", type=click.IntRange(1, 999), default=Request.steps, show_default=True, help="Denoising steps."
)
@click.option(
    "--strength",
    type=float,
    default=Request.strength,
    show_default=True,
    help="Of the direction; negative goes back.",
)
@click.option("--caption", help="What the picture shows [ask the captioner].")
@click.option("--caption-prefix", metavar="TEXT", help="How the captioner's answer begins.")
@click.option("--negative-prompt", help="What to move away from [the caption; for --prompt nothing].")
@click.option(
    "--mask",
    type=click.Path(),
    metavar="FILE",
    help="Picture of any size whose white may change; transparent counts as black.",
)
@click.option(
    "--seed",
    type=int,
    default=Request.seed,
    show_default=True,
    help="Of everything that is drawn at random.",
)
@click.option(
    "--models", help="Model set, hub id or local diffusers folder (else DIRECTIONS_MODELS, embedded)."
)
@click.option("--size", type=click.IntRange(8), help="Shorter side in pixels [the model's own].")
@click.option("--device", help="cpu, cuda, cuda:1, mps [cuda where it is there, else cpu].")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    help="Of UNet and autoencoder [float32; float16 where a GPU has no room for that].",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="Settings that go together; every option given beside it wins [the model set's own settings].",
)
@settings_options
@click.option(
    "--batch",
    type=click.IntRange(1),
    help="Pictures and edits computed at a time: equal but for rounding [the edits of one picture, as fit].",
)
@click.option("--plan", is_flag=True, help="Only say what would be made, and with how much memory.")
@click.option(
    "--cache",
    "cache_path",
    type=click.Path(file_okay=False),
    help="Folder that keeps inversions (else in DIRECTIONS_CACHE, the config file's, the user cache folder).",
)
@click.option("--no-cache", is_flag=True, help="Caption and invert anew, keep nothing.")
@click.option(
    "--sweep",
    metavar="KNOBS",
    help="Write one labelled sheet of edits instead, such as strength=-1:1.5:6,guidance=0,0.05,0.1 "
    "(from:to:number, or values); also guidance_scale, interpolation, guidance_until.",
)
@click.option(
    "--show-attention",
    "attention",
    metavar="FILE",
    help="Also draw there where each word of the caption looks, before and after the edit: a .png, or with "
    "several edits a folder.",
)
@click.option(
    "--auto",
    is_flag=True,
    help="Choose strength and guidance for each picture from a few short trial edits; the one that is given "
    "stays.",
)
@click.option("--sheet", is_flag=True, help="Also write input, reconstruction and edit side by side.")
@click.option(
    "--evaluate",
    is_flag=True,
    help="Also measure each edit: what a judge sees before and after, and what stayed as it was.",
)
@click.option(
    "--clip",
    metavar="MODEL",
    help="CLIP that judges the edits of other models than the embedded ones: hub id or folder [CLIP ViT-B/32's].",
)
@click.option(
    "--dino", metavar="MODEL", help="DINO that measures their structure: hub id or folder [DINO ViT-B/8's]."
)
@click.option(
    "--no-safety", is_flag=True, help="Write pictures that the models' safety checker would withhold too."
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option(
    "--skip-existing",
    is_flag=True,
    help="Pass over edits whose files exist, to go on with an interrupted run.",
)
@library_option
@json_option
@click.version_option(package_name="edit-directions")
@reports_failures()
def main(library_path: str | None, as_json: bool, **options: Any) -> None:
    """Edit pictures along directions from the library; no prompt, no training.

    \b
    edit-image photo.png -d cat2dog
    edit-image photo.png -d "0.8*cat2dog + day2night" --sheet
    edit-image *.png -d cat2dog -d cat2tiger -o edits/
    edit-image --prompt "a cat on the grass" -d cat2dog
    edit-image --from photo-cat2dog.png --strength 0.7
    edit-image photo.png -d cat2dog --sweep strength=-1:1.5:6,guidance=0,0.05

    Ends with 0 when all is done, 1 when something failed, 2 when it was called wrongly, 3 when the safety
    checker withheld a picture, 130 after Ctrl-C.
    """
    request = requested(options)
    from library.expressions import parse_expression

    for expression in request.expressions:
        parse_expression(expression)
    from editor.plan import Writing, edits_of, planned
    from library.records import now
    from library.store import Library

    now()  # raises for a SOURCE_DATE_EPOCH that is no time before anything is computed
    library = Library(library_path)
    if request.recorded:
        from editor.replay import found_again

        request = found_again(request, library)
    writing = Writing(
        options["output"],
        options["sheet"],
        options["force"],
        options["skip_existing"],
        not options["no_safety"],
        options["attention"],
        request.sweep,
    )
    tasks = planned(request, writing)
    check_directions(library, request.named)
    asked, wanted = len(request.images or (None,)) * len(request.expressions), edits_of(tasks)
    if wanted < asked:
        say(f"note: {asked - wanted} of {asked} pictures are there already, and passed over")
    if not tasks:
        if as_json:
            emit_json({"edits": 0, "writes": []} if options["plan"] else [])
        return
    if options["plan"]:
        quiet()
        from editor.preview import preview, preview_lines

        plan = preview(request, tasks, writing, options["batch"], not options["no_safety"])
        if as_json:
            emit_json(plan)
        else:
            click.echo("\n".join(preview_lines(plan)))
        return
    reports: list[dict[str, Any]] = []
    interrupted = False
    failed = True
    try:
        _run(request, tasks, writing, library, options, reports, as_json)
        failed = False
    except KeyboardInterrupt:
        interrupted, failed = True, False
        on = "" if options["force"] else "; the same command with --skip-existing goes on from there"
        say(f"interrupted: {len(reports)} of {wanted} pictures are done{on}")
    finally:
        if as_json and (reports or not failed):
            order = [str(path) for task in tasks for path in task.outputs.values()]
            emit_json(sorted(reports, key=lambda report: order.index(report["output"])))
    if interrupted:
        sys.exit(INTERRUPTED)
    if any(report["withheld"] for report in reports):
        sys.exit(WITHHELD)


def requested(options: dict[str, Any]) -> Request:
    """What the options ask for; raises UsageError for what does not go together."""
    context = click.get_current_context()
    given = {
        name: value
        for name, value in options.items()
        if value != () and context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if given.get("images") and given.get("prompt"):
        raise click.UsageError("give pictures or --prompt, and not both")
    if (options["clip"] or options["dino"]) and not options["evaluate"]:
        raise click.UsageError("--clip and --dino say what --evaluate looks with: give that too")
    if options["cache_path"] and options["no_cache"]:
        raise click.UsageError("--cache and --no-cache exclude each other")
    if options["force"] and options["skip_existing"]:
        raise click.UsageError("--force and --skip-existing exclude each other")
    if options["auto"]:
        given["auto"] = tuple(knob for knob, name in AUTO.items() if name not in given)
        if not given["auto"]:
            raise click.UsageError("--auto has nothing to choose: --strength and --guidance are both given")
    if options["sweep"]:
        from editor.sweep import parse_sweep

        given["sweep"] = parse_sweep(options["sweep"])
        _refuse_swept(given)
    if "record" in given:
        from editor.replay import repeated

        request = repeated(given["record"], given)
        _refuse_unheeded(request, given)
        return request
    if not given.get("images") and not given.get("prompt"):
        raise click.UsageError("give pictures or --prompt, such as: edit-image photo.png -d cat2dog")
    if not given.get("expressions"):
        raise click.UsageError("give a direction, such as: edit-image photo.png -d cat2dog")
    request = Request().changed(given)
    _refuse_unheeded(request, given)
    return request


def _refuse_swept(given: dict[str, Any]) -> None:
    """Raise UsageError for a setting that is given beside the sweep of it."""
    from editor.sweep import KNOBS

    for knob in given["sweep"]:
        if (KNOBS[knob] or knob) in given:
            raise click.UsageError(f"--{knob.replace('_', '-')} is swept: give it once")


def _refuse_unheeded(request: Request, given: dict[str, Any]) -> None:
    """Raise UsageError for an option that what is made has no use for."""
    if request.sweep is not None:
        for name in ("evaluate", "attention", "auto", "sheet"):
            if given.get(name):
                flag = "show-attention" if name == "attention" else name
                raise click.UsageError(f"--{flag} and --sweep exclude each other")
    if request.prompt is not None:
        for name in ("caption", "caption_prefix"):
            if name in given:
                flag = name.replace("_", "-")
                raise click.UsageError(f"what --prompt makes has that as its caption: leave --{flag} out")


def check_directions(library: Library, expressions: tuple[str, ...]) -> None:
    """Fail on an unknown or damaged direction before any model is loaded.

    Which encoder is meant the models will say: what is there for several is not looked into, nor a sum of
    what was imported for a model set by its name and of what was not.
    """
    from library.errors import AmbiguousDirection
    from library.expressions import parse_expression
    from zoo.registry import MODEL_SETS

    for expression in expressions:
        there = [library.lookup.encoders_of(str(term.reference)) for term in parse_expression(expression)]
        common = set(there[0]).intersection(*there)
        declared = set(MODEL_SETS).intersection(*[{name for names in there for name in names}])
        if len(common) == 1:
            library.resolve(expression, common.pop())
        elif not common and (not declared or not all(there)):
            with suppress(AmbiguousDirection):
                library.resolve(expression)


def _run(
    request: Request,
    tasks: list[Task],
    writing: Writing,
    library: Library,
    options: dict[str, Any],
    reports: list[dict[str, Any]],
    silent: bool,
) -> None:
    """Load the models, make the edits, and tell of each; `reports` grows with every one saved."""
    quiet()
    from editor.evaluation import evaluation_line
    from editor.fitting import edits_each
    from editor.jobs import run
    from editor.plan import edits_of
    from editor.preview import HALF, precision
    from editor.progress import Progress
    from editor.session import Editor

    dtype = precision(request, tasks, writing, options["batch"], not options["no_safety"])
    if dtype is not None and request.dtype is None:
        say(f"note: {HALF}")
    editor = Editor(request.models, device=request.device, dtype=dtype, cache=_cache(options))
    looks = _looks(request, options, editor)
    if request.recorded:
        from editor.replay import check_direction_unchanged, differences, for_encoder

        request, elsewhere = for_encoder(request, (editor.models.encoder_id, *editor.models.names))
    directions = [directed(library, expression, editor) for expression in request.expressions]
    if request.recorded:
        say_notes(elsewhere)
        if request.pinned:
            say_notes(check_direction_unchanged(directions[0], request.recorded))
        dtype_here = str(editor.models.unet.dtype).removeprefix("torch.")
        say_notes(differences(request.recorded, editor.device.type, dtype_here))
    edits, inversions = edits_of(tasks), sum(task.path is not None for task in tasks)
    steps = (edits * edits_each(request, writing, knobs=True) + inversions) * request.steps
    if request.auto:
        from editor.auto import most_steps

        steps += edits * most_steps(request.steps)
    with Progress(edits, steps) as progress:

        def finished(report: dict[str, Any]) -> None:
            reports.append(report)
            if not silent:
                where = f"{report['output']}: " if edits > 1 else ""
                for finding in report["record"].get("findings", ()):
                    progress.print(f"warning: {where}{finding['message']}; {finding['remedy']}")
                if evaluation := report["record"].get("evaluation") if options["evaluate"] else None:
                    progress.print(f"evaluated  {evaluation_line(evaluation)}", err=False)
                for kind in ("sheet", "attention"):
                    if report[kind]:
                        progress.print(f"{kind}  {report[kind]}", err=False)
                if not report["withheld"]:
                    progress.print(f"saved  {report['output']}", err=False)
            if report["withheld"]:
                progress.print(withheld_line(report["output"]))

        run(request, tasks, editor, directions, writing, progress, finished, options["batch"], silent, looks)
    say_notes(getattr(looks.evaluate, "notes", ()))


def _cache(options: dict[str, Any]) -> InversionCache | None:
    from editor.cache import InversionCache
    from library.settings import cache_folder

    if options["no_cache"]:
        return None
    return InversionCache(
        options["cache_path"] or cache_folder("inversions"), tell=lambda line: say(f"note: {line}")
    )


def _looks(request: Request, options: dict[str, Any], editor: Editor) -> Looks:
    """What looks at edits before they are written: the models' own checker, unless it is switched off, and a judge."""
    from functools import partial

    from editor.evaluation import Evaluator
    from editor.models import WITHOUT_CHECKER, load_safety_checker, or_else
    from editor.outputs import Looks
    from editor.safety import OFF, safety_verdict

    evaluate = Evaluator(editor, options["clip"], options["dino"]) if options["evaluate"] else None
    if options["no_safety"]:
        return Looks(lambda pictures: OFF, evaluate)
    with or_else(WITHOUT_CHECKER):
        checker = load_safety_checker(request.models, editor.device)
    return Looks(partial(safety_verdict, checker), evaluate)


def withheld_line(output: str) -> str:
    """Why there is no picture, and what to do."""
    return (
        f"withheld: {output} is not written, the safety checker of the models flagged the edit; its record is "
        "beside it as .json; try another --seed, --strength or direction, or switch the checker off: --no-safety"
    )


def directed(library: Library, expression: str, editor: Editor) -> Direction:
    """The direction that an expression names, for the editor's text encoder."""
    models = editor.models
    direction = library.resolve(expression, [models.encoder_id, *models.names], models.name)
    say_notes(direction.notes)
    return direction


def quiet() -> None:
    """Only our own progress and messages: the libraries' remarks are for programmers."""
    import warnings

    from library.startup import quick_imports

    quick_imports()
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
