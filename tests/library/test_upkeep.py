"""Aliases, tags, removal, sweeping up, log and diff."""

import os
import time
from collections.abc import Callable

import pytest

from library import Direction, Library
from library.errors import BadName, DamagedFile, UnknownDirection
from library.history import compare, how_made, log
from library.labels import change_tags, drop_alias, set_alias, tags_of
from library.upkeep import plan_removal, plan_sweep

Make = Callable[..., Direction]


@pytest.fixture
def three(library: Library, make: Make) -> Library:
    """cat2dog in three versions."""
    for seed in range(3):
        captions = {"source": ["a cat", f"cat {seed}"], "target": ["a dog"]}
        generation = {"seed": seed, "captions": 2}
        record = {
            "captions": captions,
            "generation": generation,
            "models": {"name": "embedded"},
            "author": "ann",
        }
        library.save(make(seed=seed, record=record))
    return library


def test_aliases(three: Library) -> None:
    set_alias(three, "cat2dog@1", "blessed")
    assert three.load("cat2dog@blessed").version == 1
    set_alias(three, "cat2dog", "blessed")
    assert three.load("cat2dog@blessed").version == 3
    drop_alias(three, "cat2dog", "blessed")
    with pytest.raises(UnknownDirection, match="cat2dog has no alias 'blessed'; it has none"):
        three.load("cat2dog@blessed")
    for wrong in ("latest", "7", "A", "a/b"):
        with pytest.raises(BadName):
            set_alias(three, "cat2dog", wrong)


def test_tags(three: Library) -> None:
    assert change_tags(three, "cat2dog@2", add=["b", "a"]) == ["a", "b"]
    assert change_tags(three, "cat2dog@2", add=["c"], remove=["a"]) == ["b", "c"]
    assert tags_of(three, three.find("cat2dog@2")) == ["b", "c"]
    assert tags_of(three, three.find("cat2dog@3")) == []
    with pytest.raises(UnknownDirection, match=r"cat2dog@2 has no tag x; it has b, c"):
        change_tags(three, "cat2dog@2", remove=["x"])
    for wrong in ("", "a b", "a,b", "x" * 51, "a\n"):
        with pytest.raises(BadName, match="a tag is 1 to 50 characters"):
            change_tags(three, "cat2dog@2", add=[wrong])
    assert three.verify() == [], "versions themselves never change"


def test_removal_is_a_plan_first(three: Library) -> None:
    set_alias(three, "cat2dog@2", "blessed")
    change_tags(three, "cat2dog@2", add=["x"])
    plan = plan_removal(three, ["cat2dog@blessed", "cat2dog@2"])
    assert [v.ref for v in plan.versions] == ["cat2dog@2"] and plan.aliases == ["cat2dog@blessed"]
    assert plan.bytes == three.find("cat2dog@2").path.stat().st_size
    assert three.load("cat2dog@2").version == 2, "nothing happened yet"
    plan.execute()
    with pytest.raises(UnknownDirection, match="version 2 of cat2dog was removed; it has 1, 3"):
        three.load("cat2dog@2")
    assert three.verify() == []


@pytest.mark.parametrize("side_file", ["aliases.json", "tags.json"])
def test_a_damaged_side_file_stops_a_removal_before_it_begins(three: Library, side_file: str) -> None:
    leaf = three.find("cat2dog").path.parent
    (leaf / side_file).write_text("{")
    with pytest.raises(DamagedFile, match=f"{side_file} is not JSON"):
        plan_removal(three, ["cat2dog"])


def test_a_name_without_versions_says_so_and_is_not_suggested(three: Library) -> None:
    plan_removal(three, ["cat2dog"]).execute()
    with pytest.raises(UnknownDirection, match=r"every version of cat2dog in .* was removed"):
        three.load("cat2dog")
    with pytest.raises(UnknownDirection, match="no direction cat2dgo") as unknown:
        three.load("cat2dgo")
    assert "did you mean" not in str(unknown.value)


def test_a_removed_number_is_never_used_again(three: Library, make: Make) -> None:
    plan_removal(three, ["cat2dog"]).execute()
    assert "cat2dog" not in three and list(three) == []
    with pytest.raises(UnknownDirection):
        plan_removal(three, ["cat2dog"])
    assert three.save(make()).ref == "cat2dog@4"


def test_sweeping_leaves_what_may_be_in_use(three: Library) -> None:
    leaf = three.find("cat2dog").path.parent
    young, old = leaf / ".new-1-abc", leaf / ".new-2-def"
    young.write_bytes(b"x" * 10)
    old.write_bytes(b"x" * 20)
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    (three.path / "empty2name" / "clip-00000000").mkdir(parents=True)
    plan = plan_sweep(three)
    assert plan.files == [old] and plan.bytes == 20
    assert {path.name for path in plan.folders} == {"empty2name", "clip-00000000"}
    plan.execute()
    assert young.exists() and not old.exists() and not (three.path / "empty2name").exists()
    assert len(three.versions("cat2dog")) == 3


