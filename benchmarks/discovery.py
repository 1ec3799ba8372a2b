"""Discovery against the documentation's loop: one sentence embedded at a time, 16 captions written a call.

    python -m benchmarks.discovery [--quick] [--captions 1000] [--repeat 3] [--json FILE]

Both run in turn, each in a process of its own, on the same captions where they only embed. Models are loaded
before the clock starts. Rows: embedding on a text encoder of ViT-L/14's size with random weights, ours also with
`--precision bfloat16`; writing and embedding with the embedded models, where they are there, and by how much bfloat16
changes a direction of theirs, beside what another seed does; peak memory of ours against the number of captions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.report import Row, arguments, at_least, at_most, measured, report

ROOT = Path(__file__).parents[1]
TOKENIZER = ROOT / "tests" / "golden" / "tiny_sd" / "tokenizer"
VIT_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS = 77
FASTER_ON_CPU, FASTER_ON_GPU = 2.0, 15.0
MEMORY_GROWTH = 1.1
WRITTEN_A_CALL = 16  # in the documentation's loop
ROUNDED = "ours in bfloat16"


def sentences(concept: str) -> Iterator[str]:
    """Endless distinct captions of one concept."""
    from directions.captions import template_captions

    number = 0
    while True:
        number += 1
        for text in template_captions(concept):
            yield f"{text}, number {number}"


def their_embedding(texts: Iterator[str], text_encoder: Any, tokenizer: Any) -> Any:
    """`embed_captions` of the pix2pix-zero documentation."""
    import torch

    with torch.no_grad():
        embeddings = []
        for sentence in texts:
            inputs = tokenizer(
                sentence, padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
                return_tensors="pt",
            )  # fmt: skip
            embeddings.append(text_encoder(inputs.input_ids.to(text_encoder.device), attention_mask=None)[0])
    return torch.concatenate(embeddings, dim=0).mean(dim=0).unsqueeze(0)


def their_writing(model: Any, tokenizer: Any, prompt: str, count: int) -> list[str]:
    """`generate_captions` of the pix2pix-zero documentation, called until there are enough."""
    captions: list[str] = []
    while len(captions) < count:
        inputs = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)
        outputs = model.generate(
            inputs, temperature=0.8, num_return_sequences=WRITTEN_A_CALL, do_sample=True, max_new_tokens=128,
            top_k=10,
        )  # fmt: skip
        captions += tokenizer.batch_decode(outputs, skip_special_tokens=True)
    return captions[:count]


def work(who: str, what: str, where: str, captions: int) -> dict[str, float]:
    """One measurement, in this process: seconds for both sides, and peak memory in MiB."""
    from directions.discovery import Discovery
    from directions.embed import embed
    from directions.settings import Settings

    embedded = what == "embedded"
    precision = "bfloat16" if who == ROUNDED else "float32"
    found = Discovery("embedded" if embedded else where, Settings(captions=captions, precision=precision))
    encoder = found.encoder
    writer = found.writer if embedded else None
    embed(["a first call is slower than the others"], encoder)
    start = time.perf_counter()
    for concept in ("cat", "dog"):
        if writer is not None:
            texts = iter(_written(who, found, writer, concept, captions))
        else:
            texts = islice(sentences(concept), captions)
        if who != "theirs":
            embed(texts, encoder, found.settings.batch_size)
        else:
            their_embedding(texts, encoder.text_encoder, encoder.tokenizer)
    if encoder.text_encoder.device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _written(who: str, found: Any, writer: Any, concept: str, captions: int) -> list[str]:
    """As many raw captions from either; ours in calls of its own size, without the sieve's further draws."""
    from directions.generate import prompt_for, sample

    if who == "theirs":
        prompt = prompt_for(concept, found.settings, writer.knowledge)
        return their_writing(writer.model, writer.tokenizer, prompt, captions)
    answers = sample(writer, concept, found.settings)
    calls = -(-captions // found.settings.draw)
    return [text for call in islice(answers, calls) for text in call][:captions]


def measure(who: str, what: str, where: str, captions: int) -> dict[str, float]:
    """`work` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.discovery", "--work", who, what, where, str(captions)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def build_encoder(folder: Path, config: dict[str, int]) -> str:
    """A diffusers folder with a text encoder of this size, random weights, and a real tokenizer."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    shutil.copytree(TOKENIZER, folder / "tokenizer")
    full = CLIPTextConfig(vocab_size=49408, max_position_embeddings=TOKENS, **config)
    CLIPTextModel(full).save_pretrained(folder / "text_encoder")
    return str(folder)


def faster(
    name: str, what: str, where: str, captions: int, repeat: int, target: float, rounded: bool = False
) -> list[Row]:
    """Rows for the medians and their ratio, peer and ours in turn; rounded: ours in bfloat16 too."""
    ways = ("theirs", "ours", ROUNDED) if rounded else ("theirs", "ours")
    runs: dict[str, list[float]] = {who: [] for who in ways}
    for _ in range(repeat):
        for who, seconds in runs.items():
            seconds.append(measure(who, what, where, captions)["seconds"])
    medians = {who: statistics.median(seconds) for who, seconds in runs.items()}
    rows = [measured(f"{name}: the documentation's loop", medians["theirs"], "s")]
    for who in ways[1:]:
        told = "times faster" if who == "ours" else "times faster in bfloat16"
        rows.append(measured(f"{name}: {who}", medians[who], "s"))
        promised = who == "ours" or computes_in_bfloat16()
        ratio = medians["theirs"] / medians[who]
        rows.append(
            at_least(f"{name}: {told}", ratio, "×", target)
            if promised
            else measured(f"{name}: {told}", ratio, "×")
        )
    return rows


def computes_in_bfloat16() -> bool:
    """Whether the processor has instructions for it, or there is a GPU; others are slower with it."""
    import torch

    with suppress(OSError):
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
        return torch.cuda.is_available() or bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    return torch.cuda.is_available()


def rounding(captions: int) -> list[Row]:
    """How far cat2dog of the embedded models is from itself in bfloat16, and from that of another seed's captions."""
    import numpy as np

    from directions import discover

    exact, rounded, other = (
        discover(
            "cat", "dog", "embedded", captions=captions, seed=seed, precision=precision, cache=False
        ).tensor.astype(np.float64)
        for seed, precision in ((0, "float32"), (0, "bfloat16"), (1, "float32"))
    )
    kinds = {"bfloat16": rounded, "another seed": other}
    return [
        measured(
            f"cat2dog, embedded models: changed by {what}",
            float(np.linalg.norm(changed - exact) / np.linalg.norm(exact)),
            "of its length",
        )
        for what, changed in kinds.items()
    ]


def least(config: dict[str, int], captions: int) -> float:
    """Seconds that the encoder's arithmetic for both sides takes at the machine's matrix rate, with all threads."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import CLIPTextConfig, CLIPTextModel

    from benchmarks.speed.limit import measured_rate

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counted:
        full = CLIPTextConfig(vocab_size=49408, max_position_embeddings=TOKENS, **config)
        CLIPTextModel(full)(torch.zeros(1, TOKENS, dtype=torch.long))
    return 2 * captions * counted.get_total_flops() / measured_rate(torch.get_num_threads())


def rows_of(captions: int | None = None, repeat: int | None = None, quick: bool = False) -> list[Row]:
    """All rows; quick: few captions and a small encoder in place of the large one, to see that it works."""
    import torch

    from zoo.registry import WEIGHTS

    captions, repeat = captions or (32 if quick else 1000), repeat or (1 if quick else 3)
    target = FASTER_ON_GPU if torch.cuda.is_available() else FASTER_ON_CPU
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        size = "small encoder" if quick else "encoder of ViT-L/14's size"
        large = build_encoder(Path(scratch, "encoder"), SMALL if quick else VIT_L)
        rows += faster(
            f"embed {captions} a side, {size}", "encoder", large, captions, repeat, target, rounded=True
        )
        if not torch.cuda.is_available():
            limit = least(SMALL if quick else VIT_L, captions)
            rows.append(measured(f"embed {captions} a side, {size}: the least possible", limit, "s"))
            rows.append(
                measured(f"embed {captions} a side, {size}: times faster at most", rows[0].value / limit, "×")
            )
        if (WEIGHTS / "captions").is_dir() and (WEIGHTS / "diffusion" / "text_encoder").is_dir():
            name = f"write and embed {captions} a side, embedded models"
            rows += faster(name, "embedded", "", captions, repeat, target)
            rows += rounding(captions)
        else:
            print("the embedded models are not in zoo/weights: left out", file=sys.stderr)
        small = build_encoder(Path(scratch, "small"), SMALL)
        few, many = captions, 10 * captions
        memory = [measure("ours", "encoder", small, count)["memory"] for count in (few, many)]
    rows.append(measured(f"peak memory, {few} captions a side", memory[0], "MiB"))
    rows.append(at_most(f"peak memory of {many} over {few}", memory[1] / memory[0], "×", MEMORY_GROWTH))
    return rows


def main(given: list[str] | None = None) -> int:
    """Run it and print the table; 1 when a target is missed."""
    parser = arguments("Discovery against the documentation's loop.")
    parser.add_argument("--captions", type=int, help="a side [1000; quick: 32]")
    parser.add_argument("--repeat", type=int, help="runs of each, of which the median counts [3; quick: 1]")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.work:
        who, what, where, count = options.work
        print(json.dumps(work(who, what, where, int(count))))
        return 0
    return report(rows_of(options.captions, options.repeat, options.quick), options.json)


if __name__ == "__main__":
    sys.exit(main())
