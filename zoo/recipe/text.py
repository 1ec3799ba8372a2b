"""The text side of the embedded diffusion model: a CLIP tokenizer and text encoder of our own size."""

from __future__ import annotations

import json

from tokenizers import pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from zoo.recipe.captions import caption_corpus

TOKENS = 32
_VOCABULARY = 1024


def make_clip_tokenizer() -> CLIPTokenizer:
    """Byte-level BPE in CLIP's format, in which every word of the captions is one token."""
    template = CLIPTokenizer()
    learner = template.backend_tokenizer
    learner.model = BPE(continuing_subword_prefix="", end_of_word_suffix="</w>")
    trainer = BpeTrainer(
        vocab_size=_VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(caption_corpus(20_000), trainer)
    model = json.loads(learner.to_str())["model"]
    vocabulary = dict(model["vocab"])
    # The trainer numbers the letters that end a word in an order that changes from run to run.
    letters = sorted(token for token in vocabulary if len(token) == len("a</w>") and token.endswith("</w>"))
    vocabulary |= dict(zip(letters, sorted(vocabulary[token] for token in letters), strict=True))
    for byte in sorted(
        pre_tokenizers.ByteLevel.alphabet()
    ):  # a lone letter ends a word as well as it starts one
        vocabulary.setdefault(f"{byte}</w>", len(vocabulary))
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary.setdefault(special, len(vocabulary))
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=4,
            projection_dim=128,
            max_position_embeddings=TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
