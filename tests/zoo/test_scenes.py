"""Scenes: seeded, true to their fields, and changeable in one respect."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from zoo.concepts import ACCESSORIES, BACKGROUNDS, FACES, OBJECTS, STYLES, known_concepts
from zoo.recipe.captions import caption, caption_about, plain_caption
from zoo.recipe.scenes import HELD_OUT, SIZE, draw_scene, sample_scene
from zoo.recipe.sprites import ICONS, sprite


def test_the_same_seed_draws_the_same_bytes() -> None:
    one, other = draw_scene(sample_scene(7)), draw_scene(sample_scene(7))
    assert one[0].tobytes() == other[0].tobytes() and one[1].tobytes() == other[1].tobytes()
    assert one[0].shape == (SIZE, SIZE, 3) and one[1].shape == (SIZE, SIZE)


def test_changing_the_object_leaves_the_rest_of_the_picture_alone() -> None:
    cat = sample_scene(HELD_OUT, object="cat", accessory=None)
    dog = replace(cat, object="dog")
    (a, mask_a), (b, mask_b) = draw_scene(cat), draw_scene(dog)
    # where neither object covers even a part of a pixel, nothing changes
    far = ~_grown(mask_a | mask_b)
    assert far.sum() > 500
    assert np.array_equal(a[far], b[far])
    assert not np.array_equal(a[mask_a], b[mask_a])


def _grown(mask: np.ndarray) -> np.ndarray:
    grown = mask.copy()
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            grown |= np.roll(mask, shift, axis)
    return grown


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_background_has_structure(background: str) -> None:
    picture, mask = draw_scene(sample_scene(3, background=background, size=0.62))
    assert picture[~mask].std(axis=0).max() > 8


def test_the_object_lies_within_the_picture_and_is_large() -> None:
    for seed in range(200):
        _, mask = draw_scene(sample_scene(seed))
        assert 0.08 < mask.mean() < 0.75, seed


def test_only_faces_wear_accessories() -> None:
    for seed in range(300):
        scene = sample_scene(seed)
        assert scene.accessory is None or scene.object in FACES


@pytest.mark.parametrize("concept", known_concepts())
def test_captions_about_a_concept_name_it(concept: str) -> None:
    rng = random.Random(0)
    captions = [caption_about(concept, rng) for _ in range(200)]
    assert all(concept in c for c in captions)
    assert len(set(captions)) > 100


def test_an_unknown_concept_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no scene shows 'submarine'.*koala"):
        caption_about("submarine", random.Random(0))


def test_captions_say_what_the_scene_shows() -> None:
    scene = sample_scene(1, object="elephant", background="beach", style="cartoon")
    assert plain_caption(scene) == "a cartoon of an elephant on the beach"
    dressed = replace(scene, object="cat", accessory="hat")
    assert plain_caption(dressed) == "a cartoon of a cat wearing a hat on the beach"
    assert "cat" in caption(dressed, random.Random(0))


def test_every_sprite_ships() -> None:
    for concept in ICONS:
        for style in STYLES:
            assert sprite(concept, style).size == (128, 128)
    assert set(OBJECTS) | set(ACCESSORIES) == set(ICONS)
