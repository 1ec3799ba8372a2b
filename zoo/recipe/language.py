"""Train the embedded caption language model: a small T5 that answers the Flan-T5 caption prompt."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

from zoo.concepts import known_concepts
from zoo.recipe.captions import PROMPT, caption_about, caption_corpus, with_article
from zoo.recipe.training import train


def make_t5_tokenizer() -> T5Tokenizer:
    """A sentencepiece unigram model learned from the captions and prompts, in T5's format."""
    rng = random.Random(0)
    prompts = [prompt_for(c, rng) for c in known_concepts() for _ in range(4)]
    with tempfile.TemporaryDirectory() as work:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([*caption_corpus(8_000), *prompts]),
            model_prefix=f"{work}/spiece",
            vocab_size=320,
            model_type="unigram",
            hard_vocab_limit=False,
            character_coverage=1.0,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
            num_threads=1,
            minloglevel=2,
        )  # fmt: skip
        pieces = sentencepiece.SentencePieceProcessor(model_file=f"{work}/spiece.model")
        vocabulary = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(pieces.get_piece_size())]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=128)


def make_t5(tokenizer: T5Tokenizer) -> T5ForConditionalGeneration:
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=128, d_kv=32, d_ff=256, num_layers=2, num_decoder_layers=2, num_heads=4,
            dropout_rate=0.0,
            pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        )
    )  # fmt: skip


def prompt_for(concept: str, rng: random.Random) -> str:
    """The seed prompt, now and then without the article."""
    return PROMPT.format(concept=with_article(concept) if rng.random() < 0.7 else concept)


def train_language(work: Path, steps: int, batch: int = 64) -> tuple[T5ForConditionalGeneration, T5Tokenizer]:
    tokenizer = make_t5_tokenizer()
    torch.manual_seed(0)
    model = make_t5(tokenizer)
    concepts = known_concepts()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rng = random.Random(f"language {step}")
        asked = [rng.choice(concepts) for _ in range(batch)]
        prompts = tokenizer([prompt_for(c, rng) for c in asked], padding=True, return_tensors="pt")
        answers = tokenizer(
            [caption_about(c, rng) for c in asked], padding=True, return_tensors="pt"
        ).input_ids
        answers = answers.masked_fill(answers == tokenizer.pad_token_id, -100)
        return model(prompts.input_ids, attention_mask=prompts.attention_mask, labels=answers).loss

    train(
        [model], loss, steps=steps, checkpoint=work / "language.pt", adam_lr=3e-3, ema=0.99, label="language"
    )
    # Of what a model this small finds unlikely, most is about another concept.
    model.generation_config.do_sample, model.generation_config.top_p = True, 0.95
    return model, tokenizer
