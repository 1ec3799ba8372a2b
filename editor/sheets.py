"""Pictures side by side with text above each, and what a notebook wants of them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_GAP = 8
_TEXT = 13
_SMALLEST_CELL = 192  # small pictures are shown enlarged, so that their labels fit

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Labelled = tuple[str, Image.Image]


def contact_sheet(rows: Sequence[Sequence[Labelled | None]], text_size: int = _TEXT) -> Image.Image:
    """Rows of (label, picture) on white; pictures of one size. Small ones are enlarged by a whole factor.

    None leaves a place empty; a label may have several lines, each cut where it is wider than its picture.
    """
    cells = [cell for row in rows for cell in row if cell is not None]
    width, height = enlarged(cells[0][1]).size
    line_height = text_size * 3 // 2 + 1
    above = line_height * max(label.count("\n") + 1 for label, _ in cells)
    columns = max(len(row) for row in rows)
    sheet = Image.new(
        "RGB", (columns * (width + _GAP) + _GAP, len(rows) * (height + above + _GAP) + _GAP), "white"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(text_size)
    for j, row in enumerate(rows):
        for i, cell in enumerate(row):
            if cell is None:
                continue
            x, y = _GAP + i * (width + _GAP), _GAP + j * (height + above + _GAP)
            lines = cell[0].split("\n")
            top = y + above - line_height * len(lines)
            for k, line in enumerate(lines):
                pen.text((x, top + k * line_height), _shortened(line, font, width), fill="black", font=font)
            sheet.paste(cell[1].resize((width, height), Image.Resampling.NEAREST), (x, y + above))
    return sheet


def enlarged(picture: Image.Image, smallest: int = _SMALLEST_CELL) -> Image.Image:
    """The picture, by a whole factor at least `smallest` pixels along its longer side; pixels stay sharp."""
    width, height = picture.size
    factor = max(1, -(-smallest // max(width, height)))
    return picture.resize((width * factor, height * factor), Image.Resampling.NEAREST)


def png_bytes(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def html_figures(cells: Sequence[Labelled], lines: Sequence[str]) -> str:
    """Labelled pictures side by side with lines of text below, as HTML that needs no other file."""
    figures = "".join(
        '<figure style="display:inline-block;margin:0 8px 8px 0">'
        f"<figcaption>{html.escape(label)}</figcaption>"
        f'<img alt="{html.escape(label)}" src="data:image/png;base64,'
        f'{base64.b64encode(png_bytes(enlarged(picture))).decode()}"></figure>'
        for label, picture in cells
    )
    return f"<div>{figures}{''.join(f'<div>{html.escape(line)}</div>' for line in lines)}</div>"


def _shortened(text: str, font: Font, width: int) -> str:
    """The text, cut with an ellipsis to fit ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
