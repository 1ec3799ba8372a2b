"""A seeded generator of pictures with captions and ground truth.

A scene is one object (an emoji animal in one of three styles, perhaps with an accessory) on one of ten
procedurally drawn backgrounds. Everything about it follows from its fields, so a scene can be changed in
one respect (``replace(scene, object="dog")``) and drawn again with all else equal: the ground truth of an edit.

Training uses seeds below :data:`HELD_OUT`; benchmarks and tests use seeds from there on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from zoo.concepts import ACCESSORIES, BACKGROUNDS, FACES, OBJECTS, STYLES
from zoo.recipe.sprites import sprite

SIZE = 64
HELD_OUT = 10_000_000
_CANVAS = 2 * SIZE  # drawn at twice the size, then halved: smooth edges

Color = tuple[int, int, int]

#: Object → (x, y of the hat's brim; y of the eyes), in fractions of the sprite; faces not listed use the default.
_ANCHORS: dict[str, tuple[float, float, float]] = {
    "rabbit": (0.5, 0.42, 0.60),
    "koala": (0.5, 0.20, 0.46),
    "cow": (0.5, 0.22, 0.42),
    "panda": (0.5, 0.20, 0.50),
    "bear": (0.5, 0.20, 0.48),
    "lion": (0.5, 0.20, 0.44),
    "pig": (0.5, 0.20, 0.40),
    "fox": (0.5, 0.30, 0.56),
    "wolf": (0.5, 0.30, 0.50),
}
_DEFAULT_ANCHOR = (0.5, 0.24, 0.47)
_HAT_WIDTH, _GLASSES_WIDTH = 0.60, 0.72


@dataclass(frozen=True)
class Scene:
    """What a picture shows. ``x`` is the object's centre and ``y`` its lower edge, in fractions of the picture."""

    object: str
    background: str
    style: str
    accessory: str | None
    size: float
    x: float
    y: float
    mirror: bool
    brightness: float
    saturation: float
    seed: int


def sample_scene(seed: int, **fixed: object) -> Scene:
    """Draw the scene of ``seed``; keyword arguments fix single fields (``object="cat"``)."""
    rng = random.Random(seed)
    drawn: dict[str, object] = {
        "object": rng.choice(OBJECTS),
        "background": rng.choice(tuple(BACKGROUNDS)),
        "style": rng.choice(STYLES),
        "accessory": rng.choices((None, *ACCESSORIES), (0.7, 0.15, 0.15))[0],
        "size": rng.uniform(0.62, 0.8),
        "x": rng.uniform(0.0, 1.0),
        "y": rng.uniform(0.0, 1.0),
        "mirror": rng.random() < 0.5,
        "brightness": rng.uniform(0.9, 1.1),
        "saturation": rng.uniform(0.85, 1.15),
        "seed": seed,
    } | fixed
    if drawn["object"] not in FACES:
        drawn["accessory"] = None
    return Scene(**drawn)  # type: ignore[arg-type]


