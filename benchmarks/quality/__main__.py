"""Edit quality of every method on the same pictures, with the same models and steps: docs/quality.md.

python -m benchmarks.quality                                     # four tasks on the embedded models
python -m benchmarks.quality --synthetic                         # the same on pictures made from prompts
python -m benchmarks.quality --models sd-1.4 --dataset FOLDER --source cat --target dog
python -m benchmarks.quality --models sd-1.4 --dataset pie-bench FOLDER
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.quality.options import chosen, parsed, passed_on
from benchmarks.report import machine, report

if TYPE_CHECKING:
    from benchmarks.quality.measures import Measure
    from benchmarks.quality.methods import Method
    from benchmarks.quality.report import Costs
    from benchmarks.quality.runs import Cell, Results
    from benchmarks.quality.tasks import Task
    from editor.session import Editor


def tasks_of(editor: Editor, options: argparse.Namespace) -> list[Task]:
    """The tasks of the chosen data set."""
    from benchmarks.quality import pie_bench, tasks

    if options.pie:
        return [pie_bench.pie_task(editor, options.pie, options.pictures)]
    if options.folder:
        words = (options.source, options.target)
        return [tasks.folder_task(editor, options.folder, *words, options.pictures)]
    make = tasks.synthetic_tasks if options.synthetic else tasks.scene_tasks
    return make(editor, options.pictures)


def measure_of(editor: Editor, options: argparse.Namespace) -> tuple[Measure, list[str]]:
    """What judges the edits, and notes about what it lacks."""
    from benchmarks.quality import backbones, measures, pie_bench

    if not options.dataset:
        from zoo.recipe.judge import load_judge

        return measures.SceneMeasure(load_judge()), []
    kind = pie_bench.PieMeasure if options.pie else measures.FolderMeasure
    networks = backbones.Backbones(
        editor.device,
        clip=options.clip or kind.clip,
        dino=options.dino or backbones.DINO_B8,
        lpips=kind.lpips,
        without=options.without,
        lenient=options.pie is not None,
    )
    networks.load_all()
    return kind(networks), networks.notes


def costs_of(
    methods: Sequence[Method],
    wanted: Sequence[Method],
    results: Results,
    options: argparse.Namespace,
    common: Mapping[str, Any],
) -> Costs:
    """What each method costs: of the wanted ones measured where that is not known yet, else what is known."""
    from benchmarks.quality.costs import of_own_process
    from benchmarks.quality.runs import digest

    where = re.sub(r", load [\d.]+", "", machine())
    found = {}
    for method in methods:
        what = {
            **common,
            "cost of": method.name,
            "settings": dict(method.settings),
            "value": method.values[0],
            "machine": where,
            "threads": options.threads,
        }
        key = digest(what)
        if key not in results and method in wanted and not (options.no_costs or options.quick):
            results.add({"key": key, "what": what, "costs": of_own_process(method.name, passed_on(options))})
        if key in results:
            found[method.name] = results.records[key]["costs"]
    return found


def notes_of(results: Results, cells: Sequence[Cell], options: argparse.Namespace) -> list[str]:
    """What a reader of the table has to know."""
    from benchmarks.quality.methods import has_peer

    codes = {results.records[cell.key]["code"] for cell in cells if cell.key in results}
    threads = f", {options.threads} threads" if options.threads else ""
    notes = [f"models {options.models}, {options.steps} steps, batches of {options.batch}{threads}"]
    if len(codes) > 1:
        notes.append(f"the results come from {len(codes)} versions of the code; for one, use a new --output")
    if not has_peer():
        notes.append("this diffusers no longer has the deprecated pipeline: the peer is left out")
    return notes


def compare(options: argparse.Namespace) -> int:
    """Run what is missing, write the tables, plot and sheet, and print; 1 when a claim is missed."""
    from benchmarks.quality import plots
    from benchmarks.quality.costs import measure_costs
    from benchmarks.quality.methods import DEFAULT_NAME, RIVALS, all_methods
    from benchmarks.quality.report import Report
    from benchmarks.quality.runs import Results, identity, plan, run_cells
    from benchmarks.quality.summary import Summary, claims
    from editor.session import Editor
    from zoo.registry import resolve

    editor = Editor(options.models)
    methods, tasks = all_methods(editor, options.synthetic), tasks_of(editor, options)
    if options.cost_of:
        (method,) = chosen([options.cost_of], methods, "method")
        print(json.dumps(measure_costs(editor, tasks[0], method, options.steps)))
        return 0
    wanted, wanted_tasks = (
        chosen(options.only_method, methods, "method"),
        chosen(options.only_task, tasks, "task"),
    )
    measure, missing = measure_of(editor, options)
    common = {
        "models": identity(resolve(options.models)),
        "measure": dict(measure.identity()),
        "steps": options.steps,
        "synthetic": options.synthetic,
    }
    results = Results(options.output)
    cells = plan(tasks, methods, common, options.batch, options.curve_pictures)
    shown = plots.shown_pictures({task.name: task.keys for task in tasks})
    run_cells(
        [cell for cell in cells if cell.task in wanted_tasks and cell.method in wanted],
        results,
        editor,
        measure,
        options.steps,
        shown,
    )
    costs = costs_of(methods, wanted, results, options, common)
    summary, names = Summary(results, cells), [task.name for task in tasks]
    promised = not (options.quick or options.synthetic or options.dataset)
    rows = claims(summary, names) if promised else []
    notes = notes_of(results, cells, options) + missing
    made = Report(summary, names, methods, measure.figures, costs, rows, notes)
    made.write(options.output)
    plots.tradeoff(summary, names, methods, measure.height, measure.against, options.output / "tradeoff.png")
    few = [method for method in methods if method.name in (*RIVALS, DEFAULT_NAME)]
    for name, rows_of in (("sheet.png", methods), ("rivals.png", few)):
        sheet = plots.sheet(results, cells, shown, rows_of)
        if sheet is not None:
            sheet.save(options.output / name, optimize=True)
    print(made.markdown())
    return report(rows, options.json, notes[0])


def main(given: Sequence[str] | None = None) -> int:
    """`compare` with the options of the command line; a known failure is one line on stderr."""
    options = parsed(given)
    import torch

    from library.errors import DirectionsError

    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        return compare(options)
    except DirectionsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
