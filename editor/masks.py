"""The implicit mask: where in a picture a direction wants a change, told by the noise estimates themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import avg_pool2d, max_pool2d

#: The change that counts as whole: this quantile of the picture's, so that a single hot latent does not decide.
_WHOLE = 0.97
#: A change whose lower quartile reaches this part of the whole is one of the entire picture: a place, a style.
_EVERYWHERE = (0.2, 0.3)


class ImplicitMask:
    """Collects the changes of the first half of the steps, and says which latents may differ from the reference.

    A latent whose collected change is at most `threshold` of the largest is kept, one of twice that or more is
    free, and between them the mask rises evenly. Where the change is everywhere nothing is kept, and neither
    is it in the rows that `free` names. As in LEDITS++ (Brack et al., CVPR 2024, section 3.3) the changes of
    the estimate tell the place; here they are summed over steps instead of taken from each, and the second
    half of the steps, whose changes follow what the first have drawn, is left out.
    """

    def __init__(self, threshold: float, steps: int, free: Sequence[int] = ()) -> None:
        self.threshold = threshold
        self.free = list(free)
        self._remaining = max(1, steps // 2)
        self._sum: torch.Tensor | None = None
        self._mask: torch.Tensor | None = None

    @property
    def collects(self) -> bool:
        """Whether the next step's change still counts."""
        return self._mask is None or self._remaining > 0

    def update(self, change: torch.Tensor | None) -> torch.Tensor:
        """One more step's change `[K, C, h, w]`, None where it no longer counts; the mask `[K, 1, h, w]` in [0, 1]."""
        if self.collects and change is not None:
            self._remaining -= 1
            size = avg_pool2d(change.abs().mean(dim=1, keepdim=True), 3, 1, 1, count_include_pad=False)
            self._sum = size if self._sum is None else self._sum + size
            self._mask = self._made(self._sum)
        assert self._mask is not None, "the first step's change always counts"
        return self._mask

    def _made(self, total: torch.Tensor) -> torch.Tensor:
        whole, quarter = (total.flatten(1).quantile(q, dim=1).view(-1, 1, 1, 1) for q in (_WHOLE, 0.25))
        whole = whole.clamp(min=1e-12)
        mask = max_pool2d((total / whole / self.threshold - 1).clamp(0, 1), 3, 1, 1)
        low, high = _EVERYWHERE
        mask = torch.maximum(mask, ((quarter / whole - low) / (high - low)).clamp(0, 1))
        mask[self.free] = 1
        return mask
