"""Names: the slug of any words is a name, and what is no name is refused with the rule."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.errors import BadName
from library.names import (
    LONGEST_NAME,
    NAME_RULE,
    Reference,
    check_encoder,
    check_name,
    direction_name,
    parse_reference,
    slug,
)


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("cat", "dog", "cat2dog"),
        ("cat", "cat wearing glasses", "cat2cat-wearing-glasses"),
        ("  Sketch ", "Oil  Pastel", "sketch2oil-pastel"),
        ("../etc", "a/b\\c", "etc2a-b-c"),
        ("Straße", "ΣΊΣΥΦΟΣ", "strasse2σίσυφοσ"),
        ("बिल्ली", "कुत्ता", "बिल्ली2कुत्ता"),
        ("猫", "犬", "猫2犬"),
        ("🐱", "🐶", "cat-face2dog-face"),
        ("ﬁsh", "Ⅷ", "fish2viii"),
    ],
)
def test_names_of_concepts(source: str, target: str, name: str) -> None:
    assert direction_name(source, target) == name


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_words_make_a_name_or_are_refused_with_the_rule(source: str, target: str) -> None:
    try:
        name = direction_name(source, target)
    except BadName as refused:
        assert NAME_RULE in str(refused)
        return
    assert check_name(name) == name and parse_reference(name) == Reference(name)
    assert len(name) <= LONGEST_NAME and not set(name) & set('/\\:*?"<>|@+ \x00')
    assert name.casefold() == name, "no two names differ only by case"


@given(st.text(min_size=1, max_size=20))
def test_a_slug_is_stable(words: str) -> None:
    try:
        once = slug(words)
    except BadName:
        return
    assert slug(once) == once
    assert unicodedata.normalize("NFKC", once) == once


def test_a_long_name_ends_in_a_hash_and_stays_unique() -> None:
    names = {direction_name("cat " * 40 + ending, "dog") for ending in "ab"}
    assert len(names) == 2 and all(len(name) <= LONGEST_NAME for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a/b",
        "..",
        ".",
        ".hidden",
        "a.",
        "-a",
        "a-",
        "a\\b",
        "a\x00b",
        "a\nb",
        "a\u202eb",
        "Cat",
        "CAT2DOG",
        "ﬁ",
        "straße",
        "e\u0301",
        "con",
        "nul.txt",
        "com1",
        "lpt9",
        "1.5",
        "42",
        "1e5",
        "a@b",
        "a*b",
        "a+b",
        "a:b",
        "a" * 101,
        "猫" * 70,
        "\u0301a",
        "😀",
    ],
)
def test_what_is_no_name_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(BadName) as refused:
        check_name(name)
    assert NAME_RULE in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["a", "0", "cat2dog", "3d2flat", "a_b.c-d", "icon", "nully", "猫" * 60, "ёж"]
)
def test_names(name: str) -> None:
    if name == "0":
        with pytest.raises(BadName, match="reads as a number"):
            check_name(name)
    else:
        assert check_name(name) == name


@pytest.mark.parametrize("encoder", ["", "A", "a/b", "..", "-a", "a-", "a b", "x" * 101, "con", "é"])
def test_what_is_no_encoder_is_refused(encoder: str) -> None:
    with pytest.raises(BadName, match="an encoder id is"):
        check_encoder(encoder)


def test_references() -> None:
    assert parse_reference("cat2dog@3") == Reference("cat2dog", version=3)
    assert parse_reference(" cat2dog@blessed ") == Reference("cat2dog", alias="blessed")
    assert parse_reference("cat2dog@latest") == Reference("cat2dog")
    assert [str(parse_reference(t)) for t in ("a", "a@2", "a@b")] == ["a", "a@2", "a@b"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cat2dog@", "ends in '@'"),
        ("cat2dog@0", "versions start at 1"),
        ("cat@a@b", "contains '@'"),
        ("@3", "empty"),
    ],
)
def test_references_that_are_none(text: str, fault: str) -> None:
    with pytest.raises(BadName, match=fault):
        parse_reference(text)