def draw_scene(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene: the picture ``[64, 64, 3] uint8`` and the mask of its object ``[64, 64] bool``."""
    canvas = draw_background(scene)
    layer = _draw_object(scene)
    canvas.paste(layer, (0, 0), layer)
    mask = np.asarray(layer.getchannel("A").reduce(2)) > 64
    return np.asarray(canvas.reduce(2)), mask


def _draw_object(scene: Scene) -> Image.Image:
    """The object with its accessory on a transparent canvas, RGBA."""
    side = round(scene.size * _CANVAS)
    body = sprite(scene.object, scene.style).resize((side, side), Image.Resampling.LANCZOS)
    above = 0
    if scene.accessory:
        brim_x, brim_y, eyes_y = _ANCHORS.get(scene.object, _DEFAULT_ANCHOR)
        hat = scene.accessory == "hat"
        width = round((_HAT_WIDTH if hat else _GLASSES_WIDTH) * side)
        worn = sprite(scene.accessory, scene.style)
        worn = worn.crop(worn.getbbox()).resize(
            (width, round(width * _aspect(worn))), Image.Resampling.LANCZOS
        )
        top = round(brim_y * side) - worn.height if hat else round(eyes_y * side) - worn.height // 2
        above = max(0, -top)
        taller = Image.new("RGBA", (side, side + above))
        taller.paste(body, (0, above))
        taller.alpha_composite(worn, (round(brim_x * side) - width // 2, top + above))
        body = taller
    if scene.mirror:
        body = body.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    alpha = body.getchannel("A")
    toned = ImageEnhance.Color(ImageEnhance.Brightness(body.convert("RGB")).enhance(scene.brightness))
    body = toned.enhance(scene.saturation)
    body.putalpha(alpha)
    margin = round(0.02 * _CANVAS)
    left = margin + round(scene.x * (_CANVAS - side - 2 * margin))
    spare = _CANVAS - side - above - 2 * margin
    top = margin + round((0.5 + 0.5 * scene.y) * max(0, spare))  # in the lower half of the free space
    layer = Image.new("RGBA", (_CANVAS, _CANVAS))
    layer.paste(body, (left, top))
    return layer


def _aspect(image: Image.Image) -> float:
    left, top, right, bottom = image.getbbox() or (0, 0, 1, 1)
    return (bottom - top) / (right - left)


# ---------------------------------------------------------------------------------------------- backgrounds


def draw_background(scene: Scene) -> Image.Image:
    rng = random.Random(f"background {scene.seed}")
    return _PAINTERS[scene.background](rng)


def _gradient(top: Color, bottom: Color) -> Image.Image:
    ramp = np.linspace(0, 1, _CANVAS)[:, None, None]
    rows = (1 - ramp) * np.array(top) + ramp * np.array(bottom)
    return Image.fromarray(np.broadcast_to(rows, (_CANVAS, _CANVAS, 3)).astype(np.uint8))


def _jitter(rng: random.Random, color: Color, amount: int = 12) -> Color:
    shift = rng.randint(-amount, amount)
    r, g, b = (max(0, min(255, c + shift + rng.randint(-amount // 2, amount // 2))) for c in color)
    return r, g, b


def _canvas(
    rng: random.Random, top: Color, bottom: Color, horizon: float, ground: Color, spread: float = 0.05
) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """A sky gradient over flat ground; returns the image, its pen and the horizon's row."""
    image = _gradient(_jitter(rng, top), _jitter(rng, bottom))
    pen = ImageDraw.Draw(image)
    row = round((horizon + rng.uniform(-spread, spread)) * _CANVAS)
    pen.rectangle((0, row, _CANVAS, _CANVAS), fill=_jitter(rng, ground))
    return image, pen, row


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: Color) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _grass(rng: random.Random) -> Image.Image:
    image, pen, row = _canvas(rng, (120, 190, 250), (215, 240, 255), 0.5, (110, 190, 70))
    for _ in range(7):
        x, y = rng.uniform(0, _CANVAS), rng.uniform(row + 8, _CANVAS)
        pen.polygon(
            [(x - 7, y), (x - 4, y - 11), (x, y - 3), (x + 4, y - 11), (x + 7, y)], fill=(60, 140, 40)
        )
    return image


def _beach(rng: random.Random) -> Image.Image:
    image, pen, row = _canvas(rng, (110, 200, 255), (190, 235, 255), 0.38, (30, 140, 200))
    shore = row + rng.randint(16, 26)
    pen.rectangle((0, shore, _CANVAS, _CANVAS), fill=_jitter(rng, (240, 215, 150)))
    pen.rectangle((0, shore - 3, _CANVAS, shore), fill=(245, 250, 250))
    _disc(pen, rng.choice((18, 110)), 18, 11, (255, 225, 60))
    return image


