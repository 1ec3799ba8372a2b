"""Presets: the options they stand for, what wins over them, and what records keep of them."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editor.errors import EditorError
from editor.presets import PRESETS, preset_settings
from editor.record import read_record
from editor.regularize import Regulariser
from editor.request import REGULARISER, SETTINGS, Request
from editor.session import Editor
from editor.settings import EditSettings

from .command_line import draw_cat, loaded, run, two_directions, worked

SMALL = ("--caption", "a cat on the grass", "--steps", 2, "--no-cache")


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor(loaded("embedded"), device="cpu")


@pytest.fixture
def picture(tmp_path: Path, private_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("editor.session.load_models", loaded)
    monkeypatch.setattr("library.settings.STARTER", private_folders / "no-starter")
    two_directions()
    return draw_cat(tmp_path / "cat.png")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_made_of_options_in_range(name: str) -> None:
    assert set(PRESETS[name]) <= {"steps", *SETTINGS, *REGULARISER}
    EditSettings(steps=PRESETS[name]["steps"], **preset_settings(name))


def test_reference_is_the_published_algorithm_whatever_the_model_set_says(editor: Editor) -> None:
    technical = {"steps", "guidance_limit", "max_rows"}
    assert set(preset_settings("reference")) == {f.name for f in fields(EditSettings)} - technical
    assert editor.settings("reference") == EditSettings(**preset_settings("reference"))
    assert editor.settings().placement == "auto", "the embedded set has defaults to be overridden"
    assert editor.regulariser("reference") == Regulariser() != editor.regulariser()


def test_what_is_given_wins_over_the_preset_and_the_preset_over_the_model_set(editor: Editor) -> None:
    chosen = editor.settings(preset="fast", cross_attention_guidance=0.03)
    assert chosen.cross_attention_guidance == 0.03 != editor.settings().cross_attention_guidance
    assert editor.settings("fast", keep_background=0.0).cross_attention_guidance == 0
    assert chosen.guidance_scale == editor.settings().guidance_scale
    assert editor.regulariser("reference", kl=3.0) == Regulariser(kl=3.0)
    request = Request().changed({"preset": "fast", "steps": 7, "keep_background": 0.0})
    assert request.steps == 7 and request.settings["keep_background"] == 0.0
    assert request.settings["cross_attention_guidance"] == 0 and request.preset == "fast"


def test_a_preset_leaves_nothing_of_the_one_before() -> None:
    first = Request().changed({"preset": "reference", "guidance_until": 0.5})
    again = first.changed({"preset": "fast"})
    assert (again.steps, again.regulariser) == (PRESETS["fast"]["steps"], {})
    assert dict(again.settings) == preset_settings("fast")


def test_an_unknown_preset_names_those_there_are(editor: Editor) -> None:
    with pytest.raises(EditorError, match="no preset 'quick'; expected one of reference, balanced, fast"):
        editor.settings("quick")


def test_the_record_keeps_the_preset_and_its_settings_and_repeats_the_edit(picture: Path) -> None:
    worked(picture, "-d", "cat2dog", *SMALL, "--preset", "fast", "--guidance-scale", 3, "-o", "a.png")
    record = read_record("a.png")
    expected = asdict(Editor("embedded", device="cpu").settings("fast", guidance_scale=3.0, steps=2))
    assert record["preset"] == "fast" and record["settings"] == expected
    worked("--from", "a.png", "--no-cache", "-o", "b.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    worked("--from", "a.png", "--preset", "reference", "--steps", 2, "--no-cache", "-o", "c.png")
    record = read_record("c.png")
    assert record["preset"] == "reference" and record["settings"]["guidance_scale"] == 5.0
    assert record["inversion"]["regulariser"] == asdict(Regulariser())
    assert not np.array_equal(np.asarray(Image.open("a.png")), np.asarray(Image.open("c.png")))


def test_without_a_preset_the_record_says_so(picture: Path) -> None:
    worked(picture, "-d", "cat2dog", *SMALL, "-o", "a.png")
    assert read_record("a.png")["preset"] is None


def test_a_preset_that_is_none_is_a_usage_error(picture: Path) -> None:
    result = run(picture, "-d", "cat2dog", "--preset", "quick")
    assert result.exit_code == 2 and "'reference', 'balanced', 'fast'" in result.output


def test_a_preset_named_in_python_is_in_the_record(editor: Editor, picture: Path) -> None:
    from library import Library

    direction = Library().resolve("cat2dog", [editor.models.encoder_id])
    inversion = editor.invert(picture, "a cat on the grass", steps=2)
    edit = inversion.edit(direction, preset="fast")
    assert edit.record["preset"] == "fast" and edit.record["settings"]["cross_attention_guidance"] == 0
    assert edit.record["settings"]["steps"] == 2
