"""The safety filter: pictures that a model set's own checker flags are not written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

    from editor.models import SafetyChecker

#: What a record says of pictures that nobody looked at, because the filter was switched off.
OFF = {"checked": False}


def run_checker(
    checker: Any, extractor: Any, pictures: Sequence[Image.Image], images: Any, device: Any, dtype: Any
) -> tuple[Any, list[bool]]:
    """`images` as a `StableDiffusionSafetyChecker` gives them back, flagged ones black, and the flags.

    It looks at `pictures`, the same ones, through its `extractor`. `images` are pixels `[B, 3, H, W]` or a
    list of arrays; `device` and `dtype` are those of the checker's inputs.
    """
    given = extractor(list(pictures), return_tensors="pt").to(device)
    images, flags = checker(images=images, clip_input=given.pixel_values.to(dtype))
    return images, [bool(flag) for flag in flags]


def safety_verdict(checker: SafetyChecker | None, pictures: Sequence[Image.Image]) -> dict[str, bool] | None:
    """What the record says: `{"checked": True, "flagged": whether any is}`; None for models without a checker."""
    if checker is None:
        return None
    model = checker.model
    unwanted = [np.zeros((1, 1, 3), np.float32) for _ in pictures]  # what the checker would black out
    _, flags = run_checker(model, checker.extractor, pictures, unwanted, model.device, model.dtype)
    return {"checked": True, "flagged": any(flags)}
