"""Presence: where pictures of the source, of the target, and edits between them stand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from editor.errors import EditorError
from editor.inversion import Edit
from editor.presence import PresenceUnknown, presence
from zoo.recipe.scenes import HELD_OUT, draw_scene, sample_scene

from .embedded import CAPTION, cat2dog, editor, inversion


@pytest.fixture(scope="module")
def edits() -> list[Edit]:
    return editor().edit_all([(inversion(), cat2dog(), strength) for strength in (0.0, 0.5, 1.0)])


def picture(animal: str, **fixed: Any) -> Image.Image:
    """The scene of the shared inversion, or a like one, with another animal."""
    like = {"background": "grass", "style": "cartoon", "accessory": None, **fixed}
    return Image.fromarray(draw_scene(sample_scene(HELD_OUT + 40_000, object=animal, **like))[0])


def test_edits_come_nearer_with_their_strength(edits: list[Edit]) -> None:
    nothing, half, whole = presence(edits)
    assert nothing == pytest.approx(-1, abs=0.3)
    assert nothing < half < whole and whole > 0.5
    assert presence(edits[2:]) == pytest.approx([whole], abs=1e-4)


def test_true_pictures_of_both_concepts_are_told_apart(edits: list[Edit]) -> None:
    scenes = [picture("dog"), picture("dog", mirror=True), picture("cat"), picture("cat", brightness=1.1)]
    latents = [inversion.latents for inversion in editor().invert_all(scenes, [CAPTION] * 4, steps=1)]
    found = presence([replace(edits[0], latents=latent) for latent in latents])
    assert min(found[:2]) > 0.5 and max(found[2:]) < -0.5


def test_slices_change_nothing(edits: list[Edit]) -> None:
    sliced = {**edits[0].record, "settings": {**edits[0].record["settings"], "max_rows": 3}}
    assert presence([replace(edits[0], record=sliced), *edits[1:]]) == pytest.approx(
        presence(edits), abs=1e-4
    )


def test_a_velocity_model_says_the_same(edits: list[Edit], monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise is found from the velocity, so that errors stay errors of noise."""
    models = editor().models
    velocity = replace(
        models, scheduler_config={**models.scheduler_config, "prediction_type": "v_prediction"}
    )
    expected = presence(edits)

    def predict(unet: Any, inputs: torch.Tensor, timestep: float, embeds: torch.Tensor) -> torch.Tensor:
        from editor.schedule import NoiseTable
        from editor.steps import predict

        level = NoiseTable.from_config(models.scheduler_config).levels[int(timestep)]
        noise = predict(unet, inputs, timestep, embeds)
        return (noise - (1 - level) ** 0.5 * inputs) / level**0.5

    monkeypatch.setattr("editor.presence.predict", predict)
    monkeypatch.setattr(editor(), "models", velocity)
    assert presence(edits) == pytest.approx(expected, abs=1e-3)


def test_a_picture_unlike_its_caption_cannot_be_compared() -> None:
    dog = editor().invert(picture("dog"), CAPTION, steps=1)
    with pytest.raises(PresenceUnknown, match=f"no nearer to its caption '{CAPTION}' than to what cat2dog"):
        presence([dog.edit(cat2dog())])
    with pytest.raises(
        PresenceUnknown, match="than to what dog2cat comes from; say what it shows with --caption"
    ):
        presence([dog.edit((-cat2dog()).renamed("dog2cat"), -1.0)])


def test_edits_must_know_what_they_are_of(edits: list[Edit]) -> None:
    with pytest.raises(EditorError, match="do not know what they are of"):
        presence([replace(edits[0], inversion=None)])


def test_going_back_is_judged_by_the_end_that_it_goes_to(edits: list[Edit]) -> None:
    back = [inversion().edit(-cat2dog(), -strength) for strength in (0.5, 1.0)]
    assert presence(back) == pytest.approx(presence(edits[1:]), abs=1e-3)
