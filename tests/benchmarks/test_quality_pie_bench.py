"""PIE-Bench's layout, its seven columns, and the networks for photographs, on tiny stand-ins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.quality import backbones, pie_bench
from benchmarks.quality.__main__ import main
from benchmarks.quality.batch import Batch
from benchmarks.quality.figures import structure_distance
from benchmarks.quality.measures import FolderMeasure
from benchmarks.quality.rivals import Outcome
from editor.errors import EditorError
from editor.session import Editor
from tests.editor.networks import tiny_clip
from zoo.recipe.scenes import HELD_OUT, draw_scene, sample_scene

CPU = torch.device("cpu")
RUN = [200 * 512 + 100, 50, 201 * 512 + 100, 50]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two entries in the published layout."""
    place = tmp_path_factory.mktemp("pie")
    entries = {}
    for number, kind in enumerate(("1_change_object_80", "9_change_style_80")):
        path = f"{kind}/1_artificial/00000000000{number}.jpg"
        picture = place / "annotation_images" / path
        picture.parent.mkdir(parents=True)
        drawn = draw_scene(sample_scene(HELD_OUT + number, object="cat", accessory=None))[0]
        Image.fromarray(drawn).resize((512, 512)).save(picture)
        entries[f"00000000000{number}"] = {
            "image_path": path,
            "original_prompt": "a cartoon of a [cat] at night",
            "editing_prompt": "a cartoon of a [dog] at night",
            "blended_word": "cat dog",
            "editing_instruction": "turn the cat into a dog",
            "editing_type_id": kind[0],
            "mask": RUN,
        }
    (place / "mapping_file.json").write_text(json.dumps(entries))
    return place


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import ViTConfig, ViTModel

    place = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=32
    )
    ViTModel(config).save_pretrained(place)
    return str(place)


