"""The options of `python -m benchmarks.quality`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import arguments
from library.names import direction_name

PIE_BENCH = "pie-bench"
OUTPUT = Path("benchmarks/results/quality")
PICTURES, CURVE_PICTURES, STEPS = 250, 50, 50
QUICK_PICTURES, QUICK_STEPS = 2, 2


def parser() -> argparse.ArgumentParser:
    """A parser with every option."""
    made = arguments("Edit quality of every method on the same pictures, with the same models and steps.")
    made.prog = "python -m benchmarks.quality"
    add = made.add_argument
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"results and tables [{OUTPUT}; with -synthetic, -FOLDER-cat2dog, -pie-bench, -quick behind it for those]",
    )
    add("--pictures", type=_positive, metavar="N", help=f"a task [{PICTURES}, PIE-Bench all; quick: 2]")
    add("--curve-pictures", type=int, metavar="N", help="a task, at the knobs' other values [50; quick: 0]")
    add("--steps", type=_positive, metavar="N", help=f"of every inversion and edit [{STEPS}; quick: 2]")
    add("--batch", type=_positive, default=10, metavar="N", help="pictures that go through at once [10]")
    add("--threads", type=_positive, metavar="N", help="processor threads [torch's own choice]")
    add("--only-task", action="append", metavar="NAME", help="one task; may be repeated")
    add("--only-method", action="append", metavar="NAME", help="one method; may be repeated")
    add("--no-costs", action="store_true", help="leave out seconds and memory (implied by --quick)")
    add("--synthetic", action="store_true", help="edit pictures that the model makes from prompts")
    add("--models", default="embedded", help="a model set, a diffusers folder or a hub id [embedded]")
    add(
        "--dataset",
        nargs="+",
        default=[],
        metavar="DIR",
        help=f"a folder of pictures, or {PIE_BENCH} and its folder",
    )
    add("--source", metavar="WORD", help="with a folder: what its pictures show")
    add("--target", metavar="WORD", help="with a folder: what they are to show")
    add("--clip", metavar="PLACE", help="CLIP [openai/clip-vit-base-patch32; PIE-Bench: …-large-patch14]")
    add("--dino", metavar="PLACE", help="DINO [facebook/dino-vitb8]")
    add(
        "--without",
        action="append",
        default=[],
        choices=["clip", "dino", "lpips"],
        help="leave its figures out",
    )
    add("--cost-of", metavar="METHOD", help=argparse.SUPPRESS)
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def parsed(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The options with their defaults filled in; exits with one line for what does not fit together.

    `pie` is PIE-Bench's folder or None, `folder` that of a data set of one's own or None.
    """
    made = parser()
    options = made.parse_args(given)
    words = options.dataset
    pie = words[0] == PIE_BENCH if words else False
    if len(words) != (2 if pie else min(len(words), 1)):
        made.error(f"--dataset takes one folder, or {PIE_BENCH} and one folder")
    options.pie = Path(words[1]) if pie else None
    options.folder = Path(words[0]) if words and not pie else None
    if options.folder and not (options.source and options.target):
        made.error("a folder of pictures needs --source WORD and --target WORD")
    if options.synthetic and words:
        made.error("--synthetic makes its own pictures; leave --dataset out")
    if options.output is None:  # the tables of one kind do not replace those of the other
        kind = "synthetic" if options.synthetic else PIE_BENCH if pie else ""
        if options.folder:
            kind = f"{options.folder.resolve().name}-{direction_name(options.source, options.target)}"
        parts = (OUTPUT.name, kind, "quick" if options.quick else "")
        options.output = OUTPUT.with_name("-".join(filter(None, parts)))
    options.steps = options.steps or (QUICK_STEPS if options.quick else STEPS)
    if options.curve_pictures is None:
        options.curve_pictures = 0 if options.quick else CURVE_PICTURES
    if options.pictures is None and not pie:
        options.pictures = PICTURES
    if options.quick:
        options.pictures = min(options.pictures or QUICK_PICTURES, QUICK_PICTURES)
    return options


def passed_on(options: argparse.Namespace) -> list[str]:
    """The arguments of a process that measures costs: the same pictures, models and steps."""
    found = ["--steps", str(options.steps), "--models", options.models]
    found += ["--threads", str(options.threads)] if options.threads else []
    found += ["--synthetic"] if options.synthetic else []
    found += ["--dataset", *options.dataset] if options.dataset else []
    for name in ("source", "target"):
        found += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
    return found


def chosen(names: Sequence[str] | None, known: Sequence[Any], what: str) -> list[Any]:
    """Those of the named tasks or methods, all for no name; exits naming the known ones for an unknown name."""
    names_known = [one.name for one in known]
    for name in names or ():
        if name not in names_known:
            parser().error(f"no {what} is called {name!r}; there are: {', '.join(names_known)}")
    return [one for one in known if not names or one.name in names]
