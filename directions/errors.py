"""What can go wrong while a direction is made, as exceptions whose text is one line."""

from __future__ import annotations

from library.errors import DirectionsError

__all__ = ["BadCaptions", "BadSetting", "DiscoveryError", "ModelUnavailable", "UnknownConcept"]


class DiscoveryError(DirectionsError):
    """Base of the failures of this package."""


class BadSetting(DiscoveryError, ValueError):
    """A setting outside its range, or two that exclude each other."""


class BadCaptions(DiscoveryError, ValueError):
    """Captions that cannot be read, or too few usable ones."""


class ModelUnavailable(DiscoveryError, OSError):
    """A model that is neither on this machine nor reachable, or not of the kind that is needed."""


class UnknownConcept(DiscoveryError, LookupError):
    """A word that the captions model, which states what it knows, does not know."""
