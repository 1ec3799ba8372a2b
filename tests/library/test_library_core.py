"""The core contract: make, save, load, resolve."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from library import Direction, Library, direction_name
from library.errors import EncoderMismatch, UnknownDirection

Make = Callable[..., Direction]
ENCODER = "clip-tiny-1a2b3c4d"


def make(name: str = "cat2dog", seed: int = 0, **more: object) -> Direction:
    tensor = np.random.default_rng(seed).normal(size=(4, 8))
    concepts = dict(zip(("source", "target"), name.split("2"), strict=True)) if name.count("2") == 1 else {}
    return Direction(name=name, tensor=tensor, encoder=ENCODER, **{**concepts, **more})


def test_a_direction_made_by_hand_comes_back_with_its_version(tmp_path: Path) -> None:
    library = Library(tmp_path, search_path=())
    made = make()
    saved = library.save(made)
    assert saved.ref == "cat2dog@1" and library.save(made).version == 2
    loaded = library.load("cat2dog@1")
    np.testing.assert_array_equal(loaded.tensor, made.tensor)
    assert loaded.tensor.flags.c_contiguous and loaded.tensor.dtype == np.float32
    assert (loaded.source, loaded.target) == ("cat", "dog")
    assert loaded.record == saved.record
    assert [v.version for v in library.versions("cat2dog")] == [1, 2]
    assert library["cat2dog"].version == 2


def test_unknown_direction_suggests_a_name(tmp_path: Path) -> None:
    library = Library(tmp_path, search_path=())
    library.save(make())
    with pytest.raises(UnknownDirection, match=r"did you mean cat2dog\?"):
        library.load("cat2dogs")


def test_another_encoder_is_refused_with_the_command_that_rebuilds(tmp_path: Path) -> None:
    library = Library(tmp_path, search_path=())
    library.save(make())
    with pytest.raises(EncoderMismatch, match=r"mkdir-direction --rebuild cat2dog --models sd-1\.4"):
        library.load("cat2dog", encoder="clip-vit-l-00000000", models="sd-1.4")


def test_expression_equals_algebra(tmp_path: Path) -> None:
    library = Library(tmp_path, search_path=())
    a, b = library.save(make()), library.save(make("day2winter", 1))
    resolved = library.resolve("0.8*cat2dog + day2winter", encoder=ENCODER)
    np.testing.assert_array_equal(resolved.tensor, (0.8 * a + b).tensor)
    assert [(p["name"], p["version"], p["weight"]) for p in resolved.parents] == [
        ("cat2dog", 1, 0.8),
        ("day2winter", 1, 1.0),
    ]


def test_the_opposite_answers_negated_and_says_so(tmp_path: Path) -> None:
    library = Library(tmp_path, search_path=())
    saved = library.save(make())
    opposite = library.load("dog2cat")
    np.testing.assert_array_equal(opposite.tensor, -saved.tensor)
    assert (opposite.source, opposite.target) == ("dog", "cat")
    assert opposite.notes == ["dog2cat is cat2dog@1 negated: no direction of that name exists"]


def test_names_are_slugs() -> None:
    assert direction_name("cat", "cat wearing glasses") == "cat2cat-wearing-glasses"


def test_the_opposite_answers_where_the_name_is_another_encoders(library: Library, make: Make) -> None:
    library.save(make("cat2panda"))
    library.save(make("panda2cat", encoder="clip-other-00000000"))
    direction = library.load("panda2cat", ENCODER)
    (note,) = direction.notes
    assert note == f"panda2cat is cat2panda@1 negated: no direction of that name exists for {ENCODER}"
    assert library.lookup.encoders_of("panda2cat") == ["clip-other-00000000", ENCODER]
    assert library.lookup.encoders_of("panda2cat@2") == [] == library.lookup.encoders_of("fox2cat")
    assert library.load("panda2cat").encoder == "clip-other-00000000"
    with pytest.raises(EncoderMismatch, match="panda2cat was made for encoder clip-other-00000000"):
        library.load("panda2cat", "clip-third-00000000")
    with pytest.raises(UnknownDirection, match="version 7 of panda2cat does not exist"):
        library.load("panda2cat@7")