def test_entries(folder: Path) -> None:
    first, second = pie_bench.read_entries(folder)
    assert (first.editing_type, second.editing_type) == ("1", "9")
    assert first.original_prompt == "a cartoon of a cat at night"
    assert first.editing_prompt == "a cartoon of a dog at night"
    assert first.blended_word == "cat dog" and first.instruction.startswith("turn")
    assert first.picture.is_file()
    inner = first.mask[1:-1, 1:-1]
    assert inner.sum() == 100 and first.mask[200, 100:150].all() and not first.mask[199, 100:150].any()
    assert first.mask[0].all() and first.mask[:, -1].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": [1, 2, 3]}, "mask of entry 7"),
        ({"mask": [1, -2]}, "mask of entry 7"),
        ({"editing_type_id": "12"}, "expected 0 to 9"),
        ({"original_prompt": None}, "has no original_prompt"),
    ],
)
def test_damaged_entries_are_named(
    folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    entry = next(iter(json.loads((folder / "mapping_file.json").read_text()).values()))
    entry = {key: value for key, value in {**entry, **change}.items() if value is not None}
    (tmp_path / "mapping_file.json").write_text(json.dumps({"7": entry}))
    with pytest.raises(EditorError, match=message):
        pie_bench.read_entries(tmp_path)
    with pytest.raises(EditorError, match="cannot be read"):
        pie_bench.read_entries(tmp_path / "nowhere")


def test_columns_follow_the_published_evaluation(
    editor: Editor, folder: Path, clip_folder: str, dino_folder: str
) -> None:
    networks = backbones.Backbones(CPU, clip=clip_folder, dino=dino_folder, without=["lpips"])
    measure = pie_bench.PieMeasure(networks)
    task = pie_bench.pie_task(editor, folder)
    batch = Batch(editor, task.load([0]), 2)
    assert batch.captions != batch.targets
    inverted = Image.fromarray(255 - np.asarray(batch.pictures[0]))
    same, other = (measure(batch, Outcome([p]))[0] for p in (batch.pictures[0], inverted))
    assert same["mse"] == 0 and same["psnr"] == 100 and same["ssim"] == pytest.approx(1)
    assert same["structure"] == pytest.approx(0, abs=1e-9) and other["structure"] > 1e-6
    assert "lpips" not in same and 0 <= other["clip_edited"] <= 100
    sample = batch.samples[0]
    assert sample.mask is not None
    outside = ~np.asarray(Image.fromarray(sample.mask).resize((64, 64), Image.Resampling.NEAREST))
    source = np.asarray(batch.pictures[0]).astype(float) / 255
    expected = ((1 - 2 * source) ** 2 * outside[..., None]).mean()  # the whole picture is the denominator
    assert other["mse"] == pytest.approx(expected)


def test_a_run_without_networks_notes_it(folder: Path, tmp_path: Path) -> None:
    given = ["--quick", "--output", str(tmp_path), "--dataset", "pie-bench", str(folder)]
    assert main([*given, "--only-method", "published", "--only-method", "prompt-to-prompt"]) == 0
    text = (tmp_path / "table.md").read_text()
    head, row = (line for line in text.splitlines() if line.startswith(("| method", "| published")))
    cells = dict(zip(head.split("|"), row.split("|"), strict=True))
    assert cells[" structure distance ×10³ "] == cells[" CLIP similarity, whole "] == " – "
    assert cells[" LPIPS ×10³ "] == " – " and "[" in cells[" SSIM ×10² "] and cells[" pictures "] == " 2 "
    assert "CLIP cannot be loaded from openai/clip-vit-large-patch14" in text
    assert "DINO cannot be loaded from facebook/dino-vitb8" in text


def test_networks_for_photographs(editor: Editor, folder: Path, clip_folder: str, dino_folder: str) -> None:
    with pytest.raises(backbones.BackboneUnavailable, match="--without clip"):
        _ = backbones.Backbones(CPU, clip="openai/clip-vit-base-patch32").clip
    networks = backbones.Backbones(CPU, clip=clip_folder, dino=dino_folder, without=["lpips"])
    task = pie_bench.pie_task(editor, folder, 1)
    sample = task.load([0])[0]
    given = type(sample)(**{**vars(sample), "wanted": {"source": "cat", "target": "dog"}})
    batch = Batch(editor, [given], 2)
    values = FolderMeasure(networks)(batch, Outcome(batch.originals, batch.originals))[0]
    assert values["structure"] == pytest.approx(0, abs=1e-9) and values["accuracy"] in (0.0, 1.0)
    assert values["background_mse"] == 0 and values["reconstruction_psnr"] == 100
    clip, dino = networks.clip, networks.dino
    assert clip is not None and dino is not None
    cosines = clip.cosines(batch.originals, ["a photo of a cat", "a photo of a dog"])
    assert cosines.shape == (1, 2) and cosines.abs().max() <= 1
    assert clip.accuracy(batch.originals[0], "dog", "cat") == float(cosines[0, 0] > cosines[0, 1])
    pixels = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    keys = dino.keys(pixels)
    assert keys.shape == (2, 1 + 7 * 7, 16)
    assert structure_distance(keys[:1], keys[1:]).item() > 0


def test_lpips_says_what_it_needs() -> None:
    try:
        import torchmetrics  # noqa: F401
    except ImportError:
        with pytest.raises(backbones.BackboneUnavailable, match="pip install torchmetrics"):
            backbones.Lpips("alex", CPU)
    else:
        pytest.skip("torchmetrics is installed here")


def test_results_are_known_by_pictures_and_masks(editor: Editor, folder: Path, tmp_path: Path) -> None:
    before = pie_bench.pie_task(editor, folder).keys
    copy = tmp_path / "pie"
    shutil.copytree(folder, copy)
    assert pie_bench.pie_task(editor, copy).keys == before
    mapping = json.loads((copy / "mapping_file.json").read_text())
    mapping["000000000000"]["mask"] = [0, 10]
    (copy / "mapping_file.json").write_text(json.dumps(mapping))
    Image.new("RGB", (512, 512)).save(copy / "annotation_images" / mapping["000000000001"]["image_path"])
    assert not set(pie_bench.pie_task(editor, copy).keys) & set(before)
