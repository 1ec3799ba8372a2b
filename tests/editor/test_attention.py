"""Recorded maps, their distance, and a UNet left as it was found."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel

from editor.attention import AttentionMaps, MapDistance, cross_attention, layer_size
from editor.guidance import frozen, guidance_gradient
from editor.steps import predict

from .conftest import relative


def test_recorded_maps(golden: Any, unet: Any) -> None:
    recorded, caption = golden("edit_real_0.1"), golden("text")["caption_embeds"]
    for step, latents in ((0, recorded["init"]), (5, recorded["ref_latents"][4])):
        maps: dict[str, torch.Tensor] = {}
        with torch.no_grad(), cross_attention(unet) as control, control.record(maps):
            predict(unet, torch.cat([latents] * 2), 901 - 100 * step, torch.cat([caption] * 2))
        middle = maps["mid_block.attentions.0.transformer_blocks.0.attn2"]
        assert relative(middle.flatten(0, 1), recorded[f"ref_map_mid_step{step}"]) < 1e-5
        assert len(maps) == 4


def test_recorded_gradients(golden: Any, unet: Any) -> None:
    recorded, text = golden("edit_real_0.1"), golden("text")
    caption = text["caption_embeds"]
    edited = torch.cat([caption, caption + text["direction"]])
    found = []
    for i in range(10):
        reference = recorded["init"] if i == 0 else recorded["ref_latents"][i - 1]
        latents = recorded["init"] if i == 0 else recorded["edit_latents"][i - 1]
        maps: dict[str, torch.Tensor] = {}
        with frozen(unet), cross_attention(unet) as control:
            with torch.no_grad(), control.record(maps):
                predict(unet, reference, 901 - 100 * i, caption)
            result = guidance_gradient(
                unet, control, torch.cat([latents] * 2), 901 - 100 * i, edited, AttentionMaps(maps), [0, 0], 2
            )
        found.append(result.gradient)
    assert relative(torch.stack(found), recorded["edit_grad"]) < 3e-4


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 0.01), (torch.bfloat16, 0.05)])
def test_gradients_of_half_precision_weights(
    unet: Any, golden: Any, dtype: torch.dtype, bound: float
) -> None:
    """Maps and loss are float32 whatever the weights are; in their own type the gradient is off by a fifth."""
    recorded, text = golden("edit_real_0.1"), golden("text")
    caption = text["caption_embeds"]
    edited = torch.cat([caption, caption + text["direction"]])
    found = []
    for model in (unet, copy.deepcopy(unet).to(dtype)):
        maps: dict[str, torch.Tensor] = {}
        with frozen(model), cross_attention(model) as control:
            with torch.no_grad(), control.record(maps):
                predict(model, recorded["ref_latents"][4], 401, caption)
            inputs = torch.cat([recorded["edit_latents"][4]] * 2)
            result = guidance_gradient(model, control, inputs, 401, edited, AttentionMaps(maps), [0, 0], 2)
        assert result.gradient.dtype == torch.float32
        found.append(result.gradient)
    assert relative(found[1], found[0]) < bound


def test_distance_equals_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 2, 5, 7, generator=generator, requires_grad=True)
    targets = torch.rand(2, 2, 5, 7, generator=generator)
    weights = torch.tensor([1.0, 2.0, 3.0])
    by_hand = MapDistance.apply(maps, targets, [1, 0, 1])
    plain = (maps - targets[[1, 0, 1]]).square().sum(dim=(2, 3)).mean(dim=1)
    assert torch.allclose(by_hand, plain)
    (a,) = torch.autograd.grad((by_hand * weights).sum(), maps)
    (b,) = torch.autograd.grad((plain * weights).sum(), maps)
    assert torch.allclose(a, b)


def state(unet: Any) -> Any:
    return (
        unet.attn_processors,
        [p.requires_grad for p in unet.parameters()],
        [m.training for m in unet.modules()],
    )


def test_the_unet_is_left_as_found(unet: Any) -> None:
    unet.train()
    next(unet.parameters()).requires_grad_(False)
    before = state(unet)
    try:
        with frozen(unet), cross_attention(unet):
            assert not any(p.requires_grad for p in unet.parameters())
            assert not any(m.training for m in unet.modules())
            assert state(unet) != before
        assert state(unet) == before
        with (
            pytest.raises(KeyboardInterrupt),
            frozen(unet),
            cross_attention(unet) as control,
            control.record({}),
        ):
            raise KeyboardInterrupt
        assert state(unet) == before
        assert control._maps is None
    finally:
        next(unet.parameters()).requires_grad_(True)
        unet.eval()


def test_self_attention_is_not_touched(unet: Any) -> None:
    before = unet.attn_processors
    with cross_attention(unet):
        changed = {name for name, p in unet.attn_processors.items() if p is not before[name]}
    assert changed == {name for name in before if ".attn2." in name}


def test_recording_does_not_change_the_output(unet: Any, golden: Any) -> None:
    caption = golden("text")["caption_embeds"]
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = predict(unet, x, 501, caption)
        with cross_attention(unet) as control:
            assert torch.equal(predict(unet, x, 501, caption), plain)
            with control.record({}):
                assert relative(predict(unet, x, 501, caption), plain) < 1e-6


def test_only_layers_up_to_a_size(unet: Any, golden: Any) -> None:
    caption = golden("text")["caption_embeds"]
    maps: dict[str, torch.Tensor] = {}
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), cross_attention(unet, max_positions=64) as control, control.record(maps):
        predict(unet, x, 501, caption)
    assert list(maps) == ["mid_block.attentions.0.transformer_blocks.0.attn2"]
    with (
        frozen(unet),
        cross_attention(unet, max_positions=8) as control,
        pytest.raises(ValueError, match="larger maps than 8 positions"),
    ):
        guidance_gradient(unet, control, x, 501, caption, AttentionMaps({}), [0], 1)


def test_pictures_of_words(unet: Any, golden: Any) -> None:
    caption = golden("text")["caption_embeds"]
    maps: dict[str, torch.Tensor] = {}
    x = torch.randn(1, 4, 12, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), cross_attention(unet) as control, control.record(maps):
        predict(unet, x, 501, caption)
    pictures = AttentionMaps(maps).pictures(12, 20)
    assert pictures.shape == (1, 77, 12, 20)
    assert torch.allclose(pictures.sum(dim=1), torch.ones(1, 12, 20), atol=1e-4)
    assert AttentionMaps(maps).select([0, 0]).pictures(12, 20).shape[0] == 2
    assert layer_size(15, 5, 9) == (3, 5)
    with pytest.raises(ValueError, match="no halving of 5×9"):
        layer_size(7, 5, 9)


def test_no_cross_attention_says_what_was_searched() -> None:
    plain = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    with pytest.raises(ValueError, match="searched its modules for the name 'attn2'"), cross_attention(plain):
        pass


def test_a_processor_with_weights_is_refused(unet: Any) -> None:
    class Adapter(torch.nn.Module):
        pass

    layer = unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2")
    original = layer.processor
    layer.set_processor(Adapter())
    try:
        with pytest.raises(ValueError, match="processor with weights of its own"), cross_attention(unet):
            pass
    finally:
        layer.set_processor(original)
