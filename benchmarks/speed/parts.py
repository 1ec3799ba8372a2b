"""The parts of the benchmark: each runs its jobs and says what came out, as rows and as tables of stages."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import MEBIBYTE
from benchmarks.report import Row, at_least, at_most, measured
from benchmarks.speed.cold import cold
from benchmarks.speed.growth import Curves, grow
from benchmarks.speed.job import EMBEDDED, PEER_NAME, SD, TINY, Job
from benchmarks.speed.limit import costs_of, flops, matrix_rate, measured_rate
from benchmarks.speed.runs import Runs, in_turn
from benchmarks.speed.stages import STAGES
from benchmarks.speed.without import EXACT, ON_GPU, OPTIONS
from benchmarks.speed.work import settings_of
from editor.presets import PRESETS

REFERENCE, BALANCED, FAST = PRESETS
#: Relative L2 distance of the edits' latents, peer and `reference`.
LATENTS_LIMIT = 1e-4
SHARE_LIMIT = 0.5
MANY = 8
NO_GPU = "skipped: torch finds no GPU here"
#: Stage → seconds of each method; a table's title comes first.
StageTable = dict[str, dict[str, float]]


@dataclass
class Section:
    """What a part has to say. note: why there is nothing, where there is nothing."""

    rows: list[Row] = field(default_factory=list)
    stages: dict[str, StageTable] = field(default_factory=dict)
    curves: Curves | None = None
    note: str = ""


def embedded(options: Namespace) -> Section:
    """The embedded models from 64 to 128 pixels, 50 steps, one processor thread."""
    section = Section()
    for size in (64,) if options.quick else (64, 128):
        job = Job(PEER_NAME, EMBEDDED, size, 2 if options.quick else 50, threads=options.threads)
        _beside_peer(section, job, options, {REFERENCE: 0.40})
    return section


def sd(options: Namespace) -> Section:
    """Stable Diffusion 1.4's architecture with random weights, 256 pixels, 4 steps."""
    section = Section()
    job = Job(PEER_NAME, SD, 256, 4, threads=options.threads)
    if options.quick:
        job = Job(PEER_NAME, TINY, 64, 2, threads=options.threads)
    _beside_peer(section, job, options, {REFERENCE: 0.50, FAST: 0.20})
    return section


def gpu(options: Namespace) -> Section:
    """Stable Diffusion 1.4's architecture on a GPU: 512 pixels, 50 steps, float16 weights; the peer in float32."""
    import torch

    if not torch.cuda.is_available():
        return Section(note=NO_GPU)
    section = Section()
    job = Job(PEER_NAME, SD, 512, 50, threads=options.threads, device="cuda")
    if options.quick:
        job = replace(job, models=TINY, size=64, steps=2)
    runs = _beside_peer(section, job, options, {REFERENCE: 0.25}, half=True)
    if not options.quick:
        section.rows += [
            at_most(f"{_name(job)}: {REFERENCE}, an edit", runs[REFERENCE].seconds, "s", 4),
            at_most(f"{_name(job)}: {FAST}, an edit", runs[FAST].seconds, "s", 1.5),
            at_most(f"{_name(job)}: {REFERENCE}, GPU memory", runs[REFERENCE].peak / 1e9, "GB", 8),
        ]
    return section


def gpu_optimisations(options: Namespace) -> Section:
    """`optimisations` of what a GPU alone gains by."""
    import torch

    if not torch.cuda.is_available():
        return Section(note=NO_GPU)
    job = Job(REFERENCE, SD, 512, 20, threads=options.threads, device="cuda", half=True)
    section = Section()
    _without(section, replace(job, models=TINY, size=64, steps=4) if options.quick else job, ON_GPU, options)
    return section


def directions(options: Namespace) -> Section:
    """Further edits of a picture that is inverted already, in the preset `balanced`."""
    job = Job(BALANCED, EMBEDDED, 64, 2 if options.quick else 50, threads=options.threads)
    runs = in_turn({"one": job, "many": replace(job, directions=MANY)}, options)
    whole = runs["one"].seconds
    further = (runs["many"].edit_seconds - runs["one"].edit_seconds) / (MANY - 1)
    rows = [
        measured("directions: inversion and one edit", whole, "s"),
        measured("directions: an edit of an inverted picture, alone", runs["one"].edit_seconds / whole, "×"),
        _promise(options, "directions: each further one in a batch", further / whole, "×", 0.6),
        _promise(options, f"directions: {MANY} in one batch", runs["many"].edit_seconds / whole, "×", 4.0),
    ]
    return Section(rows)


def optimisations(options: Namespace) -> Section:
    """What each optimisation is worth: the same run without it."""
    section = Section()
    small = Job(REFERENCE, EMBEDDED, 64, 2 if options.quick else 20, threads=options.threads)
    large = replace(small, models=SD, size=256, steps=2)
    for job, names in (
        (small, EXACT),
        (replace(small, who=BALANCED), OPTIONS),
        *(() if options.quick else ((large, ("caption row", "input gradient", "products")),)),
    ):
        _without(section, job, names, options)
    return section


def _without(section: Section, job: Job, names: Iterable[str], options: Namespace) -> None:
    """Add what the job costs with everything, and without one thing at a time."""
    jobs = {"all": job, **{f"without {name}": replace(job, without=name) for name in names}}
    runs = in_turn(jobs, options)
    title = f"{_name(job)}, {job.who}"
    for who in list(jobs)[1:]:
        times = runs[who].seconds / runs["all"].seconds
        memory = runs[who].peak / max(runs["all"].peak, 1)
        section.rows += [
            measured(f"{title}, {who}: time", times, "×"),
            measured(f"{title}, {who}: {_memory(job)}", memory, "×"),
        ]
    section.stages[title] = _stages(runs)


