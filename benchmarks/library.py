"""What the library costs at scale: `python -m benchmarks.library` builds 100,000 versions and measures.

Whole cold processes are timed from start to exit (with the files in the page cache); figures are medians.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Row, arguments, at_most, environment, measured, report
from library import Direction, Library
from library.fileformat import encode
from library.index import INDEX_FILE
from library.records import for_saving

ENCODER = "clip-tiny-0123abcd"
VERSIONS, QUICK_VERSIONS = 100_000, 2_000
VERSIONS_PER_NAME = 10
CAPTIONS = 10  # a side
SHAPE = (16, 32)
WORDS = (
    *("small", "large", "red", "quiet", "old", "bright", "sleepy", "happy", "lonely"),
    *("garden", "beach", "street", "hill", "river", "snow", "field"),
)


@dataclass(frozen=True)
class Run:
    """One finished process: seconds from start to exit and the most memory it held."""

    seconds: float
    megabytes: float


def build(folder: Path, count: int) -> None:
    """Write `count` versions without syncing each: only their content matters here."""
    generator = np.random.default_rng(0)
    chooser = random.Random(0)
    for number in range(-(-count // VERSIONS_PER_NAME)):
        source, target = f"thing{number}", f"other{number}"
        name = f"{source}2{target}"
        leaf = folder / name / ENCODER
        leaf.mkdir(parents=True)
        for version in range(1, VERSIONS_PER_NAME + 1):
            captions = {
                side: [
                    f"a {chooser.choice(WORDS)} {side} on the {chooser.choice(WORDS)}"
                    for _ in range(CAPTIONS)
                ]
                for side in (source, target)
            }
            record = {
                "captions": {"source": captions[source], "target": captions[target]},
                "created": f"2025-01-{version:02}T12:00:00Z",
                "generation": {"seed": version},
                "models": {"name": "embedded"},
                "quality": {"agreement": chooser.random()},
                "tags": [chooser.choice(WORDS)],
            }
            tensor = generator.normal(size=SHAPE).astype(np.float32)
            direction = Direction(name, tensor, ENCODER, source, target, record=record)
            content, _ = encode({"direction": tensor}, for_saving(direction, "") | {"version": version})
            (leaf / f"v{version:04d}.safetensors").write_bytes(content)


def run(folder: Path, *words: str) -> Run:
    """`directions` with these words as a whole process."""
    command = [sys.executable, "-m", "library", "--library", str(folder), *words]
    variables = environment(DIRECTIONS_PATH="", COLUMNS="120")
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=variables)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(
            f"{' '.join(command)} failed: {process.stderr.read().decode() if process.stderr else ''}"
        )
    return Run(seconds, usage.ru_maxrss / 1024)


def median_run(folder: Path, times: int, *words: str) -> Run:
    """The median time and the most memory of several runs."""
    runs = [run(folder, *words) for _ in range(times)]
    return Run(statistics.median(r.seconds for r in runs), max(r.megabytes for r in runs))


def median_call(calls: Sequence[Callable[[], object]]) -> float:
    """The median seconds of one call."""
    seconds = []
    for call in calls:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(folder: Path, count: int, times: int) -> list[Row]:
    """All figures for a library of `count` versions at `folder`."""
    start = time.perf_counter()
    build(folder, count)
    built = time.perf_counter() - start
    rebuild = run(folder)
    again = run(folder)
    time.sleep(2.5)  # folders written a moment ago are looked at twice; then they are settled
    run(folder)
    page = median_run(folder, times)
    newest = median_run(folder, times, "--sort", "created")
    common = median_run(folder, times, "search", "garden")
    rare = median_run(folder, times, "search", f"thing{count // VERSIONS_PER_NAME // 2}")
    everything = run(folder, "--all", "--json")

    library = Library(folder, search_path=())
    chooser = random.Random(1)
    names = [f"thing{n}2other{n}" for n in range(count // VERSIONS_PER_NAME)]
    refs = [f"{chooser.choice(names)}@{chooser.randint(1, VERSIONS_PER_NAME)}" for _ in range(100 * times)]
    load = median_call([lambda ref=ref: library.load(ref) for ref in refs])  # type: ignore[misc]
    direction = library.load(refs[0])
    save = median_call([lambda: library.save(direction)] * (20 * times))
    after_save = run(folder)
    large = Direction("large", np.ones((77, 768)), ENCODER, source_embedding=np.ones((77, 768)),
                      target_embedding=np.zeros((77, 768)))  # fmt: skip
    save_large = median_call([lambda: library.save(large)] * (10 * times))
    load_large = median_call([lambda: library.load("large")] * (10 * times))
    (folder / INDEX_FILE).write_bytes(os.urandom(1_000_000))
    damaged = run(folder)
    index = (folder / INDEX_FILE).stat().st_size / 1e6
    return [
        measured("versions", count, ""),
        measured("building the files", built, "s"),
        at_most("rebuild of the index, whole process", rebuild.seconds, "s", 60),
        at_most("the same from a damaged index", damaged.seconds, "s", 60),
        measured("memory of a rebuild", rebuild.megabytes, "MB"),
        measured("size of the index", index, "MB"),
        measured("`directions` right after all was written", again.seconds, "s"),
        at_most("`directions`, first page", page.seconds, "s", 0.5),
        at_most("`directions --sort created`", newest.seconds, "s", 0.5),
        at_most("`directions search`, a word of many", common.seconds, "s", 0.6),
        at_most("`directions search`, a name", rare.seconds, "s", 0.6),
        at_most("memory of a listing", max(page.megabytes, newest.megabytes, common.megabytes), "MB", 150),
        measured("`directions --all --json`, every version", everything.seconds, "s"),
        at_most("memory of listing every version", everything.megabytes, "MB", 150),
        at_most("`directions` after saves", after_save.seconds, "s", 0.5),
        at_most("Library.load", 1000 * load, "ms", 5),
        at_most("Library.save", 1000 * save, "ms", 25),
        at_most("Library.load, SD-sized with both embeddings", 1000 * load_large, "ms", 5),
        at_most("Library.save, SD-sized with both embeddings", 1000 * save_large, "ms", 25),
    ]


def rows_of(versions: int | None = None, quick: bool = False, place: Path | None = None) -> list[Row]:
    """All rows, of a library of so many versions that is built for it in a temporary folder (in `place`)."""
    count = versions or (QUICK_VERSIONS if quick else VERSIONS)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        return measure(Path(folder) / "library", count, 1 if quick else 7)


def main() -> int:
    """Parse, measure in a temporary folder, report."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--versions", type=int, help=f"how many [{VERSIONS}; quick: {QUICK_VERSIONS}]")
    parser.add_argument("--folder", type=Path, help="where to build it [a temporary folder]")
    options = parser.parse_args()
    rows = rows_of(options.versions, options.quick, options.folder)
    return report(rows, options.json, f"{VERSIONS_PER_NAME} versions a name, {CAPTIONS} captions a side")


if __name__ == "__main__":
    sys.exit(main())
