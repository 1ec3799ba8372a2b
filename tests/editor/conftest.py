"""Models and recorded tensors for the editor's tests: a tiny Stable Diffusion folder, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The recorded tensors were made on one thread; more would only slow models this small."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Any:
    """`golden("units")` loads one file of recorded tensors."""
    return lambda name: load_file(str(GOLDEN / f"{name}.safetensors"))


@pytest.fixture(scope="session")
def meta() -> dict[str, Any]:
    return json.loads((GOLDEN / "meta.json").read_text())


@pytest.fixture(scope="session")
def scheduler_config() -> dict[str, Any]:
    return json.loads((GOLDEN / "tiny_sd" / "scheduler" / "scheduler_config.json").read_text())


@pytest.fixture(scope="session")
def unet() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(GOLDEN / "tiny_sd" / "unet", dtype=torch.float32).eval()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative L2 distance over the whole stack."""
    return float((a.double() - b.double()).norm() / b.double().norm())


@dataclass(frozen=True)
class Arrow:
    """A direction, as the editor sees one."""

    tensor: Any
    encoder: str
    name: str = "cat2dog"
    version: int | None = 1
    record: Mapping[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def captioner_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP captioner with random weights and a vocabulary of a few words."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder = tmp_path_factory.mktemp("captioner")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    words += ["a", "photo", "photography", "of", "the", "cat", "dog", "on", "grass", "in", "snow"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), bos_token="[DEC]")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "encoder_hidden_size": 16, "vocab_size": len(words), "projection_dim": 16}
    text |= {"bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3}
    vision = {**small, "image_size": 16, "patch_size": 8, "projection_dim": 16}
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16, image_text_hidden_size=16)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 16, "width": 16}
    BlipProcessor(BlipImageProcessor(size=size), tokenizer).save_pretrained(folder)
    return folder
