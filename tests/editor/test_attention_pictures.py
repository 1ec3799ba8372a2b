"""Where the words of a caption look: in the right place, before and after an edit, and to be seen."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from editor.errors import EditorError
from editor.inversion import Edit
from editor.pictures import attention_sheet, overlay
from editor.wordmaps import away_from, before_and_after, caption_words, edited_words, word_maps
from zoo.recipe.scenes import HELD_OUT, draw_scene, sample_scene

from .embedded import CAPTION, cat2dog, editor, inversion


@pytest.fixture(scope="module")
def edit() -> Edit:
    return inversion().edit(cat2dog())


@pytest.fixture(scope="module")
def animal() -> np.ndarray:
    """Where the cat is, by the scene that it was drawn from, in latents: `[16, 16]`, 1 inside."""
    drawn = sample_scene(HELD_OUT + 40_000, object="cat", background="grass", style="cartoon", accessory=None)
    return draw_scene(drawn)[1].reshape(16, 4, 16, 4).mean(axis=(1, 3))


def test_words_know_their_tokens() -> None:
    tokenizer = editor().models.tokenizer
    words = caption_words("a cat's hat, on the beach!", tokenizer)
    assert [word for word, _ in words] == ["a", "cat's", "hat", "on", "the", "beach"]
    ids = tokenizer("a cat's hat, on the beach!").input_ids
    assert [len(places) for _, places in words] == [1, 3, 1, 1, 1, 1]
    assert tokenizer.decode(ids[words[5][1][0]]).strip() == "beach"
    assert len(caption_words("cat " * 200, tokenizer)) == tokenizer.model_max_length - 2


def test_words_move_with_an_anchored_concept() -> None:
    tokenizer = editor().models.tokenizer
    words = caption_words(CAPTION, tokenizer)
    part = SimpleNamespace(source="cat", target="cat wearing a hat")
    direction = SimpleNamespace(anchored=(part,))
    made = SimpleNamespace(direction=direction, record={"placement": "anchored"})
    moved = dict(edited_words(words[4:], made, CAPTION, tokenizer))
    assert [word for word, _ in words[4:]] == ["cat", "on", "the", "grass"]
    assert moved == {"cat": [5, 6, 7, 8], "on": [9], "the": [10], "grass": [11]}
    made.record["placement"] = "mean"
    assert edited_words(words, made, CAPTION, tokenizer) == words


def test_the_cat_and_its_dog_are_where_the_cat_was_drawn(edit: Edit, animal: np.ndarray) -> None:
    maps = before_and_after(inversion(), edit)
    assert maps.shape == (2, editor().models.tokenizer.model_max_length, 16, 16)
    assert torch.allclose(maps.sum(dim=1), torch.ones(2, 16, 16), atol=1e-4)
    places = dict(caption_words(CAPTION, editor().models.tokenizer))
    for row in maps:
        cat, grass = (row[places[word]].sum(dim=0).numpy() for word in ("cat", "grass"))
        assert cat[animal == 1].mean() > 2 * cat[animal == 0].mean()
        assert grass[animal == 1].mean() < grass[animal == 0].mean()


def test_the_replay_stands_on_the_trajectory(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[torch.Tensor] = []
    unet = editor().models.unet
    forward = unet.forward

    def spy(sample: torch.Tensor, *args: object, **kwargs: object) -> object:
        given.append(sample.clone())
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(unet, "forward", spy)
    made = inversion()
    assert made.latents is not None and made.trajectory is not None
    word_maps(made, made.latents, made.embeds, levels=3)
    assert len(given) == 3
    for sample, i in zip(given, (1, 3, 5), strict=True):
        assert torch.allclose(sample, made.trajectory[made.steps - i], atol=1e-5)


def test_what_looks_away_from_the_cat_is_not_the_cat(edit: Edit, animal: np.ndarray) -> None:
    away = away_from(inversion(), edit, "a cat")
    assert away is not None and away.shape == (64, 64) and abs(away.mean() - 0.4) < 0.02
    assert away[np.kron(animal, np.ones((4, 4))) == 1].mean() < 0.02
    assert away_from(inversion(), edit, "zebra") is None


def test_the_sheet_shows_every_word_twice(edit: Edit) -> None:
    sheet = attention_sheet(inversion(), edit, levels=2)
    cell, words = 256 + 8, 8
    assert sheet.width == (words + 1) * cell + 8
    assert sheet.height == 2 * (cell + 34) + 8
    pixels = np.asarray(sheet)
    above, below = pixels[34 + 8 : 34 + 8 + 256, 8:264], pixels[2 * 34 + 272 : 2 * 34 + 272 + 256, 8:264]
    assert (above == np.asarray(edit.picture.resize((256, 256), Image.Resampling.NEAREST))).all()
    assert (below == np.asarray(edit.image.resize((256, 256), Image.Resampling.NEAREST))).all()
    long = replace(inversion(), caption=CAPTION + ", and no more than that")
    assert attention_sheet(long, edit, levels=1).height == 4 * (cell + 34) + 8


def test_heat_is_where_the_map_is_high() -> None:
    heat = torch.zeros(4, 4)
    heat[1, 2] = 1
    shown = np.asarray(overlay(Image.new("RGB", (30, 32), "grey"), heat, 8)).astype(int)
    assert shown.shape[:2] == (32 * 7, 30 * 7)
    red = shown[..., 0]
    y, x = np.unravel_index(red.argmax(), red.shape)
    assert 56 <= y < 112 and 112 <= x < 168
    assert red.max() > 2 * red[150:, :50].max()


def test_a_synthetic_picture_and_a_direction_will_do() -> None:
    start = editor().imagine("a cat", steps=2)
    assert attention_sheet(start, cat2dog(), levels=1).width == 3 * 264 + 8


def test_what_has_no_words_or_no_direction_is_refused(edit: Edit) -> None:
    silent = replace(inversion(), caption="...")
    with pytest.raises(EditorError, match=r"the caption '\.\.\.' has no words"):
        attention_sheet(silent, edit)
    with pytest.raises(EditorError, match="this edit does not know its direction"):
        attention_sheet(inversion(), replace(edit, direction=None))
