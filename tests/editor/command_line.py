"""What the tests of `edit-image` share: a picture, two directions, and the command itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from editor.cli import main
from editor.models import load_models
from library import Direction, Library
from zoo.recipe.scenes import HELD_OUT, draw_scene, sample_scene

#: What the command loads, loaded once for all its runs here: `monkeypatch` it over `editor.session.load_models`.
loaded = cache(load_models)


@cache
def encoder() -> tuple[str, tuple[int, int]]:
    """The embedded text encoder's id and the shape of its directions."""
    models = loaded("embedded")
    return models.encoder_id, (models.tokenizer.model_max_length, models.text_encoder.config.hidden_size)


def draw_cat(path: Path) -> Path:
    """A scene that the embedded models never saw, 64×64."""
    Image.fromarray(draw_scene(sample_scene(HELD_OUT, object="cat"))[0]).save(path)
    return path


def save_direction(name: str, seed: int, path: Path | None = None) -> Direction:
    """A random direction as the next version of its name."""
    identity, shape = encoder()
    tensor = np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 0.1
    source, target = name.split("2")
    return Library(path).save(
        Direction(name=name, tensor=tensor, encoder=identity, source=source, target=target)
    )


def two_directions() -> Library:
    """`cat2dog` and `day2night` in the library of the test."""
    for seed, name in enumerate(("cat2dog", "day2night")):
        save_direction(name, seed)
    return Library()


def cat_and_directions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Work in `folder`, with `cat.png` and a library of `two_directions` alone; models are loaded once."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("editor.session.load_models", loaded)
    monkeypatch.setattr("library.settings.STARTER", folder / "no-starter")
    draw_cat(folder / "cat.png")
    return two_directions()


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def worked(*arguments: Any) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def failed(result: Result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for word in words:
        assert word in lines[0], lines[0]


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))
