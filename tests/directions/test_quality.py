"""Every figure on a case whose value is known."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from directions.captions import Captions
from directions.embed import BLOCKS, Moments
from directions.quality import Quality, agreement, convergence, measure, nearest, noise
from directions.verdict import judge, round_up

SHAPE = (4, 8)
PLENTY = Captions("cat", ("x",), drawn=10, off_concept=2, duplicates=3, empty=2)


def sides(n: int, gap: float, spread: float = 1.0, shared: bool = False) -> tuple[Moments, Moments]:
    """Gaussian captions of summed variance spread² a side; their means lie `gap` apart."""
    rng = np.random.default_rng(7)
    scale = spread / math.sqrt(SHAPE[0] * SHAPE[1])
    source = rng.normal(scale=scale, size=(n, *SHAPE))
    target = source.copy() if shared else rng.normal(scale=scale, size=(n, *SHAPE))
    target[:, 2, :] += gap / math.sqrt(SHAPE[1])
    return Moments.of(source), Moments.of(target)


def figures(n: int, gap: float, paired: bool = False, **more: Any) -> Quality:
    return measure(*sides(n, gap, **more), (PLENTY, PLENTY), paired)


def test_moments_are_what_they_are_called() -> None:
    rows = np.random.default_rng(0).normal(3.0, 2.0, (101, *SHAPE))
    moments = Moments.of(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.second_moment, (rows**2).mean(0), rtol=1e-12)
    assert moments.spread == pytest.approx(math.sqrt(rows.var(0).sum()))
    assert moments.count == moments.sizes.sum() == 101
    np.testing.assert_allclose(moments.blocks[5], rows[5::BLOCKS].sum(0))


def test_captions_that_all_agree() -> None:
    quality = figures(40, gap=1.0, spread=0.0)
    assert quality.agreement == pytest.approx(1.0) and quality.interval == pytest.approx((1.0, 1.0))
    assert quality.accuracy == pytest.approx(1.0)
    assert quality.enough == 1 and quality.flattens_at == 1
    assert quality.as_dict()["separation"] is None  # infinite: there is no spread to compare with


def test_captions_without_any_difference_do_not_agree() -> None:
    quality = figures(2000, gap=0.0)
    assert quality.agreement == pytest.approx(0.0, abs=0.15)
    assert quality.interval is not None and quality.interval[0] < 0.1
    assert quality.separation < 0.05 and quality.apart < 0.1


@pytest.mark.parametrize(("n", "gap"), [(64, 1.0), (200, 0.5), (500, 1.0)])
def test_the_noise_model_gives_accuracy_agreement_and_enough(n: int, gap: float) -> None:
    quality = figures(n, gap)
    signal = gap**2
    assert quality.accuracy == pytest.approx(math.sqrt(signal / (signal + 2 / n)), abs=0.02)
    assert quality.agreement == pytest.approx(signal / (signal + 4 / n), abs=0.05)
    wanted = 2 * 0.99**2 / (1 - 0.99**2) / signal
    assert quality.enough == pytest.approx(wanted, rel=0.25)
    assert quality.separation == pytest.approx(gap, rel=0.15)


def test_the_interval_holds_the_figure_and_narrows_with_more_captions() -> None:
    few, many = figures(40, 1.0), figures(2000, 1.0)
    widths = []
    for quality in (few, many):
        assert quality.agreement is not None and quality.interval is not None
        low, high = quality.interval
        assert low <= quality.agreement <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_pairing_cancels_what_the_sentences_share() -> None:
    loose, tight = figures(64, 0.3, shared=True), figures(64, 0.3, paired=True, shared=True)
    assert tight.agreement == pytest.approx(1.0) and tight.accuracy == pytest.approx(1.0)
    assert loose.agreement is not None and loose.agreement < 0.8
    assert noise(*sides(64, 0.3, shared=True), paired=True) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_energy_lies_where_the_difference_is() -> None:
    assert figures(40, 1.0, spread=0.0).energy == pytest.approx((0, 0, 1, 0))
    assert sum(figures(40, 1.0).energy) == pytest.approx(1.0)


def test_the_curve_rises_to_one_and_flattens_between_its_points() -> None:
    curve = convergence(*sides(640, 0.5))
    counts, cosines = zip(*curve, strict=True)
    assert counts == (20, 40, 80, 160, 320, 640)
    assert list(cosines) == sorted(cosines) and cosines[-1] == pytest.approx(1.0)
    quality = figures(640, 0.5)
    below = max(n for n, value in quality.curve if value < 0.99)
    above = min(n for n, value in quality.curve if value >= 0.99)
    assert quality.flattens_at is not None and below < quality.flattens_at <= above


def test_rates_come_from_the_counts() -> None:
    quality = figures(40, 1.0)
    assert quality.on_concept == (0.75, 0.75)  # 2 of the 8 that were not empty
    assert quality.duplicates == (0.3, 0.3)


def test_one_caption_a_side_has_no_agreement() -> None:
    quality = figures(1, 1.0)
    assert quality.agreement is None and quality.interval is None
    assert quality.accuracy is None and quality.enough is None
    assert agreement(*sides(2, 1.0)) is not None


def test_nearest_is_by_centred_cosine() -> None:
    offset = np.full(SHAPE, 100.0)  # what all embeddings share says nothing
    axis = np.eye(32).reshape(32, *SHAPE)
    known = {"a": offset + axis[0], "b": offset + axis[1], "c": offset + axis[2], "d": offset + axis[3]}
    found = nearest(offset + axis[1] + 0.1 * axis[2], known)
    assert [name for name, _ in found] == ["b", "c", "a"]
    assert found[0][1] > 0.9 and nearest(offset, dict(list(known.items())[:2])) == ()


def test_the_same_captions_give_the_same_figures() -> None:
    assert figures(50, 0.4).as_dict() == figures(50, 0.4).as_dict()


def verdict(n: int, gap: float, counts: Captions | None = None, **more: Any) -> str:
    good = Captions("cat", (), drawn=10)
    quality = measure(*sides(n, gap, **more), (counts or good, good), paired=False)
    return judge(quality, n, "cat", "dog").text


def test_verdicts_say_what_to_do() -> None:
    assert verdict(1000, 1.0).startswith("stable; 1") and "would have been enough" in verdict(1000, 1.0)
    assert verdict(100, 1.0).startswith("stable")
    assert verdict(16, 1.0).startswith("fairly stable; to settle it, add captions (about ")
    assert verdict(16, 0.5).startswith("unstable: add captions")
    assert verdict(4000, 0.05).startswith("the two concepts are nearly the same to this encoder (0.0")
    assert verdict(1, 1.0) == "one caption a side says nothing about stability: give more captions"
    assert "only 50% of the captions for 'cat' name it" in verdict(
        1000, 1.0, Captions("cat", (), drawn=10, off_concept=5)
    )


def test_captions_that_were_given_are_not_asked_from_a_model() -> None:
    quality = measure(*sides(16, 0.5), (PLENTY, PLENTY), paired=False)
    assert "give more captions" in judge(quality, 16, "cat", "dog", given=True).text
    assert "--captions " not in judge(quality, 16, "cat", "dog", given=True).text


def test_numbers_are_rounded_up_to_two_digits() -> None:
    assert [round_up(n) for n in (1, 9, 10, 99, 101, 137, 1201)] == [1, 9, 10, 99, 110, 140, 1300]


def test_two_captions_have_no_interval() -> None:
    for paired in (False, True):
        found = agreement(*sides(2, 1.0), paired)
        assert found is not None and found[1] is None
        assert (agreement(*sides(4, 1.0), paired) or (0, None))[1] is not None
    assert figures(3, 1.0).as_dict()["interval"] is None


def test_the_remedy_of_pairs_is_not_to_pair_them() -> None:
    quality = replace(
        measure(*sides(16, 0.5), (PLENTY, PLENTY), paired=True), enough=None, accuracy=0.1, apart=1.0
    )
    assert "--paired" in judge(quality, 16, "cat", "dog").text
    assert "--paired" not in judge(quality, 16, "cat", "dog", paired=True).text


def test_enough_is_enough_however_it_is_rounded() -> None:
    quality = replace(figures(137, 1.0), enough=132, accuracy=0.9904, apart=1.0, on_concept=(1.0, 1.0))
    assert judge(quality, 137, "cat", "dog").text == "stable"
    assert "add captions (about 140" in judge(quality, 131, "cat", "dog").text
