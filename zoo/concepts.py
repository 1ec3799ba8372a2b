"""The words the embedded models know: objects, backgrounds, styles and accessories.

Plain strings, no IO. The recipe trains on them, discovery lists them when it is asked for another
word, and the benchmarks score against them.
"""

from __future__ import annotations

OBJECTS: tuple[str, ...] = (
    "cat", "dog", "horse", "zebra", "tiger", "rabbit", "cow", "pig",
    "sheep", "elephant", "fox", "lion", "wolf", "bear", "panda", "koala",
)  # fmt: skip

#: Background concept → the phrase that places an object in it.
BACKGROUNDS: dict[str, str] = {
    "grass": "on the grass",
    "beach": "on the beach",
    "snow": "in the snow",
    "street": "in the street",
    "night": "at night",
    "forest": "in the forest",
    "desert": "in the desert",
    "mountains": "in the mountains",
    "room": "in a room",
    "sunset": "at sunset",
}

STYLES: tuple[str, ...] = ("flat drawing", "3d render", "cartoon")

#: Accessory concept → the phrase that puts it on an object.
ACCESSORIES: dict[str, str] = {"hat": "wearing a hat", "glasses": "wearing glasses"}

#: What a judge of pictures says of an object without an accessory.
NO_ACCESSORY = "none"

#: Objects whose picture shows a face, where an accessory can sit.
FACES: tuple[str, ...] = tuple(o for o in OBJECTS if o not in ("horse", "zebra", "sheep", "elephant"))


def known_concepts() -> tuple[str, ...]:
    """Every concept the embedded caption model can be asked for, in a stable order."""
    dressed = tuple(f"{face} {phrase}" for face in FACES for phrase in ACCESSORIES.values())
    return (*OBJECTS, *BACKGROUNDS, *STYLES, *ACCESSORIES, *dressed)
