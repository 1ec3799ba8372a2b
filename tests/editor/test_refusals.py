"""What a Python caller gets wrong is refused before anything is computed, in words that say what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from directions import discover
from directions.errors import ModelUnavailable
from editor import Editor
from editor.errors import EditorError, ModelsUnavailable, PictureError
from editor.images import to_pixels
from editor.inversion import Inversion
from library import Library
from library.errors import BadName

from .embedded import STEPS, cat2dog, editor, inversion, scene


@pytest.mark.parametrize("wrong", ["cat2dog", None, [cat2dog], np.zeros((2, 2))])
def test_what_is_no_direction(wrong: Any) -> None:
    with pytest.raises(EditorError, match=r"is no direction; load one: Library\(\)\['cat2dog'\]"):
        inversion().edit(wrong)
    with pytest.raises(EditorError, match="is no direction"):
        inversion().sweep(wrong, strength=[1])


def test_steps_are_the_inversions() -> None:
    with pytest.raises(EditorError, match=f"the inversion has {STEPS} steps.* invert again with steps=5"):
        inversion().edit(cat2dog(), steps=5)
    assert inversion().edit(cat2dog(), steps=STEPS).record["settings"]["steps"] == STEPS


def test_the_knob_of_a_sweep_is_no_setting_of_an_edit() -> None:
    with pytest.raises(TypeError, match="'guidance'; cross_attention_guidance is meant"):
        inversion().edit(cat2dog(), guidance=0.1)


def test_masks() -> None:
    black = np.zeros((64, 64), bool)
    with pytest.raises(PictureError, match="the mask is black"):
        inversion().edit(cat2dog(), mask=black)
    half = black.copy()
    half[:, 32:] = True
    assert to_pixels(half).unique().tolist() == [-1, 1]
    start = inversion()
    assert start.latents is not None
    for mask, kept, changed in ((half, slice(8), slice(8, 16)), (~half, slice(8, 16), slice(8))):
        difference = (start.edit(cat2dog(), mask=mask).latents - start.latents).abs()
        assert difference[..., kept].max() < 1e-5 < difference[..., changed].max()


@pytest.mark.parametrize("size", ["64", (64, 64), 0, -1, 3])
def test_sizes_of_inversions(size: Any) -> None:
    with pytest.raises(EditorError, match="expected the shorter side in pixels"):
        editor().invert(scene(), "a cat", steps=1, size=size)


@pytest.mark.parametrize("size", [0, -8, (0, 70), 64.0, "64", "native", (64,), (64.0, 64)])
def test_sizes_of_synthetic_pictures(size: Any) -> None:
    with pytest.raises(EditorError, match="at least 1 pixel"):
        editor().imagine("a cat", steps=1, size=size)


def test_sizes_that_no_memory_has_room_for() -> None:
    with pytest.raises(PictureError, match="side of 1000000 has 1000000×1000000 pixels, more than"):
        editor().invert(scene(), "a cat", steps=1, size=10**6)
    with pytest.raises(PictureError, match="has 10000000×64 pixels"):
        editor().imagine("a cat", steps=1, size=(10**7, 64))


@pytest.mark.parametrize("wrong", [5, ["a cat"], b"a cat", float("nan")])
def test_captions_and_prompts_are_texts(wrong: Any) -> None:
    with pytest.raises(
        EditorError, match=r"caption is of type \w+; expected a text, or None to ask the captioner$"
    ):
        editor().invert(scene(), wrong, steps=1)
    with pytest.raises(EditorError, match=r"^prompt is of type \w+; expected a text$"):
        editor().imagine(wrong, steps=1)
    for refused in (
        lambda: editor().imagine("a cat", steps=1, negative_prompt=wrong),
        lambda: editor().generate("a cat", cat2dog(), steps=1, negative_prompt=wrong),
        lambda: inversion().edit(cat2dog(), negative_prompt=wrong),
    ):
        with pytest.raises(EditorError, match=r"^negative_prompt is of type \w+; expected a text$"):
            refused()


def test_no_negative_prompt_is_the_empty_one() -> None:
    edit = editor().generate("a cat", cat2dog(), steps=1, negative_prompt=None)
    assert edit.record["negative_prompt"] == ""


@pytest.mark.parametrize("seed", [None, 1.0, 2**70, -(2**63) - 1, "7"])
def test_seeds(seed: Any) -> None:
    with pytest.raises(
        EditorError, match=r"seed is .*; expected a whole number from -9223372036854775808 to "
    ):
        editor().invert(scene(), "a cat", steps=1, seed=seed)
    with pytest.raises(EditorError, match="seed is "):
        editor().imagine("a cat", steps=1, seed=seed)
    assert editor().imagine("a cat", steps=1, seed=np.int64(3)).seed == 3


def test_elongated_pictures() -> None:
    with pytest.raises(PictureError, match="3000×4, more than 16 times"):
        editor().invert(Image.new("RGB", (3000, 4)), "a cat", steps=1)


def test_one_picture_is_no_list() -> None:
    for wrong in ("cat.png", scene()):
        with pytest.raises(EditorError, match="takes a list of pictures"):
            editor().invert_all(wrong)


def test_one_caption_is_no_list_and_none_asks_the_captioner(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EditorError, match=r"takes a list of captions.*\[caption\] \* len\(images\)"):
        editor().invert_all([scene()] * 3, "cat", 1)
    monkeypatch.setattr(Editor, "_ask", lambda *_: "what it shows")
    inversions = editor().invert_all([scene()] * 2, [None, "a cat"], 1)
    assert [made.caption for made in inversions] == ["what it shows", "a cat"]


def test_a_preset_is_inverted_with_its_own_steps_and_regulariser() -> None:
    made = editor().invert(scene(), "a cat", steps=2, preset="reference")
    assert made.record["regulariser"] == {"auto_corr": 20.0, "kl": 20.0, "steps": 5, "rolls": 5}
    own = editor().invert(scene(), "a cat", steps=2, preset="fast")
    assert own.record["regulariser"]["kl"] == 1.25 and own.steps == 2
    assert editor().invert(scene(), "a cat", preset="fast").steps == 25


def test_model_sets_devices_and_types_that_do_not_exist() -> None:
    with pytest.raises(ModelsUnavailable, match="no model set 'embeded': did you mean embedded"):
        Editor("embeded")
    with pytest.raises(ModelUnavailable, match="no model set 'nope'"):
        discover("cat", "dog", models="nope", cache=False)
    with pytest.raises(ModelsUnavailable, match="device 'toaster' is not there"):
        Editor("embedded", device="toaster")
    with pytest.raises(ModelsUnavailable, match="expected one of torch's"):
        Editor("embedded", dtype="float16")  # type: ignore[arg-type]


def test_a_composed_direction_needs_a_name(tmp_path: Any) -> None:
    library = Library(tmp_path, ())
    kept = library.save(cat2dog())
    with pytest.raises(BadName, match=r"\.renamed\('mix'\)"):
        library.save(0.5 * kept)
    assert library.save((0.5 * kept).renamed("mix")).ref == "mix@1"
    assert len(library) == 2


def test_one_tag_is_one_tag() -> None:
    made = discover(
        "cat", "dog", models="embedded", source_captions=["a cat"] * 1 + ["the cat"],
        target_captions=["a dog", "the dog"], tags="animal", cache=False,
    )  # fmt: skip
    assert made.record["tags"] == ["animal"]


def test_an_inversion_from_a_file_belongs_to_the_editor_that_edits_it(tmp_path: Any) -> None:
    inversion().save(tmp_path / "cat.inv")
    loaded = Inversion.load(tmp_path / "cat.inv")
    edits = editor().edit_all([(loaded, cat2dog(), 0.5), (loaded, cat2dog(), 1.0)])
    edits[1].save(tmp_path / "loaded.png")
    assert edits[1].findings == () and edits[0].inversion is edits[1].inversion
    assert edits[1].image.tobytes() == inversion().edit(cat2dog()).image.tobytes()
    with pytest.raises(EditorError, match="inverted with the models other, the editor has embedded"):
        editor().edit(replace(loaded, models="other"), cat2dog())


def test_a_preset_has_steps_of_synthetic_pictures_too(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def imagined(self: Any, prompt: str, number: int, *_: Any, **__: Any) -> Any:
        steps.append(number)
        raise KeyboardInterrupt

    monkeypatch.setattr(Editor, "imagine", imagined)
    for more in ({}, {"preset": "fast"}, {"preset": "fast", "steps": 7}):
        with pytest.raises(KeyboardInterrupt):
            editor().generate("a cat", cat2dog(), **more)
    assert steps == [50, 25, 7]
