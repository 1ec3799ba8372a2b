"""`directions evaluate`: measure how well a direction edits, and keep it beside its version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from editor.options import settings_options
from editor.request import Request
from library.commands.common import encoder_option, with_library
from library.console import emit_json, json_option, say

if TYPE_CHECKING:
    from editor.judges import EditJudge
    from editor.samples import Sample
    from editor.session import Editor
    from library.direction import Direction
    from library.store import Library
    from zoo.recipe.translations import Translation

__all__ = ["evaluate"]

#: Pictures computed at a time where nothing is said: the embedded models are small.
BATCH = {"embedded": 10}


@click.command()
@click.argument("reference", metavar="NAME")
@click.option("--pictures", type=click.IntRange(1), default=20, show_default=True, help="How many to edit.")
@click.option(
    "--images", type=click.Path(file_okay=False), metavar="DIR", help="Take them from a folder, by name."
)
@click.option("--synthetic", is_flag=True, help="Make them from the direction's own source captions.")
@click.option(
    "--steps", type=click.IntRange(1, 999), default=Request.steps, show_default=True, help="Denoising steps."
)
@click.option("--strength", type=float, default=Request.strength, show_default=True, help="Of the direction.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the first picture."
)
@click.option("--models", help="Model set, hub id or local folder [the direction's own].")
@click.option("--device", help="cpu, cuda, cuda:1, mps [cuda where it is there, else cpu].")
@click.option(
    "--batch", type=click.IntRange(1), help="Pictures computed at a time [embedded: 10, others: 1]."
)
@click.option(
    "--clip", metavar="MODEL", help="CLIP that judges photographs: hub id or folder [CLIP ViT-B/32's]."
)
@settings_options
@encoder_option
@json_option
@with_library
def evaluate(library: Library, reference: str, encoder: str | None, as_json: bool, **options: Any) -> None:
    """Measure how often an edit along NAME shows its target, and keep that beside the version.

    The embedded models are measured on drawn scenes that no training saw, with a judge that names what a
    picture shows. Other models, and concepts that the scenes do not show, take pictures from --images, or
    make them with --synthetic, and CLIP is the judge.
    """
    if options["images"] and options["synthetic"]:
        raise click.UsageError("--images and --synthetic exclude each other")
    from dataclasses import replace

    from editor.cli import quiet
    from editor.progress import Progress
    from editor.scoring import score
    from library.errors import UnknownDirection
    from library.evaluation import save_evaluation
    from library.names import parse_reference

    version, negated = library.lookup.find_or_inverse(reference, encoder)
    if negated:
        raise UnknownDirection(
            f"{reference} is {version.ref} negated, and a measurement belongs to a version: measure {version.name}, "
            f"or save the opposite first: directions compose {reference} --name {parse_reference(reference).name} "
            f"--encoder {version.encoder}"
        )
    library.check_writable()
    direction = library.read(version.path, version)
    request = _request(options)
    quiet()
    from editor.session import Editor

    check_concepts(direction)
    models = options["models"] or (direction.record.get("models") or {}).get("name")
    editor = Editor(models, device=options["device"])
    samples, judge, about = chosen(editor, direction, options)
    with Progress(len(samples), 2 * len(samples) * request.steps) as progress:
        if options["synthetic"]:
            progress.skip(len(samples) * request.steps)
        scores = score(
            editor,
            direction,
            samples,
            judge,
            steps=request.steps,
            strength=request.strength,
            batch=options["batch"] or BATCH.get(editor.models.name, 1),
            settings=request.settings,
            regulariser=request.regulariser,
            on_step=progress.on_step,
            finished=progress.finished,
        )
    how = {"steps": request.steps, "strength": request.strength, "seed": options["seed"]}
    concepts = {"source": direction.source, "target": direction.target}
    measured = {**scores.summary(), **about, **how, **concepts, "models": editor.models.name}
    measured["judge"] = judge.name
    found = save_evaluation(library, version, measured, scores.sheet())
    if as_json:
        emit_json({**found.record, "sheet": str(found.sheet)})
        return
    click.echo(f"{version.ref}  {direction.source} → {direction.target}  {replace(found, sheet=None).line}")
    for line in figure_lines(found.record):
        click.echo(line)
    click.echo(f"  sheet       {found.sheet}")
    for note in about["notes"]:
        say(f"note: {note}")


def _request(options: dict[str, Any]) -> Request:
    """The settings that were given, checked."""
    context = click.get_current_context()
    given = {
        name: value
        for name, value in options.items()
        if name not in ("images", "seed")
        and context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    return Request().changed(given)


def check_concepts(direction: Direction) -> None:
    """Raise EditorError for a direction that does not say what its edits should show."""
    from editor.errors import EditorError

    if not (direction.source and direction.target):
        raise EditorError(
            f"{direction.ref} does not say from what to what it leads, so no edit can be judged; "
            "evaluate the directions that it is composed of"
        )


def chosen(
    editor: Editor, direction: Direction, options: dict[str, Any]
) -> tuple[list[Sample], EditJudge, dict[str, Any]]:
    """The pictures, who judges their edits, and what the measurement says of both.

    Raises EditorError where pictures must be given, BackboneUnavailable where CLIP is needed and missing.
    """
    from editor.backbones import BackboneUnavailable
    from editor.diagnosis import SMALL_WORLDS
    from editor.errors import EditorError
    from editor.judges import SceneJudge, photo_judge
    from editor.samples import folder_samples, prompt_samples, scene_samples
    from zoo.recipe.translations import translation_between

    count, seed, folder = options["pictures"], options["seed"], options["images"]
    translation: Translation | None = None
    if editor.models.name in SMALL_WORLDS:
        translation = translation_between(direction.source, direction.target)
    if translation is None and not (folder or options["synthetic"]):
        raise EditorError(
            f"no scene shows {direction.source} → {direction.target} to the models {editor.models.name}: give "
            "pictures of the source with --images FOLDER, or let the models make them with --synthetic"
        )
    wanted = translation.labels() if translation else {}
    origin: dict[str, Any]
    if folder:
        samples = folder_samples(Path(folder), count, editor.models.native_size, wanted, seed)
        origin = {"from": "images", "folder": str(Path(folder).absolute())}
    elif options["synthetic"]:
        samples, origin = prompt_samples(direction, count, wanted, seed), {"from": "synthetic"}
    else:
        assert translation is not None
        samples, origin = scene_samples(translation, count, seed), {"from": "scenes"}
    judge: EditJudge
    notes: list[str] = []
    if translation:
        judge = SceneJudge()
    else:
        try:
            judge, notes = photo_judge(direction.source, direction.target, editor.device, options["clip"])
        except BackboneUnavailable as error:
            raise BackboneUnavailable(f"{error}, or name a local folder with --clip") from error
    return samples, judge, {"pictures": origin, "notes": notes}


def figure_lines(record: Mapping[str, Any]) -> list[str]:
    """The other figures for people, one a line."""
    from editor.figures import decibels

    lines = []
    for name, label, factor, unit in (
        ("kept_psnr", "kept", 1, " dB where nothing should change"),
        ("structure", "structure", 1000, " ×10⁻³ distance"),
    ):
        if figure := record["figures"].get(name):
            mean, low, high = (factor * figure[key] for key in ("mean", "low", "high"))
            lines.append(f"  {label:<10}  {mean:.1f}{unit} ({low:.1f}–{high:.1f})")
    if figure := record["figures"].get("reconstruction_psnr"):
        lines.append(f"  {'inversion':<10}  {decibels(figure['mean'])} reconstruction")
    return lines
