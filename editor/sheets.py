"""Pictures side by side with a line of text above each."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_GAP = 8
_LINE = 20
_SMALLEST_CELL = 192  # small pictures are shown enlarged, so that their labels fit

Labelled = tuple[str, Image.Image]


def contact_sheet(rows: Sequence[Sequence[Labelled]]) -> Image.Image:
    """Rows of (label, picture) on white; pictures of one size. Small ones are enlarged by a whole factor."""
    width, height = rows[0][0][1].size
    factor = max(1, -(-_SMALLEST_CELL // max(width, height)))
    width, height = width * factor, height * factor
    columns = max(len(row) for row in rows)
    sheet = Image.new(
        "RGB", (columns * (width + _GAP) + _GAP, len(rows) * (height + _LINE + _GAP) + _GAP), "white"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for j, row in enumerate(rows):
        for i, (label, picture) in enumerate(row):
            x, y = _GAP + i * (width + _GAP), _GAP + j * (height + _LINE + _GAP)
            pen.text((x, y), _shortened(label, font, width), fill="black", font=font)
            sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (x, y + _LINE))
    return sheet


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, cut with an ellipsis to fit ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