def test_log(three: Library) -> None:
    lines = log(three, "cat2dog")
    assert [line.ref for line in lines] == ["cat2dog@3", "cat2dog@2", "cat2dog@1"]
    assert lines[0].author == "ann" and lines[0].made == "discovered: 2 + 1 captions, embedded, seed 2"
    assert lines[0].changed.startswith("source captions -1 +1; generation.seed 1 → 2; cosine ")
    assert lines[2].changed == ""
    three.find("cat2dog@2").path.write_bytes(b"")
    lines = log(three, "cat2dog")
    assert "is empty" in lines[1].problem and lines[0].made


def test_how_made(make: Make) -> None:
    assert how_made({}) == "by hand"
    assert (
        how_made({"imported": ["cat.pt"], "models": {"name": "sd-1.4"}})
        == "imported: cat.pt, declared sd-1.4"
    )
    assert how_made((0.5 * make() - make("a2b")).record) == "composed: 0.5*cat2dog - a2b"


def test_diff(three: Library, make: Make) -> None:
    difference = compare(three.load("cat2dog@1"), three.load("cat2dog@3"))
    assert difference.fields == {"generation.seed": (0, 2)}
    assert difference.captions == {"source": (["cat 0"], ["cat 2"])}
    assert difference.cosine == pytest.approx(three.load("cat2dog@1").cosine(three.load("cat2dog@3")))
    other = compare(make(), make("day2winter", encoder="e", shape=(2, 2)))
    assert other.cosine is None and other.fields["source"] == ("cat", "day")
    assert other.fields["shape"] == ("4×8", "2×2")


def test_the_inverse_of_a_name_with_a_2_in_a_concept(library: Library, make: Make) -> None:
    library.save(make("r2d22robot", source="r2d2", target="robot"))
    assert library.load("robot2r2d2").source == "robot"
    with pytest.raises(UnknownDirection):
        library.load("d22robot2r")
    library.save(make("dog2cat"))
    assert library.load("dog2cat").notes == [] and library.load("cat2dog@1").notes


def test_overlapping_and_opposing_terms_are_pointed_out(library: Library, make: Make) -> None:
    library.save(make("a2b"))
    library.save(make("c2d"))
    library.save(make("e2f", seed=5))
    assert library.resolve("a2b + c2d").notes == ["a2b@1 and c2d@1 overlap (cosine 1.00): they push twice"]
    (note,) = library.resolve("a2b - c2d").notes
    assert "oppose each other (cosine -1.00)" in note
    assert library.resolve("a2b + e2f").notes == []
    assert "notes" not in library.save(library.resolve("a2b + c2d").renamed("both")).record


def test_created_and_author_can_be_fixed_so_that_a_build_repeats(
    library: Library, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1738324800")
    monkeypatch.setenv("DIRECTIONS_AUTHOR", "")
    record = library.save(make()).record
    assert record["created"] == "2025-01-31T12:00:00Z" and record["author"] == ""


def test_removing_the_latest_leaves_the_others(three: Library) -> None:
    plan = plan_removal(three, ["cat2dog@latest"])
    assert [v.ref for v in plan.versions] == ["cat2dog@3"]
    plan.execute()
    assert three.load("cat2dog").version == 2


def test_sweeping_leaves_what_is_not_the_librarys(three: Library) -> None:
    long_ago = time.time() - 7200
    for place in (".git/refs/heads", "cat2dog/.notes", "cat2dog/clip-tiny-1a2b3c4d/mine/deep"):
        (three.path / place).mkdir(parents=True)
        guard = three.path / place / ".x.guard"
        guard.touch()
        os.utime(guard, (long_ago, long_ago))
    (three.path / ".git" / "branches").mkdir()
    elsewhere = three.path.parent / "elsewhere"
    elsewhere.mkdir()
    (three.path / "linked").symlink_to(elsewhere)
    house, my_own = three.path / "photos" / "door", three.path / "My photos" / "door"
    for folder in (house, my_own, elsewhere / "raw", elsewhere / "drafts"):
        folder.mkdir(parents=True)
    for stray in (
        elsewhere / ".a.guard",
        elsewhere / "raw" / ".b.guard",
        house / "house.guard",
        my_own / ".c.guard",
    ):
        stray.touch()
        os.utime(stray, (long_ago, long_ago))
    plan = plan_sweep(three)
    assert plan.files == [] and plan.folders == []


def test_the_log_is_newest_first_over_all_encoders(library: Library, make: Make) -> None:
    for second, encoder in enumerate(("z-00000000", "a-00000000", "z-00000000")):
        library.save(make(seed=second, encoder=encoder, record={"created": f"2025-01-01T00:00:0{second}Z"}))
    library.save(make(seed=9, encoder="z-00000000", record={"created": "2024-01-01T00:00:00Z"}))
    assert [line.ref for line in log(library, "cat2dog", "z-00000000")] == [
        "cat2dog@3",
        "cat2dog@2",
        "cat2dog@1",
    ]
    library.find("cat2dog@3", "z-00000000").path.unlink()
    assert [(line.ref, line.encoder) for line in log(library, "cat2dog")] == [
        ("cat2dog@2", "z-00000000"), ("cat2dog@1", "a-00000000"), ("cat2dog@1", "z-00000000"),
    ]  # fmt: skip
