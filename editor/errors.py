"""What the editor refuses, as errors whose text says what was given, what was expected and what to do."""

from __future__ import annotations

from library.errors import DirectionsError, EncoderMismatch

__all__ = ["EditorError", "EncoderMismatch", "ModelsUnavailable", "PictureError"]


class EditorError(DirectionsError, ValueError):
    """The base of every failure that the editor knows; its text is for people."""


class PictureError(EditorError):
    """A picture that is missing, damaged, too large, or of an unknown kind."""


class ModelsUnavailable(EditorError):
    """Models that are neither in the named folder, nor cached, nor reachable, or are of the wrong kind."""
