"""`Inversion` and `Edit`: the two records that an `Editor` gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from editor.errors import EditorError
from editor.models import located

if TYPE_CHECKING:
    from editor.auto import Choice
    from editor.diagnosis import Finding
    from editor.session import Editor
    from editor.sweep import Sweep


@dataclass(frozen=True, eq=False)
class Inversion:
    """A picture turned into the noise that regenerates it, made once and edited many times.

    noise: `[1, C, h, w]` float32, on the CPU. embeds: the caption's, `[1, tokens, dim]` float32. latents:
    the picture's own, None for a synthetic picture. trajectory: `[steps + 1, 1, C, h, w]` or None. size:
    (width, height) of the pictures that come out. negative_prompt: what edits use unless they say otherwise.
    record: how it was made; `origin` in it is the file that the picture came from.
    """

    noise: torch.Tensor
    caption: str
    embeds: torch.Tensor
    steps: int
    seed: int
    size: tuple[int, int]
    negative_prompt: str
    models: str
    picture: Image.Image | None = None
    latents: torch.Tensor | None = None
    trajectory: torch.Tensor | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    editor: Editor | None = field(default=None, repr=False)

    def edit(self, direction: Any, strength: float = 1.0, **settings: Any) -> Any:
        """`Editor.edit` of this inversion, by the editor that made it."""
        return self._editor().edit(self, direction, strength, **settings)

    def sweep(
        self,
        direction: Any,
        strength: Any = None,
        guidance: Any = None,
        guidance_scale: Any = None,
        **settings: Any,
    ) -> Sweep:
        """Edits with every combination of the knobs' values, to look at side by side.

        A knob is a number or several: strength, guidance (`cross_attention_guidance`), guidance_scale,
        interpolation, guidance_until; one that is not given stays as it is. Without any knob it is
        strength 0.5, 1, 1.5 by guidance 0, 0.05. The other `settings` are those of `Editor.edit`.
        """
        from editor.sweep import DEFAULT, KNOBS, sweep

        given = {"strength": strength, "guidance": guidance, "guidance_scale": guidance_scale}
        given |= {knob: settings.pop(knob) for knob in KNOBS if knob in settings}
        knobs = {knob: values for knob, values in given.items() if values is not None}
        return sweep(self, direction, knobs or DEFAULT, **settings)

    def auto(
        self, direction: Any, strength: float | None = None, guidance: float | None = None, **settings: Any
    ) -> Choice:
        """Strength and guidance for this picture, from a few short trial edits; one that is given stays.

        The choice says why, and `inversion.edit(direction, **choice.settings)` makes the edit. The other
        `settings` are those of `Editor.edit`. See `editor.auto.choose`.
        """
        from editor.auto import choose

        return choose(self, direction, strength, guidance, **settings)

    @property
    def caption_option(self) -> str:
        """The option of `edit-image` that says what the picture shows."""
        return "--prompt" if self.latents is None else "--caption"

    def autoencoded(self) -> Image.Image:
        """The picture through the autoencoder alone: the best that any reconstruction can be."""
        return self._autoencoded.copy()

    @cached_property
    def _autoencoded(self) -> Image.Image:
        if self.latents is None:
            raise EditorError("a synthetic picture has no original to encode")
        return self._editor().decode(self.latents, self.size)[0]

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything but the editor to one safetensors file, whole or not at all; replaces what is there.

        Raises EditorError where the disk refuses.
        """
        from editor.inversion_file import encode
        from editor.record import write_whole

        data = encode(self)
        write_whole(Path(path), lambda file: file.write(data))

    @classmethod
    def load(cls, path: str | PathLike[str], editor: Editor | None = None) -> Inversion:
        """A saved inversion, exactly as it was; `editor` is the one that its `edit` will use.

        Raises EditorError for a file that is missing, damaged or of another kind, and for an editor of
        other models: noise only means something to the UNet that made it.
        """
        from editor.inversion_file import read

        inversion = read(Path(path))
        if editor is None:
            return inversion
        if editor.located != located(inversion.models):
            raise EditorError(
                f"{path} was inverted with the models {inversion.models}, the editor has "
                f"{editor.models.name}; invert the picture again with this editor"
            )
        return replace(inversion, editor=editor)

    def _editor(self) -> Editor:
        if self.editor is None:
            raise EditorError("this inversion belongs to no editor; pass it to Editor.edit")
        return self.editor

    def __repr__(self) -> str:
        width, height = self.size
        return f"<Inversion {self.caption!r} {width}×{height}, {self.steps} steps, {self.models}>"

    def _repr_html_(self) -> str:
        from editor.sheets import html_figures

        cells = [("picture", self.picture)] if self.picture else []
        return html_figures(cells, [self.caption, f"{self.steps} steps, {self.models}"])

    def _repr_png_(self) -> bytes | None:
        from editor.sheets import contact_sheet, png_bytes

        if self.picture is None:
            return None
        return png_bytes(contact_sheet([[(f"{self.caption}\n{self.steps} steps", self.picture)]]))


