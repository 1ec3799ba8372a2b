"""The embedded models with a real picture and a real direction, made once for all tests that look at edits."""

from __future__ import annotations

from functools import cache

from PIL import Image

from editor.inversion import Inversion
from editor.session import Editor
from library.direction import Direction
from zoo.concepts import BACKGROUNDS, STYLES
from zoo.recipe.scenes import HELD_OUT, draw_scene, sample_scene

CAPTION = "a cartoon of a cat on the grass"
STEPS = 6


@cache
def editor() -> Editor:
    return Editor("embedded", device="cpu")


@cache
def scene(object: str = "cat") -> Image.Image:
    drawn = sample_scene(
        HELD_OUT + 40_000, object=object, background="grass", style="cartoon", accessory=None
    )
    return Image.fromarray(draw_scene(drawn)[0])


@cache
def inversion() -> Inversion:
    return editor().invert(scene(), CAPTION, steps=STEPS)


@cache
def cat2dog() -> Direction:
    """The mean of the same sentences about dogs and about cats, as discovery makes it."""
    captions = {
        animal: [f"a {style} of a {animal} {place}" for style in STYLES for place in BACKGROUNDS.values()]
        for animal in ("cat", "dog")
    }
    source, target = (
        editor().encode(captions[animal]).mean(dim=0).cpu().numpy() for animal in ("cat", "dog")
    )
    return Direction(
        name="cat2dog",
        tensor=target - source,
        encoder=editor().models.encoder_id,
        source="cat",
        target="dog",
        record={"captions": {"source": captions["cat"], "target": captions["dog"]}},
    )
