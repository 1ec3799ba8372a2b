"""A personal library over read-only ones: a search path."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from library import Direction, Library
from library.catalog import Query, select
from library.cli import main
from library.errors import (
    AmbiguousDirection,
    DirectionsError,
    EncoderMismatch,
    StorageError,
    UnknownDirection,
)
from library.labels import change_tags, drop_alias, set_alias
from library.settings import STARTER, cache_folder
from library.upkeep import plan_removal

Make = Callable[..., Direction]


@pytest.fixture
def shared(tmp_path: Path, make: Make) -> Path:
    """A shared library: cat2dog@1, cat2dog@2, day2winter@1."""
    below = Library(tmp_path / "shared", search_path=())
    for seed, name in enumerate(("cat2dog", "cat2dog", "day2winter")):
        below.save(make(name, seed=seed))
    return below.path


@pytest.fixture
def stacked(tmp_path: Path, shared: Path) -> Library:
    return Library(tmp_path / "own", search_path=[shared])


def test_what_lies_below_is_seen(stacked: Library) -> None:
    assert list(stacked) == ["cat2dog", "day2winter"]
    assert stacked.load("cat2dog").version == 2
    assert [e.ref for e in select(stacked, Query()).entries] == ["cat2dog@2", "day2winter@1"]
    assert not stacked.path.exists(), "reading makes nothing"


def test_one_folder_is_a_search_path(stacked: Library, shared: Path) -> None:
    for one in (shared, str(shared)):
        assert Library(stacked.path, search_path=one).layers == stacked.layers


def test_a_save_takes_a_number_that_is_free_in_all(stacked: Library, shared: Path, make: Make) -> None:
    before = stacked.load("cat2dog@2").record["sha256"]
    assert stacked.save(make(seed=9)).ref == "cat2dog@3"
    assert stacked.load("cat2dog@2").record["sha256"] == before
    assert [v.version for v in stacked.versions("cat2dog")] == [1, 2, 3]
    assert [v.version for v in Library(shared, search_path=()).versions("cat2dog")] == [1, 2]
    page = select(stacked, Query())
    assert [e.ref for e in page.entries] == ["cat2dog@3", "day2winter@1"] and page.total == 2
    every = select(stacked, Query(all_versions=True))
    assert [e.ref for e in every.entries] == ["cat2dog@3", "cat2dog@2", "cat2dog@1", "day2winter@1"]


def test_the_upper_one_wins_where_both_have_a_number(stacked: Library, shared: Path, make: Make) -> None:
    own = Library(stacked.path, search_path=())
    own.save(make(seed=7, record={"tags": ["mine"]}))
    assert stacked.load("cat2dog@1").record["tags"] == ["mine"]
    every = select(stacked, Query(all_versions=True)).entries
    assert [(e.ref, e.tags) for e in every[:2]] == [("cat2dog@2", ()), ("cat2dog@1", ("mine",))]
    assert select(stacked, Query(tags=("mine",))).entries == [], "its latest version is the shared one"
    assert len(list(stacked.walk())) == 3 and len(stacked.catalog()) == 3


def test_what_lies_below_and_cannot_be_read_is_named_beside_the_listing(
    stacked: Library, shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    hidden = [tmp_path / ("l" * 300), tmp_path / "loop"]
    page = select(Library(stacked.path, search_path=[*hidden, shared, tmp_path / "none"]), Query())
    assert [e.ref for e in page.entries] == ["cat2dog@2", "day2winter@1"]
    assert [fault.rpartition(": ")[0] for fault in page.faults] == [f"{p} cannot be read" for p in hidden]
    assert page.faults[0].endswith("file name too long")
    for own in hidden:  # the library that was asked for
        with pytest.raises(StorageError, match="cannot read "):
            select(Library(own, search_path=[shared]), Query())
    with pytest.raises(StorageError, match=r"cannot write to .*: file name too long"):
        Library(hidden[0]).check_writable()


def test_what_lies_below_is_not_changed(stacked: Library) -> None:
    hint = "directions compose cat2dog@2 --name cat2dog"
    for change in (
        lambda: set_alias(stacked, "cat2dog", "blessed"),
        lambda: change_tags(stacked, "cat2dog", add=["x"]),
    ):
        with pytest.raises(StorageError, match="read-only library") as refused:
            change()
        assert hint in str(refused.value)
    with pytest.raises(StorageError, match=r"read-only library, .*; only versions in .*own can be removed"):
        plan_removal(stacked, ["cat2dog@2"])


def test_removing_a_name_leaves_what_lies_below(stacked: Library, make: Make) -> None:
    stacked.save(make(seed=9))
    plan = plan_removal(stacked, ["cat2dog"])
    assert [v.ref for v in plan.versions] == ["cat2dog@3"]
    plan.execute()
    assert stacked.load("cat2dog").version == 2
    assert stacked.save(make(seed=10)).ref == "cat2dog@4", "a number is used once"


def test_aliases_are_seen_from_above(stacked: Library, shared: Path) -> None:
    set_alias(Library(shared, search_path=()), "cat2dog@1", "blessed")
    assert stacked.load("cat2dog@blessed").version == 1


def test_an_alias_means_a_version_of_its_own_layer(stacked: Library, shared: Path, make: Make) -> None:
    below, own = Library(shared, search_path=()), Library(stacked.path, search_path=())
    set_alias(below, "cat2dog@1", "blessed")
    with pytest.raises(StorageError, match=r"cannot forget cat2dog@blessed: .* read-only library, .*/shared"):
        drop_alias(stacked, "cat2dog", "blessed")
    assert below.load("cat2dog@blessed").version == 1
    own.save(make(seed=7))  # hides the shared cat2dog@1
    hidden = (
        r"cat2dog@blessed is version 1 of .*/shared, which cat2dog@1 of .*/own hides; .*--library .*/shared$"
    )
    for use in (stacked.load, stacked.find, lambda name: drop_alias(stacked, *name.split("@"))):
        with pytest.raises(UnknownDirection, match=hidden):
            use("cat2dog@blessed")
    arguments = ["--library", str(stacked.path), "show", "cat2dog@1", "--json"]
    shown = CliRunner().invoke(main, arguments, env={"DIRECTIONS_PATH": str(shared)})
    assert json.loads(shown.stdout)["aliases"] == []
    set_alias(stacked, "cat2dog@1", "blessed")
    assert stacked.find("cat2dog@blessed") == own.find("cat2dog@1")
    drop_alias(stacked, "cat2dog", "blessed")
    assert below.find("cat2dog@blessed").version == 1


def test_search_path_of_the_environment(
    shared: Path, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = Library(tmp_path / "more", search_path=())
    more.save(make("horse2zebra"))
    monkeypatch.setenv("DIRECTIONS_PATH", f"{shared}:{more.path}")
    library = Library(tmp_path / "own")
    assert [layer.folder for layer in library.layers] == [tmp_path / "own", shared, more.path, STARTER]
    assert {"cat2dog", "day2winter", "horse2zebra"} <= set(library)


def test_the_config_file_names_folders(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'library = "{tmp_path}/mine"\nsearch_path = ["{shared}"]\n')
    monkeypatch.setenv("DIRECTIONS_CONFIG", str(config))
    monkeypatch.delenv("DIRECTIONS_LIBRARY")
    assert [layer.folder for layer in Library().layers][:2] == [tmp_path / "mine", shared]
    assert Library(tmp_path / "given").path == tmp_path / "given"
    monkeypatch.setenv("DIRECTIONS_LIBRARY", str(tmp_path / "environment"))
    assert Library().path == tmp_path / "environment"


def test_two_encoders_of_one_name(stacked: Library, shared: Path, make: Make) -> None:
    stacked.save(make(encoder="clip-large-00000000"))
    assert stacked.load("cat2dog").encoder == "clip-large-00000000", "one's own comes first"
    assert stacked.load("cat2dog@2").encoder == "clip-tiny-1a2b3c4d", "only one of them has a version 2"
    below = Library(shared, search_path=())
    below.save(make(encoder="clip-large-00000000"))
    with pytest.raises(
        AmbiguousDirection, match="clip-large-00000000, clip-tiny-1a2b3c4d; name one with --encoder"
    ):
        below.load("cat2dog")
    assert below.load("cat2dog", encoder="clip-tiny-1a2b3c4d").version == 2


def test_a_declared_direction_serves_its_model_set(library: Library, make: Make) -> None:
    library.save(make(encoder="sd-1.4", record={"declared": True, "models": {"name": "sd-1.4"}}))
    library.save(make("day2winter", seed=1, encoder="clip-vit-l-00000000"))
    with pytest.raises(EncoderMismatch, match=r"imported for sd-1.4; .* --encoder clip-vit-l-00000000$"):
        library.load("cat2dog", encoder="clip-vit-l-00000000")
    both = library.resolve("cat2dog + day2winter", encoder="clip-vit-l-00000000", models="sd-1.4")
    assert both.encoder == "clip-vit-l-00000000" and both.record["declared"] is True
    assert library.load("cat2dog", encoder=["clip-vit-l-00000000", "sd-1.4"]).encoder == "sd-1.4"


@pytest.mark.parametrize("line", ["library = 5", "search_path = 5", "search_path = [5]", "library = ['a']"])
def test_a_wrong_type_in_the_config_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(line)
    monkeypatch.setenv("DIRECTIONS_CONFIG", str(config))
    monkeypatch.delenv("DIRECTIONS_LIBRARY", raising=False)
    monkeypatch.delenv("DIRECTIONS_PATH", raising=False)
    with pytest.raises(
        DirectionsError, match=r"in the config file .*config.toml is .*; expected a folder, as text"
    ):
        Library()
    config.unlink()
    with pytest.raises(DirectionsError, match=r"DIRECTIONS_CONFIG names .*, and there is no such file"):
        Library()


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user number without an entry and without HOME."""

    def nobody(number: int) -> object:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "DIRECTIONS_LIBRARY", *(f"XDG_{kind}_HOME" for kind in ("CACHE", "CONFIG", "DATA"))):
        monkeypatch.delenv(name, raising=False)


