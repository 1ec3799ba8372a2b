"""`mkdir-direction`: discover a direction, save it, and say how good it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from library.console import emit_json, json_option, library_option, reports_failures, say

if TYPE_CHECKING:
    from directions.cache import Cache
    from directions.discovery import Discovery
    from directions.settings import Settings
    from library.direction import Direction
    from library.store import Library

__all__ = ["main"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", required=False)
@click.argument("target", required=False)
@click.option(
    "--models", help="Model set, hub id or local diffusers folder (else DIRECTIONS_MODELS, embedded)."
)
@click.option("--captions", type=int, help="Captions a side [embedded: 200, others: 1000; given: all].")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the captions' sampling.")
@click.option("--name", help="The direction's name [SOURCE2TARGET].")
@click.option("--tag", "tags", multiple=True, help="A tag for it (may be repeated).")
@click.option(
    "--source-captions", metavar="FILE", help="Take the source's captions from a text file, - for stdin."
)
@click.option(
    "--target-captions", metavar="FILE", help="Take the target's captions from a text file, - for stdin."
)
@click.option(
    "--templates", is_flag=True, help="Take captions from fixed templates; no captions model is needed."
)
@click.option(
    "--paired/--no-paired",
    default=None,
    help="Same sentences on both sides, only the concept swapped [the model set's own way].",
)
@click.option(
    "--captions-model", metavar="MODEL", help="Language model that writes captions: hub id or folder."
)
@click.option("--prompt", help="What it is asked; {concept} or {a_concept} stands for the concept.")
@click.option("--temperature", type=float, default=0.8, show_default=True, help="Of the sampling.")
@click.option("--top-k", type=int, default=10, show_default=True, help="Of the sampling.")
@click.option("--top-p", type=float, help="Of the sampling [the model's own].")
@click.option(
    "--max-new-tokens", type=int, default=128, show_default=True, help="Length of a caption at most."
)
@click.option("--draw", type=int, default=64, show_default=True, help="Captions written in one call.")
@click.option("--batch-size", type=int, help="Captions embedded in one call [what suits the text encoder].")
@click.option(
    "--clip-skip",
    type=int,
    help="Skip the text encoder's last layers: only the drop-in pipeline's clip_skip can use what comes of it. "
    "With --rebuild [the record's; none for other models or with --models].",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the text encoder. bfloat16 is quicker on processors that compute in it (avx512_bf16, amx_bf16).",
)
@click.option("--device", help="cpu, cuda, cuda:1, mps [the best there is].")
@click.option("--report", type=click.Path(dir_okay=False), metavar="OUT.png", help="Draw the quality report.")
@click.option("--rebuild", metavar="NAME", help="Make NAME again for --models, from its stored captions.")
@click.option("--encoder", help="With --rebuild: the encoder id, where NAME exists for several.")
@click.option(
    "--pairs",
    type=click.Path(),
    metavar="CSV",
    help="Make many; columns source, target, name, tags, captions…",
)
@click.option(
    "--concepts",
    type=click.Path(),
    metavar="FILE",
    help="Prepare a list of words, one a line, for later use.",
)
@click.option("--no-cache", is_flag=True, help="Write and embed everything anew, keep nothing.")
@library_option
@json_option
@click.version_option(package_name="edit-directions")
@reports_failures()
def main(
    source: str | None, target: str | None, library_path: str | None, as_json: bool, **options: Any
) -> None:
    """Discover the direction from SOURCE to TARGET and save it to the library.

    \b
    mkdir-direction cat dog
    mkdir-direction cat "cat wearing a hat" --paired
    mkdir-direction day night --source-captions day.txt --target-captions night.txt
    mkdir-direction --rebuild cat2dog --models sd-1.5
    mkdir-direction --pairs pairs.csv
    """
    many = [flag for flag in ("rebuild", "pairs", "concepts") if options[flag]]
    _check_usage(source, target, many, options)
    from directions.concepts import checked_pair
    from library.store import Library

    settings_of(options)  # what is wrong with them is said before the models' libraries are imported
    if not many:
        checked_pair(source or "", target or "")
    library = Library(library_path)
    if options["concepts"]:
        cache_of(options).check_writable()
    else:
        library.check_writable()
    if options["report"]:
        from library.plot import check_drawing

        check_drawing(options["report"])
    quiet(options)
    if options["pairs"]:
        from directions.cli_many import run_pairs

        run_pairs(library, discovery_of(options), options["pairs"], as_json)
    elif options["concepts"]:
        from directions.cli_many import run_concepts

        run_concepts(discovery_of(options), options["concepts"], as_json)
    else:
        made = _rebuilt(library, options) if options["rebuild"] else _discovered(source, target, options)
        _finish(library, made, options["report"], as_json)


def _check_usage(source: str | None, target: str | None, many: list[str], options: dict[str, Any]) -> None:
    if len(many) > 1:
        raise click.UsageError(f"--{many[0]} and --{many[1]} exclude each other")
    if many and source is not None:
        raise click.UsageError(f"--{many[0]} takes no SOURCE and TARGET")
    if not many and (source is None or target is None):
        raise click.UsageError("SOURCE and TARGET are needed, such as: mkdir-direction cat dog")
    for flag in many:
        _check_heeded(flag)
    if options["source_captions"] == options["target_captions"] == "-":
        raise click.UsageError("only one side can be read from standard input")
    if options["concepts"] and options["no_cache"]:
        raise click.UsageError("--concepts prepares what the cache keeps: leave --no-cache out")
    if options["templates"] and options["captions_model"]:
        raise click.UsageError("--templates and --captions-model exclude each other")


#: Options of one direction, which make many cannot have.
_OF_ONE = ("name", "tags", "source_captions", "target_captions", "report", "encoder")
#: What `--rebuild` takes; everything else is the record's.
_REBUILT = (
    "rebuild", "models", "clip_skip", "device", "encoder", "report", "no_cache", "library_path", "as_json"
)  # fmt: skip


def _check_heeded(flag: str) -> None:
    """Raise UsageError for an option that was given beside `--rebuild`, `--pairs` or `--concepts` in vain."""
    context = click.get_current_context()
    for option in context.command.params:
        heeded = option.name in _REBUILT if flag == "rebuild" else option.name not in _OF_ONE
        given = context.get_parameter_source(option.name or "") is not ParameterSource.DEFAULT
        if given and not heeded and context.params[option.name or ""] is not None:
            said = "takes it from the record" if flag == "rebuild" else "is told that by its file, if at all"
            raise click.UsageError(f"--{flag} {said}: leave {option.opts[0]} out")


def settings_of(options: dict[str, Any]) -> Settings:
    """The settings that the options make."""
    from directions.settings import Settings

    values = Settings.from_dict(options).as_dict()
    return Settings(**{**values, "writer": "templates" if options["templates"] else "model"})


def discovery_of(options: dict[str, Any], settings: Settings | None = None) -> Discovery:
    """The models and settings that the options name; nothing is loaded yet."""
    from directions.discovery import Discovery

    return Discovery(
        options["models"],
        settings or settings_of(options),
        captions_model=options["captions_model"],
        device=options["device"],
        cache=cache_of(options),
    )


def cache_of(options: dict[str, Any]) -> Cache:
    """Where captions and moments are kept."""
    from directions.cache import Cache
    from library.settings import cache_folder

    folder = None if options["no_cache"] else cache_folder("concepts")
    return Cache(folder, tell=lambda line: say(f"note: {line}"))


def _discovered(source: str | None, target: str | None, options: dict[str, Any]) -> Direction:
    from directions.progress import Bar
    from directions.sources import read_captions

    given: dict[str, Any] = {
        side: read_captions(options[side]) if options[side] else None
        for side in ("source_captions", "target_captions")
    }
    discovery = discovery_of(options)
    with Bar() as bar:
        discovery.progress = bar
        return discovery.direction(
            source or "", target or "", name=options["name"], tags=options["tags"], **given
        )


def _rebuilt(library: Library, options: dict[str, Any]) -> Direction:
    from dataclasses import replace

    from directions.progress import Bar
    from directions.rebuilding import rebuild
    from directions.rebuilding import settings_of as recorded
    from zoo.registry import resolve

    direction = library.load(options["rebuild"], options["encoder"])
    settings = recorded(direction)
    own = (direction.record.get("models") or {}).get("name")
    if options["models"] or options["clip_skip"] is not None or resolve(None).name != own:
        # With the models that it had it is made again as it was; others are to be used, and with all their layers.
        settings = replace(settings, clip_skip=options["clip_skip"])
    discovery = discovery_of(options, settings)
    with Bar() as bar:
        discovery.progress = bar
        return rebuild(direction, discovery)


def _finish(library: Library, made: Direction, report: str | None, as_json: bool) -> None:
    """Save it, draw the report if asked, and say what came of it."""
    saved = library.save(made)
    path = str(library.find(saved.ref, saved.encoder).path)
    if as_json:
        emit_json({**saved.record, "file": path, "norm": round(saved.norm, 6)})
    else:
        _tell(saved, path)
    if report:
        from directions.report import draw

        draw(saved, report)
        say(f"drew {report}")


def _tell(saved: Direction, path: str) -> None:
    quality = saved.record["quality"]
    counts = [len(saved.record["captions"][side]) for side in ("source", "target")]
    click.echo(f"{saved.ref}  {saved.source} → {saved.target}")
    click.echo(f"  encoder    {saved.encoder}  {list(saved.tensor.shape)}")
    click.echo(f"  captions   {counts[0]} + {counts[1]}{_rejected(quality['counts'])}")
    click.echo(f"  agreement  {agreement_text(quality)}")
    click.echo(f"  verdict    {quality['verdict']}")
    click.echo(f"  file       {path}")


def agreement_text(quality: dict[str, Any]) -> str:
    """`0.991 between two halves of the captions (95%: 0.987 to 0.995)`."""
    if quality["agreement"] is None:
        return "unknown: one caption a side"
    found = f"{quality['agreement']:.3f} between two halves of the captions"
    if quality["interval"] is None:
        return f"{found} (too few for an interval)"
    low, high = quality["interval"]
    return f"{found} (95%: {low:.3f} to {high:.3f})"


def _rejected(counts: dict[str, dict[str, int]]) -> str:
    words = {
        "off_concept": "off the concept",
        "duplicates": "repeated",
        "too_long": "too long",
        "empty": "empty",
    }
    totals = {word: sum(counts[side][key] for side in counts) for key, word in words.items()}
    said = ", ".join(f"{number} {word}" for word, number in totals.items() if number)
    return f"  (rejected: {said})" if said else ""


def quiet(options: dict[str, Any]) -> None:
    """Only our own progress and messages, and that of downloads; before transformers is imported."""
    import os
    from pathlib import Path

    from zoo.registry import resolve

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    models = resolve(options["models"])
    needed = [models.diffusion]
    if not options["templates"]:
        needed.append(options["captions_model"] or models.captions)
    if all(Path(where).is_dir() for where in needed):  # then there is nothing to download
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from library.startup import quick_imports

    quick_imports(diffusers=False)
