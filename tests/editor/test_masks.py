"""The implicit mask on changes whose place is known."""

from __future__ import annotations

import torch

from editor.masks import ImplicitMask


def test_mask_is_open_where_the_change_is() -> None:
    change = torch.full((2, 4, 16, 16), 0.01)
    change[0, :, 4:8, 4:8] = 1.0
    change[1, :, 10:14, 2:6] = -1.0
    mask = ImplicitMask(0.3).update(change)
    assert mask.shape == (2, 1, 16, 16)
    assert mask[0, 0, 5:7, 5:7].min() == 1 and mask[1, 0, 11:13, 3:5].min() == 1
    assert mask[0, 0, :, 11:].max() == 0 and mask[1, 0, :8].max() == 0


def test_mask_counts_all_steps_and_no_change_closes_it() -> None:
    first, second = torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16)
    first[..., 2:5, 2:5], second[..., 10:13, 10:13] = 1.0, 1.0
    mask = ImplicitMask(0.3)
    assert mask.update(first)[0, 0, 11, 11] == 0
    both = mask.update(second)[0, 0]
    assert both[3, 3] == 1 and both[11, 11] == 1 and both[7, 15] == 0
    assert not ImplicitMask(0.3).update(torch.zeros(1, 4, 16, 16)).any()
