"""What can go wrong, as exceptions whose text is one line: what was given, what was expected, what to do."""

from __future__ import annotations

__all__ = [
    "AmbiguousDirection",
    "BadExpression",
    "BadFile",
    "BadName",
    "BadTensor",
    "DamagedFile",
    "DirectionsError",
    "EncoderMismatch",
    "HubError",
    "StorageError",
    "UnknownDirection",
]


class DirectionsError(Exception):
    """Base of every failure that a user can understand and act on."""

    def __str__(self) -> str:
        return " ".join(str(self.args[0]).split()) if self.args else type(self).__name__


class UnknownDirection(DirectionsError, KeyError):
    """No direction, version or alias of that name."""


class AmbiguousDirection(DirectionsError, LookupError):
    """The name exists for several encoders and none was asked for."""


class EncoderMismatch(DirectionsError, ValueError):
    """A direction made by one text encoder was used with another."""


class BadName(DirectionsError, ValueError):
    """A name that the rule refuses."""


class BadExpression(DirectionsError, ValueError):
    """Text that is not a sum of scaled directions."""


class BadTensor(DirectionsError, ValueError):
    """A tensor of the wrong shape or type, or one that is not finite."""


class DamagedFile(DirectionsError):
    """A version file that fails its checks: it is reported and never served."""


class BadFile(DirectionsError):
    """A foreign file that cannot be imported."""


class StorageError(DirectionsError, OSError):
    """The disk refused: full, read-only or unreadable."""


class HubError(DirectionsError):
    """The hub could not be reached, or another push came first."""


def rebuild_command(name: str, models: str | None = None) -> str:
    """The command that makes `name` again for another encoder, from its stored captions."""
    return f"mkdir-direction --rebuild {name} --models {models or 'SET'}"


def imported_for(declared: str, encoder: str) -> str:
    """What to say of a foreign direction that was declared to be for another encoder."""
    return f"imported for {declared}; if it belongs to this encoder, import it again with --encoder {encoder}"
