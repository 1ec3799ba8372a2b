"""Edits of scenes whose outcome is known: what changes, what a judge must say, what must stay."""

from __future__ import annotations

import pytest

from zoo.recipe.scenes import HELD_OUT, draw_scene
from zoo.recipe.translations import translation_between


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        ("cat", "dog", {"object": "dog"}),
        ("cat", "cat wearing a hat", {"object": "cat", "accessory": "hat"}),
        ("fox wearing glasses", "fox", {"object": "fox", "accessory": "none"}),
        ("grass", "snow", {"background": "snow"}),
        ("cartoon", "3d render", {"style": "3d render"}),
        ("hat", "glasses", {"accessory": "glasses"}),
    ],
)
def test_what_a_judge_must_say(source: str, target: str, wanted: dict[str, str]) -> None:
    translation = translation_between(source, target)
    assert translation is not None and translation.name == f"{source} → {target}"
    for scene in translation.scenes(4, 50):
        assert scene.seed >= HELD_OUT + 50
        assert all(getattr(scene, head) == label for head, label in translation.fixed.items())
        assert translation.wanted(scene) == {"object": scene.object} | wanted
        assert translation.target_of(scene).x == scene.x


@pytest.mark.parametrize(
    ("source", "target"),
    [("cat", "day"), ("photo", "sketch"), ("cat", "cat"), ("horse wearing a hat", "horse")],
)
def test_what_scenes_do_not_show(source: str, target: str) -> None:
    assert translation_between(source, target) is None


def test_where_an_edit_may_change_the_picture() -> None:
    objects, places = translation_between("cat", "rabbit"), translation_between("grass", "snow")
    assert objects is not None and places is not None
    (scene,) = objects.scenes(1)
    cat, rabbit = draw_scene(scene)[1], draw_scene(objects.target_of(scene))[1]
    assert (objects.free(scene) == (cat | rabbit)).all()
    (scene,) = places.scenes(1)
    assert (places.free(scene) == ~draw_scene(scene)[1]).all(), "of a place, the animal must stay"
