"""What went wrong with an edit, in figures and plain words, and what to do. No classifier is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any

from editor.likeness import edge_likeness, psnr
from zoo.concepts import OBJECTS, known_concepts
from zoo.words import UNNEEDED, forms, names_concept, words_of

if TYPE_CHECKING:
    from editor.inversion import Edit, Inversion

# What the limits rest on is in the docstring of `diagnose`.
#: dB to the autoencoder's own reconstruction that an inversion should reach: an error of 8 of 255 grey levels.
RECONSTRUCTION = 30.0
#: dB to the reconstruction above which an edit can hardly be seen: 10 grey levels.
WEAK = 28.0
#: Correlation of the edges with the reconstruction's, away from what changes and over the whole picture.
EDGES_AWAY, EDGES = 0.6, 0.2
#: Model set of a small world → dB at which its autoencoder alone gives back the pictures of that world. Of 300
#: held-out scenes of the embedded models 1% fell below 24.3 dB (median 31.4); of 31 photographs and drawings by
#: others 25 lay below 24, and so did noise. Blurred pictures and a grey ramp pass: they are easy to encode.
SMALL_WORLDS: Mapping[str, float] = {"embedded": 24.0}
#: A synonym is in this share of the captions that do without the concept, and so many times rarer in the target's.
_COMMON, _RARER = 0.1, 10


@dataclass(frozen=True)
class Finding:
    """One thing that went wrong: `code` for programs, `message` with its figures, `remedy` what to do."""

    code: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


def diagnose(edit: Edit, inversion: Inversion, direction: Any) -> tuple[Finding, ...]:
    """What is wrong with an edit of `inversion` along `direction`, causes first; nothing where all is well.

    Costs a decoding for each inversion and five evaluations of the UNet for each edit. With `strength` 0
    nothing should change, and `edit-weak` says so all the same.

    Limits are between what was measured on twelve held-out cats, cat to dog, embedded models, 20 steps:

    - `inversion-poor`, dB without source correction: 33.0 to 37.0; in 3 steps 25.8 to 29.6; with an
      autocorrelation weight of 100 22.7 to 30.7; four photographs 20.3 to 24.4.
    - `edit-weak`, dB: 33.9 to 40.3 at strength 0.1, 22.6 to 26.7 at 0.3, 12.9 to 15.1 at 1. A hat, which
      changes little, is at most 26.4.
    - `structure-lost`, away from the cat: 0.98 to 1.00 at strength 1; 0.65 to 0.97 with neither guidance nor
      the background kept; so at strength 3 0.01 to 0.27. Over the whole picture: 0.32 to 0.54, 0.24 to 0.50
      and 0.01 to 0.17. `Edit.drift` grows alike, but is 0 without guidance and on no scale that models share.
    """
    found = (
        unfamiliar_picture(inversion),
        source_missing(
            inversion.caption, direction, edit.record.get("strength", 1.0), inversion.caption_option
        ),
        direction_unstable(direction),
        inversion_poor(edit, inversion),
        edit_weak(edit),
        structure_lost(edit, inversion, direction),
    )
    return tuple(finding for finding in found if finding is not None)


def unfamiliar_picture(inversion: Inversion) -> Finding | None:
    """`unfamiliar-picture`: outside the small world that the models know, by the picture or by its caption."""
    limit = SMALL_WORLDS.get(inversion.models)
    if limit is None:
        return None
    elsewhere = (
        f"the {inversion.models} models know {', '.join(OBJECTS)}, and a few places, styles and accessories: "
        "use --models sd-1.4"
    )
    if inversion.picture is not None and inversion.latents is not None:
        own = psnr(inversion.autoencoded(), inversion.picture)
        if own < limit:
            return Finding(
                "unfamiliar-picture",
                f"the picture is unlike those that the models learned from: their autoencoder alone gives it "
                f"back at {own:.1f} dB, {limit:g} expected",
                elsewhere,
            )
    known = {word for concept in known_concepts() for word in words_of(concept)} - UNNEEDED
    if not any(known & forms(word) for word in words_of(inversion.caption)):
        return Finding(
            "unfamiliar-picture",
            f"the caption {inversion.caption!r} has no word that the models learned",
            f"{elsewhere}, or say it in their words with {inversion.caption_option}",
        )
    return None


def source_missing(
    caption: str, direction: Any, strength: float = 1.0, flag: str = "--caption"
) -> Finding | None:
    """`source-missing`: the caption names neither what the direction starts from nor a synonym of it.

    A negative strength starts from the direction's target. A sum starts from every one of its parts.
    """
    concepts = [(getattr(direction, "source", ""), getattr(direction, "target", ""))]
    if not any(concepts[0]):
        concepts = [(part.source, part.target) for part in getattr(direction, "anchored", ())]
    captions = (getattr(direction, "record", None) or {}).get("captions") or {}
    source, target = ("source", "target") if strength >= 0 else ("target", "source")
    said = words_of(caption)
    for pair in concepts:
        concept = pair[0] if strength >= 0 else pair[1]
        others = synonyms(concept, captions.get(source, ()), captions.get(target, ()))
        if concept and not names_concept(caption, concept) and not set(others) & set(said):
            also = f" or {', '.join(others[:5])}" if others else ""
            return Finding(
                "source-missing",
                f"the caption {caption!r} does not name {concept!r}{also}, from which the direction starts",
                f"say what the picture shows with {flag}, naming {concept!r}",
            )
    return None


def synonyms(concept: str, captions: Sequence[str], other: Sequence[str]) -> list[str]:
    """What the captions of a concept say in its place, most frequent first.

    These are words of those that do not name it, which the `other` concept's captions hardly use. Captions
    that a model wrote name their concept, so they have none; given ones ("dark street" for night) may.
    """
    unnamed = [caption for caption in captions if not names_concept(caption, concept)]
    here, there = _shares(unnamed), _shares(other)
    least = max(_COMMON, 2 / max(len(unnamed), 1))
    found = [word for word, share in here.items() if share >= max(least, _RARER * there.get(word, 0.0))]
    return sorted(found, key=lambda word: (-here[word], word))


def direction_unstable(direction: Any) -> Finding | None:
    """`direction-unstable`: the quality report in the direction's record says so; with the report's remedy."""
    doubts = getattr(direction, "doubts", ())
    if not doubts:
        return None
    quality = doubts[0]
    again = f"mkdir-direction {quote(quality['source'])} {quote(quality['target'])}"
    verdict, _, remedy = str(quality.get("verdict", quality["stability"])).partition(": ")
    figures = ", ".join(f"{key} {quality[key]:.2f}" for key in ("agreement", "accuracy") if quality.get(key))
    return Finding(
        "direction-unstable",
        f"the direction {quality['name']} is not to be trusted: {verdict}"
        + (f" ({figures} of 1)" if figures else ""),
        f"{remedy or 'add captions'}; make it again: {again}",
    )


def inversion_poor(edit: Edit, inversion: Inversion) -> Finding | None:
    """`inversion-poor`: what the noise regenerates is far from what the autoencoder could give."""
    if inversion.latents is None:
        return None
    found = psnr(edit.reconstruction, inversion.autoencoded())
    if found >= RECONSTRUCTION:
        return None
    return Finding(
        "inversion-poor",
        f"the inversion is poor: its reconstruction is {found:.1f} dB from the autoencoder's own, "
        f"{RECONSTRUCTION:g} expected",
        f"take more steps than {inversion.steps} (--steps), a better --caption, a weaker regularisation "
        "(--auto-corr, --kl), or --source-correction",
    )


def edit_weak(edit: Edit) -> Finding | None:
    """`edit-weak`: the edit hardly differs from the reconstruction."""
    found = psnr(edit.image, edit.reconstruction)
    if found <= WEAK:
        return None
    distance = 255 / 10 ** (found / 20)
    strength = edit.record.get("strength", 1.0)
    settings = edit.record.get("settings", {})
    held = [
        f"--{flag} below {settings[name]:g}"
        for flag, name in (("guidance", "cross_attention_guidance"), ("keep-background", "keep_background"))
        if settings.get(name)
    ]
    return Finding(
        "edit-weak",
        f"hardly anything changed: the edit is {distance:.1f} of 255 grey levels from the reconstruction "
        f"(root mean square; {found:.1f} dB, at most {WEAK:g} expected)",
        f"{'raise --strength above' if strength >= 0 else 'lower --strength below'} {strength:g}"
        + (f", or lower {' or '.join(held)}" if held else ""),
    )


def structure_lost(edit: Edit, inversion: Inversion, direction: Any) -> Finding | None:
    """`structure-lost`: edges moved where the picture looks away from what the direction starts from.

    Edges, not colours: from day to night every colour may change. Where the caption does not name the
    source, the whole picture is compared, with a lower limit. A sum of directions may change anything.
    """
    if len(getattr(direction, "anchored", ())) > 1:
        return None
    from editor.wordmaps import away_from

    strength = edit.record.get("strength", 1.0)
    forward = strength >= 0
    concept = getattr(direction, "source" if forward else "target", "")
    where = away_from(inversion, edit, concept) if concept else None
    limit, place = (EDGES, "") if where is None else (EDGES_AWAY, f" away from the {concept}")
    found = edge_likeness(edit.image, edit.reconstruction, where)
    if found >= limit:
        return None
    settings = edit.record.get("settings", {})
    return Finding(
        "structure-lost",
        f"the picture's structure is lost: its edges{place} agree to {found:.3f} with the reconstruction's, "
        f"{limit:g} of 1 expected",
        f"raise --guidance above {settings.get('cross_attention_guidance', 0):g}, "
        f"{'lower --strength below' if forward else 'raise --strength above'} {strength:g}, or hold the background "
        "with --keep-background",
    )


def _shares(captions: Sequence[str]) -> dict[str, float]:
    """For each word that matters the share of the captions that hold it."""
    counts = Counter(word for caption in captions for word in set(words_of(caption)))
    return {word: count / len(captions) for word, count in counts.items() if word not in UNNEEDED}
