"""How well a direction edits: its edits of many pictures, judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from editor.errors import EditorError
from editor.figures import background_figures, bootstrap, psnr_of, unit, wilson
from editor.sheets import Labelled, contact_sheet, png_bytes

if TYPE_CHECKING:
    from PIL import Image

    from editor.inversion import Edit, Inversion
    from editor.judges import EditJudge, Saying
    from editor.samples import Sample
    from editor.session import Editor
    from editor.steps import OnStep
    from library.direction import Direction

#: Pairs of pictures in the sheet at most, and in a row of it; pixels along the longer side of each.
PAIRS, ACROSS, CELL = 12, 6, 256


@dataclass
class Scores:
    """What was found, picture by picture: whether the edit shows the target, whether the picture did, figures."""

    hits: list[bool] = field(default_factory=list)
    unedited: list[bool] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)
    pairs: list[tuple[Labelled, Labelled]] = field(default_factory=list)
    made_with: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The success with its Wilson interval, the figures' means with bootstrap ones; as library/FORMAT.md says."""
        return {
            "success": asdict(wilson(sum(self.hits), len(self.hits))),
            "unedited": sum(self.unedited) / len(self.unedited),
            "figures": {name: asdict(bootstrap(values)) for name, values in self.figures.items()},
            **self.made_with,
        }

    def sheet(self) -> bytes:
        """The first pictures above their edits, with what the judge says of each, as a PNG file."""
        rows: list[list[Labelled]] = []
        for k in range(0, len(self.pairs), ACROSS):
            chosen = self.pairs[k : k + ACROSS]
            rows += [[pair[0] for pair in chosen], [pair[1] for pair in chosen]]
        return png_bytes(contact_sheet(rows))


def score(
    editor: Editor,
    direction: Direction,
    samples: Sequence[Sample],
    judge: EditJudge,
    *,
    steps: int = 50,
    strength: float = 1.0,
    batch: int = 1,
    settings: Mapping[str, Any] | None = None,
    regulariser: Mapping[str, Any] | None = None,
    on_step: OnStep | None = None,
    finished: Callable[[], None] | None = None,
) -> Scores:
    """Edit every sample along `direction`, `batch` at a time, and let `judge` look at it.

    The samples are all pictures of one size, or all prompts. `settings` are those of `Editor.edit`,
    `regulariser` of `Editor.regulariser`, both beyond the model set's own. `finished` is called after each
    picture. Raises EncoderMismatch, and EditorError for settings that do not fit.
    """
    scores = Scores()
    for k in range(0, len(samples), batch):
        chunk = samples[k : k + batch]
        inversions = _inverted(editor, chunk, steps, regulariser or {}, on_step)
        jobs = [(inversion, direction, strength) for inversion in inversions]
        try:
            edits = editor.edit_all(jobs, on_step=on_step, **(settings or {}))
        except ValueError as error:  # settings that do not fit the models or each other
            raise error if isinstance(error, EditorError) else EditorError(str(error)) from error
        sources = [
            edit.reconstruction if inversion.latents is None else inversion.autoencoded()
            for inversion, edit in zip(inversions, edits, strict=True)
        ]
        wanted = [sample.wanted for sample in chunk]
        before, after = (judge.says(pictures, wanted) for pictures in (sources, [e.image for e in edits]))
        for place, sample in enumerate(chunk):
            _add(scores, sample, inversions[place], edits[place], sources[place], judge)
            _look(scores, sources[place], edits[place].image, before[place], after[place])
            if finished:
                finished()
    return scores


def _inverted(
    editor: Editor,
    samples: Sequence[Sample],
    steps: int,
    regulariser: Mapping[str, Any],
    on_step: OnStep | None,
) -> list[Inversion]:
    pictures = [sample.picture for sample in samples if sample.picture is not None]
    if not pictures:
        return [editor.imagine(sample.caption or "", steps, sample.seed) for sample in samples]
    return editor.invert_all(
        pictures,
        [sample.caption or editor.caption(sample.picture) for sample in samples],
        steps,
        [sample.seed for sample in samples],
        regulariser=editor.regulariser(**regulariser),
        on_step=on_step,
    )


def _add(
    scores: Scores, sample: Sample, inversion: Inversion, edit: Edit, source: Image.Image, judge: EditJudge
) -> None:
    """The figures of one edit, against the picture as the autoencoder gives it back."""
    found = {"structure": judge.distance(edit.image, source)}
    edited, original = np.asarray(edit.image), np.asarray(source)
    if sample.free is not None:
        found["kept_psnr"] = background_figures(edited, original, sample.free).get("background_psnr")
    if inversion.latents is not None:
        error = (unit(np.asarray(edit.reconstruction)) - unit(original)) ** 2
        found["reconstruction_psnr"] = psnr_of(float(error.mean()))
    for name, value in found.items():
        if value is not None:
            scores.figures.setdefault(name, []).append(value)
    scores.made_with = {
        "settings": edit.record["settings"],
        "regulariser": edit.record["inversion"].get("regulariser"),
    }


def _look(scores: Scores, before: Image.Image, after: Image.Image, was: Saying, said: Saying) -> None:
    """Count the verdicts, and keep the pictures while there is room."""
    scores.unedited.append(was.hit)
    scores.hits.append(said.hit)
    if len(scores.pairs) < PAIRS:
        small = [picture.copy() for picture in (before, after)]
        for picture in small:
            picture.thumbnail((CELL, CELL))
        scores.pairs.append(
            ((was.said, small[0]), (f"{'' if said.hit else 'missed: '}{said.said}", small[1]))
        )
