"""Figures of one edit that need no ground truth: what a judge sees, what stayed as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import max_pool2d

from editor.diagnosis import SMALL_WORLDS
from editor.figures import background_figures, decibels, psnr_of, unit
from editor.images import mask_picture
from editor.judges import ClipJudge, SceneJudge
from editor.masks import ImplicitMask
from editor.schedule import Schedule
from editor.steps import alone, predict
from editor.wordmaps import LEVELS, conditionings, latents_of, noise_at

if TYPE_CHECKING:
    from editor.backbones import Clip, Dino
    from editor.inversion import Edit, Inversion
    from editor.session import Editor
    from zoo.recipe.judge import Verdict

#: The implicit mask's threshold where the edit itself was made without one: the embedded models' own.
THRESHOLD = 0.5


class Evaluator:
    """Looks at edits of one editor; what looks is loaded with the first of them.

    The embedded models have a judge. For the others CLIP and DINO look where they can be loaded, from `clip`
    and `dino` (hub ids or folders, None: ViT-B/32 and ViT-B/8); `notes` says what could not be, and what to do.
    """

    def __init__(self, editor: Editor, clip: str | None = None, dino: str | None = None) -> None:
        self.editor, self.locations = editor, {"CLIP": clip, "DINO": dino}
        self.notes: list[str] = []

    def __call__(self, edit: Edit, mask: Any = None) -> dict[str, Any]:
        """What a record keeps of an edit; a figure that does not apply or cannot be measured is left out.

        before, after: what the judge sees, `{head: [label, probability]}`; or, with CLIP, `{"target":
        probability}` against the source. structure: distance (Tumanyan et al. 2022, section 3.2).
        background_psnr (dB), background_mse, background_ssim: outside of where the edit may change the
        picture, `mask`, a picture whose white may, or where the direction itself wants a change
        (`changed_region`), and changed: that region's share. reconstruction_psnr: in dB, at most 100. notes: what
        could not look. A real picture is the one that the autoencoder gives back, a synthetic one the
        reconstruction.
        """
        inversion = edit.inversion
        if inversion is None:
            raise ValueError("this edit does not know its inversion; make it again with Inversion.edit")
        real = inversion.latents is not None
        source = inversion.autoencoded() if real else edit.reconstruction
        found = self._seen(edit, source)
        region = changed_region(edit, inversion) if mask is None else white(mask, edit.image.size)
        found["changed"] = float(region.mean())
        found |= background_figures(np.asarray(edit.image), np.asarray(source), region)
        if real:
            error = (unit(np.asarray(edit.reconstruction)) - unit(np.asarray(source))) ** 2
            found["reconstruction_psnr"] = psnr_of(float(error.mean()))
        if self.notes:
            found["notes"] = list(self.notes)
        return {key: _rounded(value) for key, value in found.items()}

    def _seen(self, edit: Edit, source: Image.Image) -> dict[str, Any]:
        if self.editor.models.name in SMALL_WORLDS:
            before, after = self._scenes.verdicts([source, edit.image])
            distance = self._scenes.distance(edit.image, source)
            seen = {"before": _answers(before), "after": _answers(after)}
            return {"judge": SceneJudge.name, **seen, "structure": distance}
        found: dict[str, Any] = {}
        source_concept, target = getattr(edit.direction, "source", ""), getattr(edit.direction, "target", "")
        if edit.record["strength"] < 0:
            source_concept, target = target, source_concept
        if source_concept and target and self._clip is not None:
            judge = ClipJudge(self._clip, self._location("CLIP"), source_concept, target)
            odds = [{"target": share} for share in judge.target_odds([source, edit.image])]
            found |= {"judge": judge.name, "before": odds[0], "after": odds[1]}
        if self._dino is not None:
            found["structure"] = self._dino.distance(edit.image, source)
        return found

    @cached_property
    def _scenes(self) -> SceneJudge:
        return SceneJudge()

    @cached_property
    def _clip(self) -> Clip | None:
        from editor.backbones import Clip

        return self._loaded("CLIP", Clip)

    @cached_property
    def _dino(self) -> Dino | None:
        from editor.backbones import Dino

        return self._loaded("DINO", Dino)

    def _location(self, name: str) -> str:
        from editor.backbones import CLIP_B32, DINO_B8

        return self.locations[name] or {"CLIP": CLIP_B32, "DINO": DINO_B8}[name]

    def _loaded(self, name: str, kind: Any) -> Any:
        from editor.backbones import BackboneUnavailable

        try:
            return kind(self._location(name), self.editor.device)
        except BackboneUnavailable as error:
            self.notes.append(f"without figures by {name}: {error}")
            return None


@torch.no_grad()
def changed_region(edit: Edit, inversion: Inversion, levels: int = LEVELS) -> np.ndarray:
    """Where the direction wants a change, `[height, width]` bool; all of the picture where that is everywhere.

    The implicit mask of `editor.masks`, grown by whole latents, of the picture itself at a handful of the
    inversion's noise levels: the UNet's estimates under the caption and under the edit's conditioning are
    compared. It does not look at the edit, and so also shows an edit that went beyond it.
    """
    editor = inversion._editor()
    embeds, latents = conditionings(inversion, edit).to(editor.device), latents_of(inversion, edit)
    schedule = Schedule.from_config(editor.models.scheduler_config, inversion.steps)
    count = min(levels, inversion.steps)
    free = [0] if len(getattr(edit.direction, "anchored", ())) > 1 else []
    implicit = ImplicitMask(edit.record["settings"]["keep_background"] or THRESHOLD, 2 * count, free)
    for k in range(count):
        i = int((k + 0.5) * inversion.steps / count / 2)  # the first half of the steps, as while editing
        level = schedule.levels[i][0]
        noisy = level**0.5 * latents + (1 - level) ** 0.5 * noise_at(inversion, i, level)
        both = noisy.to(editor.device).expand(2, -1, -1, -1)
        with alone(editor.models.unet):
            plain, edited = predict(editor.models.unet, both, schedule.timesteps[i], embeds).chunk(2)
        mask = implicit.update(edited - plain)
    if implicit.place is not None and implicit.place[0] > 0.5:  # a place's mask ends where the object does
        mask = max_pool2d(mask, 3, 1, 1)
    region = (mask[0, 0] > 0).cpu().numpy().repeat(editor.models.factor, 0).repeat(editor.models.factor, 1)
    width, height = inversion.size
    return region[:height, :width]


def white(mask: Any, size: tuple[int, int]) -> np.ndarray:
    """Where a mask picture, stretched to `size` (width, height), is not black: `[height, width]` bool."""
    return np.asarray(mask_picture(mask).resize(size, Image.Resampling.BILINEAR)) > 0


def evaluation_line(found: Mapping[str, Any]) -> str:
    """The figures in one line: `cat 99% → dog 97%; background 31.2 dB, SSIM 0.97; …`."""
    parts = []
    if "before" in found:
        before, after = found["before"], found["after"]
        if "target" in after:
            parts.append(f"target {before['target']:.0%} → {after['target']:.0%} by CLIP")
        else:
            heads = [head for head in after if head == "object" or after[head][0] != before[head][0]]
            parts += [f"{_said(before[head])} → {_said(after[head])}" for head in heads]
    if "background_psnr" in found:
        similarity = f", SSIM {found['background_ssim']:.3f}" if "background_ssim" in found else ""
        parts.append(f"background {found['background_psnr']:.1f} dB{similarity}")
    elif found.get("changed") == 1:
        parts.append("background: the change is everywhere")
    if "structure" in found:
        parts.append(f"structure {1000 * found['structure']:.1f} ×10⁻³")
    if "reconstruction_psnr" in found:
        parts.append(f"reconstruction {decibels(found['reconstruction_psnr'])}")
    return "; ".join(parts)


def _answers(verdict: Verdict) -> dict[str, list[Any]]:
    """Each head's label and its probability."""
    return {
        head: [getattr(verdict, head), odds[getattr(verdict, head)]]
        for head, odds in verdict.probabilities.items()
    }


def _said(answer: Sequence[Any]) -> str:
    label, odds = answer
    return f"{label} {odds:.0%}"


def _rounded(value: Any) -> Any:
    """Numbers to six significant digits, so that a record reads well and repeats."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value
