"""The implicit mask: where in a picture a direction wants a change, told by the noise estimates themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import avg_pool2d, max_pool2d

#: The change that counts as whole: this quantile of the picture's, so that a single hot latent does not decide.
_WHOLE = 0.97
#: A change whose lower quartile reaches this part of the whole is one of the entire picture: a style.
_EVERYWHERE = (0.2, 0.3)
#: One whose median along the picture's edges reaches this part of the whole, and this part of the picture's median, is
#: of the place behind what stands there, which changes less: its lowest twentieth is at most this part of the edges'.
#: Of twenty pictures each, in 20 steps, the first part ends at 0.25 at most for horses to zebras (0.32 on the way) and
#: at 0.54 at least for twelve directions from place to place; a style's two may be as high (0.72, 1.02), but then its
#: third is at least 0.6.
_EDGES, _BEYOND, _DISTINCT = (0.3, 0.4), (0.85, 0.95), (0.65, 0.55)
#: Then the parts of the edges' change up to which latents are kept (at a threshold of 0.5) and from which they are
#: free. They are close: what lies between is drawn back to the reference at every step anew, and becomes neither.
_STANDS, _BEHIND = 0.75, 0.85


class ImplicitMask:
    """Collects the changes of the first half of the steps, and says which latents may differ from the reference.

    A latent whose collected change is at most `threshold` of the largest is kept, one of twice that or more is
    free, and between them the mask rises evenly. Where the change is everywhere nothing is kept, and neither
    is it in the rows that `free` names; where it is of the place, what changes less than the picture's edges is
    kept. As in LEDITS++ (Brack et al., CVPR 2024, section 3.3) the changes of the estimate tell where; here they
    are summed over steps instead of taken from each, and the second half of the steps, whose changes follow what
    the first have drawn, is left out.
    """

    def __init__(self, threshold: float, steps: int, free: Sequence[int] = ()) -> None:
        self.threshold = threshold
        self.free = list(free)
        #: How far each row's change is of the place, `[K]` in [0, 1]; None before the first one.
        self.place: torch.Tensor | None = None
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
        quantiles = total.flatten(1).quantile(total.new_tensor([_WHOLE, 0.5, 0.25, 0.05]), dim=1)
        whole, middle, quarter, low = quantiles.view(4, -1, 1, 1, 1)
        edges = _edges(total).quantile(0.5, dim=1).view(-1, 1, 1, 1)
        whole, middle, edges = (value.clamp(min=1e-12) for value in (whole, middle, edges))
        mask = max_pool2d((total / whole / self.threshold - 1).clamp(0, 1), 3, 1, 1)
        mask = torch.maximum(mask, _ramp(quarter / whole, _EVERYWHERE))
        place = torch.minimum(_ramp(edges / whole, _EDGES), _ramp(edges / middle, _BEYOND))
        place = torch.minimum(place, _ramp(low / edges, _DISTINCT))
        self.place = place.flatten()
        kept = min(2 * self.threshold * _STANDS, _BEHIND)
        behind = _ramp(total / edges, (kept, kept + _BEHIND - _STANDS))
        mask = torch.lerp(mask, behind, place)
        mask[self.free] = 1
        return mask


def _ramp(values: torch.Tensor, between: tuple[float, float]) -> torch.Tensor:
    """0 at the first of two values and on its side, 1 at the second and on its own."""
    start, end = between
    return ((values - start) / (end - start)).clamp(0, 1)


def _edges(values: torch.Tensor) -> torch.Tensor:
    """The outermost values `[K, n]` of `[K, 1, h, w]`."""
    rows, columns = values[..., [0, -1], :], values[..., 1:-1, [0, -1]]
    return torch.cat([rows.flatten(1), columns.flatten(1)], dim=1)
