"""Names: slugs, the rule they obey, and references such as `cat2dog@3`. Pure strings."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass

from library.errors import BadName

__all__ = [
    "NAME_RULE",
    "Reference",
    "check_encoder",
    "check_name",
    "direction_name",
    "parse_reference",
    "shortened",
    "slug",
]

LONGEST_NAME = 100
LONGEST_NAME_BYTES = 200  # file systems stop at 255
JOINTS = "-_."
NAME_RULE = (
    f"a name is 1 to {LONGEST_NAME} characters (at most {LONGEST_NAME_BYTES} bytes): lower-case letters of "
    "any script, digits, and '-', '_' or '.' between them, not only a number, not a device name of Windows"
)
ENCODER_RULE = "an encoder id is 1 to 100 of a-z, 0-9, '-', '_', '.', with a letter or digit at both ends"
ALIAS_RULE = "an alias is a name that is not a version number and not 'latest'"
NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)
}


def normalised(text: str) -> str:
    """One spelling for all texts that a case-folding or normalising file system would confuse."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def is_word_character(character: str) -> bool:
    """Letters, digits and the marks that belong to letters, in any script."""
    return unicodedata.category(character)[0] in "LNM"


def slug(phrase: str) -> str:
    """A phrase as a part of a name: `"Cat with hat"` → `"cat-with-hat"`, `"🐱"` → `"cat-face"`."""
    spelled = "".join(
        f" {unicodedata.name(c, ' ')} " if unicodedata.category(c) == "So" else c for c in phrase.strip()
    )
    words = "".join(c if is_word_character(c) else " " for c in normalised(spelled)).split()
    if not words:
        raise BadName(f"{phrase!r} has no letter or digit to make a name of; {NAME_RULE}")
    return "-".join(words)


def direction_name(source: str, target: str) -> str:
    """`("cat", "cat wearing glasses")` → `"cat2cat-wearing-glasses"`; a very long one ends in a hash."""
    return shortened(f"{slug(source)}2{slug(target)}")


def shortened(name: str) -> str:
    """The name, its end a hash where it is too long; raises BadName where it is none."""
    if len(name) > LONGEST_NAME or len(name.encode()) > LONGEST_NAME_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        head = name.encode()[:80].decode(errors="ignore")[: LONGEST_NAME - 9].rstrip(JOINTS)
        name = f"{head}-{digest}"
    return check_name(name)


def check_name(name: str, what: str = "name") -> str:
    """Return `name` unchanged, or raise BadName with the rule."""
    fault = _fault(name)
    if fault:
        raise BadName(f"{what} {name!r} {fault}; {NAME_RULE}")
    return name


def _fault(name: str) -> str | None:
    if not isinstance(name, str) or not name:
        return "is empty"
    if len(name) > LONGEST_NAME or len(name.encode(errors="replace")) > LONGEST_NAME_BYTES:
        return "is too long"
    for character in name:
        if not is_word_character(character) and character not in JOINTS:
            return f"contains {character!r}"
    if name != normalised(name):
        return f"is not in its lower-case form {normalised(name)!r}"
    if name[0] in JOINTS or name[-1] in JOINTS or unicodedata.category(name[0])[0] == "M":
        return "must start and end with a letter or digit"
    if NUMBER.fullmatch(name):
        return "reads as a number"
    if name.split(".")[0] in WINDOWS_DEVICES:
        return "is a device name of Windows"
    return None


def check_encoder(encoder: str) -> str:
    """Return the encoder id unchanged, or raise BadName with the rule."""
    if not isinstance(encoder, str) or not re.fullmatch(r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?", encoder):
        raise BadName(f"encoder {encoder!r} is not an encoder id; {ENCODER_RULE}")
    if encoder.split(".")[0] in WINDOWS_DEVICES:
        raise BadName(f"encoder {encoder!r} is a device name of Windows; {ENCODER_RULE}")
    return encoder


def check_alias(alias: str) -> str:
    """Return the alias unchanged, or raise BadName with the rule."""
    if alias == "latest" or (isinstance(alias, str) and alias.isdigit()):
        raise BadName(f"alias {alias!r} is taken; {ALIAS_RULE}")
    return check_name(alias, "alias")


@dataclass(frozen=True)
class Reference:
    """`cat2dog` (the latest), `cat2dog@3` (version) or `cat2dog@blessed` (alias)."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        suffix = self.version if self.version is not None else self.alias
        return self.name if suffix is None else f"{self.name}@{suffix}"


def parse_reference(text: str) -> Reference:
    """Read `NAME`, `NAME@3`, `NAME@alias` or `NAME@latest`; raises BadName with the rule."""
    name, at, suffix = text.strip().partition("@")
    check_name(name)
    if not at or suffix == "latest":
        return Reference(name)
    if suffix.isdigit() and suffix.isascii():
        if int(suffix) < 1:
            raise BadName(f"{text!r} asks for version {suffix}; versions start at 1")
        return Reference(name, version=int(suffix))
    if not suffix:
        raise BadName(f"{text!r} ends in '@'; expected NAME, NAME@3 or NAME@alias")
    return Reference(name, alias=check_alias(suffix))
