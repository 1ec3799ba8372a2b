"""``python -m zoo.recipe``: retrain any or all of the embedded models, from one command."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from zoo.registry import WEIGHTS

MODELS = ("sprites", "vae", "judge", "language", "captioner", "diffusion")
PICTURES = 20_000

#: Model → optimiser steps of the shipped weights, and minutes that took on two cores.
STEPS = {"vae": 2_500, "judge": 900, "language": 5_600, "captioner": 1_200, "diffusion": 3_400}
MINUTES = {"sprites": 1, "vae": 35, "judge": 4, "language": 40, "captioner": 10, "diffusion": 110}

#: Keep freed memory for the next step: returning it to the system at every step costs more than the arithmetic.
_ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)}


@click.command()
@click.argument("models", nargs=-1, type=click.Choice([*MODELS, "all"]))
@click.option(
    "--work", type=click.Path(path_type=Path), help="Checkpoints and drawn scenes [the user cache folder]."
)
@click.option("--output", type=click.Path(path_type=Path), default=WEIGHTS, help="Where the weights go.")
@click.option("--steps", type=int, help="Train for this many steps instead of the shipped number.")
@click.option("--pictures", type=int, default=PICTURES, show_default=True, help="Training scenes to draw.")
@click.option("--threads", type=int, default=2, show_default=True)
def main(
    models: tuple[str, ...], work: Path | None, output: Path, steps: int | None, pictures: int, threads: int
) -> None:
    """Train MODELS (all: every model, in order) and write their weights.

    An interrupted run goes on from its last checkpoint when it is started again.
    """
    chosen = [m for m in MODELS if m in models or "all" in models]
    if not chosen:
        raise click.UsageError(f"name what to train: {', '.join(MODELS)} or all")
    if any(os.environ.get(k) != v for k, v in _ALLOCATOR.items()):
        os.execve(
            sys.executable, [sys.executable, "-m", "zoo.recipe", *sys.argv[1:]], {**os.environ, **_ALLOCATOR}
        )
    click.echo(f"{', '.join(chosen)}: about {sum(MINUTES[m] for m in chosen)} minutes on two cores")
    import torch
    from platformdirs import user_cache_path

    torch.set_num_threads(threads)
    work = work or user_cache_path("edit-directions") / "recipe"
    work.mkdir(parents=True, exist_ok=True)
    for model in chosen:
        began = time.monotonic()
        _train(model, work, output, steps or STEPS.get(model, 0), pictures)
        click.echo(f"{model}: {(time.monotonic() - began) / 60:.1f} minutes")


def _train(model: str, work: Path, output: Path, steps: int, pictures: int) -> None:
    if model == "sprites":
        from zoo.recipe.sprites import render_sprites

        render_sprites()
        return
    from zoo.recipe import export

    if model == "vae":
        from zoo.recipe.vae import train_vae

        train_vae(work, steps, pictures).save_pretrained(work / "vae")
    elif model == "judge":
        from zoo.recipe.train_judge import train_judge

        export.export_judge(output / "judge", train_judge(work, steps, pictures))
    elif model == "language":
        from zoo.recipe.language import train_language

        export.export_language(output / "captions", *train_language(work, steps))
    elif model == "captioner":
        from zoo.recipe.captioner import train_captioner

        export.export_captioner(output / "captioner", *train_captioner(work, steps, pictures))
    elif model == "diffusion":
        from diffusers import AutoencoderKL

        from zoo.recipe.diffusion import train_diffusion

        vae = AutoencoderKL.from_pretrained(work / "vae")
        export.export_diffusion(output / "diffusion", vae, *train_diffusion(work, vae, steps, pictures))


if __name__ == "__main__":
    main()
