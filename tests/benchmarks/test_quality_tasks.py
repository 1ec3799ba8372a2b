"""What is edited: scenes with their ground truth, and folders of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import tasks
from editor.errors import EditorError
from editor.session import Editor
from zoo.recipe.scenes import HELD_OUT, draw_scene, sample_scene


def test_words_are_swapped() -> None:
    assert tasks.swapped("a cat on the grass", "cat", "dog") == "a dog on the grass"
    assert tasks.swapped("a catfish in a room", "cat", "dog") == "a catfish in a room"
    hat = tasks.swapped("a cartoon of a cat at night", "cat", "cat wearing a hat")
    assert hat == "a cartoon of a cat wearing a hat at night"


def test_scenes_with_ground_truth(editor: Editor, quick_directions: None) -> None:
    found = tasks.scene_tasks(editor, 3)
    names = ["cat → dog", "horse → zebra", "cat → cat wearing a hat", "flat drawing → 3d render"]
    assert [task.name for task in found] == names
    keys = [key for task in found for key in task.keys]
    assert len(set(keys)) == 12 and all(int(key) >= HELD_OUT for key in keys)
    wanted = [{"object": "dog"}, {"object": "zebra"}, {"object": "cat", "accessory": "hat"}]
    for task, labels in zip(found, wanted, strict=False):
        (sample,) = task.load([1])
        assert sample.wanted == labels and sample.key == task.keys[1]
        assert sample.caption != sample.target_caption
    (cat,) = found[0].load([0])
    assert cat.mask is not None and cat.body is not None and cat.scenery is not None
    dog = draw_scene(sample_scene(cat.seed, object="dog", accessory=None))[1]
    assert np.array_equal(cat.mask, cat.body | dog) and cat.mask.sum() > cat.body.sum()
    drawn = np.asarray(cat.picture)
    edge = ~(cat.body | np.roll(cat.body, 1, 0) | np.roll(cat.body, -1, 0))
    edge &= ~(np.roll(cat.body, 1, 1) | np.roll(cat.body, -1, 1))
    assert (drawn[edge] == cat.scenery[edge]).mean() > 0.97
    (style,) = found[3].load([0])
    scene = sample_scene(style.seed, style="flat drawing", accessory=None)
    assert style.wanted == {"object": scene.object, "style": "3d render"}


def test_folder(editor: Editor, quick_directions: None, tmp_path: Path) -> None:
    for number in (0, 1):
        scene = sample_scene(HELD_OUT + number, object="cat", accessory=None)
        picture = Image.fromarray(draw_scene(scene)[0]).resize((120, 80))
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full((80, 120), 255, np.uint8)).save(tmp_path / "masks" / "1.png")
    task = tasks.folder_task(editor, tmp_path, "cat", "dog", 5)
    assert task.name == "cat → dog" and [key.rpartition("-")[0] for key in task.keys] == ["0.png", "1.png"]
    first, second = task.load([0, 1])
    assert first.picture is not None and first.picture.size == (64, 64)
    assert first.mask is None
    assert second.mask is not None and second.mask.shape == (64, 64) and second.mask.all()
    assert second.wanted == {"source": "cat", "target": "dog"} and second.key == task.keys[1]
    seeds = [first.seed, second.seed]
    Image.fromarray(np.full((80, 120), 255, np.uint8)).save(tmp_path / "masks" / "0.png")
    other = tasks.folder_task(editor, tmp_path, "cat", "dog", 5)  # results with the mask are others
    assert other.keys[0] != task.keys[0] and other.keys[1] == task.keys[1]
    assert other.load([1])[0].seed == seeds[1] != seeds[0]
    with pytest.raises(EditorError, match="no pictures"):
        tasks.folder_task(editor, tmp_path / "masks" / "none", "cat", "dog", 5)
