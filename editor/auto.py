"""Strength and guidance for a picture, from a few cheap trial edits: the least change at which the edit is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from editor.inversion import check_steps
from editor.likeness import edge_likeness, psnr
from editor.presence import PresenceUnknown, presence
from editor.regularize import Regulariser

if TYPE_CHECKING:
    from editor.inversion import Edit, Inversion
    from editor.steps import OnStep

#: Steps of a trial, and of the inversion that all trials of a picture start from.
STEPS = 15
#: Strengths tried, with the guidance that the edit would have anyway.
STRENGTHS = (0.5, 0.75, 1.0, 1.5)
#: Guidance tried at the strength found, in parts of the guidance that the edit would have anyway.
GUIDANCE = (0.0, 3.0)
#: Presence from which on an edit is there, and the part that it must be of the largest among the trials: halfway to
#: the target as the models draw it there may be a third thing. `choose` says what both rest on.
THERE, SHARE = 0.5, 0.5


@dataclass(frozen=True)
class Trial:
    """One trial edit: its knobs and its figures.

    presence: see `editor.presence`. structure: correlation of its edges with the reconstruction's, in [-1, 1].
    drift: mean over the steps of how far its attention maps had moved, 0 without guidance. psnr: to the
    reconstruction, in dB.
    """

    strength: float
    guidance: float
    presence: float
    structure: float
    drift: float
    psnr: float


@dataclass(frozen=True)
class Choice:
    """Strength and guidance, the reason for them in one line, and the trials that they were chosen from.

    there: whether any trial was there; if not, the strongest was taken, and the reason says what to do.
    """

    strength: float
    guidance: float
    there: bool
    reason: str
    trials: tuple[Trial, ...] = ()

    @property
    def settings(self) -> dict[str, float]:
        """The choice as arguments: `inversion.edit(direction, **choice.settings)`."""
        return {"strength": self.strength, "cross_attention_guidance": self.guidance}


def choose(
    inversion: Inversion,
    direction: Any,
    strength: float | None = None,
    guidance: float | None = None,
    *,
    negative_prompt: str | None = None,
    mask: Any = None,
    on_step: OnStep | None = None,
    **settings: Any,
) -> Choice:
    """Strength and guidance for an edit of `inversion` along `direction`; what is given stays as it is.

    First `STRENGTHS` are tried in one batch, with the guidance that the edit would have anyway; then, at the best
    of them, `GUIDANCE`; a guidance of 0 stays. Of all trials that are there the one that keeps most of the
    structure is chosen; where none is, the one with the largest presence. `settings` and the other arguments
    are those of `Editor.edit`. All costs about two edits of 50 steps, and `rehearsal`.

    `THERE` rests on six held-out cats to dogs and four horses to zebras, embedded models, 15 steps, strengths
    -0.5 to 1.5 by guidance 0, 0.1, 0.3. The judge agreed with the sign of presence in 190 of the 195 edits in
    which it saw one of the two animals; 15 were a third one, mostly too strong. At the weakest strength with
    a presence of at least 0.5 it saw the target in 30 of 30; of 0.4 in 28, of 0.3 in 26. `SHARE` is above
    what two edits of other horses had that became no zebras with a presence of 1.3 and 2.0: 0.18 and 0.38.
    """
    check_steps(inversion, settings)
    settings.pop("steps", None)  # the rehearsal has its own
    own = guidance
    if own is None:
        own = inversion._editor().settings(**settings).cross_attention_guidance
    start = rehearsal(inversion, on_step)
    shared = {**settings, "negative_prompt": negative_prompt, "mask": mask, "on_step": on_step}
    try:
        trials = _tried(start, direction, STRENGTHS if strength is None else [strength], own, shared)
        if guidance is None:
            at = _best(trials).strength
            for other in dict.fromkeys(round(factor * own, 9) for factor in GUIDANCE if own):
                trials += _tried(start, direction, [at], other, shared)
    except PresenceUnknown as unknown:
        kept = 1.0 if strength is None else strength
        return Choice(kept, own, False, f"strength {kept:g}, guidance {own:g}, as by default: {unknown}")
    best = _best(trials)
    reason = _reason(best, trials, direction, inversion.caption_option)
    return Choice(best.strength, best.guidance, best in _there(trials), reason, tuple(trials))


def rehearsal(inversion: Inversion, on_step: OnStep | None = None) -> Inversion:
    """The same picture inverted in the steps of a trial, or the inversion itself where it has no more."""
    if inversion.steps <= STEPS:
        return inversion
    if inversion.latents is None:
        return replace(inversion, steps=STEPS)  # noise is the same noise in any number of steps
    again = inversion._editor().invert(
        inversion.picture,
        inversion.caption,
        STEPS,
        inversion.seed,
        size=None,
        regulariser=Regulariser(**inversion.record["regulariser"]),
        sample=inversion.record["sample"],
        on_step=on_step,
    )
    return replace(again, negative_prompt=inversion.negative_prompt)


def most_steps(steps: int) -> int:
    """How many steps `choose` takes at most for an edit of so many steps, all trials and the inversion counted."""
    return min(steps, STEPS) * (1 + len(STRENGTHS) + len(GUIDANCE))


def _tried(
    start: Inversion, direction: Any, strengths: Sequence[float], guidance: float, shared: dict[str, Any]
) -> list[Trial]:
    """Trial edits with these strengths, one batch, and their figures."""
    jobs = [(start, direction, strength) for strength in strengths]
    edits = start._editor().edit_all(jobs, **{**shared, "cross_attention_guidance": guidance})
    return [
        Trial(strength, guidance, round(found, 4), *_figures(edit))
        for strength, edit, found in zip(strengths, edits, presence(edits), strict=True)
    ]


def _figures(edit: Edit) -> tuple[float, float, float]:
    """Structure, drift and psnr of a trial."""
    structure = edge_likeness(edit.image, edit.reconstruction)
    drift = sum(edit.drift) / len(edit.drift)
    return round(structure, 4), round(drift, 4), round(psnr(edit.image, edit.reconstruction), 2)


def _there(trials: Sequence[Trial]) -> list[Trial]:
    """The trials in which the edit can be seen."""
    limit = max(THERE, SHARE * max(trial.presence for trial in trials))
    return [trial for trial in trials if trial.presence >= limit]


def _best(trials: Sequence[Trial]) -> Trial:
    """Of the trials that are there the one with most of the structure, else the one with the largest presence."""
    if there := _there(trials):
        return max(there, key=lambda trial: trial.structure)
    return max(trials, key=lambda trial: trial.presence)


def _reason(best: Trial, trials: Sequence[Trial], direction: Any, flag: str) -> str:
    """What was chosen, from how many, and by which figures."""
    source, target = getattr(direction, "source", ""), getattr(direction, "target", "")
    if best.strength < 0:
        source, target = target, source
    nearer = (
        f"nearer to {target!r} than to {source!r}" if source and target else "nearer to the direction's end"
    )
    knobs = f"strength {best.strength:g}, guidance {best.guidance:g}"
    figures = f"presence {best.presence:.2f}, edges agree to {best.structure:.2f}"
    there = _there(trials)
    if best in there:
        counted = f"{len(there)} of {len(trials)} trials"
        return f"{knobs}: the least change among the {counted} that are clearly {nearer} ({figures})"
    return (
        f"{knobs}: none of {len(trials)} trials is clearly {nearer} ({figures}; presence {THERE:g} expected); "
        f"give a --strength {'above' if best.strength >= 0 else 'below'} {best.strength:g}, or a {flag} "
        "that says what the direction starts from"
    )
