"""The benchmark of speed: what it counts is what happens, and every part of it runs."""

from __future__ import annotations

import importlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.processes import random_models
from benchmarks.quality.methods import has_peer
from benchmarks.report import at_most, measured
from benchmarks.speed import __main__ as speed
from benchmarks.speed import work as working
from benchmarks.speed.cold import run_until_first_step, timed_imports
from benchmarks.speed.growth import Curves
from benchmarks.speed.job import CONFIGS, TINY, Job
from benchmarks.speed.limit import costs_of, flops, rows_needed
from benchmarks.speed.parts import Section
from benchmarks.speed.results import keep
from benchmarks.speed.stages import BACKWARD, STAGES, watched
from benchmarks.speed.without import EXACT, OPTIONS
from editor.presets import PRESETS
from editor.session import Editor
from editor.settings import EditSettings

STEPS = 3


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["speed", "--quick", *arguments])
    return speed.main()


def test_a_quick_run_writes_its_figures_and_its_edit_is_the_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not has_peer():
        pytest.skip("this diffusers no longer has the deprecated pipeline")
    where = ("--output", str(tmp_path), "--json", str(tmp_path / "rows.json"))
    assert run(monkeypatch, "--only", "sd", "--only", "growth", *where) == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    exact = rows["tiny 64 px, 2 steps: relative L2 of the edit's latents, reference to peer"]
    assert exact["holds"] is True and exact["value"] < 1e-4
    assert 0 < rows["tiny 64 px, 2 steps: reference, share of the limit"]["value"] < 1
    assert "target" not in rows["tiny 64 px, 2 steps: fast / peer"], "nothing is promised of a tiny model"
    page = (tmp_path / "speed.md").read_text()
    for word in ("## sd", "## growth", "| backward |", "| decode of the noise |", "(speed.png)"):
        assert word in page
    assert (tmp_path / "speed.png").stat().st_size > 1000
    assert "| guided forward |" in capsys.readouterr().out


def test_a_worker_prints_its_figures_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--worker", json.dumps(asdict(Job("fast", TINY, 64, 1)))) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["edit"] > 0 and figures["rows"]["inversion: UNet"] == 1
    assert run(monkeypatch, "--rate", "cpu") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) > 1e8


def test_a_machine_without_a_gpu_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(monkeypatch, "--only", "gpu") == 0
    assert "gpu: skipped: torch finds no GPU here" in capsys.readouterr().out


def test_parts_that_were_not_run_stay_as_they_were(tmp_path: Path) -> None:
    keep("cold", Section([measured("a cold start", 3.5, "s")]), tmp_path, "5 runs")
    keep("gpu", Section(note="skipped: none"), tmp_path, "5 runs")
    keep("gpu", Section([measured("an edit", 2.5, "s")]), tmp_path, "5 runs")
    page = (tmp_path / "speed.md").read_text()
    assert "| a cold start | 3.5 | s |" in page and "| an edit | 2.5 | s |" in page
    assert "skipped" not in page


