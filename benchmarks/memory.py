"""Predicted against measured peak memory: `python -m benchmarks.memory`.

    python -m benchmarks.memory              # the embedded models, and Stable Diffusion 1.4's UNet and VAE
    python -m benchmarks.memory --quick      # one edit of 64 px alone

Each configuration is a process of its own, on the processor: a picture is encoded, inverted, edited as `edit-image`
does it, and decoded. Compared are the working set (the peak above what the process holds with its models
loaded) and the whole process (what it held with its libraries and no model, weights and working set together).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.processes import (
    FULL,
    MEBIBYTE,
    SCHEDULER,
    forget_peak,
    in_own_process,
    peak,
    random_models,
    resident,
    smooth_picture,
)
from benchmarks.report import Row, arguments, at_most, measured, report

ERROR_LIMIT = 25.0


@dataclass(frozen=True)
class Configuration:
    """One process: models, side of the picture in pixels, edits, steps."""

    models: str
    size: int
    edits: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.models} {self.size} px, {self.edits} edit{'s' * (self.edits > 1)}"


QUICK = (Configuration("embedded", 64, 1, 2),)
ALL = (
    Configuration("embedded", 64, 1, 4),
    Configuration("embedded", 64, 4, 4),
    Configuration("embedded", 128, 1, 4),
    Configuration("embedded", 128, 4, 4),
    Configuration("SD 1.4", FULL["size"], 1, 2),
)


def loaded(name: str) -> Any:
    """The embedded models, or Stable Diffusion's UNet and VAE with random weights and hardly a text encoder."""
    from editor.models import Models, load_models

    if name == "embedded":
        return load_models(name, "cpu")
    from diffusers import DDIMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel

    dim, tokens = FULL["unet"]["cross_attention_dim"], FULL["tokens"]
    text = CLIPTextConfig(
        hidden_size=dim, max_position_embeddings=tokens, num_hidden_layers=1, intermediate_size=8
    )
    unet, vae = random_models(FULL)
    scheduler = dict(DDIMScheduler.from_config(SCHEDULER).config)
    return Models(name, unet, vae, CLIPTextModel(text).eval(), None, scheduler)


def work(asked: Configuration) -> dict[str, float]:
    """Predict, then do it, in this process; bytes."""
    import torch

    from editor.edit import edit
    from editor.fitting import loads
    from editor.invert import invert
    from editor.latents import decode_latents, encode_pixels
    from editor.memory import Work, outline, predict
    from editor.schedule import Schedule
    from editor.session import Editor
    from editor.steps import Conditioning

    torch.set_num_threads(1)
    outline("embedded")  # the libraries import what they need of themselves when it is first asked for
    before = resident()
    models = loaded(asked.models)
    settings = Editor(models).settings(steps=asked.steps)
    load = next(loads(settings, "cpu", asked.edits, None))
    settings = replace(settings, max_rows=load.max_rows)
    size = (asked.size, asked.size)
    forecast = predict(models, settings, Work(size, edits=asked.edits, steps=asked.steps))

    text = models.text_encoder.config
    embeds = torch.randn(asked.edits + 1, text.max_position_embeddings, text.hidden_size)
    schedule = Schedule.from_config(models.scheduler_config, asked.steps)
    caption = Conditioning(embeds[:1], embeds[:1])
    pixels = 2 * smooth_picture(asked.size) - 1
    forget_peak()
    start = resident()
    latents = encode_pixels(models.vae, pixels)
    inverted = invert(models.unet, latents, caption, schedule.reversed(), keep_trajectory=True)
    trajectory = inverted.trajectory if settings.source_correction else None
    made = edit(models.unet, inverted.noise, caption, embeds[1:], schedule, settings, trajectory=trajectory)
    decode_latents(models.vae, torch.cat([made.reference, made.edits]))
    return {
        "predicted": forecast.working,
        "measured": peak() - start,
        "predicted whole": before + forecast.peak,
        "measured whole": peak(),
    }


def rows_of(configurations: tuple[Configuration, ...]) -> list[Row]:
    rows: list[Row] = []
    for asked in configurations:
        found = in_own_process("benchmarks.memory", ["--work", json.dumps(asdict(asked))])
        for name, whole in (("working set", ""), ("whole process", " whole")):
            predicted, held = found[f"predicted{whole}"], found[f"measured{whole}"]
            rows.append(measured(f"{asked.name}: {name}, predicted", predicted / MEBIBYTE, "MiB"))
            rows.append(measured(f"{asked.name}: {name}, measured", held / MEBIBYTE, "MiB"))
            error = 100 * abs(predicted / held - 1)
            rows.append(at_most(f"{asked.name}: {name}, error of the prediction", error, "%", ERROR_LIMIT))
    return rows


def main(given: list[str] | None = None) -> int:
    """Run it and print the table; 1 when a prediction is too far off."""
    parser = arguments("Predicted against measured peak memory.")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.work:
        print(json.dumps(work(Configuration(**json.loads(options.work)))))
        return 0
    return report(rows_of(QUICK if options.quick else ALL), options.json, "1 thread, float32")


if __name__ == "__main__":
    sys.exit(main())