def _snow(rng: random.Random) -> Image.Image:
    image, pen, _ = _canvas(rng, (150, 165, 190), (190, 205, 225), 0.6, (242, 246, 252))
    for i in range(12):
        _disc(
            pen,
            (i % 4 + rng.uniform(0.2, 0.8)) * 32,
            (i // 4 + rng.uniform(0.1, 0.9)) * 26,
            3,
            (255, 255, 255),
        )
    return image


def _street(rng: random.Random) -> Image.Image:
    image, pen, row = _canvas(rng, (175, 195, 215), (215, 225, 235), 0.66, (85, 85, 92), 0.03)
    x = rng.randint(-20, 0)
    while x < _CANVAS:
        width, height = rng.randint(30, 42), rng.randint(40, 72)
        pen.rectangle((x, row - height, x + width - 3, row), fill=_jitter(rng, rng.choice(_WALLS), 8))
        for wy in range(row - height + 8, row - 12, 18):
            for wx in (x + 6, x + width - 17):
                pen.rectangle((wx, wy, wx + 7, wy + 9), fill=(70, 85, 110))
        x += width
    for dash in range(rng.randint(0, 20), _CANVAS, 36):
        pen.rectangle((dash, row + 20, dash + 18, row + 24), fill=(240, 240, 235))
    return image


_WALLS: tuple[Color, ...] = ((190, 95, 75), (205, 165, 120), (150, 150, 160))


def _night(rng: random.Random) -> Image.Image:
    image, pen, _ = _canvas(rng, (8, 10, 45), (35, 40, 100), 0.75, (18, 28, 40))
    for i in range(9):
        _disc(
            pen,
            (i % 3 + rng.uniform(0.15, 0.85)) * 43,
            (i // 3 + rng.uniform(0.1, 0.9)) * 30,
            2,
            (250, 250, 210),
        )
    _disc(pen, rng.choice((22, 106)), 20, 12, (245, 240, 200))
    return image


def _forest(rng: random.Random) -> Image.Image:
    image, pen, row = _canvas(rng, (150, 200, 160), (110, 170, 120), 0.76, (75, 95, 45))
    for i in range(5):
        x = (i + rng.uniform(0.2, 0.8)) * _CANVAS / 5
        pen.rectangle((x - 4, 40, x + 4, row + 3), fill=(95, 65, 40))
        green = _jitter(rng, (40, 110, 55), 10)
        pen.polygon([(x - 18, 62), (x, -12), (x + 18, 62)], fill=green)
    return image


def _desert(rng: random.Random) -> Image.Image:
    image, pen, row = _canvas(rng, (250, 205, 120), (255, 235, 180), 0.56, (222, 160, 85))
    x = rng.uniform(0, _CANVAS)
    pen.ellipse((x - 90, row - 14, x + 90, row + 60), fill=_jitter(rng, (205, 140, 70), 8))
    x = rng.choice((16, 112)) + rng.uniform(-6, 6)
    for box in (
        (-5, -40, 5, 14),
        (-14, -26, -9, -8),
        (-14, -13, 0, -8),
        (9, -32, 14, -14),
        (0, -19, 14, -14),
    ):
        pen.rectangle((x + box[0], row + box[1], x + box[2], row + box[3]), fill=(60, 125, 65))
    return image


def _mountains(rng: random.Random) -> Image.Image:
    image, pen, row = _canvas(rng, (90, 150, 225), (185, 215, 245), 0.7, (95, 140, 85))
    for i in range(3):
        x, peak = (i + rng.uniform(0.2, 0.8)) * _CANVAS / 3, rng.uniform(12, 40)
        slope = 38 / (row - peak)
        pen.polygon([(x - 38, row), (x, peak), (x + 38, row)], fill=_jitter(rng, (110, 115, 135), 10))
        pen.polygon(
            [(x - 16 * slope, peak + 16), (x, peak), (x + 16 * slope, peak + 16)], fill=(250, 250, 255)
        )
    return image


def _room(rng: random.Random) -> Image.Image:
    wall = rng.choice(((235, 205, 190), (200, 215, 200), (225, 220, 180)))
    image, pen, row = _canvas(rng, wall, wall, 0.72, (150, 100, 60))
    for x in range(rng.randint(0, 24), _CANVAS, 26):
        pen.line((x, row, x, _CANVAS), fill=(115, 72, 40), width=3)
    pen.rectangle((0, row - 4, _CANVAS, row), fill=(250, 248, 240))
    x = rng.choice((6, 76))
    pen.rectangle((x, 8, x + 46, 52), fill=(250, 250, 245))
    pen.rectangle((x + 5, 13, x + 41, 47), fill=(150, 205, 245))
    pen.line((x + 23, 13, x + 23, 47), fill=(250, 250, 245), width=4)
    return image


def _sunset(rng: random.Random) -> Image.Image:
    image = _gradient(_jitter(rng, (120, 50, 130)), _jitter(rng, (255, 150, 70)))
    pen = ImageDraw.Draw(image)
    row = round(rng.uniform(0.6, 0.7) * _CANVAS)
    _disc(pen, rng.uniform(0.2, 0.8) * _CANVAS, row, 34, (255, 215, 90))
    pen.rectangle((0, row, _CANVAS, _CANVAS), fill=_jitter(rng, (70, 35, 85)))
    for i in range(4):
        x, y = rng.uniform(10, _CANVAS - 30), row + 8 + 10 * i
        pen.rectangle((x, y, x + 26, y + 3), fill=(240, 150, 90))
    return image


_PAINTERS: dict[str, Callable[[random.Random], Image.Image]] = {
    "grass": _grass, "beach": _beach, "snow": _snow, "street": _street, "night": _night, "forest": _forest,
    "desert": _desert, "mountains": _mountains, "room": _room, "sunset": _sunset,
}  # fmt: skip
