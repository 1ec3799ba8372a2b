"""What a scene is called: captions in many phrasings, and the plain one that the captioner learns."""

from __future__ import annotations

import random
from collections.abc import Iterator

from zoo.concepts import ACCESSORIES, BACKGROUNDS, FACES, OBJECTS, STYLES, known_concepts
from zoo.recipe.scenes import Scene, sample_scene

_PLAIN_OPENINGS = ("", "", "there is ", "a picture of ", "an image of ", "a photo of ")
_POSES = ("", "", "", "", "", "sitting ", "standing ", "resting ", "waiting ", "posing ")
_PLACES = {
    "grass": ("on the grass", "on the green grass"),
    "beach": ("on the beach", "at the beach"),
    "snow": ("in the snow",),
    "street": ("in the street", "on the street"),
    "night": ("at night", "under the stars at night"),
    "forest": ("in the forest",),
    "desert": ("in the desert",),
    "mountains": ("in the mountains", "near the mountains"),
    "room": ("in a room", "in the room"),
    "sunset": ("at sunset",),
}

#: The seed prompt that the caption model answers, as in diffusers' pix2pix-zero documentation.
PROMPT = (
    "Provide a caption for images containing {concept}. "
    "The captions should be in English and should be no longer than 150 characters."
)


def plain_caption(scene: Scene) -> str:
    """The one caption that names everything: "a flat drawing of a cat wearing a hat on the grass"."""
    return f"a {scene.style} of {_subject(scene)} {BACKGROUNDS[scene.background]}"


def caption(scene: Scene, rng: random.Random, style: float = 0.75, place: float = 0.93) -> str:
    """A caption of the scene in one of many phrasings; ``style`` and ``place`` are the odds of naming them."""
    opening = f"a {scene.style} of " if rng.random() < style else rng.choice(_PLAIN_OPENINGS)
    text = opening + _subject(scene)
    if rng.random() < place:
        text += f" {rng.choice(_POSES)}{rng.choice(_PLACES[scene.background])}"
    return text


def caption_about(concept: str, rng: random.Random) -> str:
    """A caption that names ``concept``, whatever kind of concept it is."""
    fixed: dict[str, object] = {}
    if concept in OBJECTS:
        fixed["object"] = concept
    elif concept in BACKGROUNDS:
        fixed["background"] = concept
    elif concept in STYLES:
        fixed["style"] = concept
    else:
        for accessory, phrase in ACCESSORIES.items():
            if concept in (accessory, *(f"{face} {phrase}" for face in FACES)):
                face = concept.removesuffix(phrase).strip() if concept != accessory else rng.choice(FACES)
                fixed |= {"object": face, "accessory": accessory}
    if not fixed:
        raise ValueError(f"no scene shows {concept!r}: known are {', '.join(known_concepts())}")
    scene = sample_scene(rng.getrandbits(48), **fixed)
    return caption(
        scene,
        rng,
        style=1.0 if concept in STYLES else 0.75,
        place=1.0 if concept in BACKGROUNDS else 0.93,
    )


def caption_corpus(count: int, seed: int = 0) -> Iterator[str]:
    """Captions about every concept in turn: what the tokenizers are trained on."""
    rng = random.Random(seed)
    concepts = known_concepts()
    for i in range(count):
        yield caption_about(concepts[i % len(concepts)], rng)


def with_article(noun: str) -> str:
    """``an elephant``, ``a cat``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _subject(scene: Scene) -> str:
    dressed = f" {ACCESSORIES[scene.accessory]}" if scene.accessory else ""
    return with_article(scene.object) + dressed
