"""Prompt-to-prompt: the edit attends where the source attended.

Hertz et al., "Prompt-to-Prompt Image Editing with Cross Attention Control" (2022), section 3.2. Source and edit
are denoised side by side, and in the first steps the edit's attention maps are replaced by the source's: the
cross-attention maps token by token ("word swap" where words are replaced, "adding a new phrase" where they
are added), and, as in the paper's published code, the self-attention maps as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import torch

from editor.schedule import Schedule
from editor.steps import Conditioning, combine, predict

#: Self-attention is replaced up to this many positions (published code: larger maps are left alone).
LARGEST_SELF_MAP = 32**2


@dataclass(frozen=True)
class Alignment:
    """For B prompt pairs: `mapper` `[B, source tokens, target tokens]`, `own` `[B, target tokens]`, float32.

    A target token's map is the mapper's mixture of the source's maps, or its own where `own` is 1.
    """

    mapper: torch.Tensor
    own: torch.Tensor


def align(sources: Sequence[str], targets: Sequence[str], tokenizer: Any) -> Alignment:
    """The alignment A(j) of section 3.2, from the longest common runs of tokens.

    Replaced words take over the source words' attention, spread evenly where their numbers of tokens
    differ; added words keep their own; padding is aligned with padding.
    """
    length = tokenizer.model_max_length
    mapper = torch.zeros(len(sources), length, length)
    own = torch.zeros(len(sources), length)
    for b, texts in enumerate(zip(sources, targets, strict=True)):
        before, after = (tokenizer(text, truncation=True, max_length=length).input_ids for text in texts)
        matcher = SequenceMatcher(a=before, b=after, autojunk=False)
        for what, i, i_end, j, j_end in matcher.get_opcodes():
            if what == "insert":
                own[b, j:j_end] = 1
            elif i_end - i == j_end - j:
                mapper[b, range(i, i_end), range(j, j_end)] = 1
            elif what == "replace":
                mapper[b, i:i_end, j:j_end] = 1 / (j_end - j)
        for j in range(len(after), length):
            mapper[b, min(max(j, len(before)), length - 1), j] = 1
    return Alignment(mapper, own)


@dataclass
class Injection:
    """What the processors do at the next forward pass: which maps of the last B rows are replaced."""

    alignment: Alignment
    cross: bool = False
    itself: bool = False

    def replaced(self, maps: torch.Tensor, crosses: bool) -> torch.Tensor:
        """Maps `[rows, heads, positions, keys]` whose last 2·B rows are the sources and their edits."""
        pictures = len(self.alignment.own)
        source, edit = maps[-2 * pictures : -pictures], maps[-pictures:]
        if crosses:
            own = self.alignment.own[:, None, None].to(maps)
            source = source @ self.alignment.mapper[:, None].to(maps) * (1 - own) + edit * own
        return torch.cat([maps[:-pictures], source])

    def wants(self, crosses: bool, positions: int) -> bool:
        return self.cross if crosses else self.itself and positions <= LARGEST_SELF_MAP


class InjectingProcessor:
    """An attention processor that replaces maps when asked, else the one it stands for."""

    def __init__(self, original: Any, injection: Injection) -> None:
        self.original, self.injection = original, injection

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        crosses = encoder_hidden_states is not None
        rows, positions, _ = hidden_states.shape
        if not self.injection.wants(crosses, positions):
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if crosses and attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        query, key, value = (
            attn.head_to_batch_dim(project(x))
            for project, x in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        mask = attn.prepare_attention_mask(attention_mask, context.shape[1], rows)
        maps = attn.get_attention_scores(query, key, mask)
        maps = self.injection.replaced(maps.unflatten(0, (rows, -1)), crosses).flatten(0, 1)
        mixed = attn.batch_to_head_dim(torch.bmm(maps, value))
        return attn.to_out[1](attn.to_out[0](mixed)) / attn.rescale_output_factor


@contextmanager
def injecting(unet: Any, injection: Injection) -> Iterator[None]:
    """The UNet's attention answers to `injection` inside the block, and is as it was afterwards."""
    layers = [module for module in unet.modules() if hasattr(module, "processor")]
    originals = [layer.processor for layer in layers]
    try:
        for layer, original in zip(layers, originals, strict=True):
            layer.processor = InjectingProcessor(original, injection)
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.processor = original


@torch.no_grad()
def prompt_to_prompt(
    unet: Any,
    schedule: Schedule,
    noise: torch.Tensor,
    source: Conditioning,
    target: torch.Tensor,
    alignment: Alignment,
    guidance_scale: float,
    cross: float,
    itself: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The edits and the source pictures, latents `[B, C, h, w]` float32, from noise `[B, C, h, w]`.

    `source` has the negative prompt of both; `target` `[B, tokens, dim]` are the edited prompts. Cross-attention
    maps are replaced in the first `cross` of the steps, self-attention maps in the first `itself`.
    """
    if source.negative is None:
        raise ValueError("prompt-to-prompt is guided by a negative prompt; expected one in `source`")
    alone = source.collapse()  # an equal negative prompt leaves the source branch unguided
    injection = Injection(alignment)
    before = after = noise.float()
    # Rows: the negative halves first, then sources and edits side by side, as `Injection` expects.
    negatives = [source.negative] if alone.negative is None else [source.negative, alone.negative]
    embeds = torch.cat([*negatives, source.prompt, target])
    with injecting(unet, injection):
        for i, timestep in enumerate(schedule.timesteps):
            injection.cross, injection.itself = i < cross * len(schedule), i < itself * len(schedule)
            heads = [after] if alone.negative is None else [after, before]
            outputs = predict(unet, torch.cat([*heads, before, after]), timestep, embeds).chunk(
                len(heads) + 2
            )
            edited = combine(torch.cat([outputs[0], outputs[-1]]), 2, guidance_scale).combined
            kept = outputs[-2]
            if alone.negative is not None:
                kept = combine(torch.cat([outputs[1], outputs[-2]]), 2, guidance_scale).combined
            before, after = schedule.step(i, kept, before), schedule.step(i, edited, after)
    return after, before
