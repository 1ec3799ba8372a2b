"""The figures against values worked out by hand or by a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.quality import figures
from benchmarks.zoo import held_out
from zoo.recipe.scenes import draw_background, draw_scene


@pytest.fixture
def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((24, 20), Image.Resampling.BICUBIC))


def test_ssim_is_the_formula_of_each_window(picture: np.ndarray) -> None:
    a = picture / 255
    b = np.clip(0.8 * a + 0.1 * np.sin(np.arange(a.size)).reshape(a.shape) ** 2, 0, 1)
    found = figures.ssim_map(a, b)
    assert found.shape == (10, 14)
    place = np.arange(11) - 5
    weights = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for colour in range(3):
        x, y = (p[3:14, 7:18, colour] for p in (a, b))
        mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
        var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
        both = (weights * (x - mean_x) * (y - mean_y)).sum()
        top = (2 * mean_x * mean_y + 1e-4) * (2 * both + 9e-4)
        values.append(top / ((mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4)))
    assert found[3, 7] == pytest.approx(np.mean(values))
    assert figures.ssim_map(a, a) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        figures.ssim_map(a[:10], b[:10])


def test_background_sees_only_the_outside(picture: np.ndarray) -> None:
    mask = np.zeros(picture.shape[:2], bool)
    mask[4:12, 4:12] = True
    changed = picture.copy()
    changed[mask] = 255 - changed[mask]
    untouched = figures.background_figures(changed, picture, mask)
    assert untouched["background_mse"] == 0 and untouched["background_psnr"] == 100
    assert untouched["background_ssim"] == pytest.approx(1)
    changed[~mask] = np.where(picture[~mask] < 128, picture[~mask] + 51, picture[~mask] - 51)
    worse = figures.background_figures(changed, picture, mask)
    assert worse["background_mse"] == pytest.approx(0.2**2)
    assert worse["background_psnr"] == pytest.approx(-20 * np.log10(0.2))
    assert worse["background_ssim"] < 0.9
    assert figures.background_figures(changed, picture, np.ones_like(mask)) == {}


def test_structure_ignores_appearance_and_sees_places() -> None:
    features = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    assert figures.structure_distance(features, 3 * features @ turn).max() < 1e-10
    moved = features[:, torch.arange(9).roll(1)]
    assert figures.structure_distance(features, moved).min() > 0.01
    flat, split = torch.ones(1, 2, 1), torch.tensor([[[1.0], [-1.0]]])
    assert figures.structure_distance(flat, split).item() == pytest.approx((0 + 4 + 4 + 0) / 4)


def test_object_mask_finds_the_object() -> None:
    scenes = held_out(4, 9000)
    for scene in scenes:
        drawn, body = draw_scene(scene)
        empty = np.asarray(draw_background(scene).reduce(2))
        assert figures.overlap(body, figures.object_mask(drawn, empty)) > 0.8
        assert not figures.object_mask(empty, empty).any()
    none = np.zeros((3, 3), bool)
    assert figures.overlap(none, none) == 1 and figures.overlap(~none, none) == 0


def test_bootstrap_is_seeded_and_covers() -> None:
    values = [1.0] * 60 + [0.0] * 40
    found = figures.bootstrap(values)
    assert found == figures.bootstrap(values) and found.count == 100
    assert found.mean == 0.6
    half = 1.96 * (0.6 * 0.4 / 100) ** 0.5  # the normal approximation of a share
    assert found.low == pytest.approx(0.6 - half, abs=0.015)
    assert found.high == pytest.approx(0.6 + half, abs=0.015)
    with pytest.raises(ValueError, match="at least one"):
        figures.bootstrap([])
