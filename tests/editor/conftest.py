"""Models and recorded tensors for the editor's tests: a tiny Stable Diffusion folder, no network."""

from __future__ import annotations

import json
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
