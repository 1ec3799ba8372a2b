"""Prompts, cleaning, the sieve, templates, pairs, and captions that are given."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from directions.captions import PROMPT, Captions, Sieve, clean, fill, pair, split, template_captions
from directions.errors import BadCaptions
from directions.sources import from_texts, parallel, read_captions


def anything(text: str) -> bool:
    return True


def short(text: str) -> bool:
    return len(text) < 30


def test_the_prompt_is_the_documentations() -> None:
    assert fill(PROMPT, "cat") == (
        "Provide a caption for images containing a cat. "
        "The captions should be in English and should be no longer than 150 characters."
    )
    assert "containing an elephant." in fill(PROMPT, "elephant")
    assert fill("{concept}!", "elephant") == "elephant!"


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  a cat \n on grass ", "a cat on grass"),
        ('"A cat."', "A cat."),
        ("“A cat”", "A cat"),
        ("3. a cat", "a cat"),
        ("- a cat", "a cat"),
        ("Caption: a cat", "a cat"),
        ("Caption 2: 'a cat'", "a cat"),
        ("3d cats", "3d cats"),
        ("101 dogs", "101 dogs"),
    ],
)
def test_cleaning_leaves_the_caption(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


def test_an_answer_of_many_lines_is_many_captions() -> None:
    assert split("Here are some captions of a cat:\n1. a cat\n\n2. two cats\n") == ["1. a cat", "2. two cats"]
    assert split("a cat") == ["a cat"]
    assert split("") == [""]


def test_the_sieve_counts_what_it_refuses() -> None:
    offered = [
        "a cat",
        "A cat.",
        "a dog",
        "",
        "a cat " + "and a hat " * 9,
        "two cats",
        "never looked at, a cat",
    ]
    captions = Sieve("cat", short).take(offered, 2)
    assert captions.texts == ("a cat", "two cats")
    assert captions.counts() == {
        "drawn": 6, "off_concept": 1, "duplicates": 1, "too_long": 1, "empty": 1, "unnamed": 0,
    }  # fmt: skip


def test_the_sieve_goes_on_where_it_stopped() -> None:
    sieve = Sieve("cat")
    assert sieve.take(["a cat"], 2).texts == ("a cat",)
    assert sieve.take(["a cat", "the cat"], 2).texts == ("a cat", "the cat")
    assert sieve.take(["my cat"], 2).texts == ("a cat", "the cat")


def test_templates_are_distinct_and_name_the_concept() -> None:
    captions = Sieve("elephant").take(template_captions("elephant"), None)
    assert len(captions.texts) == captions.drawn == 240
    assert captions.texts[0] == "a photo of an elephant"
    assert list(template_captions("elephant")) == list(template_captions("elephant"))


def test_pairs_are_the_same_sentences_from_both_sides() -> None:
    cats = Captions("cat", ("a cat runs", "my cat", "the cat sleeps"))
    dogs = Captions("dog", ("two dogs", "a dog barks", "a dog runs"))
    source, target = pair(cats, dogs, 4, anything)
    assert source.texts == ("a cat runs", "my cat", "two cats", "a cat barks")
    assert target.texts == ("a dog runs", "my dog", "two dogs", "a dog barks")
    source, target = pair(cats, dogs, None, anything)
    assert len(source.texts) == len(target.texts) == 5  # "a cat runs" comes from both sides


def test_too_few_pairs_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(BadCaptions, match=r"only 1 of 3 caption pairs.*'cat' and 'dog'.*use --no-paired"):
        pair(Captions("cat", ("a cat runs", "felines")), Captions("dog", ()), 3, anything)


def test_given_captions_need_not_name_the_concept_but_are_counted() -> None:
    captions = from_texts("day", iter(["a sunny day", "noon", "noon", " "]), anything)
    assert captions.texts == ("a sunny day", "noon")
    assert (captions.unnamed, captions.duplicates, captions.empty, captions.off_concept) == (1, 1, 1, 0)
    assert from_texts("day", ["one", "two", "three"], anything, 2).texts == ("one", "two")


def test_given_captions_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(BadCaptions, match="none of the 2 captions given for 'cat' is usable"):
        from_texts("cat", ["", "x" * 40], short)
    with pytest.raises(BadCaptions, match="are one text; expected a list"):
        from_texts("cat", "a cat", anything)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (b"a cat", "one text; expected a list"),
        (Path("cats.txt"), r"a path; give its lines: path\.read_text"),
        ({"a cat": 1}, "of type dict; expected a list of captions"),
        (5, "of type int; expected a list of captions"),
        (pd.DataFrame({"caption": ["a cat"]}), r"2 dimensions; give one column: frame\['caption'\]"),
        (np.array([["a cat"], ["my cat"]]), "2 dimensions; give one column"),
        (["a cat", 5], "caption 2 for 'cat' is of type int; expected a text"),
        ([["a cat"]], "caption 1 for 'cat' is of type list; expected a text"),
    ],
)
def test_what_is_no_list_of_captions_is_refused(wrong: Any, why: str) -> None:
    with pytest.raises(BadCaptions, match=why):
        from_texts("cat", wrong, anything)
    with pytest.raises(BadCaptions, match=why):
        parallel(("cat", "dog"), (wrong, ["a dog"]), anything)


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), pd.NA])
def test_missing_captions_are_empty_lines(missing: Any) -> None:
    cats = pd.Series(["a cat", missing, "c cat", missing], dtype=object)
    captions = from_texts("cat", cats, anything)
    assert captions.texts == ("a cat", "c cat") and (captions.drawn, captions.empty) == (4, 2)
    source, target = parallel(("cat", "dog"), (cats, ["a dog", "b dog", "c dog"]), anything)
    assert source.texts == ("a cat", "c cat") and target.texts == ("a dog", "c dog")


def test_parallel_captions_drop_a_pair_with_an_unusable_half() -> None:
    source, target = parallel(
        ("cat", "dog"), (["a cat", "b cat", "c cat", "a cat"], ["a dog", "", "c dog", "a dog"]), anything
    )
    assert source.texts == ("a cat", "c cat") and target.texts == ("a dog", "c dog")
    source, target = parallel(
        ("cat", "dog"), (["", "b cat", "c cat", ""], ["a dog", "b dog", "", "", " "]), anything
    )
    assert source.texts == ("b cat",) and target.texts == ("b dog",)
    with pytest.raises(BadCaptions, match="'cat' has 1 and 'dog' 2"):
        parallel(("cat", "dog"), (["a cat"], ["a dog", "b dog"]), anything)


def test_caption_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "cats.txt"
    file.write_bytes("\ufeffa cat\r\n\r\nein Kätzchen\n \n\n".encode())
    assert read_captions(str(file)) == ["a cat", "", "ein Kätzchen", " ", ""]  # line 3 stays line 3
    with pytest.raises(BadCaptions, match="no such file"):
        read_captions(str(tmp_path / "none.txt"))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadCaptions, match="is not UTF-8 text"):
        read_captions(str(file))
    file.write_text("\n\n")
    with pytest.raises(BadCaptions, match="holds no captions; expected one a line"):
        read_captions(str(file))


def test_a_closed_standard_input_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(BadCaptions, match="standard input: it is closed; name a file"):
        read_captions("-")
