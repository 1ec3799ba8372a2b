"""Findings: each is made where something is wrong, with its figures, and not where all is well."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editor.diagnosis import (
    EDGES_AWAY,
    RECONSTRUCTION,
    WEAK,
    Finding,
    diagnose,
    direction_unstable,
    edit_weak,
    source_missing,
    structure_lost,
    synonyms,
    unfamiliar_picture,
)
from editor.inversion import Edit
from editor.likeness import edge_likeness, psnr
from zoo.recipe.scenes import HELD_OUT, draw_scene, sample_scene

from .embedded import CAPTION, STEPS, cat2dog, editor, inversion


@pytest.fixture(scope="module")
def edit() -> Edit:
    return inversion().edit(cat2dog())


def codes(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.code for finding in findings]


def test_a_good_edit_has_nothing_to_be_said_against_it(edit: Edit) -> None:
    assert edit.findings == diagnose(edit, inversion(), cat2dog()) == ()


def test_a_poor_inversion_is_told_from_the_autoencoder(edit: Edit) -> None:
    few = editor().invert(edit.picture, CAPTION, steps=3)
    made = few.edit(cat2dog(), source_correction=False)
    finding = next(f for f in made.findings if f.code == "inversion-poor")
    found = psnr(made.reconstruction, few.autoencoded())
    assert found < RECONSTRUCTION
    assert f"its reconstruction is {found:.1f} dB from the autoencoder's own, 30 expected" in finding.message
    assert "more steps than 3" in finding.remedy and "--caption" in finding.remedy
    assert json.loads(json.dumps(asdict(finding))) == asdict(finding)
    assert str(finding) == f"{finding.message}; {finding.remedy}"


def test_an_edit_that_changed_nothing_is_weak() -> None:
    weak = inversion().edit(cat2dog(), 0.05)
    assert codes(weak.findings) == ["edit-weak"]
    assert "hardly anything changed" in weak.findings[0].message
    assert f"at most {WEAK:g} expected" in weak.findings[0].message
    assert "raise --strength above 0.05, or lower --guidance below" in weak.findings[0].remedy


def test_too_strong_an_edit_loses_the_structure() -> None:
    free = {"keep_background": 0.0, "cross_attention_guidance": 0.0, "guidance_scale": 7.0}
    strong = inversion().edit(cat2dog(), 4.0, **free)
    finding = next(f for f in strong.findings if f.code == "structure-lost")
    assert "its edges away from the cat agree to" in finding.message
    assert f"{EDGES_AWAY:g} of 1 expected" in finding.message
    assert "lower --strength below 4" in finding.remedy


def test_a_sum_may_change_anything() -> None:
    """Where a place is swapped as well, other edges are what was asked for."""
    strong = inversion().edit(cat2dog(), 3.0, cross_attention_guidance=0.0, keep_background=0.0)
    assert structure_lost(strong, inversion(), cat2dog()) is not None
    parts = (SimpleNamespace(), SimpleNamespace())
    assert structure_lost(strong, inversion(), SimpleNamespace(anchored=parts, source="cat")) is None


def test_edges_do_not_mind_colours_or_size() -> None:
    picture = inversion().picture
    assert picture is not None
    dark = picture.point(lambda value: value // 2 + 40)
    assert edge_likeness(picture, dark) > 0.99
    assert edge_likeness(picture.resize((256, 256), Image.Resampling.NEAREST), dark.resize((256, 256))) > 0.9
    other = Image.fromarray(draw_scene(sample_scene(HELD_OUT + 5))[0])
    assert edge_likeness(picture, other) < 0.5
    assert edge_likeness(Image.new("RGB", (9, 7)), Image.new("RGB", (9, 7), "red")) == 1


@pytest.mark.parametrize("caption", ["a cat", "two Cats", "the cat's bowl"])
def test_a_caption_that_names_the_source_is_well(caption: str) -> None:
    assert source_missing(caption, cat2dog()) is None


@pytest.mark.parametrize("caption", ["a catalogue", "a dog", "a kitten"])
def test_a_caption_without_the_source_is_found(caption: str) -> None:
    finding = source_missing(caption, cat2dog())
    assert finding is not None and finding.code == "source-missing"
    assert finding.message.startswith(f"the caption {caption!r} does not name 'cat'")
    assert "--caption" in finding.remedy


def test_synonyms_come_from_captions_that_do_without_the_concept() -> None:
    night = ["a dark street", "a dark sky with stars", "stars over a dark street", "a street at night"]
    assert synonyms("night", night, ["a street", "a bright sky", "a street by day"]) == ["dark", "stars"]
    record = {"captions": {"source": night, "target": ["a street", "a bright sky"]}}
    direction = SimpleNamespace(source="night", target="day", record=record)
    assert source_missing("a dark alley", direction) is None
    finding = source_missing("an alley", direction)
    assert finding is not None and "does not name 'night' or dark, stars" in finding.message
    captions = cat2dog().record["captions"]
    assert synonyms("cat", captions["source"], captions["target"]) == []


def test_a_negative_strength_starts_from_the_target_and_a_sum_from_each_part() -> None:
    assert source_missing("a dog", cat2dog(), -1.0) is None
    assert source_missing("a cat", cat2dog(), -1.0) is not None
    parts = tuple(SimpleNamespace(source=s, target=t) for s, t in (("cat", "dog"), ("grass", "snow")))
    total = SimpleNamespace(source="", target="", anchored=parts)
    assert source_missing("a cat on the grass", total) is None
    finding = source_missing("a cat on the beach", total)
    assert finding is not None and "does not name 'grass'" in finding.message
    assert source_missing("a cat", SimpleNamespace(source="", target="")) is None


def judged(**quality: Any) -> Any:
    return replace(cat2dog(), record={"quality": quality})


def test_an_unstable_direction_is_found_in_its_own_report() -> None:
    verdict = "unstable: add captions (about 510 a side: --captions 510)"
    finding = direction_unstable(
        judged(stability="unstable", verdict=verdict, agreement=0.4321, accuracy=0.6)
    )
    assert finding == Finding(
        "direction-unstable",
        "the direction cat2dog is not to be trusted: unstable (agreement 0.43, accuracy 0.60 of 1)",
        "add captions (about 510 a side: --captions 510); make it again: mkdir-direction cat dog",
    )
    one = direction_unstable(judged(stability="unknown", verdict="one caption: give more captions"))
    assert one is not None and one.message.endswith("not to be trusted: one caption")
    for fine in (judged(stability="fair", verdict="fairly stable"), judged(), replace(cat2dog(), record={})):
        assert direction_unstable(fine) is None


def photograph() -> Image.Image:
    """Grace Hopper's portrait from matplotlib's sample data."""
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as file:
        return Image.open(file).convert("RGB").crop((0, 0, 512, 512))


def unfamiliar(picture: Image.Image, caption: str = CAPTION) -> Finding | None:
    return unfamiliar_picture(editor().invert(picture, caption, steps=1, regulariser=None))


def test_photographs_and_noise_are_unfamiliar_and_held_out_scenes_are_not() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for picture in (photograph(), Image.fromarray(noise), Image.new("RGB", (64, 64), "red")):
        finding = unfamiliar(picture)
        assert finding is not None and finding.code == "unfamiliar-picture"
        assert "their autoencoder alone gives it back at" in finding.message and "sd-1.4" in finding.remedy
    for k in range(8):
        assert unfamiliar(Image.fromarray(draw_scene(sample_scene(HELD_OUT + 41_000 + k))[0])) is None


def test_a_caption_of_unknown_words_is_unfamiliar_but_not_to_other_models() -> None:
    strange = replace(inversion(), caption="two teapots of a kind")
    finding = unfamiliar_picture(strange)
    assert (
        finding is not None
        and "'two teapots of a kind' has no word that the models learned" in finding.message
    )
    assert unfamiliar_picture(replace(strange, caption="foxes")) is None
    assert unfamiliar_picture(replace(strange, models="sd-1.4")) is None


def test_a_synthetic_picture_has_no_original_to_be_held_against() -> None:
    made = editor().imagine("a cat", steps=2, seed=1).edit(cat2dog())
    assert not {"inversion-poor", "unfamiliar-picture", "source-missing"} & set(codes(made.findings))
    assert made.record["settings"]["steps"] == 2 != STEPS


def test_the_remedy_of_going_back_goes_further_back() -> None:
    weak = edit_weak(inversion().edit(-cat2dog(), -0.1))
    assert weak is not None and weak.remedy.startswith("lower --strength below -0.1")
    free = {"keep_background": 0.0, "cross_attention_guidance": 0.0, "guidance_scale": 7.0}
    lost = next(f for f in inversion().edit(-cat2dog(), -4.0, **free).findings if f.code == "structure-lost")
    assert "raise --strength above -4" in lost.remedy


def test_of_a_prompt_the_remedy_is_another_prompt() -> None:
    made = replace(inversion(), latents=None, picture=None, caption="two teapots of a kind")
    missing = source_missing(made.caption, cat2dog(), flag=made.caption_option)
    assert missing is not None and missing.remedy.startswith("say what the picture shows with --prompt")
    strange = unfamiliar_picture(made)
    assert strange is not None and strange.remedy.endswith("in their words with --prompt")


def test_a_part_of_an_unstable_direction_is_no_more_to_be_trusted() -> None:
    doubtful = judged(stability="unstable", verdict="unstable: add captions", agreement=0.4)
    for made in (0.7 * doubtful, -doubtful, cat2dog() + doubtful.renamed("other")):
        finding = direction_unstable(made)
        assert finding is not None and finding.remedy.endswith("mkdir-direction cat dog")