@dataclass(frozen=True, eq=False)
class Edit:
    """An edited picture, the reconstruction beside it, and the record of how it was made.

    latents: `[1, C, h, w]` float32 on the CPU, before decoding. drift: for each step, how far the edit's
    attention maps were from the picture's before they were guided. inversion, direction: what it is an
    edit of, and along what.
    """

    image: Image.Image
    reconstruction: Image.Image
    record: Mapping[str, Any]
    latents: torch.Tensor = field(repr=False)
    drift: tuple[float, ...] = field(default=(), repr=False)
    inversion: Inversion | None = field(default=None, repr=False)
    direction: Any = field(default=None, repr=False)

    @property
    def picture(self) -> Image.Image | None:
        """What was edited; None for a synthetic picture."""
        return None if self.inversion is None else self.inversion.picture

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What went wrong and what to do, found when it is first asked; see `editor.diagnosis`."""
        from editor.diagnosis import diagnose

        if self.inversion is None:
            raise EditorError("this edit does not know its inversion; use editor.diagnosis.diagnose")
        return diagnose(self, self.inversion, self.direction)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture with the record that reproduces it, and that record beside it as JSON.

        A PNG carries the record itself. `edit-image --from PATH` makes the edit again where its picture was
        given as a file and its direction is in the library. Files that are there are replaced, each whole or not
        at all; EditorError where the disk refuses, the ending is of no picture, or the file is what was edited.
        Nothing is withheld: the safety checker of the models looks at what `edit-image` writes.
        """
        from editor.outputs import save_whole

        found = {"findings": [asdict(finding) for finding in self.findings]}
        save_whole(self.image, {**self.record, **found}, Path(path), self)

    @property
    def label(self) -> str:
        """The direction and its strength: `cat2dog · strength 1`."""
        name = self.record.get("direction", {}).get("name") or "edit"
        return f"{name} · strength {self.record.get('strength', 1.0):g}"

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"<Edit {self.record.get('direction', {}).get('name', '')} {width}×{height}>"

    def _repr_html_(self) -> str:
        from editor.sheets import html_figures

        cells = [("reconstruction", self.reconstruction), (self.label, self.image)]
        return html_figures(cells, [self.record.get("caption", "")])

    def _repr_png_(self) -> bytes:
        from editor.sheets import contact_sheet, png_bytes

        cells = [("reconstruction", self.reconstruction), (self.label, self.image)]
        return png_bytes(contact_sheet([cells]))


def check_alike(inversions: Sequence[Inversion]) -> None:
    """Refuse inversions that cannot go through one batch."""
    if not inversions:
        raise EditorError("there is nothing to edit: no inversion was given")
    for name in ("steps", "size"):
        values = {getattr(inversion, name) for inversion in inversions}
        if len(values) > 1:
            raise EditorError(f"inversions of one batch differ in {name}: {sorted(values)}")


def check_steps(inversion: Inversion, settings: Mapping[str, Any]) -> None:
    """Raise EditorError for settings of an edit that ask for another number of steps than the inversion has."""
    steps = settings.get("steps", inversion.steps)
    if steps != inversion.steps:
        raise EditorError(
            f"the inversion has {inversion.steps} steps, and an edit takes those; for {steps}, invert again with "
            f"steps={steps}"
        )


def trajectories(inversions: Sequence[Inversion]) -> torch.Tensor:
    """The inversions' trajectories side by side, `[steps + 1, B, C, h, w]`."""
    kept = [inversion.trajectory for inversion in inversions if inversion.trajectory is not None]
    if len(kept) < len(inversions):
        raise EditorError(
            "source_correction needs the inversion's trajectory: "
            "invert a real picture with keep_trajectory=True"
        )
    return torch.cat(kept, dim=1)
