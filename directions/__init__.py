"""Discovery: two concepts in words become a direction in a text encoder's embedding space.

    from directions import discover
    direction = discover("cat", "dog")                      # the embedded models, 200 captions a side
    direction = discover("cat", "dog", models="sd-1.5")     # Flan-T5 XL and Stable Diffusion's text encoder

Nothing heavy is imported until one of the names is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from library.lazy import lazy

if TYPE_CHECKING:
    from directions.discovery import Discovery, discover
    from directions.errors import DiscoveryError
    from directions.pairs import discover_pairs
    from directions.rebuilding import rebuild
    from directions.settings import Settings

__all__ = ["Discovery", "DiscoveryError", "Settings", "discover", "discover_pairs", "rebuild"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Discovery": "directions.discovery",
        "DiscoveryError": "directions.errors",
        "Settings": "directions.settings",
        "discover": "directions.discovery",
        "discover_pairs": "directions.pairs",
        "rebuild": "directions.rebuilding",
    },
)
