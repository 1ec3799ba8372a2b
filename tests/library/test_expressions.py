"""Expressions: what they mean, and that nonsense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.errors import BadExpression, BadName, DirectionsError
from library.expressions import format_terms, parse_expression


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("cat2dog", {"cat2dog": 1}),
        ("0.7*cat2dog + day2winter - photo2sketch", {"cat2dog": 0.7, "day2winter": 1, "photo2sketch": -1}),
        ("-a", {"a": -1}),
        ("- a", {"a": -1}),
        ("a*.5", {"a": 0.5}),
        ("a/4", {"a": 0.25}),
        ("2 * 3 * a", {"a": 6}),
        ("0.5*(a + b) - a@2", {"a": 0.5, "b": 0.5, "a@2": -1}),
        ("a + a", {"a": 2}),
        ("1e-1*a@blessed", {"a@blessed": 0.1}),
        ("a+b", {"a": 1, "b": 1}),
        ("a -b", {"a": 1, "b": -1}),
        ("a-b", {"a-b": 1}),
        ("cat2cat-wearing-glasses - 3d2flat", {"cat2cat-wearing-glasses": 1, "3d2flat": -1}),
        ("猫2犬 − a_b.c", {"猫2犬": 1, "a_b.c": -1}),
        ("--a", {"a": 1}),
    ],
)
def test_meaning(text: str, terms: dict[str, float]) -> None:
    assert {str(t.reference): pytest.approx(t.weight) for t in parse_expression(text)} == terms


@pytest.mark.parametrize(
    "text",
    ["", "  ", "1", "a +", "a b", "a * b", "a / b", "a / 0", "(a", "a)", "a + 1", "* a", "a ** 2", "1e999*a"],
)
def test_nonsense_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(BadExpression, match=r"expected directions with weights, such as '0\.8\*cat2dog"):
        parse_expression(text)


@pytest.mark.parametrize("text", ["Cat2Dog", "a@", "a; rm", "../x", "0.5*!"])
def test_bad_names_in_it_are_refused(text: str) -> None:
    with pytest.raises((BadName, BadExpression)):
        parse_expression(text)


@given(st.text(alphabet="ab12.@*/+-() e", max_size=25))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        assert parse_expression(text)
    except DirectionsError as refused:
        assert "\n" not in str(refused)


weights = st.sampled_from([0.25, 0.5, 0.8, 1, 2, 3.5, -0.25, -1, -1.5])


@given(st.dictionaries(st.sampled_from(["a", "b2c", "d-e", "f@2", "猫"]), weights, min_size=1))
def test_written_expressions_are_read_back(terms: dict[str, float]) -> None:
    text = format_terms([(weight, name) for name, weight in terms.items()])
    assert {str(t.reference): t.weight for t in parse_expression(text)} == terms
