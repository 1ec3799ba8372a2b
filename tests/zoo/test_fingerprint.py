"""An encoder's identity: stable over precision and layout, different for anything that changes embeddings."""

from __future__ import annotations

import copy
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from zoo.fingerprint import encoder_id
from zoo.registry import WEIGHTS


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return CLIPTokenizer.from_pretrained(WEIGHTS / "diffusion", subfolder="tokenizer")


@pytest.fixture
def encoder() -> Any:
    return CLIPTextModel.from_pretrained(WEIGHTS / "diffusion", subfolder="text_encoder", dtype=torch.float32)


def test_it_names_the_size_and_eight_hex_digits(encoder: Any, tokenizer: Any) -> None:
    name, _, digits = encoder_id(encoder, tokenizer).rpartition("-")
    assert name == "clip128x3" and len(digits) == 8 and int(digits, 16) >= 0


def test_float16_and_float32_checkpoints_are_the_same_encoder(encoder: Any, tokenizer: Any) -> None:
    assert encoder_id(copy.deepcopy(encoder).half(), tokenizer) == encoder_id(encoder, tokenizer)


def test_both_layouts_of_transformers_are_the_same_encoder(encoder: Any, tokenizer: Any) -> None:
    state = encoder.state_dict()
    plain = OrderedDict((k.removeprefix("text_model."), v) for k, v in state.items())
    prefixed = OrderedDict((f"text_model.{k}", v) for k, v in plain.items())
    prefixed["text_model.embeddings.position_ids"] = torch.arange(32)[None]
    ids = {
        encoder_id(SimpleNamespace(state_dict=lambda s=s: s, config=encoder.config), tokenizer)
        for s in (plain, prefixed)
    }
    assert ids == {encoder_id(encoder, tokenizer)}


def test_another_weight_or_clip_skip_or_vocabulary_is_another_encoder(encoder: Any, tokenizer: Any) -> None:
    original = encoder_id(encoder, tokenizer)
    assert encoder_id(encoder, tokenizer, clip_skip=1) != original
    assert encoder_id(encoder, tokenizer, clip_skip=0) == original
    larger = copy.deepcopy(tokenizer)
    larger.add_tokens(["<cat-toy>"])
    assert encoder_id(encoder, larger) != original
    with torch.no_grad():
        next(encoder.parameters()).view(-1)[0] += 1
    assert encoder_id(encoder, tokenizer) != original
