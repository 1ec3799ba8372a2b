"""`directions evaluate`: edits of many pictures, judged, and kept beside the version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from editor.figures import Interval, wilson
from editor.judges import ClipJudge, SceneJudge
from editor.samples import FIRST_SCENE, folder_samples, prompt_samples, scene_samples
from editor.scoring import score
from library import Direction, Library
from library.cli import main
from library.evaluation import evaluation_of
from zoo.recipe.scenes import HELD_OUT
from zoo.recipe.translations import translation_between

from . import embedded
from .command_line import draw_cat, encoder, failed, loaded, save_direction
from .networks import tiny_clip

QUICK = ["--steps", 2, "--pictures", 2]


@pytest.fixture
def library(private_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """A library with a real cat2dog, beside no other."""
    monkeypatch.setattr("editor.session.load_models", loaded)
    monkeypatch.setattr("library.settings.STARTER", private_folders / "no-starter")
    library = Library()
    library.save(embedded.cat2dog())
    return library


def evaluate(*arguments: Any) -> Result:
    words = ["evaluate", *map(str, arguments)]
    return CliRunner().invoke(main, words, catch_exceptions=False)


def test_a_direction_is_measured_on_held_out_scenes(library: Library) -> None:
    result = evaluate("cat2dog", "--steps", 4, "--pictures", 3, "--keep-background", 0.4)
    assert result.exit_code == 0, result.output
    found = evaluation_of(library, library.find("cat2dog"))
    assert found is not None and found.pictures == 3 and found.success == 1
    assert result.stdout.startswith("cat2dog@1  cat → dog  100% of 3 pictures (44–100%), ")
    assert f"sheet       {found.sheet}" in result.stdout and found.sheet is not None
    record = found.record
    assert record["unedited"] == 0 and record["pictures"] == {"from": "scenes"} and record["steps"] == 4
    assert record["settings"]["keep_background"] == 0.4 and record["settings"]["guidance_scale"] == 5.0
    assert {name: figure["count"] for name, figure in record["figures"].items()} == {
        "kept_psnr": 3,
        "structure": 3,
        "reconstruction_psnr": 3,
    }
    assert 20 < record["figures"]["kept_psnr"]["mean"] < 60 and record["figures"]["structure"]["mean"] > 0
    assert Image.open(found.sheet).width > 3 * 192


def test_the_same_measurement_twice_is_the_same(library: Library) -> None:
    kept = []
    for _ in range(2):
        assert evaluate("cat2dog", *QUICK, "--batch", 1).exit_code == 0
        found = evaluation_of(library, library.find("cat2dog"))
        assert found is not None and found.sheet is not None
        kept.append(({k: v for k, v in found.record.items() if k != "created"}, found.sheet.read_bytes()))
    assert kept[0] == kept[1]


def test_a_direction_that_does_nothing_succeeds_never(library: Library) -> None:
    identity, shape = encoder()
    nothing = np.zeros(shape, np.float32)
    library.save(Direction(name="cat2fox", tensor=nothing, encoder=identity, source="cat", target="fox"))
    record = json.loads(evaluate("cat2fox", *QUICK, "--json").stdout)
    assert record["success"]["mean"] == 0 and record["success"]["high"] < 1
    assert record["source"] == "cat" and record["judge"] == SceneJudge.name


def test_a_users_pictures_and_pictures_from_captions(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "cats"
    folder.mkdir()
    draw_cat(folder / "b.png")
    Image.new("L", (90, 40), 99).save(folder / "a.jpg")
    record = json.loads(evaluate("cat2dog", *QUICK, "--images", folder, "--json").stdout)
    assert record["pictures"] == {"from": "images", "folder": str(folder)}
    assert record["success"]["count"] == 2 and "kept_psnr" not in record["figures"]
    record = json.loads(evaluate("cat2dog", *QUICK, "--synthetic", "--json").stdout)
    assert record["pictures"] == {"from": "synthetic"} and set(record["figures"]) == {"structure"}


def test_clip_judges_what_the_scenes_do_not_show(library: Library, tmp_path: Path) -> None:
    save_direction("day2dusk", 0)
    folder = tmp_path / "days"
    folder.mkdir()
    draw_cat(folder / "day.png")
    failed(evaluate("day2dusk", *QUICK), "no scene shows day → dusk", "--images FOLDER", "--synthetic")
    failed(evaluate("day2dusk", *QUICK, "--synthetic"), "has no captions to make pictures from", "--images")
    arguments = ["day2dusk", *QUICK, "--images", folder]
    failed(
        evaluate(*arguments), "CLIP cannot be loaded from openai/clip-vit-base-patch32", "network", "--clip"
    )
    result = evaluate(*arguments, "--clip", tiny_clip(tmp_path / "clip"), "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["judge"] == f"CLIP {tmp_path / 'clip'}" and record["success"]["count"] == 1
    assert "DINO cannot be loaded" in record["notes"][0] and "structure" not in record["figures"]


def test_what_cannot_be_measured_says_so(library: Library, tmp_path: Path) -> None:
    failed(evaluate("cat2horse", *QUICK), "no direction cat2horse")
    (tmp_path / "a.png").mkdir()
    (tmp_path / "._b.png").write_bytes(b"what macOS leaves beside b.png")
    failed(evaluate("cat2dog", *QUICK, "--images", tmp_path), f"{tmp_path} has no pictures")
    failed(evaluate("cat2dog", *QUICK, "--interpolation", 2), "interpolation is 2")
    identity, shape = encoder()
    library.save(Direction(name="mix", tensor=np.ones(shape, np.float32), encoder=identity))
    failed(evaluate("mix", *QUICK), "mix@1 does not say from what to what it leads")
    other = Direction(
        name="old", tensor=np.ones(shape, np.float32), encoder="clip-0", source="cat", target="dog"
    )
    library.save(other)
    failed(evaluate("old", *QUICK), "clip-0", "--rebuild old")
    result = evaluate("cat2dog", "--images", tmp_path, "--synthetic")
    assert result.exit_code == 2 and "exclude each other" in result.stderr
    result = evaluate("cat2dog", "--seed", 2**63)
    assert result.exit_code == 2 and f"not in the range 0<=x<={2**63 - 1}" in result.stderr


def test_pictures_are_those_that_nothing_was_tuned_on() -> None:
    translation = translation_between("cat", "dog")
    assert translation is not None
    first, second = scene_samples(translation, 2), scene_samples(translation, 2, first=1)
    assert first[0].seed == HELD_OUT + FIRST_SCENE and first[1].seed == second[0].seed
    assert np.array_equal(np.asarray(first[1].picture), np.asarray(second[0].picture))
    prompts = prompt_samples(embedded.cat2dog(), 3, {}, 7)
    assert prompts == prompt_samples(embedded.cat2dog(), 3, {}, 7) and prompts[0].seed == 7
    assert all("cat" in (sample.caption or "") for sample in prompts)


def test_of_pictures_the_middle_square_is_taken(tmp_path: Path) -> None:
    wide = Image.new("RGB", (64, 32), "red")
    wide.paste("blue", (16, 0, 48, 32))
    wide.save(tmp_path / "wide.png")
    (sample,) = folder_samples(tmp_path, 9, 32, {"object": "dog"}, 4)
    assert sample.picture is not None and sample.picture.getcolors() == [(32 * 32, (0, 0, 255))]
    assert sample.wanted == {"object": "dog"} and sample.seed == 4


def test_a_batch_gives_what_single_pictures_give(library: Library) -> None:
    translation = translation_between("cat", "dog")
    assert translation is not None
    samples = scene_samples(translation, 2)
    alone, together = (
        score(embedded.editor(), embedded.cat2dog(), samples, SceneJudge(), steps=2, batch=batch)
        for batch in (1, 2)
    )
    assert alone.hits == together.hits and len(alone.pairs) == 2
    for name, values in alone.figures.items():
        assert values == pytest.approx(together.figures[name], rel=0.02), name


def test_clip_takes_the_likelier_of_two_texts() -> None:
    class Looks:
        def cosines(self, pictures: Any, texts: Any) -> Any:
            import torch

            assert texts == ["a photo of a cat", "a photo of a dog"]
            return torch.tensor([[0.20, 0.25], [0.25, 0.20]])

    looks: Any = Looks()
    judge = ClipJudge(looks, "somewhere", "cat", "dog")
    pictures = [Image.new("RGB", (8, 8))] * 2
    hit, miss = judge.says(pictures, [{}, {}])
    assert (hit.hit, hit.said) == (True, "dog 99%") and (miss.hit, miss.said) == (False, "cat 99%")
    assert judge.distance(*pictures) is None


def test_wilsons_interval() -> None:
    assert wilson(50, 100).mean == 0.5
    assert wilson(50, 100).low == pytest.approx(
        0.4038, abs=1e-4
    )  # Wilson 1927; Newcombe 1998, table I's method 3
    assert wilson(81, 263).low == pytest.approx(0.2553, abs=1e-4)
    assert wilson(81, 263).high == pytest.approx(0.3662, abs=1e-4)
    assert wilson(0, 20).low == 0 and wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(20, 20) == Interval(1.0, pytest.approx(0.8389, abs=1e-4), 1.0, 20)
    for hits, count in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="expected at least one try"):
            wilson(hits, count)


def test_the_opposite_of_a_direction_is_not_measured_as_that(library: Library) -> None:
    failed(evaluate("dog2cat", *QUICK), "dog2cat is cat2dog@", "directions compose dog2cat --name dog2cat")
