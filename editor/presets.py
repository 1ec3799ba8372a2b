"""Presets: named bundles of ordinary options, from the published algorithm to the cheapest that edits as well.

What is given explicitly wins over a preset, and a record keeps the settings that came out of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from editor.errors import EditorError
from editor.settings import EditSettings

#: The published algorithm, whatever the editor's and the model set's own defaults are (Parmar et al. 2023, and
#: the authors' code for real pictures). The negative prompt is the inversion's own: the caption.
PUBLISHED: Mapping[str, Any] = {
    "guidance_scale": 5.0,
    "cross_attention_guidance": 0.1,
    "placement": "mean",
    "guidance_until": 1.0,
    "conditional_only": False,
    "attention_resolution": None,
    "reuse_forward": False,
    "source_correction": False,
    "noise_correction": False,
    "interpolation": 0.0,
    "keep_background": 0.0,
}

#: What an edit gains without an evaluation of the UNet more, on top of the model set's own defaults.
_FREE: Mapping[str, Any] = {"placement": "auto", "source_correction": True, "keep_background": 0.5}
#: What an edit can do without: it comes out alike (`benchmarks.quality`), with less than half of the gradients.
_SAVED: Mapping[str, Any] = {"guidance_until": 0.5, "reuse_forward": True}

#: Preset → option → value, under the names that `edit-image` has for them: settings of the edit, the number
#: of steps, and the regulariser's options. What a preset leaves out is the model set's own.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "reference": {
        "steps": 50,
        **PUBLISHED,
        "auto_corr": 20.0,
        "kl": 20.0,
        "regulariser_steps": 5,
        "regulariser_rolls": 5,
    },
    "balanced": {"steps": 50, **_FREE, **_SAVED},
    # Half of the steps and no gradient: the trajectory and the implicit mask hold the picture instead of the maps.
    "fast": {"steps": 25, **_FREE, "cross_attention_guidance": 0.0},
}


def preset_options(name: str) -> Mapping[str, Any]:
    """The options of a preset; EditorError names those there are."""
    if name not in PRESETS:
        raise EditorError(f"there is no preset {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_settings(name: str) -> dict[str, Any]:
    """The fields of `EditSettings` that a preset sets, but for the steps, which are the inversion's."""
    known = {f.name for f in fields(EditSettings)} - {"steps"}
    return {key: value for key, value in preset_options(name).items() if key in known}
