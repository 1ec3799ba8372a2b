"""The embedded models, and directions that are quickly made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.quality import tasks
from benchmarks.quality.pie_bench import PromptDifference
from editor.session import Editor


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """More would only slow models this small."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def editor() -> Editor:
    return Editor("embedded", device="cpu")


@pytest.fixture(scope="session")
def prompt_direction(editor: Editor) -> Callable[..., Any]:
    """The difference of two sentences: discovery itself has its own tests and takes seconds."""

    def make(source: str, target: str, models: str = "") -> PromptDifference:
        before, after = editor.encode([f"a {source}", f"a {target}"]).numpy()
        return PromptDifference(f"{source} to {target}", np.asarray(after - before), editor.models.encoder_id)

    return make


@pytest.fixture
def quick_directions(prompt_direction: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks get their directions without discovery."""
    monkeypatch.setattr(tasks, "found_direction", prompt_direction)