def _memory(job: Job) -> str:
    return "memory above the weights" if job.device == "cpu" else "GPU memory, weights included"


def cold_start(options: Namespace) -> Section:
    """`edit-image` on the embedded models from nothing."""
    whole, imports = (
        median(seconds) for seconds in zip(*(cold() for _ in range(options.repeats)), strict=True)
    )
    return Section(
        [
            _promise(options, "cold edit-image: until the first denoising step", whole, "s", 6),
            _promise(options, "cold edit-image: of which imports", imports, "s", 4),
        ]
    )


def growth(options: Namespace) -> Section:
    """Time and memory against steps, size, directions and pictures."""
    curves = grow(options)
    rows = [
        measured(f"growth: {what} ∝ {axis} to the power of", power, "")
        for (axis, what), power in curves.powers().items()
    ]
    return Section(rows, curves=curves)


def library(options: Namespace) -> Section:
    """`benchmarks.library`: a library of 100,000 versions."""
    from benchmarks.library import rows_of

    return Section(rows_of(quick=options.quick))


def discovery(options: Namespace) -> Section:
    """`benchmarks.discovery`: 1000 captions a side, beside the documentation's loop, with all threads on both sides."""
    from benchmarks.discovery import rows_of

    return Section(rows_of(quick=options.quick, repeat=min(options.repeats, 3)))


#: In the order in which they run.
PARTS: dict[str, Callable[[Namespace], Section]] = {
    "embedded": embedded,
    "sd": sd,
    "directions": directions,
    "optimisations": optimisations,
    "cold": cold_start,
    "growth": growth,
    "library": library,
    "discovery": discovery,
    "gpu": gpu,
    "gpu-optimisations": gpu_optimisations,
}


def _beside_peer(
    section: Section, job: Job, options: Namespace, promised: dict[str, float], half: bool = False
) -> dict[str, Runs]:
    """Peer, `reference` and `fast` in turn; adds their rows and stages. `promised`: preset → part of the peer."""
    name = _name(job)
    part = PRESETS[FAST]["steps"] / PRESETS[REFERENCE]["steps"]
    with tempfile.TemporaryDirectory() as folder:
        theirs, mine = (str(Path(folder) / f"{who}.safetensors") for who in (PEER_NAME, REFERENCE))
        jobs = {
            PEER_NAME: replace(job, latents=theirs),
            REFERENCE: replace(job, who=REFERENCE, half=half, latents=mine),
            FAST: replace(job, who=FAST, half=half, steps=max(1, round(part * job.steps))),
        }
        runs = in_turn(jobs, options)
        distance = _distance(mine, theirs)
    rate_of = matrix_rate if options.quick else measured_rate
    rate = max(
        rate_of(options.threads, job.device) for _ in range(options.repeats if job.device == "cpu" else 1)
    )
    rows = [measured(f"{name}: {who}", runs[who].seconds, "s") for who in runs]
    held = "peak above the weights" if job.device == "cpu" else _memory(job)
    rows += [measured(f"{name}: {who}, {held}", runs[who].peak / MEBIBYTE, "MiB") for who in runs]
    for who in (REFERENCE, FAST):
        ratio = runs[who].seconds / runs[PEER_NAME].seconds
        title = f"{name}: {who} / peer"
        rows.append(
            _promise(options, title, ratio, "×", promised[who])
            if who in promised
            else measured(title, ratio, "×")
        )
        settings = settings_of(who, jobs[who].steps)[0]
        least = flops(settings, costs_of(job.models, job.size, settings.attention_resolution)) / rate
        rows.append(measured(f"{name}: {who}, the least possible", least, "s"))
        title = f"{name}: {who}, share of the limit"
        share = least / runs[who].seconds
        promise = job.device == "cpu" and not options.quick
        rows.append(at_least(title, share, "", SHARE_LIMIT) if promise else measured(title, share, ""))
    title = f"{name}: relative L2 of the edit's latents, {REFERENCE} to peer"
    rows.append(measured(title, distance, "") if half else at_most(title, distance, "", LATENTS_LIMIT))
    rows.append(measured(f"{name}: the matrix rate", rate / 1e9, "GFLOP/s"))
    section.rows += rows
    section.stages[name] = _stages(runs)
    return runs


def _stages(runs: Mapping[str, Runs]) -> StageTable:
    return {
        stage: {who: seconds for who, run in runs.items() if (seconds := run.stage(stage)) is not None}
        for stage in STAGES
    }


def _promise(options: Namespace, name: str, value: float, unit: str, limit: float) -> Row:
    """On a quick run the fixed costs of Python decide: nothing is promised there."""
    return measured(name, value, unit) if options.quick else at_most(name, value, unit, limit)


def _name(job: Job) -> str:
    where = "" if job.device == "cpu" else " GPU"
    return f"{job.models}{where} {job.size} px, {job.steps} steps"


def _distance(one: str, other: str) -> float:
    from safetensors.torch import load_file

    mine, theirs = (load_file(file)["edit"] for file in (one, other))
    distance: Any = (mine - theirs).norm() / theirs.norm()
    return float(distance)
