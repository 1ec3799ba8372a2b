"""`edit-image --evaluate`: figures of one edit that need no ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editor.evaluation import Evaluator, changed_region, evaluation_line
from editor.inversion import Edit
from editor.judges import SceneJudge
from editor.record import read_record
from library import Library
from library.settings import STARTER
from zoo.recipe.scenes import HELD_OUT, draw_scene, sample_scene

from . import embedded
from .command_line import draw_cat, loaded, run, two_directions, worked
from .networks import tiny_clip


@cache
def edit(strength: float = 1.0) -> Edit:
    return embedded.inversion().edit(embedded.cat2dog(), strength)


def test_what_the_judge_sees_and_what_stayed() -> None:
    found = Evaluator(embedded.editor())(edit())
    assert found["judge"] == SceneJudge.name
    assert found["before"]["object"] == ["cat", pytest.approx(1, abs=0.05)]
    assert found["after"]["object"] == ["dog", pytest.approx(1, abs=0.1)]
    assert found["after"]["background"][0] == "grass"
    assert 20 < found["background_psnr"] < 60 and 0.8 < found["background_ssim"] <= 1
    assert 0 < found["structure"] < 0.1 and 0.2 < found["changed"] < 0.8
    assert found["reconstruction_psnr"] == 100, "with source correction it is exact"
    line = evaluation_line(found)
    assert line.startswith("cat 100% → dog ") and line.endswith("; reconstruction exact")


def test_no_edit_changes_nothing() -> None:
    found = Evaluator(embedded.editor())(edit(0.0))
    assert found["before"]["object"][0] == found["after"]["object"][0] == "cat"
    assert found["changed"] == 0 and found["background_psnr"] > 30
    assert 10 * found["structure"] < Evaluator(embedded.editor())(edit())["structure"]


def test_the_changed_region_covers_the_object_or_what_is_behind_it() -> None:
    region = changed_region(edit(), embedded.inversion())
    drawn = sample_scene(HELD_OUT + 40_000, object="cat", background="grass", style="cartoon", accessory=None)
    body = draw_scene(drawn)[1]
    assert region.shape == (64, 64) and region[body].mean() > 0.9
    assert region[~body].mean() < 0.5, "and not all of the rest"
    desert = embedded.inversion().edit(Library(STARTER, ())["grass2desert"])
    behind = changed_region(desert, embedded.inversion())
    assert behind[~body].mean() > 0.9 and behind[body].mean() < 0.6


def test_the_users_mask_says_what_may_change() -> None:
    mask = Image.new("L", (8, 8))
    mask.paste(255, (0, 0, 4, 8))
    found = Evaluator(embedded.editor())(edit(), mask)
    assert found["changed"] == pytest.approx(0.5, abs=0.08)
    everywhere = Evaluator(embedded.editor())(edit(), Image.new("L", (8, 8), 255))
    assert everywhere["changed"] == 1 and "background_psnr" not in everywhere
    assert "background: the change is everywhere" in evaluation_line(everywhere)


def test_a_synthetic_picture_has_no_reconstruction_error() -> None:
    start = embedded.editor().imagine(embedded.CAPTION, steps=3, seed=1)
    found = Evaluator(embedded.editor())(start.edit(embedded.cat2dog()))
    assert "reconstruction_psnr" not in found and "structure" in found


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Evaluator]:
    """An evaluator that takes the embedded models for others, which have no judge of their own."""
    monkeypatch.setattr("editor.evaluation.SMALL_WORLDS", {})
    return lambda **options: Evaluator(embedded.editor(), **options)


def test_clip_looks_where_there_is_no_judge(elsewhere: Callable[..., Evaluator], tmp_path: Path) -> None:
    found = elsewhere(clip=tiny_clip(tmp_path))(edit())
    assert found["judge"] == f"CLIP {tmp_path}" and 0 <= found["after"]["target"] <= 1
    assert "by CLIP; background" in evaluation_line(found)


def test_without_networks_the_other_figures_remain(elsewhere: Callable[..., Evaluator]) -> None:
    evaluator = elsewhere()
    found = evaluator(edit())
    assert set(found) == {
        *("changed", "background_psnr", "background_mse", "background_ssim", "reconstruction_psnr", "notes")
    }
    assert found["notes"] == evaluator.notes and len(evaluator(edit())["notes"]) == 2
    for note, name in zip(evaluator.notes, ("CLIP", "DINO"), strict=True):
        assert f"without figures by {name}: {name} cannot be loaded" in note and "network" in note


@pytest.fixture
def cat(tmp_path: Path, private_folders: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of a quick edit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("editor.session.load_models", loaded)
    monkeypatch.setattr("library.settings.STARTER", private_folders / "no-starter")
    two_directions()
    return [draw_cat(tmp_path / "cat.png"), "-d", "cat2dog", "--caption", "a cat on the grass", "--steps", 2]


def test_the_command_prints_a_line_and_records_it(cat: list[Any]) -> None:
    result = worked(*cat, "--evaluate", "-o", "out.png")
    evaluated, saved = result.stdout.splitlines()
    evaluation = read_record("out.png")["evaluation"]
    assert evaluated == f"evaluated  {evaluation_line(evaluation)}" and saved == "saved  out.png"
    assert json.loads(Path("out.json").read_text())["evaluation"] == evaluation
    worked(*cat, "-o", "plain.png")
    assert "evaluation" not in read_record("plain.png")
    assert np.array_equal(np.asarray(Image.open("plain.png")), np.asarray(Image.open("out.png")))


def test_a_repeat_keeps_the_figures_and_can_add_them(cat: list[Any]) -> None:
    worked(*cat, "--evaluate", "-o", "out.png")
    worked("--from", "out.png", "-o", "again.png")
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()
    worked(*cat, "-o", "plain.png")
    worked("--from", "plain.png", "--evaluate", "-o", "measured.png")
    assert read_record("measured.png")["evaluation"] == read_record("out.png")["evaluation"]


def test_the_command_is_told_where_its_networks_are(
    cat: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editor.evaluation.SMALL_WORLDS", {})
    clip = tiny_clip(tmp_path / "clip")
    worked(*cat, "--evaluate", "--clip", clip, "--dino", tmp_path / "no-dino", "-o", "out.png")
    evaluation = read_record("out.png")["evaluation"]
    assert evaluation["judge"] == f"CLIP {clip}"
    assert [str(tmp_path / "no-dino") in note for note in evaluation["notes"]] == [True]
    result = run(*cat, "--clip", clip)
    assert result.exit_code == 2 and "--evaluate" in result.stderr


def test_a_sweep_is_not_evaluated(cat: list[Any]) -> None:
    result = run(*cat, "--evaluate", "--sweep", "strength=0,1")
    assert result.exit_code == 2 and "--evaluate and --sweep exclude each other" in result.stderr


def test_clip_judges_going_back_by_the_end_that_it_goes_to(
    elsewhere: Callable[..., Evaluator], tmp_path: Path
) -> None:
    evaluator = elsewhere(clip=tiny_clip(tmp_path))
    forward = edit()
    back = replace(forward, direction=-forward.direction, record={**forward.record, "strength": -1.0})
    assert evaluator(back)["after"] == evaluator(forward)["after"]
