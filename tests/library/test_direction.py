"""The algebra of directions, and what they refuse."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from library import Direction, Library
from library.direction import Anchored
from library.errors import BadName, BadTensor, EncoderMismatch

Make = Callable[..., Direction]
weights = st.floats(-8, 8, allow_nan=False).filter(lambda w: w == 0 or abs(w) > 1e-3)


def simple(name: str, seed: int, version: int | None = 1) -> Direction:
    tensor = np.random.default_rng(seed).normal(size=(3, 5))
    return Direction(name=name, tensor=tensor, encoder="clip-00000000", version=version)


@given(weights, weights, weights)
def test_sums_are_linear_and_remember_their_parents(x: float, y: float, z: float) -> None:
    a, b, c = (simple(name, seed) for seed, name in enumerate("abc"))
    total = x * a + b * y - z * c
    expected = x * a.tensor.astype(float) + y * b.tensor.astype(float) - z * c.tensor.astype(float)
    np.testing.assert_allclose(total.tensor, expected, rtol=1e-5, atol=1e-5)
    kept = {parent["name"]: parent["weight"] for parent in total.parents}
    wanted = {name: weight for name, weight in zip("abc", (x, y, -z), strict=True) if weight}
    assert not wanted or kept == wanted
    assert total.version is None and total.tensor.dtype == np.float32


def test_equal_parents_merge() -> None:
    a, b = simple("a", 0), simple("b", 1)
    assert (0.5 * (a + b) + a).name == "1.5*a@1 + 0.5*b@1"
    assert (a - a).parents[0]["weight"] == 0 and (a - a).norm == 0


def test_sum_adds_directions() -> None:
    a, b = simple("a", 0), simple("b", 1)
    assert sum([a, b]).name == (a + b).name and sum([a]) is a  # type: ignore[list-item]
    np.testing.assert_array_equal(sum([a, b]).tensor, (a + b).tensor)  # type: ignore[list-item]
    for wrong in (1, False, "a", None):
        with pytest.raises(TypeError):
            _ = wrong + a  # type: ignore[operator]


def test_numpy_numbers_are_weights_and_arrays_are_not() -> None:
    a = simple("a", 0)
    assert isinstance(np.float64(0.5) * a, Direction) and isinstance(a / np.int64(2), Direction)
    np.testing.assert_array_equal((np.float32(0.5) * a).tensor, (a / 2).tensor)
    for wrong in (np.ones(3), "2", True, None):
        with pytest.raises(TypeError):
            _ = wrong * a  # type: ignore[operator]
    with pytest.raises(ZeroDivisionError):
        _ = a / 0


def test_a_negated_direction_goes_the_other_way(make: Make) -> None:
    direction = make(record={"captions": {"source": ["a cat"], "target": ["a dog"]}})
    opposite = -direction
    assert (opposite.source, opposite.target) == ("dog", "cat")
    assert opposite.record["captions"] == {"source": ["a dog"], "target": ["a cat"]}
    np.testing.assert_array_equal(opposite.source_embedding, direction.target_embedding)
    assert direction.cosine(opposite) == pytest.approx(-1)
    np.testing.assert_array_equal((-opposite).tensor, direction.tensor)


def test_another_encoder_is_refused(make: Make) -> None:
    a, b = make(), make("day2winter", encoder="clip-other-00000000")
    for combine in (lambda: a + b, lambda: a - 0.5 * b, lambda: a.cosine(b)):
        with pytest.raises(EncoderMismatch, match="mkdir-direction --rebuild day2winter --models SET"):
            combine()


def test_another_shape_is_refused(make: Make) -> None:
    with pytest.raises(BadTensor, match=r"cat2dog is \[4, 8\] and day2winter \[5, 8\]"):
        _ = make() + make("day2winter", shape=(5, 8))


@pytest.mark.parametrize(
    ("tensor", "fault"),
    [
        (np.zeros(4), r"has shape \[4\]; expected \[tokens, dim\]"),
        (np.zeros((2, 3, 4)), r"has shape \[2, 3, 4\]"),
        (np.zeros((0, 4)), r"has shape \[0, 4\]"),
        (np.array([["a"]]), "expected real numbers"),
        (np.zeros((1, 1), complex), "holds complex128"),
        (np.array([[np.nan]]), "not finite"),
        (np.array([[1e300]]), "not finite in float32"),
    ],
)
def test_a_tensor_that_is_none_is_refused(tensor: np.ndarray, fault: str) -> None:
    with pytest.raises(BadTensor, match=fault):
        Direction(name="a", tensor=tensor, encoder="e")


def test_whatever_holds_numbers_becomes_float32_c_order() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3))
    direction = Direction(name="a", tensor=array[None], encoder="e")
    assert direction.tensor.dtype == np.float32 and direction.tensor.flags.c_contiguous
    array[0, 0] = 9
    assert direction.tensor[0, 0] == 0, "it keeps a copy"


def test_torch_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.ones(1, 2, 3, dtype=torch.bfloat16, requires_grad=True)
    np.testing.assert_array_equal(Direction(name="a", tensor=tensor, encoder="e").tensor, np.ones((2, 3)))


def test_torch_tensors_of_other_numbers_are_refused_like_numpys() -> None:
    torch = pytest.importorskip("torch")
    for kind in (torch.complex64, torch.bool):
        with pytest.raises(BadTensor, match=r"holds .*; expected real numbers"):
            Direction(name="a", tensor=torch.ones(2, 3).to(kind), encoder="e")
    with pytest.raises(BadTensor, match=r"holds .*complex"):
        Direction(name="a", tensor=torch.ones(2, 3, dtype=torch.complex64).conj(), encoder="e")
    whole = Direction(name="a", tensor=torch.ones(2, 3, dtype=torch.int64), encoder="e")
    np.testing.assert_array_equal(whole.tensor, np.ones((2, 3), np.float32))


def test_norm_and_cosine() -> None:
    a = Direction(name="a", tensor=np.array([[3.0, 4.0]]), encoder="e")
    zero = Direction(name="z", tensor=np.zeros((1, 2)), encoder="e")
    assert a.norm == 5 and a.cosine(2 * a) == pytest.approx(1) and a.cosine(zero) == 0


def test_anchored_parts_follow_the_algebra_and_the_file(tmp_path: Path) -> None:
    means = [np.full((4, 3), value, np.float32) for value in (1, 2, 3)]
    a = Direction(
        "a", np.ones((4, 3)), "e-00000000", "cat", "dog", anchored=(Anchored("cat", "dog", *means[:2]),)
    )
    b = Direction("b", np.ones((4, 3)), "e-00000000", "x", "y", anchored=(Anchored("x", "y", *means[1:]),))
    mixed = 0.5 * a - 2 * b
    parts = [(p.source, p.target, p.weight) for p in mixed.anchored]
    assert parts == [("cat", "dog", 0.5), ("y", "x", 2.0)]
    assert np.array_equal(mixed.anchored[1].source_mean, means[2])
    plain = Direction("c", np.ones((4, 3)), "e-00000000")
    assert (a + plain).anchored == ()  # not all of the sum can be placed
    for same, weight in (
        (a + 0 * b, 1), (0 * plain + a, 1), (a + b - b, 1), (a + a, 2), (0.5 * a + 0.5 * a, 1), (a - 3 * a, 2),
    ):  # fmt: skip
        (part,) = same.anchored
        assert part.weight == weight and {part.source, part.target} == {"cat", "dog"}, same.name
        assert (part.source == "cat") == bool(same.tensor.sum() > 0)
    assert (a - a).anchored == ()
    library = Library(tmp_path, ())
    library.save(mixed.renamed("mixed"))
    loaded = library.load("mixed")
    assert [(p.source, p.target, p.weight) for p in loaded.anchored] == parts
    for one, other in zip(mixed.anchored, loaded.anchored, strict=True):
        assert np.array_equal(one.source_mean, other.source_mean)
        assert np.array_equal(one.target_mean, other.target_mean)
    with pytest.raises(BadTensor, match="anchored part"):
        Direction("d", np.ones((4, 2)), "e-00000000", anchored=a.anchored)


def test_unsaved_directions_of_one_name_are_two(tmp_path: Path) -> None:
    one, other = (Direction("cat2dog", np.full((4, 3), value), "e-00000000") for value in (1.0, 2.0))
    mixed = 0.5 * one + 0.5 * other
    assert [parent["weight"] for parent in mixed.parents] == [0.5, 0.5]
    assert len({parent["sha256"] for parent in mixed.parents}) == 2
    with pytest.raises(BadName):
        Library(tmp_path, ()).save(mixed)
    saved = Library(tmp_path, ()).save(one)
    assert saved.sha256 == one.sha256 == saved.record["sha256"] == mixed.parents[0]["sha256"]
    assert (one - one).parents[0]["weight"] == 0
    changed = replace(saved, tensor=2 * saved.tensor)
    assert changed.sha256 != saved.sha256 and len((saved + changed).parents) == 2


def test_how_it_was_made_goes_with_the_whole_and_its_opposite_but_not_with_a_part(make: Make) -> None:
    generation = {"paired": True, "clip_skip": 1, "written_by": ["given", "model"], "digests": ["a", "b"]}
    cat2dog = make(record={"generation": generation})
    turned = {**generation, "written_by": ["model", "given"], "digests": ["b", "a"]}
    assert (-cat2dog).record["generation"] == turned and (1 * cat2dog).record["generation"] == generation
    assert "generation" not in (0.5 * cat2dog).record


def test_a_doubtful_direction_stays_doubtful_in_whatever_is_made_of_it(make: Make) -> None:
    quality = {"stability": "unstable", "verdict": "unstable: add captions", "agreement": 0.4, "norm": 1}
    doubtful, fine = make(record={"quality": quality}), make("day2night", seed=1)
    (doubt,) = doubtful.doubts
    assert doubt["name"] == "cat2dog" and doubt["agreement"] == 0.4 and "norm" not in doubt
    for made in (-doubtful, 0.7 * doubtful, doubtful + fine, fine - 2 * doubtful, doubtful + doubtful):
        assert made.doubts == [doubt]
    assert fine.doubts == [] and (fine - 2 * fine).doubts == []
