"""The identity of a text encoder: a direction only means something to the encoder that made it."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def encoder_id(text_encoder: Any, tokenizer: Any, clip_skip: int | None = None) -> str:
    """``<short name>-<8 hex>``, the same for float16 and float32 checkpoints and for every layout they are saved in.

    The hash covers the encoder's weights (cast to float16, sorted by name without the ``text_model.`` prefix that
    transformers 4 writes and 5 does not), the tokenizer's vocabulary with its padding token and length, and
    ``clip_skip``. The short name is the hidden size and the number of layers: Stable Diffusion 1.4 and 1.5
    share an encoder and so share an id.
    """
    import torch

    digest = hashlib.sha256()
    weights = {_normalised(k): v for k, v in text_encoder.state_dict().items()}
    for name in sorted(weights):
        if name.endswith("position_ids"):  # a buffer that only some versions save
            continue
        tensor = weights[name].detach().to("cpu", torch.float16).contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    vocabulary = sorted(tokenizer.get_vocab().items())
    settings = [vocabulary, tokenizer.pad_token, tokenizer.model_max_length, clip_skip or 0]
    digest.update(json.dumps(settings, ensure_ascii=False).encode())
    config = text_encoder.config
    return f"clip{config.hidden_size}x{config.num_hidden_layers}-{digest.hexdigest()[:8]}"


def _normalised(name: str) -> str:
    return name.removeprefix("text_model.")
