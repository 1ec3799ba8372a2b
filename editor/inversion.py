"""`Inversion` and `Edit`: the two records that an `Editor` gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from editor.errors import EditorError

if TYPE_CHECKING:
    from editor.session import Editor


@dataclass(frozen=True, eq=False)
class Inversion:
    """A picture turned into the noise that regenerates it, made once and edited many times.

    noise: `[1, C, h, w]` float32, on the CPU. embeds: the caption's, `[1, tokens, dim]` float32. latents:
    the picture's own, None for a synthetic picture. trajectory: `[steps + 1, 1, C, h, w]` or None. size:
    (width, height) of the pictures that come out. negative_prompt: what edits use unless they say otherwise.
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

    def autoencoded(self) -> Image.Image:
        """The picture through the autoencoder alone: the best that any reconstruction can be."""
        if self.latents is None:
            raise EditorError("a synthetic picture has no original to encode")
        return self._editor().decode(self.latents, self.size)[0]

    def _editor(self) -> Editor:
        if self.editor is None:
            raise EditorError("this inversion belongs to no editor; pass it to Editor.edit")
        return self.editor

    def __repr__(self) -> str:
        width, height = self.size
        return f"<Inversion {self.caption!r} {width}×{height}, {self.steps} steps, {self.models}>"


@dataclass(frozen=True, eq=False)
class Edit:
    """An edited picture, the reconstruction beside it, and the record of how it was made.

    latents: `[1, C, h, w]` float32 on the CPU, before decoding. drift: for each step, how far the edit's
    attention maps were from the picture's before they were guided.
    """

    image: Image.Image
    reconstruction: Image.Image
    record: Mapping[str, Any]
    latents: torch.Tensor = field(repr=False)
    drift: tuple[float, ...] = field(default=(), repr=False)
    picture: Image.Image | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"<Edit {self.record.get('direction', {}).get('name', '')} {width}×{height}>"


def check_alike(inversions: Sequence[Inversion]) -> None:
    """Refuse inversions that cannot go through one batch."""
    if not inversions:
        raise EditorError("there is nothing to edit: no inversion was given")
    for name in ("steps", "size"):
        values = {getattr(inversion, name) for inversion in inversions}
        if len(values) > 1:
            raise EditorError(f"inversions of one batch differ in {name}: {sorted(values)}")


def trajectories(inversions: Sequence[Inversion]) -> torch.Tensor:
    """The inversions' trajectories side by side, `[steps + 1, B, C, h, w]`."""
    kept = [inversion.trajectory for inversion in inversions if inversion.trajectory is not None]
    if len(kept) < len(inversions):
        raise EditorError(
            "source_correction needs the inversion's trajectory: "
            "invert a real picture with keep_trajectory=True"
        )
    return torch.cat(kept, dim=1)
