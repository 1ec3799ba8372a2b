"""What an edit costs: beside the peer, beside what its arithmetic must cost, and as the task grows.

    python -m benchmarks.speed                       # everything, into benchmarks/results
    python -m benchmarks.speed --only sd --only cold # some parts; the others stay as they were measured
    python -m benchmarks.speed --quick               # tiny, to see that it works; writes nothing unless told

Every figure is the median of runs in processes of their own, peer and ours in turn; see docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.report import arguments, report
from benchmarks.speed.job import Job
from benchmarks.speed.limit import matrix_rate
from benchmarks.speed.parts import PARTS
from benchmarks.speed.results import keep, stage_lines
from benchmarks.speed.work import rounds, work

RESULTS = Path(__file__).parents[1] / "results"
REPEATS = 5


def main() -> int:
    parser = arguments("What an edit costs, beside the peer and beside what it must cost.")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="a part; may be repeated [all]")
    parser.add_argument("--repeats", type=int, help=f"runs of each, of which the median counts [{REPEATS}]")
    parser.add_argument("--threads", type=int, default=1, help="processor threads [1]")
    parser.add_argument(
        "--output", type=Path, help=f"folder for table and plot [{RESULTS.name}; quick: none]"
    )
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--standing", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rate", metavar="DEVICE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        job = Job(**options.worker)
        if not options.standing:
            print(json.dumps(work(job)))
            return 0
        figures = rounds(job)
        for _ in sys.stdin:
            print(json.dumps(next(figures)), flush=True)
        return 0
    if options.rate:
        print(matrix_rate(options.threads, options.rate))
        return 0
    options.repeats = options.repeats or (1 if options.quick else REPEATS)
    output = options.output or (None if options.quick else RESULTS)
    rows = []
    for name in [part for part in PARTS if not options.only or part in options.only]:
        section = PARTS[name](options)
        rows += section.rows
        for title, table in section.stages.items():
            print(f"{title}\n" + "\n".join(stage_lines(table)), end="\n\n", flush=True)
        if section.note:
            print(f"{name}: {section.note}\n")
        if output:
            keep(name, section, output, f"{options.repeats} runs, {options.threads} threads")
    return report(rows, options.json, f"median of {options.repeats}, {options.threads} threads")


if __name__ == "__main__":
    sys.exit(main())
