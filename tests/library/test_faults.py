"""Real faults: many writers, killed writers, a full disk, damaged files, read-only folders."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import library as package
from library import Direction, Library
from library.catalog import Query, select
from library.errors import DamagedFile, StorageError, UnknownDirection
from library.exchange import export_bundle, export_file
from library.plot import check_drawing, draw
from library.upkeep import plan_sweep

Make = Callable[..., Direction]
ROOT = Path(package.__file__).parents[1]
WRITER = Path(__file__).with_name("writer.py")
ENCODER = "clip-tiny-1a2b3c4d"


def start(*words: object, **options: object) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(WRITER), *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **{**pipes, **options})


def finish(*processes: subprocess.Popen) -> list[str]:
    outputs = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in outputs]


def test_8_processes_of_25_saves_give_versions_1_to_200(tmp_path: Path) -> None:
    finish(*(start("save", tmp_path, 25) for _ in range(8)))
    library = Library(tmp_path, search_path=())
    assert [v.version for v in library.versions("cat2dog")] == list(range(1, 201))
    assert library.verify() == [] and library.layers[0].temporaries() == []
    assert len({library.load(v.ref).record["sha256"] for v in library.versions("cat2dog")}) == 200
    assert len(library.catalog()) == 200


def test_a_writer_killed_at_200_moments_leaves_every_version_whole(tmp_path: Path) -> None:
    count = int(finish(start("killed", tmp_path, 200, 1))[0])
    library = Library(tmp_path, search_path=())
    assert count > 200 and len(library.versions("cat2dog")) == count
    assert library.verify() == [], "what dead writers leave is not taken for a version"
    plan = plan_sweep(library, older_than=0)
    plan.execute()
    assert library.layers[0].temporaries() == [] and len(library.versions("cat2dog")) == count


def test_tags_and_aliases_of_many_writers_are_all_kept(tmp_path: Path, make: Make) -> None:
    library = Library(tmp_path, search_path=())
    library.save(make())
    finish(*(start("tag", tmp_path, 10, who) for who in range(4)))
    layer = library.layers[0]
    assert len(layer.aliases("cat2dog", ENCODER)) == 40
    assert len(layer.tags("cat2dog", ENCODER)["1"]) == 40


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts small file systems; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(options: str, where: Path | None = None) -> Path:
        folder = where or tmp_path / f"mount{len(mounted)}"
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_a_clear_error_and_no_half_version(tmpfs: Callable[..., Path], make: Make) -> None:
    library = Library(tmpfs("size=256k") / "library", search_path=())
    saved = 0
    with pytest.raises(StorageError, match=r"cannot save cat2dog in .*: the disk is full: free some space"):
        for _ in range(1000):
            library.save(make(shape=(16, 64)))
            saved += 1
    assert saved > 2 and [v.version for v in library.versions("cat2dog")] == list(range(1, saved + 1))
    assert library.verify() == [] and library.layers[0].temporaries() == []
    page = select(library, Query(all_versions=True))
    assert len(page.entries) == saved, "a listing needs no room on the disk"
    with pytest.raises(StorageError, match="disk is full"):
        library.save(make("day2winter", shape=(16, 64)))
    assert "day2winter" not in library
    library.find("cat2dog@1").path.unlink()
    library.save(make(shape=(16, 64)))


def test_a_limit_on_file_size_is_a_clear_error(tmp_path: Path, make: Make) -> None:
    library = Library(tmp_path, search_path=())
    library.save(make())
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
    try:
        with pytest.raises(StorageError, match="the file is larger than this system allows"):
            library.save(make(shape=(77, 64)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [v.version for v in library.versions("cat2dog")] == [1]
    assert library.layers[0].temporaries() == []


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "link", "write"])
def test_a_failing_disk_leaves_nothing(
    library: Library, make: Make, monkeypatch: pytest.MonkeyPatch, call: str, fault: int
) -> None:
    library.save(make())

    def fail(*_: object) -> None:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError, match=r"cannot save cat2dog in .*"):
            library.save(make())
    assert [v.version for v in library.versions("cat2dog")] == [1]
    assert library.layers[0].temporaries() == []
    assert library.save(make()).version == 2


def test_another_library_is_advised_only_where_the_library_cannot_be_written(
    library: Library, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.save(make())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    for write in (lambda: library.save(make()), library.check_writable):
        with pytest.raises(StorageError, match="permission denied: name a writable folder with --library"):
            write()
    for elsewhere in (
        lambda: export_file(library, "cat2dog", tmp_path / "x.safetensors"),
        lambda: export_bundle(library, ["cat2dog"], tmp_path / "x.zip"),
        lambda: check_drawing(tmp_path / "x.png"),
    ):
        with pytest.raises(StorageError, match=r"cannot write .*: permission denied$"):
            elsewhere()


def test_a_drawing_that_the_disk_has_no_room_for_leaves_the_old_one(
    library: Library, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direction, picture = library.save(make()), tmp_path / "out.PNG"
    draw(library, direction, picture)
    before, there = picture.read_bytes(), sorted(tmp_path.iterdir())

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StorageError, match=r"cannot write .*out\.PNG: the disk is full$"):
        draw(library, direction, picture)
    assert picture.read_bytes() == before and sorted(tmp_path.iterdir()) == there


def test_without_hard_links_versions_are_still_published_once(
    library: Library, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    assert [library.save(make()).version for _ in range(3)] == [1, 2, 3]
    assert library.verify() == []


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "truncated by one": lambda content: content[:-1],
    "bit flipped in the tensor": lambda content: content[:-9] + bytes([content[-9] ^ 4]) + content[-8:],
    "bit flipped in the record": lambda content: content.replace(b"someone", b"someooe", 1),
    "oversized header": lambda content: (2**40).to_bytes(8, "little") + content[8:],
    "not a number": lambda content: content[:-4] + b"\x00\x00\xc0\x7f",
    "wrong shape": lambda content: content.replace(b'"shape":[4,8]', b'"shape":[8,8]', 1),
    "garbage": lambda content: os.urandom(len(content)),
    "another version": lambda content: content,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_listed_beside_and_never_served(
    library: Library, make: Make, damage: str
) -> None:
    for name in ("cat2dog", "day2winter", "horse2zebra"):
        library.save(make(name, record={"author": "someone"}))
    library.save(make("day2winter", seed=1, record={"author": "someone"}))
    victim = library.find("day2winter@1" if damage != "another version" else "day2winter@2")
    content = DAMAGES[damage](library.find("day2winter@1").path.read_bytes())
    victim.path.unlink()
    victim.path.write_bytes(content)

    faults = library.verify()
    assert [fault.path for fault in faults] == [str(victim.path)]
    assert str(victim.path) in faults[0].problem or victim.path.name in faults[0].problem
    with pytest.raises(DamagedFile, match=victim.path.name):
        library.load(victim.ref)
    page = select(library, Query(all_versions=True))
    listed = [entry.ref for entry in page.entries]
    others = [v.ref for v in library.walk() if v.path != victim.path]
    assert [ref for ref in listed if ref != victim.ref] == sorted(
        others, key=lambda r: (r.split("@")[0], -int(r[-1]))
    )
    if victim.ref not in listed:
        assert len(page.faults) == 1 and str(victim.path) in page.faults[0]
    assert len(library.catalog()) == len(listed)
    other = "day2winter@2" if victim.version == 1 else "day2winter@1"
    np.testing.assert_array_equal(
        library.load(other).tensor, make("day2winter", seed=victim.version == 1).tensor
    )
    assert library.save(make("day2winter")).version == 3


def test_strange_entries_do_not_end_a_listing(library: Library, make: Make) -> None:
    library.save(make())
    (library.path / "stray.txt").write_text("x")
    (library.path / "Bad Name" / "x").mkdir(parents=True)
    os.mkdir(os.fsencode(library.path) + b"/\xff\xfe")
    (library.path / "empty2folder" / ENCODER).mkdir(parents=True)
    leaf = library.path / "cat2dog" / ENCODER
    (leaf / "v0007.safetensors").mkdir()
    (leaf / "v9.safetensors").write_bytes(b"")
    (leaf / "notes.md").write_text("x")
    (leaf / "v0005.safetensors").symlink_to("/nowhere")
    (leaf / "aliases.json").write_text("{")
    (leaf / "tags.json").write_text('{"1": 3}')
    page = select(library, Query(all_versions=True))
    assert [entry.ref for entry in page.entries] == ["cat2dog@1"]
    problems = " ".join(fault.problem for fault in library.verify())
    for name in ("Bad Name", "v0007", "v0005", "aliases.json is not JSON", "tags.json should map"):
        assert name in problems
    assert library.load("cat2dog@1").version == 1
    with pytest.raises(DamagedFile, match="delete it and set its entries again"):
        library.load("cat2dog@blessed")


def test_a_read_only_library_is_read(tmpfs: Callable[..., Path], make: Make) -> None:
    folder = tmpfs("size=1m")
    library = Library(folder, search_path=())
    library.save(make())
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    assert library.load("cat2dog").version == 1 and library.verify() == []
    assert [entry.ref for entry in select(library, Query()).entries] == ["cat2dog@1"]
    with pytest.raises(StorageError, match="it is read-only: name a writable folder with --library DIR"):
        library.save(make())


def test_a_version_removed_while_it_is_read_is_one_line(library: Library, make: Make) -> None:
    library.save(make())
    found = library.find("cat2dog")
    found.path.unlink()
    with pytest.raises(UnknownDirection, match="was removed while it was being read"):
        library.read(found.path, found)


def test_a_file_where_the_library_should_be(tmp_path: Path, make: Make) -> None:
    (tmp_path / "file").write_text("x")
    library = Library(tmp_path / "file", search_path=())
    assert select(library, Query()).entries == [] and library.verify() == []
    with pytest.raises(StorageError, match="a file is where a folder should be"):
        library.save(make())
