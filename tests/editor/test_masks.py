"""The implicit mask on changes whose place is known."""

from __future__ import annotations

import pytest
import torch

from editor import EditSettings
from editor.masks import ImplicitMask

from .embedded import cat2dog, inversion


def test_mask_is_open_where_the_change_is() -> None:
    change = torch.full((2, 4, 16, 16), 0.01)
    change[0, :, 4:8, 4:8] = 1.0
    change[1, :, 10:14, 2:6] = -1.0
    mask = ImplicitMask(0.3, 8).update(change)
    assert mask.shape == (2, 1, 16, 16)
    assert mask[0, 0, 5:7, 5:7].min() == 1 and mask[1, 0, 11:13, 3:5].min() == 1
    assert mask[0, 0, :, 11:].max() == 0 and mask[1, 0, :8].max() == 0


def test_mask_counts_all_steps_and_no_change_closes_it() -> None:
    first, second = torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16)
    first[..., 2:5, 2:5], second[..., 10:13, 10:13] = 1.0, 1.0
    mask = ImplicitMask(0.3, 8)
    assert mask.update(first)[0, 0, 11, 11] == 0
    both = mask.update(second)[0, 0]
    assert both[3, 3] == 1 and both[11, 11] == 1 and both[7, 15] == 0
    assert not ImplicitMask(0.3, 8).update(torch.zeros(1, 4, 16, 16)).any()


def test_changes_everywhere_and_free_rows_are_let_through() -> None:
    change = torch.full((2, 4, 16, 16), 0.5)
    change[:, :, 2:14, 2:14] = 1.0  # half as much all around: the entire picture changes
    assert ImplicitMask(0.3, 8).update(change).min() == 1
    change[:] = 0.01
    change[:, :, 4:8, 4:8] = 1.0
    mask = ImplicitMask(0.3, 8, free=[1]).update(change)
    assert mask[0].min() == 0 and mask[1].min() == 1


def test_a_place_changes_behind_what_stands_before_it() -> None:
    change = torch.ones(1, 4, 16, 16)
    change[:, :, 8:] = 0.75  # the ground, less than the sky
    change[:, :, 5:12, 5:12] = 0.1
    mask = ImplicitMask(0.5, 8).update(change)[0, 0]
    assert mask[6:12, 6:11].max() == 0 and mask[:4].min() == 1 and mask[13:].min() == 1
    change[:, :, 5:12, 5:12] = 0.7  # not distinct from what is behind it: the entire picture changes
    assert ImplicitMask(0.5, 8).update(change).min() == 1


def test_late_steps_do_not_move_the_mask() -> None:
    early, late = torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16)
    early[..., 2:5, 2:5], late[..., 10:13, 10:13] = 1.0, 9.0
    mask = ImplicitMask(0.3, 4)
    first = [mask.update(early), mask.update(early)][-1].clone()
    assert torch.equal(mask.update(late), first)


def test_an_edit_keeps_the_background_of_a_real_picture() -> None:
    plain = {"source_correction": True, "placement": "mean", "cross_attention_guidance": 0.0}
    free = inversion().edit(cat2dog(), 2.0, keep_background=0.0, **plain)
    kept = inversion().edit(cat2dog(), 2.0, keep_background=0.5, **plain)
    original = inversion().latents
    assert original is not None

    def held(latents: torch.Tensor) -> float:
        return float(((latents - original).abs().amax(dim=1) < 1e-5).float().mean())

    assert held(free.latents) == 0 and 0.2 < held(kept.latents) < 0.95
    with pytest.raises(ValueError, match="keep_background is 1"):
        EditSettings(keep_background=1)
