"""Edit pictures along directions: caption, invert, guide.

    from editor import Editor
    edit = Editor("embedded").invert("cat.png").edit(direction)

Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from library.lazy import lazy

if TYPE_CHECKING:
    from editor.inversion import Edit, Inversion
    from editor.pipeline import StableDiffusionPix2PixZeroPipeline
    from editor.regularize import Regulariser
    from editor.session import Editor
    from editor.settings import EditSettings

__all__ = [
    "Edit",
    "EditSettings",
    "Editor",
    "Inversion",
    "Regulariser",
    "StableDiffusionPix2PixZeroPipeline",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Edit": "editor.inversion",
        "EditSettings": "editor.settings",
        "Editor": "editor.session",
        "Inversion": "editor.inversion",
        "Regulariser": "editor.regularize",
        "StableDiffusionPix2PixZeroPipeline": "editor.pipeline",
    },
)
