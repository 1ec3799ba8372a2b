"""The drop-in pipeline beside the deprecated one: time, peak memory above the weights, the same latents.

    python -m benchmarks.pipeline            # Stable Diffusion 1.4's UNet and VAE, random weights, 256 px
    python -m benchmarks.pipeline --quick    # a tiny model, to see that it works

Each run is a process of its own: invert a picture, then edit it with its caption as negative prompt, decode.
Text is left out on both sides (embeddings are given), as it costs neither of them anything.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import (
    FULL,
    MEBIBYTE,
    QUICK,
    build,
    forget_peak,
    in_own_process,
    peak,
    resident,
    smooth_picture,
)
from benchmarks.report import Row, arguments, at_most, measured, report

TIME_LIMIT, MEMORY_LIMIT, LATENTS_LIMIT = 0.55, 0.30, 1e-4
#: Peak memory at four times the steps; the allocator alone moves it by a few percent.
GROWTH_LIMIT = 1.05


def work(
    which: str, config: dict[str, Any], steps: int, threads: int, latents_file: Path
) -> dict[str, float]:
    """One inversion and edit: seconds of both, peak bytes above the weights; the latents go to a file."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(threads)
    pipe = build(which, config)
    shape = (1, config["tokens"], config["unet"]["cross_attention_dim"])
    caption, source, target = (
        torch.randn(shape, generator=torch.Generator().manual_seed(k)) for k in range(3)
    )
    image = smooth_picture(config["size"])
    decoded: list[torch.Tensor] = []
    decode = pipe.vae.decode

    def watch(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        decoded.append(latents.detach())
        return decode(latents, *args, **kwargs)

    pipe.vae.decode = watch
    forget_peak()
    weights, begin = resident(), time.perf_counter()
    noise = pipe.invert(
        prompt_embeds=caption,
        image=image,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
    ).latents
    middle = time.perf_counter()
    pipe(
        prompt_embeds=caption,
        negative_prompt_embeds=caption,
        source_embeds=source,
        target_embeds=target,
        latents=noise,
        num_inference_steps=steps,
        output_type="np",
    )
    end = time.perf_counter()
    figures = {"invert": middle - begin, "edit": end - middle, "peak": peak() - weights}
    save_file({"noise": noise.contiguous(), "edit": decoded[-1].contiguous()}, latents_file)
    return figures


def run(which: str, options: argparse.Namespace, steps: int, latents_file: Path) -> dict[str, float]:
    """`work` in a process of its own."""
    arguments = ["--worker", which, "--steps", str(steps), "--threads", str(options.threads)]
    arguments += ["--latents", str(latents_file), *(["--quick"] if options.quick else [])]
    return in_own_process("benchmarks.pipeline", arguments, options.threads)


def compare(options: argparse.Namespace) -> list[Row]:
    """Peer and ours in turn; medians and their ratios."""
    from safetensors.torch import load_file

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        files = {which: Path(folder) / f"{which}.safetensors" for which in ("peer", "ours")}
        runs: dict[str, list[dict[str, float]]] = {"peer": [], "ours": []}
        for _ in range(options.repeats):
            for which, results in runs.items():
                results.append(run(which, options, options.steps, files[which]))
        longer = run("ours", options, 4 * options.steps, Path(folder) / "longer.safetensors")
        theirs, mine = (load_file(str(files[which])) for which in ("peer", "ours"))

    def median(which: str, *names: str) -> float:
        return statistics.median(sum(result[name] for name in names) for result in runs[which])

    for which in runs:
        rows += [measured(f"{which}: {part}", median(which, part), "s") for part in ("invert", "edit")]
        rows.append(measured(f"{which}: peak above the weights", median(which, "peak") / MEBIBYTE, "MiB"))
    times = median("ours", "invert", "edit") / median("peer", "invert", "edit")
    memory = median("ours", "peak") / median("peer", "peak")
    growth = longer["peak"] / median("ours", "peak")
    ratios = [
        ("time, ours / peer", times, TIME_LIMIT),
        ("peak, ours / peer", memory, MEMORY_LIMIT),
        (f"ours: peak at {4 * options.steps} steps / at {options.steps}", growth, GROWTH_LIMIT),
    ]
    # On the tiny model the fixed costs of Python and the allocator decide: nothing is promised there.
    rows += [measured(n, v, "×") if options.quick else at_most(n, v, "×", limit) for n, v, limit in ratios]
    for name in ("noise", "edit"):
        distance = float((mine[name] - theirs[name]).norm() / theirs[name].norm())
        rows.append(at_most(f"relative L2 of the {name} latents", distance, "", LATENTS_LIMIT))
    return rows


def main() -> int:
    parser = arguments("The drop-in pipeline beside the deprecated one of diffusers.")
    parser.add_argument("--steps", type=int, help="jumps of inversion and edit [4; quick: 2]")
    parser.add_argument("--repeats", type=int, help="runs of each, of which the median counts [3; quick: 1]")
    parser.add_argument("--threads", type=int, default=1, help="processor threads [1]")
    parser.add_argument("--worker", choices=["peer", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--latents", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.steps = options.steps or (2 if options.quick else 4)
    options.repeats = options.repeats or (1 if options.quick else 3)
    config = QUICK if options.quick else FULL
    if options.worker:
        print(json.dumps(work(options.worker, config, options.steps, options.threads, options.latents)))
        return 0
    note = f"{config['size']} px, {options.steps} steps, {options.threads} threads, float32"
    return report(compare(options), options.json, note)


if __name__ == "__main__":
    sys.exit(main())
