"""The catalog and the index behind it, which may be deleted, damaged or shared with a writer."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import library as package
from library import Direction, Library
from library.catalog import Entry, Query, select
from library.index import INDEX_FILE
from library.labels import change_tags, drop_alias, set_alias
from library.upkeep import plan_removal

Make = Callable[..., Direction]
ROOT = Path(package.__file__).parents[1]
WRITER = Path(__file__).with_name("writer.py")


def refs(library: Library, **query: object) -> list[str]:
    return [entry.ref for entry in select(library, Query(**query)).entries]


@pytest.fixture
def filled(library: Library, make: Make) -> Library:
    """Six versions of five names, with captions, tags and quality."""
    plan = [
        ("cat2dog", ["pets"], 0.5, ["a fluffy cat", "a dog on the grass"]),
        ("cat2dog", ["pets", "best"], 0.9, ["a sleepy cat", "a dog in a garden"]),
        ("day2winter", [], 0.7, ["a street by day", "snow on a hill"]),
        ("horse2zebra", [], None, []),
        ("photo2sketch", ["style"], 0.8, ["a photo of a cat", "a sketch"]),
        ("猫2犬", ["pets"], 0.6, ["ein Käfer", "二匹の犬"]),
    ]
    for seed, (name, tags, quality, captions) in enumerate(plan):
        record = {
            "tags": tags,
            "quality": {} if quality is None else {"agreement": quality},
            "captions": {"source": captions[:1], "target": captions[1:]},
            "created": f"2025-01-0{seed + 1}T00:00:00Z",
        }
        library.save(make(name, seed=seed, record=record))
    return library


def test_the_latest_of_each_by_name(filled: Library) -> None:
    assert refs(filled) == ["cat2dog@2", "day2winter@1", "horse2zebra@1", "photo2sketch@1", "猫2犬@1"]
    assert refs(filled, all_versions=True)[:2] == ["cat2dog@2", "cat2dog@1"]


def test_sorting(filled: Library) -> None:
    assert refs(filled, sort="created")[0] == "猫2犬@1"
    assert refs(filled, sort="quality") == [
        "cat2dog@2",
        "photo2sketch@1",
        "day2winter@1",
        "猫2犬@1",
        "horse2zebra@1",
    ]
    assert refs(filled, sort="created", reverse=True)[0] == "cat2dog@2"
    assert refs(filled, reverse=True)[0] == "猫2犬@1"


def test_filters(filled: Library, make: Make) -> None:
    filled.save(make("sun2rain", encoder="clip-large-00000000"))
    assert refs(filled, tags=("pets",)) == ["cat2dog@2", "猫2犬@1"]
    assert refs(filled, tags=("pets", "best")) == ["cat2dog@2"]
    assert refs(filled, concept="cat") == ["cat2dog@2"]
    assert refs(filled, encoder="clip-large") == ["sun2rain@1"]
    assert refs(filled, encoder="clip-large-00000000") == ["sun2rain@1"]
    assert refs(filled, encoder="clip-lar") == []


def test_pages(filled: Library) -> None:
    first = select(filled, Query(limit=2))
    assert first.more and first.total == 5 and len(first.entries) == 2
    last = select(filled, Query(limit=2, offset=4))
    assert not last.more and [e.ref for e in last.entries] == ["猫2犬@1"]
    assert select(filled, Query(limit=2, offset=8)).entries == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cat2dog", ["cat2dog@2"]),
        ("dog", ["cat2dog@2"]),
        ("cat", ["cat2dog@2", "photo2sketch@1"]),
        ("fluffy", []),
        ("sleepy gard", ["cat2dog@2"]),
        ("SNOW", ["day2winter@1"]),
        ("style", ["photo2sketch@1"]),
        ("kafer", ["猫2犬@1"]),
        ("猫", ["猫2犬@1"]),
        ('a "dog" OR -(', []),
        ("zebra NOT", []),
        ("nothing", []),
    ],
)
def test_search(filled: Library, text: str, found: list[str]) -> None:
    assert refs(filled, text=text) == found


def test_search_in_old_versions(filled: Library) -> None:
    assert refs(filled, text="fluffy", all_versions=True) == ["cat2dog@1"]
    page = select(filled, Query(text="cat", limit=1))
    assert page.more and [e.ref for e in page.entries] == ["cat2dog@2"], "names before captions"


def test_the_data_frame(filled: Library) -> None:
    frame = filled.catalog()
    assert list(frame.columns) == list(Entry.__dataclass_fields__)
    assert list(frame["name"] + "@" + frame["version"].astype(str))[:3] == [
        "cat2dog@1",
        "cat2dog@2",
        "day2winter@1",
    ]
    assert str(frame["created"].dtype).endswith("UTC]") and frame["quality"].isna().sum() == 1
    assert frame.loc[1, "tags"] == ["best", "pets"] and frame.loc[1, "captions"] == 2
    empty = Library(filled.path / "none", search_path=()).catalog()
    assert list(empty.columns) == list(frame.columns) and (empty.dtypes == frame.dtypes)["version"]
    assert "cat2dog" in frame._repr_html_()


def test_changes_are_seen_at_once(filled: Library, make: Make) -> None:
    assert len(refs(filled)) == 5
    filled.save(make("sun2rain"))
    assert "sun2rain@1" in refs(filled)
    set_alias(filled, "sun2rain", "blessed")
    change_tags(filled, "cat2dog@2", add=["new"], remove=["best"])
    entries = {e.ref: e for e in select(filled, Query()).entries}
    assert entries["sun2rain@1"].aliases == ("blessed",) and entries["cat2dog@2"].tags == ("new", "pets")
    assert refs(filled, text="new") == ["cat2dog@2"] and refs(filled, text="best") == []
    drop_alias(filled, "sun2rain", "blessed")
    plan_removal(filled, ["cat2dog@2"]).execute()
    entries = {e.ref: e for e in select(filled, Query()).entries}
    assert entries["sun2rain@1"].aliases == () and "cat2dog@1" in entries
    shutil.rmtree(filled.path / "day2winter")
    (filled.path / "horse2zebra").rename(filled.path / "renamed2name")
    page = select(filled, Query())
    assert [e.ref for e in page.entries] == ["cat2dog@1", "photo2sketch@1", "sun2rain@1", "猫2犬@1"]
    assert "was moved here" in page.faults[0]


def test_a_file_copied_in_by_hand_is_seen_and_one_deleted_is_not(filled: Library, make: Make) -> None:
    settle(filled)
    other = Library(filled.path.parent / "other", search_path=())
    for seed in range(3):
        other.save(make(seed=seed))
    third = other.find("cat2dog@3").path
    shutil.copy2(third, filled.path / third.relative_to(other.path))
    assert "cat2dog@3" in refs(filled)
    filled.find("cat2dog@3").path.unlink()
    assert "cat2dog@2" in refs(filled)


def age(library: Library) -> None:
    """Make the folders old, so that the index trusts what it remembers."""
    for folder, _, _ in os.walk(library.path):
        os.utime(folder, (1e9, 1e9))


def settle(library: Library) -> None:
    """Make the folders old and the index."""
    age(library)
    select(library, Query())


def test_a_settled_library_is_not_read_again(filled: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(filled)
    before = refs(filled)
    monkeypatch.setattr("library.index.read_header", lambda *_: pytest.fail("read a file again"))
    assert refs(filled) == before and filled.catalog() is not None


def test_a_damaged_index_changes_nothing(filled: Library) -> None:
    settle(filled)
    index = filled.path / INDEX_FILE
    queries = [
        Query(all_versions=True),
        Query(text="cat"),
        Query(tags=("pets",)),
        Query(sort="quality", limit=2),
    ]
    expected = [select(filled, query) for query in queries]
    whole = index.read_bytes()
    chance = random.Random(0)
    damages = [
        b"",
        b"garbage" * 1000,
        whole[:4096],
        whole[: len(whole) // 2],
        whole[:-10],
        b"\0" * len(whole),
    ]
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 20, 200])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        damages.append(bytes(content))
    for content in damages:
        index.write_bytes(content)
        assert [select(filled, query) for query in queries] == expected
    index.unlink()
    index.mkdir()
    assert [select(filled, query) for query in queries] == expected


def test_an_index_of_another_program_version_is_made_again(filled: Library) -> None:
    expected = refs(filled)
    connection = sqlite3.connect(filled.path / INDEX_FILE)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    assert refs(filled) == expected


def test_a_locked_index_is_done_without(filled: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = refs(filled)
    monkeypatch.setattr("library.index.WAIT", 0.05)
    other = sqlite3.connect(filled.path / INDEX_FILE, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert refs(filled) == expected
    other.close()


def test_listing_beside_processes_that_write(filled: Library) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(WRITER), "save", str(filled.path), "40"]
    writers = [subprocess.Popen(command, env=environment) for _ in range(2)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        page = select(filled, Query(encoder="clip-00000000", all_versions=True))
        assert page.faults == [] and len(page.entries) >= seen, "a version once listed stays"
        seen = len(page.entries)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(select(filled, Query(encoder="clip-00000000", all_versions=True)).entries) == 80
    assert isinstance(filled.catalog(), pd.DataFrame)


@pytest.mark.parametrize(
    "text",
    ["cat-2dog", "cat2dog@2", "cat2dog,", "pets.best", "fluffy:cat", "cat's", 'a "fluffy"', "\udcff cat2dog"],
)
def test_punctuation_parts_words(library: Library, make: Make, text: str) -> None:
    """A name with hyphens is what the catalog itself prints."""
    record = {"captions": {"source": ["a fluffy cat's 2dogs"], "target": []}, "tags": ["pets.best"]}
    library.save(make("cat2dog", record=record))
    library.save(make("cat2dog", record=record))
    library.save(make("day2winter"))
    assert refs(library, text=text) == ["cat2dog@2"]


def test_a_name_with_hyphens_is_found_and_nothing_but_punctuation_is_not(
    library: Library, make: Make
) -> None:
    library.save(make("cat-wearing-a-hat2cat"))
    assert refs(library, text="cat-wearing-a-hat2cat") == ["cat-wearing-a-hat2cat@1"]
    assert refs(library, text="--- @") == []
    assert refs(library, text=" ") == ["cat-wearing-a-hat2cat@1"]


def test_a_pipe_in_the_place_of_a_version_is_a_fault_and_does_not_hang(library: Library, make: Make) -> None:
    saved = library.save(make())
    os.mkfifo(library.find(saved.ref).path.with_name("v0009.safetensors"))
    page = select(library, Query())
    assert [entry.ref for entry in page.entries] == ["cat2dog@1"] and "is no file" in page.faults[0]


def test_pages_of_a_search_over_two_libraries_hold_everything_once(tmp_path: Path, make: Make) -> None:
    below, own = Library(tmp_path / "below", search_path=()), Library(tmp_path / "own", search_path=[])
    captions = {"captions": {"source": ["a zork"], "target": ["a zork"]}}
    for letter, library in (("z", own), ("m", below), ("a", own)):
        for number in range(4):
            library.save(make(f"{letter}{number}x", seed=number, record=captions))
        select(library, Query())  # it is indexed in this order
    both = Library(own.path, search_path=[below.path])
    pages = [refs(both, text="zork", limit=5, offset=5 * page) for page in range(4)]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    mentioned = [select(both, Query(text="zork", limit=5, offset=5 * page)).mentioned for page in range(4)]
    assert mentioned == [5, 5, 2, 0], "no name has it"
    found = [ref for page in pages for ref in page]
    assert found == refs(both, text="zork") and len(set(found)) == 12
    assert refs(both, text="zork", limit=5, reverse=True) == ["z3x@1", "z2x@1", "z1x@1", "z0x@1", "m3x@1"]


def test_a_file_that_could_not_be_read_for_a_while_is_back_at_once(library: Library, make: Make) -> None:
    """A link's target, or a permission, comes back without a trace in the folder's time."""
    library.save(make("cat2dog"))
    library.save(make("cat2dog"))
    path, share = library.find("cat2dog@2").path, library.path.parent / "share"
    share.mkdir()
    path.rename(share / "v2")
    path.symlink_to(share / "v2")
    share.rename(share.with_name("away"))
    age(library)
    page = select(library, Query())
    assert [entry.ref for entry in page.entries] == ["cat2dog@1"]
    assert len(page.faults) == 1 and f"{path} cannot be read: no such file" in page.faults[0]
    share.with_name("away").rename(share)
    page = select(library, Query())
    assert [entry.ref for entry in page.entries] == ["cat2dog@2"] and page.faults == []


def test_a_damaged_version_that_is_restored_in_place_is_back_at_once(library: Library, make: Make) -> None:
    """Writing into a file leaves no trace in its folder's time."""
    library.save(make("cat2dog"))
    library.save(make("cat2dog", seed=1))
    path = library.find("cat2dog@2").path
    whole = path.read_bytes()
    os.truncate(path, 100)
    settle(library)
    assert refs(library) == ["cat2dog@1"] and len(select(library, Query()).faults) == 1
    path.write_bytes(whole)
    page = select(library, Query())
    assert [entry.ref for entry in page.entries] == ["cat2dog@2"] and page.faults == []


