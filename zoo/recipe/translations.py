"""Edits of scenes that a judge can check: what the source has, what the target has instead."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.concepts import ACCESSORIES, BACKGROUNDS, FACES, NO_ACCESSORY, OBJECTS, STYLES
from zoo.recipe.scenes import HELD_OUT, Scene, draw_scene, sample_scene


@dataclass(frozen=True)
class Translation:
    """An edit of scenes. fixed: what every scene has; changed: what the target scene has instead."""

    source: str
    target: str
    fixed: Mapping[str, Any]
    changed: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.source} → {self.target}"

    def scenes(self, count: int, start: int = 0) -> list[Scene]:
        """The first ``count`` held-out scenes that show the source, from seed ``HELD_OUT + start`` on."""
        drawn = (sample_scene(seed, **self.fixed) for seed in itertools.count(HELD_OUT + start))
        shows = (
            s for s in drawn if all(getattr(s, k) == v for k, v in self.fixed.items())
        )  # not all wear hats
        return list(itertools.islice(shows, count))

    def target_of(self, scene: Scene) -> Scene:
        """The same scene with the target instead."""
        return sample_scene(scene.seed, **{**self.fixed, **self.changed})

    def wanted(self, scene: Scene) -> dict[str, str]:
        """What a judge must say of the edited scene: what was to change, and still the same animal."""
        return {"object": scene.object} | self.labels()

    def labels(self) -> dict[str, str]:
        """What a judge must say of whatever picture, once it was edited."""
        return {head: label or NO_ACCESSORY for head, label in self.changed.items()}

    def free(self, scene: Scene) -> np.ndarray:
        """Where the edit may change the picture, ``[64, 64] bool``: the object, before and after.

        Where the place is to change, everything but the object.
        """
        before, after = draw_scene(scene)[1], draw_scene(self.target_of(scene))[1]
        return ~(before & after) if "background" in self.changed else before | after


def translation_between(source: str, target: str) -> Translation | None:
    """The translation from one known concept to another; None where scenes do not show one, or not the change."""
    before, after = shown(source), shown(target)
    if before is None or after is None:
        return None
    plain = {} if "accessory" in before else {"accessory": None}
    fixed = {**plain, **before}
    changed: dict[str, str | None] = dict(after)
    if "accessory" in before and "object" in after:
        changed.setdefault("accessory", None)  # "cat wearing a hat" to "cat"
    changed = {k: v for k, v in changed.items() if fixed.get(k, "") != v}
    return Translation(source, target, fixed, changed) if changed else None


def shown(concept: str) -> dict[str, str] | None:
    """What a scene of the concept has, by the fields of ``Scene``; None for an unknown one."""
    for head, labels in (("object", OBJECTS), ("background", BACKGROUNDS), ("style", STYLES)):
        if concept in labels:
            return {head: concept}
    if concept in ACCESSORIES:
        return {"accessory": concept}
    for accessory, phrase in ACCESSORIES.items():
        face = concept.removesuffix(f" {phrase}")
        if face != concept and face in FACES:
            return {"object": face, "accessory": accessory}
    return None
