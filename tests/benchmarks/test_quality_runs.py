"""The command from end to end: quick, interrupted, resumed; the tables and the claims."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.quality.__main__ import main
from benchmarks.quality.figures import Interval
from benchmarks.quality.measures import ACCURACY, MSE, STRUCTURE
from benchmarks.quality.methods import DEFAULT_NAME, FAST_NAME, RIVALS, Method
from benchmarks.quality.options import parsed
from benchmarks.quality.plots import tradeoff
from benchmarks.quality.report import cell
from benchmarks.quality.runs import Results, plan
from benchmarks.quality.summary import Place, Summary, claims, share
from benchmarks.quality.tasks import Task

TASKS = ("cat → dog", "horse → zebra")


def method(name: str, values: tuple[float, ...] = (1.0,), **settings: Any) -> Method:
    return Method(name, "strength", values, lambda batch, value: None, settings)  # type: ignore[arg-type, return-value]


def test_quick_run_is_resumed(
    tmp_path: Path, quick_directions: None, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--quick", "--output", str(tmp_path), "--only-task", "cat → dog", "--only-method", "published"]
    assert main(given) == 0
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(lines) == 1 and len(json.loads(lines[0])["pictures"]) == 2
    (tmp_path / "results.jsonl").write_text(lines[0] + "\n" + lines[0][:100])  # cut short in the second line
    rows = tmp_path / "rows.json"
    assert main([*given, "--only-method", "SDEdit + word swap", "--json", str(rows)]) == 0
    again = (tmp_path / "results.jsonl").read_text().splitlines()
    assert again[0] == lines[0] and len(again) == 3
    assert json.loads(again[2])["what"]["method"] == "SDEdit + word swap"
    shown = capsys.readouterr().out
    text = (tmp_path / "table.md").read_text()
    assert text in shown and "## cat → dog" in text and "## horse → zebra" not in text
    assert "| published | strength 1 |" in text and "100.0% of the captions name the source" in text
    with (tmp_path / "table.csv").open() as file:
        table = {(row["method"], row["figure"]): row for row in csv.DictReader(file)}
    row = table["published", "structure"]
    assert float(row["low"]) <= float(row["mean"]) <= float(row["high"]) and row["pictures"] == "2"
    assert ("SDEdit + word swap", "reconstruction_psnr") not in table
    whole = json.loads((tmp_path / "table.json").read_text())
    assert whole["machine"] and whole["date"] and len(whole["results"]) == len(table)
    assert json.loads(rows.read_text()) == []  # two pictures promise nothing
    with Image.open(tmp_path / "tradeoff.png") as plot, Image.open(tmp_path / "sheet.png") as sheet:
        assert plot.width > 500 and sheet.height > 3 * 192 and sheet.width > 2 * 192


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--only-method", "magic", "--quick"], "no method is called 'magic'; there are: SDEdit"),
        (["--dataset", "a", "b"], "takes one folder"),
        (["--dataset", "a"], "needs --source WORD and --target WORD"),
        (["--synthetic", "--dataset", "pie-bench", "a"], "leave --dataset out"),
    ],
)
def test_mistakes_are_one_line(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*given, "--output", str(tmp_path)])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_plan_and_keys() -> None:
    task = Task("t", tuple("abcde"), lambda numbers: [])
    curve, single = method("curve", (1.0, 0.5)), method("single")
    cells = plan([task], [curve, single], {"steps": 2}, 2, curve_pictures=2)
    assert [(c.method.name, c.value, c.numbers) for c in cells] == [
        ("curve", 1.0, (0, 1)), ("curve", 0.5, (0, 1)), ("single", 1.0, (0, 1)),
        ("curve", 1.0, (2, 3)), ("single", 1.0, (2, 3)), ("curve", 1.0, (4,)), ("single", 1.0, (4,)),
    ]  # fmt: skip
    assert len({c.key for c in cells}) == len(cells)
    same = plan([task], [curve, single], {"steps": 2}, 2, curve_pictures=0)
    assert {c.key for c in same} < {c.key for c in cells}
    other = plan([task], [method("curve", (1.0, 0.5), λ=0.1), single], {"steps": 3}, 2, curve_pictures=2)
    assert not {c.key for c in cells} & {c.key for c in other}


def summary_of(tmp_path: Path, figures: dict[tuple[str, str], tuple[float, float, float]]) -> Summary:
    """A summary of twenty like pictures a place, with these accuracies, structure distances and errors."""
    summary = Summary(Results(tmp_path), [])
    for (task, name), (accuracy, structure, error) in figures.items():
        summary.main[name] = 1.0
        summary.pictures[Place(task, name, 1.0)] = {
            str(n): {
                ACCURACY.key: float(n < 20 * accuracy), STRUCTURE.key: structure * (1 + n / 100),
                MSE.key: error * (1 + n / 100),
            }
            for n in range(20)
        }  # fmt: skip
    return summary


def test_claims(tmp_path: Path) -> None:
    good = {(task, name): (0.8, 0.02, 0.004) for task in TASKS for name in RIVALS}
    good |= {(task, DEFAULT_NAME): (1.0, 0.01, 0.001) for task in TASKS}
    rows = claims(summary_of(tmp_path, good), TASKS)
    assert len(rows) == 3 * 2 + 4 and all(row.holds for row in rows)
    leads = next(row for row in rows if "leads every other" in row.name)
    assert leads.value == 2
    worse = {
        **good,
        (TASKS[0], DEFAULT_NAME): (1.0, 0.03, 0.001),
        (TASKS[1], "published"): (0.8, 0.05, 0.004),
    }
    held = {row.name.partition(" (")[0]: row for row in claims(summary_of(tmp_path, worse), TASKS)}
    assert held["tasks of 2 in which the default leads every other method in all three"].holds is False
    bad = next(row for name, row in held.items() if name.startswith("figures in which"))
    assert bad.value == 1 and bad.holds is False and f"{TASKS[0]}, structure" in bad.name
    assert held[f"{TASKS[1]}: published, ours within the peer's interval: {STRUCTURE.title}"].holds is False
    fewer = summary_of(tmp_path, good)
    places = [Place(TASKS[0], name, 1.0) for name in ("published", "peer")]
    fewer.pictures[places[1]].pop("19")
    fewer.pictures[places[0]]["19"] = {ACCURACY.key: 0.0, STRUCTURE.key: 9.0, MSE.key: 9.0}
    alike = [row for row in claims(fewer, TASKS) if row.name.startswith(f"{TASKS[0]}: published, ours")]
    assert len(alike) == 3 and all(row.holds for row in alike), "judged on the pictures that both edited"
    fast = {**good, **{(task, FAST_NAME): (0.5, 0.01, 0.001) for task in TASKS}}
    said = next(row for row in claims(summary_of(tmp_path, fast), TASKS) if FAST_NAME in row.name)
    assert said.value == 2 and said.holds is False and f"{TASKS[1]}, {ACCURACY.title}" in said.name
    assert not claims(Summary(Results(tmp_path), []), TASKS)


def test_cells_as_people_read_them() -> None:
    assert cell(Interval(0.924, 0.891, 0.956, 250), ACCURACY) == "92.4 [89.1, 95.6]"
    assert cell(None, ACCURACY) == "–"


def test_every_kind_of_run_has_a_folder_of_its_own() -> None:
    folder = ["--dataset", "some/cats", "--source", "cat", "--target", "dog"]
    kinds = ([], ["--quick"], ["--synthetic"], folder, ["--dataset", "pie-bench", "x"], [*folder, "--quick"])
    found = [parsed(given).output.name for given in kinds]
    assert found == [
        "quality", "quality-quick", "quality-synthetic", "quality-cats-cat2dog", "quality-pie-bench",
        "quality-cats-cat2dog-quick",
    ]  # fmt: skip


def test_a_share_is_over_all_pictures_of_a_task() -> None:
    summary = Summary.__new__(Summary)
    few, all_of_them = {"1": {"captioned": 1.0}}, {"1": {"captioned": 1.0}, "2": {"captioned": 0.0}}
    summary.pictures = {
        Place("a", "x", 1.0): all_of_them,
        Place("a", "x", 0.5): few,
        Place("b", "x", 1.0): {"1": {}},
    }
    assert share(summary, "captioned") == {"a": 0.5}


def test_the_plot_leaves_out_what_was_not_measured(tmp_path: Path) -> None:
    """Synthetic pictures have no ground truth, so that nothing is known of their background."""
    summary, heights = Summary(Results(tmp_path), []), []
    methods = [Method("default", "strength", (1.0,), lambda *_: [])]
    found: dict[str, float] = {"accuracy": 1.0, "structure": 0.1}
    for more in ({}, {"background_mse": 0.01}):
        summary.pictures = {Place("t", "default", 1.0): {"1": {**found, **more}}}
        assert tradeoff(summary, ["t"], methods, ACCURACY, (STRUCTURE, MSE), tmp_path / "plot.png")
        with Image.open(tmp_path / "plot.png") as plot:
            heights.append(plot.height)
    assert heights[1] == 2 * heights[0]
    summary.pictures = {Place("t", "default", 1.0): {"1": {"accuracy": 1.0}}}
    assert not tradeoff(summary, ["t"], methods, ACCURACY, (STRUCTURE, MSE), tmp_path / "plot.png")
