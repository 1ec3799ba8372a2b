"""Jobs run in turn, round after round, and what the medians of their rounds say."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from benchmarks.speed.job import Job
from benchmarks.speed.work import work

#: A job's figures of one round, as `benchmarks.speed.work.work` gives them.
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Runs:
    """A job and the figures of its rounds."""

    job: Job
    figures: tuple[Figures, ...]

    @property
    def seconds(self) -> float:
        """Of inversion and edit together."""
        return median(round_["invert"] + round_["edit"] for round_ in self.figures)

    @property
    def edit_seconds(self) -> float:
        return median(round_["edit"] for round_ in self.figures)

    @property
    def peak(self) -> float:
        """Bytes above the weights."""
        return median(round_["peak"] for round_ in self.figures)

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows that the UNet evaluated, by stage; the same in every round."""
        return self.figures[-1]["rows"]

    def stage(self, name: str) -> float | None:
        """Seconds of a stage, None where this job has no such stage."""
        found = [round_["stages"][name] for round_ in self.figures if name in round_["stages"]]
        return median(found) if found else None


def in_turn(jobs: Mapping[str, Job], options: Namespace) -> dict[str, Runs]:
    """Every job once, then every job again, so that a machine that slows down slows all of them.

    Each run is a process of its own, but for a quick one, where starting them would be most of the work; on a GPU,
    which takes long to get ready, each job is a process for all its rounds.
    """
    with ExitStack() as stack:

        def runner(job: Job) -> Callable[[], Figures]:
            if options.quick:
                return partial(work, job)
            return job.run if job.device == "cpu" else stack.enter_context(job.standing())

        runs = {name: runner(job) for name, job in jobs.items()}
        rounds = [{name: run() for name, run in runs.items()} for _ in range(options.repeats)]
    return {name: Runs(job, tuple(found[name] for found in rounds)) for name, job in jobs.items()}
