"""Captions: the prompt that asks for them, fixed templates, and the sieve that cleans them. Pure strings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice

from directions.errors import BadCaptions
from zoo.words import names_concept, swap_concept, with_article

__all__ = ["PROMPT", "Captions", "Sieve", "clean", "fill", "pair", "split", "template_captions"]

#: The prompt of the pix2pix-zero documentation; `{a_concept}` is the concept with its article.
PROMPT = (
    "Provide a caption for images containing {a_concept}. The captions should be in English and should be "
    "no longer than 150 characters."
)

SHOTS = (
    "a photo of {a_concept}", "{a_concept}", "a picture of {a_concept}", "an image of {a_concept}",
    "a close-up photo of {a_concept}", "a painting of {a_concept}", "a bright photo of {a_concept}",
    "a dark photo of {a_concept}", "a good photo of {a_concept}", "a cropped photo of {a_concept}",
    "a blurry photo of {a_concept}", "a drawing of {a_concept}",
)  # fmt: skip
PLACES = (
    "", " on the grass", " on the beach", " in the snow", " in the street", " at night", " in the forest",
    " in the desert", " in the mountains", " in a room", " at sunset", " in a field", " by a lake",
    " in the city", " in the rain", " in a garden", " on a table", " near a window", " under a tree",
    " in the sun",
)  # fmt: skip


@dataclass(frozen=True)
class Captions:
    """The captions of one concept, and what was drawn in vain to get them.

    drawn: all candidates; off_concept, duplicates, too_long, empty: those among them that were refused;
    unnamed: those kept although they do not name the concept, which only given captions may do.
    """

    concept: str
    texts: tuple[str, ...]
    drawn: int = 0
    off_concept: int = 0
    duplicates: int = 0
    too_long: int = 0
    empty: int = 0
    unnamed: int = 0

    def counts(self) -> dict[str, int]:
        """The numbers alone."""
        return {k: v for k, v in asdict(self).items() if k not in ("concept", "texts")}


def fill(template: str, concept: str) -> str:
    """A prompt or template with `{concept}` and `{a_concept}` (with its article) filled in."""
    return template.replace("{a_concept}", with_article(concept)).replace("{concept}", concept)


def clean(text: str) -> str:
    """One caption without what is not part of it: list numbers, bullets, quotes, "Caption:", odd spaces."""
    text = " ".join(text.split())
    text = re.sub(r"^(?:[-*•–]\s+|\(?\d{1,3}[.):]\s+)", "", text)
    text = re.sub(r"^captions?\s*(?:\d+\s*)?:\s*", "", text, flags=re.IGNORECASE)
    for opening, closing in ('""', "''", "“”", "‘’", "«»", "``"):
        if len(text) > 1 and text.startswith(opening) and text.endswith(closing):
            text = text[1:-1].strip()
    return text


def split(answer: str) -> list[str]:
    """The captions in one answer of a language model: its lines, without headings ("Here are some:")."""
    lines = [line.strip() for line in answer.splitlines() if line.strip()] or [""]
    return [line for line in lines if not line.endswith(":")] or [""]


def template_captions(concept: str) -> Iterator[str]:
    """Fixed sentences about a concept, 240 of them, every kind of picture and place first seen early."""
    count = len(SHOTS) * len(PLACES)
    for index in range(count):
        # a walk over all combinations that changes both parts at every step
        shot, place = SHOTS[index % len(SHOTS)], PLACES[(index + index // 60) % len(PLACES)]
        yield fill(shot, concept) + place


class Sieve:
    """Decides which candidates become captions of `concept`, and counts the others by reason.

    fits: whether the text encoder reads the whole caption. require: refuse what does not name the concept;
    otherwise it is only counted.
    """

    def __init__(self, concept: str, fits: Callable[[str], bool] | None = None, require: bool = True) -> None:
        self.concept = concept
        self.fits = fits
        self.require = require
        self.kept: list[str] = []
        self.result = Captions(concept, ())
        self._seen: set[str] = set()

    def offer(self, candidate: str) -> bool:
        """Keep a candidate if it is fit to be a caption."""
        text = clean(candidate)
        fault = self._fault(text)
        if fault != "":
            changes = {"drawn": self.result.drawn + 1, fault: getattr(self.result, fault) + 1}
            self.result = replace(self.result, **changes)  # type: ignore[arg-type]
            return False
        unnamed = 0 if names_concept(text, self.concept) else 1
        self._seen.add(_key(text))
        self.kept.append(text)
        self.result = replace(self.result, drawn=self.result.drawn + 1, unnamed=self.result.unnamed + unnamed)
        return True

    def _fault(self, text: str) -> str:
        if not text:
            return "empty"
        if self.require and not names_concept(text, self.concept):
            return "off_concept"
        if _key(text) in self._seen:
            return "duplicates"
        if self.fits is not None and not self.fits(text):
            return "too_long"
        return ""

    def take(self, candidates: Iterable[str], count: int | None, limit: int | None = None) -> Captions:
        """Keep up to `count` (None: all) of the candidates, looking at no more than `limit` of them."""
        for candidate in islice(candidates, limit):
            if count is not None and len(self.kept) >= count:
                break
            self.offer(candidate)
            if len(self.kept) == count:
                break
        return replace(self.result, texts=tuple(self.kept))


def _key(text: str) -> str:
    """What two captions share that differ only in case and a final full stop."""
    return text.casefold().rstrip(".! ")


def pair(
    source: Captions, target: Captions, count: int | None, fits: Callable[[str], bool]
) -> tuple[Captions, Captions]:
    """Parallel captions: sentence i of both sides is the same but for the concept.

    Half are the source's with the target put in, half the other way round; what cannot be swapped, or does
    not fit then, is skipped. count: None makes as many pairs as there can be. Raises BadCaptions if fewer
    than `count` pairs can be made.
    """
    least, count = count or 1, count or len(source.texts) + len(target.texts)
    pairs: list[tuple[str, str]] = []
    seen: set[str] = set()
    rest = [_swapped(source, target.concept), [(b, a) for a, b in _swapped(target, source.concept)]]
    halves = [rest[0][: (count + 1) // 2], rest[1][: count // 2]]
    spare = [rest[0][len(halves[0]) :], rest[1][len(halves[1]) :]]
    for one, other in (*halves[0], *halves[1], *spare[0], *spare[1]):
        if len(pairs) == count:
            break
        if _key(one) not in seen and fits(one) and fits(other):
            seen.add(_key(one))
            pairs.append((one, other))
    if len(pairs) < least:
        raise BadCaptions(
            f"only {len(pairs)} of {least} caption pairs could be made: {source.concept!r} and "
            f"{target.concept!r} must stand in the captions as they are written; ask for fewer captions or "
            "use --no-paired"
        )
    return (
        replace(source, texts=tuple(one for one, _ in pairs)),
        replace(target, texts=tuple(other for _, other in pairs)),
    )


def _swapped(captions: Captions, into: str) -> list[tuple[str, str]]:
    swaps = ((text, swap_concept(text, captions.concept, into)) for text in captions.texts)
    return [(text, new) for text, new in swaps if new is not None]
