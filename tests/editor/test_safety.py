"""The safety filter of `edit-image`: a tiny checker with thresholds that flag everything, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from editor import Editor
from editor.models import MODEL_INDEX, load_safety_checker
from editor.record import read_record
from editor.safety import safety_verdict
from library import Library
from zoo.registry import WEIGHTS

from .command_line import draw_cat, failed, run, two_directions, worked

#: Cosines are in [-1, 1]: what a concept's threshold must be for every picture, and for none, to be flagged.
EVERYTHING, NOTHING = -2.0, 2.0


def checked_models(folder: Path, threshold: float) -> Path:
    """The embedded models with a safety checker of random weights, as a diffusers folder has it."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    folder.mkdir()
    for part in (WEIGHTS / "diffusion").iterdir():
        if part.is_dir():
            (folder / part.name).symlink_to(part)
    index = json.loads((WEIGHTS / "diffusion" / MODEL_INDEX).read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    (folder / MODEL_INDEX).write_text(json.dumps(index))
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**small, "image_size": 16, "patch_size": 8, "projection_dim": 16}
    torch.manual_seed(0)
    config = CLIPConfig(text_config={**small, "vocab_size": 9}, vision_config=vision, projection_dim=16)
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.fill_(threshold)
    checker.special_care_embeds_weights.fill_(NOTHING)
    checker.save_pretrained(folder / "safety_checker")
    size = {"height": 16, "width": 16}
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size).save_pretrained(
        folder / "feature_extractor"
    )
    return folder


@pytest.fixture
def edit(tmp_path: Path, private_folders: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of an edit in two steps, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("library.settings.STARTER", private_folders / "no-starter")
    two_directions()
    picture = draw_cat(tmp_path / "cat.png")
    return [picture, "-d", "cat2dog", "--caption", "a cat on the grass", "--steps", 2]


def test_a_flagged_edit_is_withheld_and_the_others_are_finished(tmp_path: Path, edit: list[Any]) -> None:
    models = checked_models(tmp_path / "strict", EVERYTHING)
    result = run(*edit, "-d", "day2night", "--models", models, "--sheet", "-o", "out")
    assert result.exit_code == 3, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("withheld: ")]
    assert len(lines) == 2 and "out/cat-cat2dog.png is not written" in lines[0] and "--no-safety" in lines[0]
    assert "saved" not in result.stdout
    assert sorted(p.name for p in Path("out").iterdir()) == ["cat-cat2dog.json", "cat-day2night.json"]
    record = json.loads(Path("out/cat-cat2dog.json").read_text())
    assert record["safety"] == {"checked": True, "flagged": True} and record["expression"] == "cat2dog"


def test_what_passes_is_written_and_no_safety_is_explicit(tmp_path: Path, edit: list[Any]) -> None:
    worked(*edit, "--models", checked_models(tmp_path / "lax", NOTHING), "-o", "passed.png")
    assert json.loads(Path("passed.json").read_text())["safety"] == {"checked": True, "flagged": False}
    strict = checked_models(tmp_path / "strict", EVERYTHING)
    result = worked(*edit, "--models", strict, "--no-safety", "-o", "off.png")
    assert "saved  off.png" in result.stdout and Image.open("off.png").size == (64, 64)
    assert json.loads(Path("off.json").read_text())["safety"] == {"checked": False}
    assert run("--from", "off.png", "-o", "again.png").exit_code == 3, "a repeat is looked at again"
    assert not Path("again.png").exists()
    worked(*edit, "-o", "embedded.png")
    assert json.loads(Path("embedded.json").read_text())["safety"] is None


def test_a_sweep_and_a_replaced_picture_are_withheld_too(tmp_path: Path, edit: list[Any]) -> None:
    models = checked_models(tmp_path / "strict", EVERYTHING)
    Path("old.png").write_bytes(b"an older picture")
    result = run(*edit, "--models", models, "-o", "old.png", "--force", "--json")
    assert result.exit_code == 3 and json.loads(result.stdout)[0]["withheld"]
    assert not Path("old.png").exists(), "it would stand beside a record that is not its own"
    result = run(*edit, "--models", models, "--sweep", "strength=0.5,1", "-o", "sweep.png")
    assert result.exit_code == 3 and not Path("sweep.png").exists()
    assert json.loads(Path("sweep.json").read_text())["safety"]["flagged"]


def test_a_checker_that_is_missing_says_so_before_any_edit(tmp_path: Path, edit: list[Any]) -> None:
    models = checked_models(tmp_path / "half", NOTHING)
    for file in (models / "safety_checker").iterdir():
        file.unlink()
    failed(run(*edit, "--models", models), "StableDiffusionSafetyChecker cannot be loaded", "--no-safety")


def test_one_flagged_picture_flags_all(tmp_path: Path) -> None:
    checker = load_safety_checker(str(checked_models(tmp_path / "models", NOTHING)), "cpu")
    assert checker is not None
    black, white = (Image.new("RGB", (64, 48), colour) for colour in ("black", "white"))
    assert safety_verdict(checker, [black, white]) == {"checked": True, "flagged": False}
    with torch.no_grad():
        inputs = checker.extractor([white], return_tensors="pt").pixel_values
        embedding = checker.model.visual_projection(checker.model.vision_model(inputs)[1])
    checker.model.concept_embeds.data[3] = embedding[0]
    checker.model.concept_embeds_weights.data[3] = 0.999
    assert safety_verdict(checker, [black]) == {"checked": True, "flagged": False}
    assert safety_verdict(checker, [black, white]) == {"checked": True, "flagged": True}
    assert safety_verdict(None, [white]) is None


def test_what_python_saves_says_that_nobody_looked(tmp_path: Path, edit: list[Any]) -> None:
    editor = Editor(checked_models(tmp_path / "strict", EVERYTHING))
    made = editor.invert("cat.png", "a cat on the grass", steps=2).edit(Library()["cat2dog"])
    made.save("saved.png")
    assert read_record("saved.png")["safety"] == {"checked": False}
    assert run("--from", "saved.png").exit_code == 3, "the command line does look"
    (tmp_path / "strict" / MODEL_INDEX).unlink()
    made.save("again.png")
    assert read_record("again.png")["safety"] == {"checked": False}
