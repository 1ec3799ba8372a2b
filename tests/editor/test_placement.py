"""Where a direction lands in a caption, with the embedded text encoder."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from directions import discover
from editor.inversion import Inversion
from editor.placement import CARRIED_NEARER, place, settled, swap
from editor.settings import EditSettings
from library import Library
from library.direction import Direction
from library.settings import STARTER

from .embedded import cat2dog, editor, inversion

PLACES = ("on the grass", "at night", "in a room", "on the beach")


def made(source: str, target: str, caption: str = "a cartoon of a {} {}") -> Direction:
    """A direction whose captions are the same on both sides but for the concept."""
    sides = [[caption.format(concept, where) for where in PLACES] for concept in (source, target)]
    return discover(
        source, target, models="embedded", source_captions=sides[0], target_captions=sides[1], cache=False
    )


def moved(direction: Direction, caption: str) -> tuple[torch.Tensor, str]:
    embeds = editor().encode([caption])[0]
    change, placement = place(editor().models, direction, caption, embeds, "anchored")
    return embeds + change, placement


@pytest.mark.parametrize(
    ("source", "target"),
    [("cat", "dog"), ("cat", "cat wearing a hat"), ("cat wearing a hat", "cat"), ("cartoon", "3d render")],
)
def test_one_phrasing_gives_the_swapped_caption(source: str, target: str) -> None:
    """One caption a side: its placed change is the other caption's embedding, row for row."""
    text = "a cartoon of a {} on the grass" if source != "cartoon" else "a {} of a cat on the grass"
    direction = discover(
        source, target, models="embedded", cache=False,
        source_captions=[text.format(source)], target_captions=[text.format(target)],
    )  # fmt: skip
    found, placement = moved(direction, text.format(source))
    expected = editor().encode([text.format(target)])[0]
    assert placement == "anchored"
    # the last rows are padding, of which a longer concept leaves fewer
    assert torch.allclose(found[:-3], expected[:-3], atol=1e-4)


def test_another_phrasing_is_nearer_than_the_mean_placement() -> None:
    direction = made("cat", "dog")
    caption, swapped = (f"there is a {x} in the street" for x in ("cat", "dog"))
    expected = editor().encode([swapped])[0]
    anchored, _ = moved(direction, caption)
    mean = editor().encode([caption])[0] + torch.as_tensor(direction.tensor)
    concept = 4  # after the start token, "there", "is" and "a"
    assert (anchored - expected)[concept].norm() < 0.75 * (mean - expected)[concept].norm()
    assert (anchored - expected).norm() < (mean - expected).norm()


def test_sums_negations_and_fallbacks() -> None:
    cat2dog, grass2snow = made("cat", "dog"), made("grass", "snow", "a cat {1} and the {0}")
    caption = "a cartoon of a cat on the grass"
    embeds = editor().encode([caption])[0]

    def change(direction: Direction, text: str = caption) -> torch.Tensor:
        return place(editor().models, direction, text, editor().encode([text])[0], "anchored")[0]

    both = change(cat2dog + 0.5 * grass2snow)
    assert torch.allclose(both, change(cat2dog) + 0.5 * change(grass2snow), atol=1e-5)
    back = "a cartoon of a dog on the grass"
    away = change(-cat2dog, back)  # a cat again
    assert (editor().encode([back])[0] + away - embeds).norm() < 0.4 * away.norm()
    for direction, text in (
        (cat2dog, "a fox at night"),
        (Direction("x", cat2dog.tensor, cat2dog.encoder), caption),
    ):
        tensor, placement = place(editor().models, direction, text, embeds, "anchored")
        assert placement == "mean" and np.array_equal(tensor.numpy(), direction.tensor)
    assert place(editor().models, cat2dog, caption, embeds, "mean")[1] == "mean"


@cache
def cat2hat() -> Direction:
    """In many phrasings, so that the mean holds little of the change."""
    frames = [
        frame.format(place)
        for place in PLACES
        for frame in ("a cartoon of a {{}} {}", "a {{}} {}", "there is a {{}} {}", "{}, a small {{}}")
    ]
    sides = [[frame.format(x) for frame in frames] for x in ("cat", "cat wearing a hat")]
    return discover(
        "cat", "cat wearing a hat", models="embedded", cache=False,
        source_captions=sides[0], target_captions=sides[1],
    )  # fmt: skip


