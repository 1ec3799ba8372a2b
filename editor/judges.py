"""Who says what a picture shows: the judge of the embedded world, or CLIP for photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from editor.figures import structure_distance
from editor.images import to_pixels

if TYPE_CHECKING:
    from PIL import Image

    from editor.backbones import Clip, Dino
    from zoo.recipe.judge import Verdict

#: CLIP's own scale of cosines before they are made odds (Radford et al. 2021, section 2.5).
SCALE = 100.0


@dataclass(frozen=True)
class Saying:
    """hit: whether the picture shows what was wanted. said: what it shows instead or all the same."""

    hit: bool
    said: str


class EditJudge(Protocol):
    """Looks at pictures of one size; `name` says who it is."""

    name: str

    def says(self, pictures: Sequence[Image.Image], wanted: Sequence[Mapping[str, str]]) -> list[Saying]:
        """For each picture whether it shows what is wanted."""
        ...

    def distance(self, edit: Image.Image, source: Image.Image) -> float | None:
        """Structure distance (Tumanyan et al. 2022, section 3.2); None where it cannot be measured."""
        ...


class SceneJudge:
    """The embedded world's own classifier; `wanted` are the labels of its heads."""

    name = "the embedded models' judge"

    def __init__(self) -> None:
        from zoo.recipe.judge import load_judge

        self.judge = load_judge()

    def verdicts(self, pictures: Sequence[Image.Image]) -> list[Verdict]:
        """What each picture shows, with the probability of each label."""
        return self.judge.judge(to_pixels(list(pictures)))

    def says(self, pictures: Sequence[Image.Image], wanted: Sequence[Mapping[str, str]]) -> list[Saying]:
        """A hit where every wanted head says the wanted label; `said` are those heads' labels."""
        found = []
        for verdict, labels in zip(self.verdicts(pictures), wanted, strict=True):
            said = {head: getattr(verdict, head) for head in labels}
            found.append(Saying(said == dict(labels), ", ".join(said.values())))
        return found

    @torch.no_grad()
    def distance(self, edit: Image.Image, source: Image.Image) -> float:
        """By the judge's last feature map, 8 × 8 positions of a picture of 64 × 64 pixels."""
        features = [self.judge.features(to_pixels(p)).flatten(2).transpose(1, 2) for p in (edit, source)]
        return float(structure_distance(*features))


class ClipJudge:
    """CLIP's zero-shot choice between the concepts; DINO's structure distance, where there is one."""

    def __init__(self, clip: Clip, location: str, source: str, target: str, dino: Dino | None = None) -> None:
        self.clip, self.dino, self.source, self.target = clip, dino, source, target
        self.name = f"CLIP {location}"

    def target_odds(self, pictures: Sequence[Image.Image]) -> list[float]:
        """How sure CLIP is of the target against the source, in [0, 1]."""
        texts = [f"a photo of a {concept}" for concept in (self.source, self.target)]
        return (SCALE * self.clip.cosines(pictures, texts)).softmax(dim=1)[:, 1].tolist()

    def says(self, pictures: Sequence[Image.Image], wanted: Sequence[Mapping[str, str]]) -> list[Saying]:
        """A hit where the target is likelier than the source (Parmar et al. 2023, section 4); `wanted` is not used."""
        return [
            Saying(odds > 0.5, f"{self.target} {odds:.0%}" if odds > 0.5 else f"{self.source} {1 - odds:.0%}")
            for odds in self.target_odds(pictures)
        ]

    def distance(self, edit: Image.Image, source: Image.Image) -> float | None:
        """By DINO; None without it."""
        return None if self.dino is None else self.dino.distance(edit, source)


def photo_judge(
    source: str, target: str, device: torch.device, clip: str | None = None
) -> tuple[ClipJudge, list[str]]:
    """CLIP (from a folder or hub id, None: ViT-B/32) with DINO where it can be loaded, and a note where it cannot.

    Raises BackboneUnavailable without CLIP.
    """
    from editor.backbones import CLIP_B32, DINO_B8, BackboneUnavailable, Clip, Dino

    location = clip or CLIP_B32
    notes: list[str] = []
    dino: Any = None
    looks = Clip(location, device)
    try:
        dino = Dino(DINO_B8, device)
    except BackboneUnavailable as error:
        notes.append(f"no structure distance: {error}")
    return ClipJudge(looks, location, source, target, dino), notes
