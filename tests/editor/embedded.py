"""The embedded models with a real picture and a real direction, made once for all tests that look at edits."""

from __future__ import annotations

from functools import cache

from PIL import Image

from directions import discover
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
def scene() -> Image.Image:
    drawn = sample_scene(HELD_OUT + 40_000, object="cat", background="grass", style="cartoon", accessory=None)
    return Image.fromarray(draw_scene(drawn)[0])


@cache
def inversion() -> Inversion:
    return editor().invert(scene(), CAPTION, steps=STEPS)


@cache
def cat2dog() -> Direction:
    """The same sentences about cats and about dogs: no captions have to be written."""
    cats, dogs = (
        [f"a {style} of a {animal} {place}" for style in STYLES for place in BACKGROUNDS.values()]
        for animal in ("cat", "dog")
    )
    return discover("cat", "dog", models="embedded", source_captions=cats, target_captions=dogs, cache=False)
