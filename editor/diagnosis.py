"""What went wrong with an edit, in figures and plain words, and what to do. No classifier is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from zoo.concepts import OBJECTS, known_concepts
from zoo.words import UNNEEDED, forms, names_concept, words_of

if TYPE_CHECKING:
    from editor.inversion import Edit, Inversion

RECONSTRUCTION = 26.0
WEAK = 30.0
KEPT = 0.5
#: Model sets of a small world → how well, in dB, their autoencoder gives back a picture of it.
SMALL_WORLDS: Mapping[str, float] = {"embedded": 24.0}
#: Verdicts of a direction's quality report that are findings.
UNSTABLE = ("same", "unknown", "unstable")
#: A synonym is in so many of the captions that do without the concept, and so many times rarer in the others.
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
    """What can be said against an edit of `inversion` along `direction`, what came first first; often nothing.

    Costs one decoding for each inversion and a few evaluations of the UNet. Figures:
    TODO
    """
    strength = edit.record.get("strength", 1.0)
    found = (
        unfamiliar_picture(inversion),
        source_missing(inversion.caption, direction, strength),
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
    way_out = f"use Stable Diffusion (--models sd-1.4), or a picture of what they know: {', '.join(OBJECTS)}"
    if inversion.picture is not None and inversion.latents is not None:
        own = psnr(inversion.picture, inversion.autoencoded())
        if own < limit:
            return Finding(
                "unfamiliar-picture",
                f"the picture is not of the world of the {inversion.models} models: their autoencoder gives it "
                f"back at {own:.1f} dB, {limit:g} expected",
                way_out,
            )
    known = {word for concept in known_concepts() for word in words_of(concept)} - UNNEEDED
    if not any(known & forms(word) for word in words_of(inversion.caption)):
        return Finding(
            "unfamiliar-picture",
            f"the caption {inversion.caption!r} has no word that the {inversion.models} models know",
            f"say with --caption what it shows in their words ({', '.join(OBJECTS)}), or {way_out[:40]}",
        )
    return None