def test_a_damaged_version_has_no_whole_one_read_again(
    library: Library, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cat2dog", "cat2dog", "day2winter"):
        library.save(make(name))
    os.truncate(library.find("cat2dog@2").path, 100)
    settle(library)
    before = refs(library)
    monkeypatch.setattr("library.index.read_header", lambda *_: pytest.fail("read a file again"))
    assert refs(library) == before == ["cat2dog@1", "day2winter@1"]


def test_labels_that_could_not_be_read_for_a_while_are_back_at_once(library: Library, make: Make) -> None:
    library.save(make("cat2dog"))
    set_alias(library, "cat2dog@1", "good")
    leaf = library.find("cat2dog@1").path.parent
    (leaf / "aliases.json").rename(library.path.parent / "aliases.json")
    (leaf / "aliases.json").symlink_to("aliases.json")  # a loop, which is an error
    age(library)
    assert select(library, Query()).entries[0].aliases == ()
    (leaf / "aliases.json").unlink()
    (library.path.parent / "aliases.json").rename(leaf / "aliases.json")
    age(library)
    assert select(library, Query()).entries[0].aliases == ("good",)


@pytest.mark.parametrize("inner", [False, True])
def test_a_folder_that_could_not_be_read_for_a_while_is_named_and_back_at_once(
    library: Library, make: Make, monkeypatch: pytest.MonkeyPatch, inner: bool
) -> None:
    library.save(make("cat2dog"))
    library.save(make("day2winter"))
    age(library)
    leaf = library.find("cat2dog").path.parent
    scandir, shut = os.scandir, leaf if inner else leaf.parent

    def refused(folder: Any) -> Any:
        if Path(folder) == shut:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", refused)
        for _ in range(2):
            page = select(library, Query())
            assert [entry.ref for entry in page.entries] == ["day2winter@1"]
            assert page.faults == [f"{shut} cannot be read: permission denied"]
    page = select(library, Query())
    assert [entry.ref for entry in page.entries] == ["cat2dog@1", "day2winter@1"] and page.faults == []


def test_a_link_that_leads_nowhere_hides_nothing_else(library: Library, make: Make) -> None:
    library.save(make("cat2dog"))
    loops = [library.path / "fox2cat", library.path / "cat2dog" / "clip-11111111"]
    for loop in loops:
        loop.symlink_to(loop.name)
    for _ in range(2):
        page = select(library, Query())
        assert [entry.ref for entry in page.entries] == ["cat2dog@1"] and list(library) == ["cat2dog"]
        assert [fault.split()[0] for fault in page.faults] == list(map(str, loops))
