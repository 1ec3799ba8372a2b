"""Measurements beside versions: bound to their content, in the catalog, gone with `rm`, kept by `gc`."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from library import Direction, Library
from library.catalog import Entry, Query, select
from library.cli import main
from library.errors import DamagedFile, StorageError
from library.evaluation import evaluation_of, read_evaluation, save_evaluation
from library.exchange import export_bundle
from library.index import INDEX_FILE
from library.layer import VersionPath
from library.upkeep import plan_removal, plan_sweep

Make = Callable[..., Direction]


def measure(library: Library, reference: str = "cat2dog", share: float = 0.96, **more: Any) -> Any:
    """A measurement such as `directions evaluate` saves."""
    success = {"mean": share, "low": share - 0.08, "high": min(1.0, share + 0.03), "count": 50}
    return save_evaluation(library, library.find(reference), {"success": success, **more}, b"a sheet")


def entry(library: Library, **query: Any) -> Entry:
    return select(library, Query(**query)).entries[0]


@pytest.fixture
def two(library: Library, make: Make) -> Library:
    """cat2dog in two versions, and day2night."""
    for seed, name in enumerate(("cat2dog", "cat2dog", "day2night")):
        library.save(make(name, seed=seed))
    return library


def test_it_lies_beside_the_version_and_the_version_stays_as_it_was(two: Library) -> None:
    version = two.find("cat2dog@1")
    before = version.path.read_bytes()
    saved = measure(two, "cat2dog@1", judge="somebody")
    assert version.path.read_bytes() == before
    assert saved.sheet == version.path.with_name("v0001.evaluation.png")
    text = version.path.with_name("v0001.evaluation.json").read_text()
    record = json.loads(text)
    assert text == json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert record["sha256"] == two.load("cat2dog@1").record["sha256"] and record["judge"] == "somebody"
    assert (record["format"], record["name"], record["version"]) == (1, "cat2dog", 1)
    assert evaluation_of(two, version) == saved
    assert evaluation_of(two, two.find("cat2dog@2")) is None and two.verify() == []


def test_the_line_that_people_read(two: Library) -> None:
    found = measure(two, created="2026-11-25T10:00:00Z")
    assert found.line == f"96% of 50 pictures (88–99%), 2026-11-25, sheet {found.sheet}"


def test_the_catalog_follows_what_changes(two: Library) -> None:
    assert entry(two).success is None and entry(two).evaluated == ""
    measure(two, "cat2dog", created="2026-11-25T10:00:00Z")
    assert entry(two).success == 0.96 and entry(two).evaluated == "2026-11-25T10:00:00Z"
    assert [e.success for e in select(two, Query(all_versions=True)).entries] == [0.96, None, None]
    measure(two, share=0.5)
    measure(two, "day2night", share=0.7)
    assert entry(two).success == 0.5, "a new measurement replaces the old"
    assert [e.ref for e in select(two, Query(sort="success")).entries] == ["day2night@1", "cat2dog@2"]
    worst = select(two, Query(sort="success", reverse=True, all_versions=True)).entries
    assert [e.success for e in worst] == [0.5, 0.7, None], "without a measurement comes last either way"
    assert select(two, Query(text="night")).entries[0].success == 0.7
    two.find("cat2dog").path.with_name("v0002.evaluation.json").unlink()
    assert entry(two).success is None


def test_the_index_is_not_believed_where_it_is_damaged(two: Library) -> None:
    measure(two)
    assert entry(two).success == 0.96
    leaf = two.find("cat2dog").path.parent
    for folder in (leaf, leaf.parent):  # old, so that the index trusts what it remembers
        os.utime(folder, (1e9, 1e9))
    assert entry(two).success == 0.96
    index = two.path / INDEX_FILE
    content = index.read_bytes()
    stamp = json.loads(leaf.joinpath("v0002.evaluation.json").read_text())["created"].encode()
    assert content.count(stamp) >= 1
    index.write_bytes(content.replace(stamp, stamp[:-2] + b"9Z"))
    assert entry(two).evaluated == stamp.decode()


def test_pandas(two: Library) -> None:
    measure(two, "cat2dog@1", created="2026-11-25T10:00:00Z")
    frame = two.catalog().set_index(["name", "version"])
    assert str(frame.dtypes["success"]) == "float64" and str(frame.dtypes["evaluated"]).endswith("UTC]")
    assert frame.loc[("cat2dog", 1), "success"] == 0.96
    assert frame.loc[("cat2dog", 1), "evaluated"] == pd.Timestamp("2026-11-25T10:00:00Z")
    assert frame["success"].isna().sum() == 2 == frame["evaluated"].isna().sum()


def test_another_tensor_of_the_same_number_is_not_meant(two: Library, tmp_path: Path, make: Make) -> None:
    measure(two, "day2night")
    other = Library(tmp_path / "other", search_path=())
    other.save(make("day2night", seed=9))
    for file in two.find("day2night").path.parent.glob("*.evaluation.*"):
        (other.find("day2night").path.parent / file.name).write_bytes(file.read_bytes())
    assert evaluation_of(other, other.find("day2night")) is None and entry(other).success is None
    (fault,) = other.verify()
    assert fault.path.endswith("v0001.evaluation.json") and "another file of that number" in fault.problem


def test_a_read_only_version_is_measured_into_the_own_library(two: Library, tmp_path: Path) -> None:
    own = Library(tmp_path / "own", search_path=[two.path])
    saved = measure(own, "cat2dog@1")
    assert saved.sheet is not None and saved.sheet.is_relative_to(own.path)
    assert evaluation_of(own, own.find("cat2dog@1")) == saved
    assert evaluation_of(two, two.find("cat2dog@1")) is None
    found = {e.ref: e.success for e in select(own, Query(all_versions=True)).entries}
    assert found == {"cat2dog@2": None, "cat2dog@1": 0.96, "day2night@1": None}
    assert entry(own, sort="success", all_versions=True).ref == "cat2dog@1"
    assert list(own) == ["cat2dog", "day2night"] and own.verify() == []
    measure(two, "cat2dog@1", share=0.5)
    assert entry(own, sort="success", all_versions=True).success == 0.96, "the upper one is shown"


def test_rm_takes_it_along_and_gc_leaves_it(two: Library) -> None:
    measure(two, "cat2dog@1")
    plan_sweep(two, older_than=0).execute()
    leaf = two.find("cat2dog@1").path.parent
    assert (leaf / "v0001.evaluation.png").exists()
    plan = plan_removal(two, ["cat2dog@1"])
    assert plan.bytes > two.find("cat2dog@1").path.stat().st_size
    plan.execute()
    assert sorted(p.name for p in leaf.iterdir()) == ["v0001.removed", "v0002.safetensors"]


def test_a_bundle_leaves_it_behind(two: Library, tmp_path: Path) -> None:
    plain, measured = tmp_path / "plain.zip", tmp_path / "measured.zip"
    export_bundle(two, ["cat2dog"], plain)
    measure(two)
    export_bundle(two, ["cat2dog"], measured)
    assert plain.read_bytes() == measured.read_bytes()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format":1}', b'{"format":1,"success":{"mean":2,"low":0,"high":1,"count":3}}'],
)
def test_a_damaged_one_is_none_and_verify_names_it(two: Library, content: bytes) -> None:
    measure(two)
    path = two.find("cat2dog").path.with_name("v0002.evaluation.json")
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match="measure again"):
        read_evaluation(path)
    assert evaluation_of(two, two.find("cat2dog")) is None and entry(two).success is None
    assert [fault.path for fault in two.verify()] == [str(path)]


def test_newer_formats_and_foreign_sheets_are_refused(two: Library) -> None:
    saved = measure(two)
    saved.sheet.write_bytes(b"another sheet")
    assert "is not the sheet of v0002.evaluation.json" in two.verify()[0].problem
    path = two.find("cat2dog").path.with_name("v0002.evaluation.json")
    path.write_text(json.dumps({**saved.record, "format": 2}))
    with pytest.raises(DamagedFile, match="format 2, newer than 1: update"):
        read_evaluation(path)


def test_a_disk_that_refuses_leaves_the_old_one(two: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    before = measure(two)

    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("library.publish.os.replace", full)
    with pytest.raises(StorageError, match="the disk is full"):
        measure(two, share=0.1)
    monkeypatch.undo()
    version: VersionPath = two.find("cat2dog")
    assert evaluation_of(two, version) == before
    assert not list(version.path.parent.glob(".new-*"))


def test_show_and_the_table(two: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("library.store.default_search_path", list)

    def run(*words: str) -> str:
        result = CliRunner().invoke(main, ["--library", str(two.path), *words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "success" not in run().splitlines()[0] and "measured" not in run("show", "cat2dog")
    assert json.loads(run("show", "cat2dog", "--json"))["evaluation"] is None
    found = measure(two, created="2026-11-25T10:00:00Z")
    heading, row = run().splitlines()[:2]
    assert "success" in heading.split() and "96%" in row.split()
    assert f"measured:    {found.line}" in run("show", "cat2dog").splitlines()
    shown = json.loads(run("show", "cat2dog", "--json"))["evaluation"]
    assert shown["success"]["count"] == 50 and shown["sheet"] == str(found.sheet)
    assert json.loads(run("--sort", "success", "--json"))[0]["success"] == 0.96


def test_a_sheet_that_is_gone_is_null_in_json(two: Library) -> None:
    measure(two)
    shown = ["--library", str(two.path), "show", "cat2dog", "--json"]
    sheet = json.loads(CliRunner().invoke(main, shown).stdout)["evaluation"]["sheet"]
    os.unlink(sheet)
    assert json.loads(CliRunner().invoke(main, shown).stdout)["evaluation"]["sheet"] is None
