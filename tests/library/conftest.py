"""Directions and libraries to test with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from library import Direction, Library

ENCODER = "clip-tiny-1a2b3c4d"


def _make(name: str = "cat2dog", seed: int = 0, shape: tuple[int, int] = (4, 8), **fields: Any) -> Direction:
    generator = np.random.default_rng(seed)
    source, target = (part.astype(np.float32) for part in generator.normal(size=(2, *shape)))
    concepts = name.split("2")
    defaults: dict[str, Any] = {
        "tensor": target - source,
        "encoder": ENCODER,
        "source_embedding": source,
        "target_embedding": target,
    }
    if len(concepts) == 2:
        defaults |= {"source": concepts[0], "target": concepts[1]}
    return Direction(name=name, **{**defaults, **fields})


@pytest.fixture
def make() -> Callable[..., Direction]:
    """Makes a small direction: `make("cat2dog", seed=1, record={…})`."""
    return _make


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """An empty library that stands alone."""
    return Library(tmp_path / "library", search_path=())
