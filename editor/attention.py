"""Cross-attention maps of a UNet: recorded, or compared with recorded ones, inside a `with` block.

Only the `attn2` processors are replaced, and only for the time of the block; self-attention and layers
above the asked resolution go on with what the UNet had, diffusers' scaled dot-product attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

#: How diffusers names the attention from pixels to words inside a transformer block.
CROSS_ATTENTION = "attn2"


@dataclass(frozen=True)
class AttentionMaps:
    """One step's maps: layer name → probabilities `[rows, heads, positions, tokens]` float32 in [0, 1].

    Rows are the UNet's, negative half first; layers are in the order in which the UNet runs them.
    """

    layers: Mapping[str, torch.Tensor]

    def select(self, rows: list[int]) -> AttentionMaps:
        """The maps of some rows, repeated or reordered."""
        return AttentionMaps({name: maps[rows] for name, maps in self.layers.items()})

    def pictures(self, height: int, width: int) -> torch.Tensor:
        """One picture a token, `[rows, tokens, height, width]`: the mean over heads and layers.

        `height` and `width` are those of the latents; smaller layers are enlarged (bilinear). Raises
        ValueError where a layer's number of positions is no halving of that size.
        """
        total = torch.zeros(())
        for name, maps in self.layers.items():
            h, w = layer_size(maps.shape[2], height, width, name)
            grid = maps.mean(dim=1).transpose(1, 2).unflatten(2, (h, w))
            total = F.interpolate(grid, size=(height, width), mode="bilinear") + total.to(grid)
        return total / len(self.layers)


def layer_size(positions: int, height: int, width: int, name: str = "a layer") -> tuple[int, int]:
    """Height and width of a layer's map, from the size of the latents and the number of positions."""
    h, w = height, width
    while h * w > positions and (h > 1 or w > 1):
        h, w = (h + 1) // 2, (w + 1) // 2
    if h * w != positions:
        raise ValueError(
            f"{name} attends from {positions} positions, which is no halving of {height}×{width} latents"
        )
    return h, w


@dataclass
class CrossAttention:
    """The handle that `cross_attention` yields: says what the attn2 layers do at the next forward passes."""

    max_positions: int | None = None
    _maps: dict[str, torch.Tensor] | None = None
    _targets: Mapping[str, torch.Tensor] | None = None
    _rows: list[int] | None = None
    _distances: list[torch.Tensor] = field(default_factory=list)

    @contextmanager
    def record(self, into: dict[str, torch.Tensor]) -> Iterator[None]:
        """Fill `into` with the maps of the forward pass inside the block, without gradients."""
        self._maps = into
        try:
            yield
        finally:
            self._maps = None

    @contextmanager
    def compare(self, targets: AttentionMaps, rows: list[int]) -> Iterator[list[torch.Tensor]]:
        """Measure the forward pass inside the block against recorded maps.

        Yields a list that gets one tensor `[R]` a layer: the squared difference of each of the UNet's
        rows to `targets`' row `rows[r]`, summed over positions and tokens, mean over heads.
        """
        self._targets, self._rows, self._distances = targets.layers, rows, []
        try:
            yield self._distances
        finally:
            self._targets, self._rows, self._distances = None, None, []

    def wants(self, name: str, positions: int) -> bool:
        """Whether the layer has to show its maps in the current forward pass."""
        if self._targets is not None:
            return name in self._targets
        return self._maps is not None and (self.max_positions is None or positions <= self.max_positions)

    def take(self, name: str, maps: torch.Tensor) -> None:
        """Hand over a layer's maps `[R, heads, positions, tokens]` float32."""
        if self._targets is not None and self._rows is not None:
            self._distances.append(MapDistance.apply(maps, self._targets[name], self._rows))
        elif self._maps is not None:
            self._maps[name] = maps.detach()


class MapDistance(torch.autograd.Function):
    """Mean over heads of the sum over positions and tokens of (A − A_ref)², a number for each row.

    By hand, because autograd would keep the differences of every layer, as large as the maps themselves.
    """

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, targets: torch.Tensor, rows: list[int]) -> torch.Tensor:
        ctx.rows = rows
        ctx.save_for_backward(maps, targets)
        return _difference(maps, targets, rows).square_().sum(dim=(2, 3)).mean(dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        maps, targets = ctx.saved_tensors
        weight = 2 / maps.shape[1] * grads[0][:, None, None, None]
        return _difference(maps, targets, ctx.rows).mul_(weight), None, None


def _difference(maps: torch.Tensor, targets: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """maps − targets[rows], as a new tensor and without a copy of the targets."""
    out = torch.empty_like(maps)
    for r, row in enumerate(rows):
        torch.sub(maps[r], targets[row], out=out[r])
    return out


class MapProcessor:
    """An attention processor that shows its maps to a `CrossAttention` when asked, else the one it replaces.

    Scores and probabilities are float32 also in a half-precision UNet: the loss is a small difference
    of nearly equal maps, which bfloat16 gets wrong by a fifth.
    """

    def __init__(self, name: str, original: Any, control: CrossAttention) -> None:
        self.name, self.original, self.control = name, original, control

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        if encoder_hidden_states is None or not self.control.wants(self.name, hidden_states.shape[1]):
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
        rows, positions, _ = hidden_states.shape
        words = encoder_hidden_states
        if attn.norm_cross:
            words = attn.norm_encoder_hidden_states(words)
        mask = attn.prepare_attention_mask(attention_mask, words.shape[1], rows)
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(words))
        value = attn.head_to_batch_dim(attn.to_v(words))
        maps = attn.get_attention_scores(query.float(), key.float(), mask if mask is None else mask.float())
        self.control.take(self.name, maps.view(rows, -1, positions, words.shape[1]))
        mixed = attn.batch_to_head_dim(torch.bmm(maps.to(value.dtype), value))
        return attn.to_out[1](attn.to_out[0](mixed)) / attn.rescale_output_factor


@contextmanager
def cross_attention(unet: Any, *, max_positions: int | None = None) -> Iterator[CrossAttention]:
    """Make the UNet's cross-attention layers answer to the yielded handle.

    `max_positions` limits recording to layers with at most that many positions (height × width of their
    map). On leaving, also by an exception, every layer has the processor that it had. Raises ValueError
    where the UNet has no cross-attention layer of the expected name, or
    one whose processor has weights of its own (an IP-Adapter's), which could not be kept in effect.
    """
    control = CrossAttention(max_positions)
    found = {
        name: module
        for name, module in unet.named_modules()
        if name.rsplit(".", 1)[-1] == CROSS_ATTENTION and hasattr(module, "processor")
    }
    if not found:
        raise ValueError(
            f"{type(unet).__name__} has no cross-attention to guide: searched its modules for the name "
            f"'{CROSS_ATTENTION}' with an attention processor and found none"
        )
    originals = {name: module.processor for name, module in found.items()}
    trained = [name for name, processor in originals.items() if isinstance(processor, torch.nn.Module)]
    if trained:
        kind = type(originals[trained[0]]).__name__
        raise ValueError(
            f"{len(trained)} cross-attention layers have a processor with weights of its own ({kind}, as "
            f"{trained[0]}), whose effect would be lost; unload the adapter that set it"
        )
    try:
        for name, module in found.items():
            module.processor = MapProcessor(name, originals[name], control)
        yield control
    finally:
        for name, module in found.items():
            module.processor = originals[name]
