"""Train the embedded captioner: a small BLIP that names style, object, accessory and background."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from zoo.recipe.captions import plain_caption
from zoo.recipe.data import to_float, training_pictures
from zoo.recipe.scenes import SIZE, sample_scene
from zoo.recipe.training import train


def make_processor() -> BlipProcessor:
    """BLIP's processor for 64×64 pictures, with a word-level vocabulary of its own and BLIP's ``[DEC]`` token."""
    words = sorted({w for seed in range(5_000) for w in plain_caption(sample_scene(seed)).split()})
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *words])}
    tokenizer = BertTokenizer(vocab=vocabulary, bos_token="[DEC]", model_max_length=32)
    images = BlipImageProcessor(
        size={"height": SIZE, "width": SIZE}, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=3
    )
    return BlipProcessor(images, tokenizer)


def make_blip(tokenizer: BertTokenizer) -> BlipForConditionalGeneration:
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 128, "encoder_hidden_size": 128, "intermediate_size": 256,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "label_smoothing": 0.0, **ids,
    }  # fmt: skip
    vision = {
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
        "image_size": SIZE, "patch_size": 8,
    }  # fmt: skip
    return BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=vision, projection_dim=128)
    )


def train_captioner(
    work: Path, steps: int, pictures: int, batch: int = 48
) -> tuple[BlipForConditionalGeneration, BlipProcessor]:
    data, _ = training_pictures(work, pictures)
    processor = make_processor()
    tokenizer = processor.tokenizer
    torch.manual_seed(0)
    model = make_blip(tokenizer)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data), (batch,), generator=generator)
        texts = [plain_caption(sample_scene(int(row))) for row in rows]
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        ids = tokens.input_ids.clone()
        ids[:, 0] = tokenizer.bos_token_id
        labels = ids.masked_fill(ids == tokenizer.pad_token_id, -100)
        x = augment(to_float(data[rows]), generator)
        return model(pixel_values=x, input_ids=ids, attention_mask=tokens.attention_mask, labels=labels).loss

    train([model], loss, steps=steps, checkpoint=work / "captioner.pt", ema=0.99, label="captioner")
    return model, processor


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to four pixels, perhaps mirror, blur and add noise as a decoder would; ``[B, 3, H, W]``, [-1, 1]."""
    if torch.rand((), generator=generator) < 0.5:
        x = x.flip(-1)
    dy, dx = (int(torch.randint(0, 9, (), generator=generator)) for _ in range(2))
    x = F.pad(x, (4, 4, 4, 4), mode="replicate")[..., dy : dy + SIZE, dx : dx + SIZE]
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    blur = torch.rand((len(x), 1, 1, 1), generator=generator) * 0.7
    noise = torch.rand((len(x), 1, 1, 1), generator=generator) * 0.12
    return torch.lerp(x, blurred, blur) + noise * torch.randn(x.shape, generator=generator)