def test_without_a_home_a_named_library_is_all_that_is_needed(
    homeless: None, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = select(Library(tmp_path / "own", search_path=[shared]), Query())
    assert [entry.ref for entry in found.entries] == ["cat2dog@2", "day2winter@1"]
    with pytest.raises(
        DirectionsError, match="set HOME, or name a folder with --library DIR or DIRECTIONS_L"
    ):
        Library()
    with pytest.raises(DirectionsError, match="set HOME, or name a folder with DIRECTIONS_CACHE"):
        cache_folder("concepts")
    monkeypatch.setenv("DIRECTIONS_LIBRARY", str(shared))
    assert Library().path == shared


@pytest.mark.parametrize("name", ["LIBRARY", "PATH", "CONFIG", "CACHE"])
def test_a_home_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"DIRECTIONS_{name}", "~nosuch/x")
    with pytest.raises(DirectionsError, match=f"~nosuch/x is .*: set HOME, or give .*DIRECTIONS_{name} the"):
        Library()
        cache_folder("concepts")


def test_a_config_file_in_a_home_that_may_not_be_read_is_passed_over(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert Library(shared).path == shared
    monkeypatch.setattr("library.settings.os.path.lexists", lambda _: True)
    with pytest.raises(DirectionsError, match="cannot read the config file"):  # it is there, and refused
        Library(shared)
    monkeypatch.setenv("DIRECTIONS_CONFIG", "named.toml")
    with pytest.raises(
        DirectionsError, match=r"cannot read the config file .*named\.toml: .*ermission denied"
    ):
        Library(shared)


def test_an_alias_may_mean_a_copy_of_the_same_direction(stacked: Library, shared: Path) -> None:
    below, own = Library(shared, search_path=()), Library(stacked.path, search_path=())
    set_alias(below, "cat2dog@1", "blessed")
    own.save(below.load("cat2dog@1"))
    assert stacked.find("cat2dog@blessed") == own.find("cat2dog@1")
    set_alias(stacked, "cat2dog@blessed", "better")
    arguments = ["--library", str(stacked.path), "show", "cat2dog@1", "--json"]
    shown = CliRunner().invoke(main, arguments, env={"DIRECTIONS_PATH": str(shared)})
    assert json.loads(shown.stdout)["aliases"] == ["better", "blessed"]


def test_an_alias_that_is_hidden_for_one_encoder_is_found_for_another(
    stacked: Library, shared: Path, make: Make
) -> None:
    below, own = Library(shared, search_path=()), Library(stacked.path, search_path=())
    encoder = below.find("cat2dog@1").encoder
    below.save(replace(make(seed=3), encoder="sd-1.4"))
    for known in (encoder, "sd-1.4"):
        set_alias(below, "cat2dog@1", "blessed", known)
    own.save(replace(make(seed=7), encoder="sd-1.4"))
    assert stacked.lookup.find("cat2dog@blessed", encoder, models="sd-1.4").encoder == encoder
    with pytest.raises(UnknownDirection, match="hides"):
        stacked.find("cat2dog@blessed", "sd-1.4")