def test_the_library_and_discovery_stand_in_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    for name in ("library", "discovery"):
        row = at_most(f"what {name} costs", 0.25, "s", 0.5)
        monkeypatch.setattr(
            f"benchmarks.{name}.rows_of", lambda row=row, **options: asked.append(options) or [row]
        )
    assert run(monkeypatch, "--only", "library", "--only", "discovery", "--output", str(tmp_path)) == 0
    page = (tmp_path / "speed.md").read_text()
    assert "| what library costs | 0.25 | s | ≤ 0.5 | ok |" in page and "| what discovery costs |" in page
    assert asked == [{"quick": True}, {"quick": True, "repeat": 1}]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_rows_evaluated_are_those_that_the_method_needs(preset: str) -> None:
    figures = working.work(Job(preset, TINY, 64, STEPS))
    needed = rows_needed(working.settings_of(preset, STEPS)[0])
    gradients = needed.pop(BACKWARD)
    assert figures["rows"] == {stage: rows for stage, rows in needed.items() if rows}
    assert (BACKWARD in figures["stages"]) == bool(gradients)
    assert sum(figures["stages"].values()) == pytest.approx(figures["invert"] + figures["edit"], rel=0.02)
    assert set(figures["stages"]) <= set(STAGES)


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance_until": 0.5, "reuse_forward": True},
        {"noise_correction": True, "source_correction": True, "guidance_until": 0.5},
        {"noise_correction": True, "source_correction": True, "cross_attention_guidance": 0.0},
        {"source_correction": True, "cross_attention_guidance": 0.0},
        {"source_correction": True, "cross_attention_guidance": 0.0, "keep_background": 0.5},
        {"cross_attention_guidance": 0.0, "keep_background": 0.5},
    ],
)
def test_rows_of_other_settings(changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EditSettings(steps=STEPS, **changes)
    monkeypatch.setattr(working, "settings_of", lambda *_: (settings, working.Regulariser()))
    figures = working.work(Job("reference", TINY, 64, STEPS, directions=2))
    needed = rows_needed(settings, edits=2)
    del needed[BACKWARD]
    assert figures["rows"] == {stage: rows for stage, rows in needed.items() if rows}


@pytest.mark.parametrize("name", EXACT)
def test_without_an_optimisation_the_edit_is_the_same(name: str, tmp_path: Path) -> None:
    files = {who: str(tmp_path / f"{who}.safetensors") for who in ("all", "without")}
    done = working.work(Job("reference", TINY, 64, STEPS, latents=files["all"]))
    undone = working.work(Job("reference", TINY, 64, STEPS, without=name, latents=files["without"]))
    latents = [load_file(file)["edit"] for file in files.values()]
    torch.testing.assert_close(*latents, rtol=1e-3, atol=1e-4)
    more = {"caption row": {"reference"}, "first step": {"guided forward", "second forward"}}.get(name, set())
    assert {stage for stage in done["rows"] if undone["rows"][stage] > done["rows"][stage]} == more
    assert working.work(Job("reference", TINY, 64, STEPS))["rows"] == done["rows"], "it stayed undone"


@pytest.mark.parametrize("name", OPTIONS)
def test_without_an_option_more_is_evaluated(name: str) -> None:
    done, undone = (
        working.work(Job("balanced", TINY, 64, STEPS, without=without))["rows"] for without in (None, name)
    )
    assert sum(undone.values()) > sum(done.values())


def test_flops_are_those_of_stable_diffusion() -> None:
    costs = costs_of("sd", 256, None)
    assert costs.forward == pytest.approx(180e9, rel=0.01), "2 for a multiplication and addition, 32² latents"
    assert 0.9 < costs.backward / costs.forward < 1.2, "the gradient to the input alone"
    assert costs_of("tiny", 64, 4).backward < costs_of("tiny", 64, None).backward, "small maps lie deeper"
    settings = EditSettings(steps=2)
    assert flops(settings, costs) == 10 * costs.forward + 3 * costs.backward + costs.encode + costs.decode


def test_watching_leaves_everything_as_it_was() -> None:
    unet, vae = random_models(CONFIGS[TINY])
    before = (type(unet).forward, torch.autograd.grad, torch.Tensor.backward)
    with watched(unet, vae, torch.zeros(1, 2, 3)) as watch:
        assert type(unet).forward is not before[0] and "forward" not in vars(unet), (
            "else it were not recorded"
        )
        vae.decode(torch.zeros(1, 4, 8, 8))
    assert watch.seconds.total() > 0
    assert (type(unet).forward, torch.autograd.grad, torch.Tensor.backward) == before
    assert not {"encode", "decode"} & {*vars(vae)}


def test_powers_are_slopes_in_logarithms() -> None:
    points = {n: {"time": 2.0 * n, "memory": 5.0 * n**2} for n in (1, 2, 4, 8)}
    powers = Curves({("steps", "reference"): points}).powers()
    assert powers["steps", "reference: time"] == pytest.approx(1)
    assert powers["steps", "reference: memory"] == pytest.approx(2)


def test_a_cold_start_ends_at_the_first_denoising_step(
    editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editor.session.load_models", lambda *_: editor.models)
    picture = Path(speed.__file__).parents[2] / "examples" / "cat.png"
    arguments = [str(picture), "-d", "cat2dog", "--no-cache", "-o", str(tmp_path / "edit.png")]
    whole, imports = run_until_first_step(time.time(), arguments)
    assert 0 <= imports < whole < 60
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="without a denoising step"):
        run_until_first_step(time.time(), ["--help"])


def test_the_time_of_imports_counts_what_is_imported_within_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_outer.py").write_text("import time, slow_inner\ntime.sleep(0.02)\n")
    (tmp_path / "slow_inner.py").write_text("import time\ntime.sleep(0.03)\n")
    with timed_imports() as found:
        importlib.import_module("slow_outer")
        importlib.import_module("slow_inner")
    importlib.import_module("json")
    assert len(found) == 2, "one for each import that is not within another"
    assert 0.05 <= found[0] < 5


def test_a_standing_process_answers_again_and_again() -> None:
    with Job("fast", TINY, 64, 1).standing() as run:
        first, second = run(), run()
    assert first["rows"] == second["rows"] and second["edit"] > 0
