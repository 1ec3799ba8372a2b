"""Model sets: by name, by environment, or any hub id or folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.registry import MODEL_SETS, WEIGHTS, refusal, resolve


def test_the_default_is_embedded_and_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIRECTIONS_MODELS", raising=False)
    models = resolve()
    assert models.name == "embedded"
    for location in (models.diffusion, models.captions, models.captioner):
        assert Path(location).is_dir() and WEIGHTS in Path(location).parents


def test_the_environment_names_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIRECTIONS_MODELS", "sd-1.5")
    assert resolve().diffusion == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert resolve("sd-1.4").diffusion == "CompVis/stable-diffusion-v1-4"


def test_anything_else_is_a_hub_id_or_folder() -> None:
    models = resolve("someone/finetuned-sd")
    assert models.diffusion == models.name == "someone/finetuned-sd"
    other = models.with_models(captioner="a/b")
    assert (other.captioner, other.captions) == ("a/b", models.captions)


def test_velocity_models_are_guided_gently() -> None:
    assert all(MODEL_SETS[m].defaults["cross_attention_guidance"] <= 0.01 for m in ("sd-2.1", "sd-2.1-base"))


def test_a_location_that_cannot_be_loaded_is_refused_with_the_way_out(tmp_path: Path) -> None:
    single = tmp_path / "finetuned.safetensors"
    single.touch()
    assert "is a single file" in (refusal(str(single)) or "")
    assert "from_single_file" in (refusal(str(single)) or "")
    assert "did you mean sd-1.4?" in (refusal("sd1.4") or "")
    assert refusal("someone/finetuned-sd") is None and refusal(str(tmp_path)) is None
