"""`Request`: everything that decides which pictures come out, asked at the command line or read from a record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from editor.errors import EditorError
from editor.presets import preset_options
from editor.settings import EditSettings

#: The fields of `EditSettings` that a request can change one by one; the steps are the inversion's.
SETTINGS = tuple(f.name for f in fields(EditSettings) if f.name != "steps")

#: Types that UNet and autoencoder can have.
DTYPES = ("float32", "float16", "bfloat16")

#: The seeds that torch's generators take, from and to; a negative one is counted back from the last.
SEEDS = (-(2**63), 2**64 - 1)

#: Option → field of `Regulariser`.
REGULARISER = {
    "auto_corr": "auto_corr",
    "kl": "kl",
    "regulariser_steps": "steps",
    "regulariser_rolls": "rolls",
}


def check_strength(strength: float) -> None:
    """Raise EditorError for a strength that is not a finite number."""
    if not isinstance(strength, (int, float)) or not math.isfinite(strength):
        raise EditorError(f"strength is {strength!r}; expected a finite number")


def check_seed(seed: Any) -> None:
    """Raise EditorError for a seed that torch's generators do not take."""
    if not isinstance(seed, int) or not SEEDS[0] <= seed <= SEEDS[1]:
        raise EditorError(f"seed is {seed!r}; expected a whole number from {SEEDS[0]} to {SEEDS[1]}")


def check_text(text: Any, what: str, otherwise: str = "") -> None:
    """Raise EditorError for a caption or prompt that is not a string; `otherwise` says what else there is."""
    if not isinstance(text, str):
        raise EditorError(f"{what} is of type {type(text).__name__}; expected a text{otherwise}")


@dataclass(frozen=True)
class Recorded:
    """The record that a request repeats, and the file that it was read from."""

    file: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """Pictures, or a prompt, and the directions to edit each of them along.

    size: as in `Editor.invert` for pictures, in `Editor.imagine` for a prompt ("native" is then the model's own
    too). settings, regulariser: only what differs from the model set's own; preset: the bundle that they came
    from. auto: what trial edits choose: "strength", "guidance", both or neither. sweep: knobs and their values,
    of which one sheet is made in place of an edit. dtype: of UNet and autoencoder, such as "bfloat16". stem: the
    output's name where it is not made from picture and direction. recorded: what is repeated; with `pinned`, the
    direction must still be the recorded one.
    """

    images: tuple[str, ...] = ()
    prompt: str | None = None
    expressions: tuple[str, ...] = ()
    strength: float = 1.0
    steps: int = 50
    seed: int = 0
    caption: str | None = None
    caption_prefix: str | None = None
    negative_prompt: str | None = None
    mask: str | None = None
    models: str | None = None
    device: str | None = None
    dtype: str | None = None
    size: Any = "native"
    sample: bool = True
    sweep: Mapping[str, Sequence[float]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    regulariser: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    auto: tuple[str, ...] = ()
    stem: str | None = None
    recorded: Recorded | None = None
    pinned: bool = False

    @property
    def named(self) -> tuple[str, ...]:
        """The expressions to look for before models are loaded: other models than recorded may have other versions."""
        recorded = self.recorded.record if self.recorded and self.pinned else None
        if recorded is None or self.models in (recorded["models_folder"], recorded["models"]):
            return self.expressions
        return (recorded["expression"],)

    def changed(self, given: Mapping[str, Any]) -> Request:
        """With the options given in place of its own values; EditorError for a setting out of its range.

        A preset replaces all settings of edit and inversion, and the options given beside it win over its own.
        """
        if given.get("preset"):
            from editor.sweep import KNOBS

            bare = replace(self, settings={}, regulariser={})
            swept = {KNOBS[knob] for knob in given.get("sweep") or self.sweep or ()}
            bundle = {k: v for k, v in preset_options(given["preset"]).items() if k not in swept}
            return bare._changed({**bundle, **given})
        return self._changed(given)

    def _changed(self, given: Mapping[str, Any]) -> Request:
        check_strength(given.get("strength", self.strength))
        check_seed(given.get("seed", self.seed))
        own = {f.name for f in fields(self)}
        settings = {**self.settings, **{k: v for k, v in given.items() if k in SETTINGS}}
        try:
            EditSettings(**settings)
        except ValueError as error:
            raise EditorError(str(error)) from error
        regulariser = {REGULARISER[k]: v for k, v in given.items() if k in REGULARISER}
        return replace(
            self,
            **{k: v for k, v in given.items() if k in own},
            settings=settings,
            regulariser={**self.regulariser, **regulariser},
        )