def auto(direction: Direction) -> EditSettings:
    given = EditSettings(placement="auto", guidance_scale=5.0)
    return settled(given, editor().models, direction, inversion())


def test_auto_takes_half_of_the_scale_where_mean_and_anchored_have_little_in_common() -> None:
    library = Library(STARTER, ())
    caption = "a cartoon of a dog on the grass"
    dog = replace(inversion(), caption=caption, embeds=editor().encode([caption]))
    given = EditSettings(placement="auto", guidance_scale=5.0)
    for name, scale in (("dog2dog-wearing-glasses", 2.5), ("grass2desert", 4.0)):
        chosen = settled(given, editor().models, library[name], dog)
        assert (chosen.placement, chosen.guidance_scale) == ("mean", scale), name


def test_auto_takes_the_mean_where_it_carries_the_change_else_the_anchored_one_at_half_the_guidance() -> None:
    mean = auto(cat2dog())
    assert (mean.placement, mean.guidance_scale) == ("mean", 4.0)
    anchored = auto(cat2hat())
    assert (anchored.placement, anchored.guidance_scale) == ("anchored", 2.5)
    foreign = Direction("x", cat2hat().tensor, cat2hat().encoder)
    assert (auto(foreign).placement, auto(foreign).guidance_scale) == ("mean", 5.0), "as published"
    assert auto(3 * cat2hat()) == anchored
    asked = EditSettings(placement="mean", guidance_scale=3.0)
    assert settled(asked, editor().models, cat2hat(), inversion()) == asked


def test_the_swap_is_what_the_encoder_makes_of_the_other_word() -> None:
    start, direction = inversion(), cat2dog()
    change = swap(editor().models, direction, start.caption, start.embeds[0])
    before, after = editor().encode([start.caption, start.caption.replace("cat", "dog")])
    assert torch.allclose(change, after - before, atol=1e-6)
    assert torch.equal(swap(editor().models, -2 * direction, start.caption, start.embeds[0]), -2 * change)


def test_auto_takes_a_mean_that_points_to_the_swap_and_carries_enough_of_it() -> None:
    """Constructed: a mean that is a given part of the swap, and one that points elsewhere as well."""
    start, direction = inversion(), cat2dog()
    whole = swap(editor().models, direction, start.caption, start.embeds[0])
    aside = torch.randn(whole.shape, generator=torch.Generator().manual_seed(0))
    aside *= 3 * whole.norm() / aside.norm()
    for mean, placement in (
        ((CARRIED_NEARER + 0.01) * whole, "mean"),
        ((CARRIED_NEARER - 0.01) * whole, "anchored"),
        (whole + aside, "anchored"),
    ):
        made = Direction("x", mean.numpy(), direction.encoder, "cat", "dog", anchored=direction.anchored)
        assert auto(made).placement == placement


def test_one_batch_may_hold_both_placements() -> None:
    start: Inversion = inversion()
    both = editor().edit_all([(start, cat2hat(), 1.0), (start, cat2dog(), 1.0)])
    assert [edit.record["placement"] for edit in both] == ["anchored", "mean"]
    assert [edit.record["guidance_scale"] for edit in both] == [2.5, 4.0]
    assert {edit.record["settings"]["placement"] for edit in both} == {"auto"}, "what was asked for"
    for edit, direction in zip(both, (cat2hat(), cat2dog()), strict=True):
        assert torch.equal(edit.latents, start.edit(direction).latents)


def test_a_synthetic_picture_is_the_same_for_all_edits_at_the_guidance_scale_that_makes_it() -> None:
    start = editor().imagine("a cartoon of a cat on the grass", steps=3)
    foreign = Direction("x", cat2hat().tensor, cat2hat().encoder)
    place = Library(STARTER, ())["grass2desert"]
    edits = editor().edit_all([(start, along, 1.0) for along in (cat2hat(), cat2dog(), place, foreign)])
    assert [edit.record["placement"] for edit in edits] == ["anchored", "anchored", "mean", "mean"]
    assert {edit.record["guidance_scale"] for edit in edits} == {5.0}
    assert len({edit.reconstruction.tobytes() for edit in edits}) == 1
