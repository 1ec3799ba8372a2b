"""Many at once: the table, going on after an interruption, failures beside successes."""

from pathlib import Path

import pytest

from directions import Discovery, Settings, discover_pairs
from directions.errors import BadSetting
from directions.pairs import Outcome, read_pairs
from library import Library
from library.labels import change_tags, tags_of
from tests.directions.conftest import GOLDEN

TABLE = """source, target, name, tags, captions, source_captions, paired
cat, dog, , animals pets, 12, ,
horse, zebra, stripes, , , ,yes
day, night, , , , days.txt,
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text(text)
    return path


def discovery() -> Discovery:
    return Discovery(str(GOLDEN), Settings(writer="templates", captions=8))


def test_a_table_is_read(tmp_path: Path) -> None:
    cat, horse, day = read_pairs(written(tmp_path, TABLE))
    assert (cat.title, cat.tags, cat.captions, cat.paired) == ("cat2dog", ("animals", "pets"), 12, None)
    assert (horse.title, horse.paired) == ("stripes", True)
    assert day.source_captions == str(tmp_path / "days.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "source,goal\ncat,dog\n",
            "has the columns source, goal; expected source and target, and any of name",
        ),
        ("source,target,target\ncat,dog,fox\n", "has the column target twice"),
        ("source,target\ncat,\n", "line 2: names no source or no target"),
        ("source,target,captions\ncat,dog,many\n", "line 2: invalid literal"),
        ("source,target,paired\ncat,dog,perhaps\n", "line 2: has 'perhaps' in the column paired"),
        ("source,target\ncat,dog,bird\n", "line 2: has more values than the heading"),
        ("source,target,name\ncat,dog,A B\n", "line 2: name 'A B' contains"),
        ("source,target\ncat,dog\nCat,dog\n", "makes cat2dog twice"),
        ("source,target\n", "holds no pairs"),
    ],
)
def test_a_wrong_table_is_one_line_that_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        read_pairs(written(tmp_path, text))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"pairs cannot be read from .*: no such file"):
        read_pairs(tmp_path / "none.csv")


def test_what_is_done_is_kept_and_not_done_again(tmp_path: Path) -> None:
    (tmp_path / "days.txt").write_text("a bright day\nnoon\n")
    pairs = read_pairs(written(tmp_path, TABLE))
    library = Library(tmp_path / "library", search_path=())

    def stop(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        discover_pairs(pairs, discovery(), library, stop)
    assert list(library) == ["cat2dog"]
    outcomes = discover_pairs(pairs, discovery(), library)
    assert [outcome.status for outcome in outcomes] == ["present", "made", "made"]
    assert sorted(library) == ["cat2dog", "day2night", "stripes"]
    assert library["cat2dog"].record["tags"] == ["animals", "pets"]
    assert [o.status for o in discover_pairs(pairs, discovery(), library)] == ["present"] * 3
    (tmp_path / "days.txt").write_text("a bright day\nmidday\n")
    again = discover_pairs(pairs, discovery(), library)
    assert [o.direction.ref for o in again if o.direction] == ["cat2dog@1", "stripes@1", "day2night@2"]


def test_a_failure_does_not_end_the_others(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path, TABLE))  # days.txt is missing
    library = Library(tmp_path / "library", search_path=())
    outcomes = discover_pairs(pairs, discovery(), library)
    assert [outcome.status for outcome in outcomes] == ["made", "made", "failed"]
    row = outcomes[2].as_row()
    assert row["name"] == "day2night" and "days.txt: no such file" in row["verdict"]


def test_tags_that_the_table_got_later_are_added(tmp_path: Path) -> None:
    library = Library(tmp_path / "library", search_path=())
    text = "source,target,tags\ncat,dog,{}\n"
    discover_pairs(read_pairs(written(tmp_path, text.format("one"))), discovery(), library)
    change_tags(library, "cat2dog", add=["mine"])
    (outcome,) = discover_pairs(read_pairs(written(tmp_path, text.format("two"))), discovery(), library)
    assert outcome.status == "present" and len(library.versions("cat2dog")) == 1
    assert tags_of(library, library.find("cat2dog")) == ["mine", "one", "two"]
    change_tags(library, "cat2dog", remove=["one"])
    (outcome,) = discover_pairs(read_pairs(written(tmp_path, text.format("one"))), discovery(), library)
    assert tags_of(library, library.find("cat2dog")) == ["mine", "two"]  # it was taken away on purpose
    above = Library(tmp_path / "above", search_path=[library.path])
    (outcome,) = discover_pairs(read_pairs(written(tmp_path, text.format("three"))), discovery(), above)
    assert outcome.status == "present" and len(above.versions("cat2dog")) == 1
