"""Edit pictures along directions: caption, invert, guide.

    from editor import Editor
    edit = Editor("embedded").invert("cat.png").edit(direction)

Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

HOMES = {
    "Edit": "editor.inversion",
    "EditSettings": "editor.settings",
    "Editor": "editor.session",
    "Inversion": "editor.inversion",
    "Regulariser": "editor.regularize",
    "StableDiffusionPix2PixZeroPipeline": "editor.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
