"""Prompts to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


@torch.no_grad()
def encode_prompts(
    tokenizer: Any,
    text_encoder: Any,
    prompts: Sequence[str],
    clip_skip: int | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """The text encoder's last hidden states, `[prompts, tokens, dim]`, padded to the tokenizer's length.

    `clip_skip` leaves out that many of the last layers; the final layer norm is applied all the same.
    `device` is where an offloaded encoder will run; None is where it is.
    """
    inputs = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    device = device or text_encoder.device
    uses_mask = getattr(text_encoder.config, "use_attention_mask", False)
    mask = inputs.attention_mask.to(device) if uses_mask else None
    ids = inputs.input_ids.to(device)
    if clip_skip is None:
        return text_encoder(ids, attention_mask=mask)[0]
    layers = text_encoder.config.num_hidden_layers
    if isinstance(clip_skip, bool) or not isinstance(clip_skip, int) or not 0 <= clip_skip < layers:
        raise ValueError(f"clip_skip is {clip_skip!r}; expected a whole number from 0 to {layers - 1}")
    states = text_encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    # transformers 4 has the layer norm inside `text_model`, transformers 5 at the top.
    inner = getattr(text_encoder, "text_model", text_encoder)
    return inner.final_layer_norm(states[-(clip_skip + 1)])


def dropped_words(tokenizer: Any, prompt: str) -> str:
    """The end of a prompt that does not fit the encoder's length, "" where all of it does."""
    longest = tokenizer.model_max_length
    ids = tokenizer(prompt, padding="longest", truncation=False).input_ids
    if len(ids) <= longest:
        return ""
    return tokenizer.decode(ids[longest - 1 : -1]).strip()
