"""Text to embeddings: the one place where captions and prompts meet the text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TOKENIZING = Lock()


def text_length(tokenizer: Any, text_encoder: Any) -> int:
    """How many tokens a text is padded or cut to: a tokenizer that states no length has its encoder's."""
    positions = getattr(text_encoder.config, "max_position_embeddings", None)
    return min(tokenizer.model_max_length, positions or tokenizer.model_max_length)


def encode_text(
    texts: Sequence[str],
    tokenizer: Any,
    text_encoder: Any,
    clip_skip: int | None = None,
    device: torch.device | None = None,
    length: int | None = None,
) -> Tensor:
    """The text encoder's last hidden state for every text: ``[B, tokens, dim]`` in the encoder's dtype.

    Every text is padded and truncated to ``length`` tokens, by default `text_length` (pix2pix-zero, section 3.1).
    ``clip_skip`` leaves out that many of the last layers; the final layer norm is applied all the same, as
    ``StableDiffusionPipeline.encode_prompt`` does. ``device`` is where an offloaded encoder will run; None is
    where it is. Raises ValueError for a ``clip_skip`` that the encoder has no layers for.
    """
    import torch

    tokens = tokenized(
        tokenizer,
        list(texts),
        padding="max_length",
        max_length=length or text_length(tokenizer, text_encoder),
        truncation=True,
        return_tensors="pt",
    )
    device = device or text_encoder.device
    uses_mask = getattr(text_encoder.config, "use_attention_mask", False)
    mask = tokens.attention_mask.to(device) if uses_mask else None
    ids = tokens.input_ids.to(device)
    with torch.no_grad(), torch.autocast(ids.device.type, enabled=False):
        if clip_skip is None:
            return text_encoder(ids, attention_mask=mask)[0]
        layers = text_encoder.config.num_hidden_layers
        if isinstance(clip_skip, bool) or not isinstance(clip_skip, int) or not 0 <= clip_skip < layers:
            raise ValueError(f"clip_skip is {clip_skip!r}; expected a whole number from 0 to {layers - 1}")
        states = text_encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        # transformers 4 has the layer norm inside `text_model`, transformers 5 at the top
        inner = getattr(text_encoder, "text_model", text_encoder)
        return inner.final_layer_norm(states[-(clip_skip + 1)])


def bound_length(tokenizer: Any, text_encoder: Any) -> Any:
    """The tokenizer, its length at most the encoder's positions: one that states none takes 10^30 tokens."""
    tokenizer.model_max_length = text_length(tokenizer, text_encoder)
    return tokenizer


def concept_position(text: str, concept: str, tokenizer: Any) -> int | None:
    """The number of the concept's first token in the text, 0 being the start token.

    None where the text does not hold the concept as one phrase (singular or plural) within the encoder's length.
    """
    from zoo.words import find_phrase

    match = find_phrase(text, concept)
    if match is None:
        return None
    position = token_count(text[: match.start(2)].rstrip(), tokenizer) - 1
    return position if position < tokenizer.model_max_length - 1 else None


def tokenized(tokenizer: Any, texts: str | list[str], **options: Any) -> Any:
    """`tokenizer(texts, **options)`, one thread at a time: it keeps padding and truncation from call to call."""
    with _TOKENIZING:
        return tokenizer(texts, **options)


def token_count(text: str, tokenizer: Any) -> int:
    """How many tokens the text takes, start and end tokens included, before any truncation."""
    return len(tokenized(tokenizer, text, truncation=False).input_ids)


def dropped_words(text: str, tokenizer: Any, length: int | None = None) -> str:
    """The end of a text that does not fit the encoder's length (None: the tokenizer's), "" where all of it does."""
    longest = length or tokenizer.model_max_length
    ids = tokenized(tokenizer, text, padding="longest", truncation=False).input_ids
    if len(ids) <= longest:
        return ""
    return tokenizer.decode(ids[longest - 1 : -1]).strip()
