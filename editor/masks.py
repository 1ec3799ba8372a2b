"""The implicit mask: where in a picture a direction wants a change, told by the noise estimates themselves."""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d, max_pool2d

#: The change that counts as whole: this quantile of the picture's, so that a single hot latent does not decide.
_WHOLE = 0.97


class ImplicitMask:
    """Collects the changes of all steps so far, and says which latents may differ from the reference.

    A latent whose collected change is at most `threshold` of the largest is kept, one of twice that or more is
    free, and between them the mask rises evenly. As in LEDITS++ (Brack et al., CVPR 2024, section 3.3) the
    changes of the estimate tell the place; here they are summed over the steps instead of taken from each.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._sum: torch.Tensor | None = None

    def update(self, change: torch.Tensor) -> torch.Tensor:
        """One more step's change `[K, C, h, w]`; the mask `[K, 1, h, w]` in [0, 1]."""
        size = avg_pool2d(change.abs().mean(dim=1, keepdim=True), 3, 1, 1, count_include_pad=False)
        self._sum = size if self._sum is None else self._sum + size
        whole = self._sum.flatten(1).quantile(_WHOLE, dim=1).clamp(min=1e-12)
        part = self._sum / whole.view(-1, 1, 1, 1)
        return max_pool2d((part / self.threshold - 1).clamp(0, 1), 3, 1, 1)
