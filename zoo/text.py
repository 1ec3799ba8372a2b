"""Text to embeddings: the one place where captions and prompts meet the text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def encode_text(
    texts: Sequence[str], tokenizer: Any, text_encoder: Any, clip_skip: int | None = None
) -> Tensor:
    """The text encoder's last hidden state for every text: ``[B, tokens, dim]`` in the encoder's dtype.

    Every text is padded and truncated to the tokenizer's ``model_max_length`` (pix2pix-zero, section 3.1).
    ``clip_skip=1`` takes the output of the layer before the last and applies the final layer norm, as
    ``StableDiffusionPipeline.encode_prompt`` does.
    """
    import torch

    tokens = tokenizer(
        list(texts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    device = next(text_encoder.parameters()).device
    mask = None
    if getattr(text_encoder.config, "use_attention_mask", False):
        mask = tokens.attention_mask.to(device)
    with torch.no_grad():
        output = text_encoder(
            tokens.input_ids.to(device), attention_mask=mask, output_hidden_states=bool(clip_skip)
        )
        if not clip_skip:
            return output.last_hidden_state
        # transformers 4 keeps the layers in .text_model, 5 does not
        inner = getattr(text_encoder, "text_model", text_encoder)
        return inner.final_layer_norm(output.hidden_states[-(clip_skip + 1)])


def token_count(text: str, tokenizer: Any) -> int:
    """How many tokens the text takes, start and end tokens included, before any truncation."""
    return len(tokenizer(text, truncation=False).input_ids)
