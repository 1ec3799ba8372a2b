"""Tiny models with random weights, built here: a T5, a causal LM, and the text encoder of tests/golden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_sd"
SENTENCES = [
    f"a photo of a {noun} on the {place}" for noun in ("cat", "dog", "horse") for place in ("grass", "beach")
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests of this folder run only when they are asked for, with -m slow."""
    if not config.getoption("-m"):
        for item in items:
            if Path(__file__).parent in item.path.parents and item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run it with -m slow"))


def train_tokenizer(folder: Path, chat: bool = False) -> None:
    """A word tokenizer of a few sentences, saved as transformers saves a fast one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<pad>", "</s>", "<unk>"])
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if not chat:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    if chat:
        fast.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    fast.save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 folder whose model answers with random words of SENTENCES."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5")
    train_tokenizer(folder)
    vocabulary = len(AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocabulary, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal language model folder with a chat template."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    train_tokenizer(folder, chat=True)
    vocabulary = len(AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=256, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def golden_encoder():  # type: ignore[no-untyped-def]
    """The text encoder that the golden tensors were recorded with."""
    from directions.models import load_encoder
    from zoo.registry import resolve

    return load_encoder(resolve(str(GOLDEN)), device="cpu")


def state_concepts(folder: Path, concepts: list[str]) -> None:
    """Let a captions folder say what it knows."""
    (folder / "concepts.json").write_text(json.dumps(concepts))
