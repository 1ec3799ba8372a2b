"""A store that people trust with their directions: immutable numbered versions in a folder of files.

    from library import Direction, Library
    saved = Library().save(Direction(name="cat2dog", tensor=array, encoder="clip-vit-l-1a2b3c4d"))
    direction = Library().resolve("0.8*cat2dog + day2winter")

Nothing heavy is imported: numpy with `Direction`, pandas with `Library.catalog`, torch only while a `.pt`
file is read or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from library.lazy import lazy

if TYPE_CHECKING:
    from library.direction import Direction
    from library.errors import DirectionsError
    from library.names import direction_name
    from library.store import Library

__all__ = ["Direction", "DirectionsError", "Library", "direction_name"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Direction": "library.direction",
        "DirectionsError": "library.errors",
        "Library": "library.store",
        "direction_name": "library.names",
    },
)
