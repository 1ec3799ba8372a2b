"""Convolutions over small maps as matrix products."""

import pytest
import torch
from torch import nn

from editor import convolution
from editor.convolution import small_map_products


@pytest.fixture
def products(monkeypatch):
    """How often a convolution was done as a product."""
    calls = []
    unfold = convolution.F.unfold
    monkeypatch.setattr(
        convolution.F, "unfold", lambda *args, **kwargs: calls.append(args) or unfold(*args, **kwargs)
    )
    return calls


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 3])
def test_it_gives_the_convolution_and_its_gradient(products, stride, bias, rows):
    layer = nn.Conv2d(512, 1024, 3, stride=stride, padding=1, bias=bias).requires_grad_(False)
    maps = drawn(rows, 512, 6, 5).requires_grad_(True)
    weight = drawn(1, seed=1)

    def both():
        out = layer(maps)
        (gradient,) = torch.autograd.grad((weight * out.square()).sum(), maps)
        return out, gradient

    expected, expected_gradient = both()
    with small_map_products(layer):
        found, gradient = both()
    assert len(products) == 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)
    assert found.is_contiguous()


@pytest.mark.parametrize(
    "layer, size",
    [
        (nn.Conv2d(1024, 512, 3, padding=1), 9),
        (nn.Conv2d(64, 64, 3, padding=1), 4),
        (nn.Conv2d(1024, 512, 1), 4),
        (nn.Conv2d(1024, 512, 3, padding=1, groups=2), 4),
        (nn.Conv2d(1024, 512, 3, padding=1, padding_mode="reflect"), 4),
        (nn.Conv2d(1024, 512, 3, padding=2, dilation=2), 4),
        (nn.Conv2d(1024, 512, 3, padding="same"), 4),
        (nn.Conv2d(1024, 512, 3, padding=1, dtype=torch.bfloat16), 4),
        (nn.Conv2d(1024, 512, 3, padding=1).to(memory_format=torch.channels_last), 4),
    ],
    ids=[
        "large map",
        "few channels",
        "1×1",
        "groups",
        "reflecting",
        "dilated",
        "padding by name",
        "bfloat16",
        "channels last",
    ],
)
def test_other_layers_are_left_to_torch(products, layer, size):
    maps = drawn(1, layer.in_channels, size, size).to(layer.weight.dtype)
    expected = layer(maps)
    with small_map_products(layer):
        assert torch.equal(layer(maps), expected)
    assert not products


def test_a_layer_is_as_it_was_afterwards_also_after_an_exception(products):
    plain, hooked = nn.Conv2d(1024, 512, 3), nn.Conv2d(1024, 512, 3)
    mine = hooked.forward
    hooked.forward = mine
    with pytest.raises(KeyError), small_map_products(nn.Sequential(plain, hooked)):
        assert "forward" in plain.__dict__
        raise KeyError
    assert "forward" not in plain.__dict__
    assert hooked.__dict__["forward"] is mine
