"""The bytes of a version file: exact, readable by safetensors alone, and damaged ones found out."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from library import Direction, Library
from library.catalog import Query, select
from library.errors import BadTensor, DamagedFile
from library.fileformat import LONGEST_HEADER, canonical_json, decode, digest, encode
from library.records import for_saving

Make = Callable[..., Direction]
FORMAT_1 = Path(__file__).with_name("fixtures") / "format1"
FORMAT_1_FILE = FORMAT_1 / "cat2dog" / "clip-tiny-1a2b3c4d" / "v0001.safetensors"
FORMAT_1_DIGEST = "bd140795f151650645f78f26ddff77e52dd783a72545f0383970777ab0a1ce3e"


def rewritten(content: bytes, change: Callable[[dict], object], sign: bool = True) -> bytes:
    """The file with its header changed; `sign` makes the record's digest fit again."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    record = json.loads(header["__metadata__"]["record"])
    header["__metadata__"]["record"] = record
    change(header)
    if sign:
        record["record_sha256"] = "0" * 64
        record["record_sha256"] = hashlib.sha256(canonical_json(record).encode()).hexdigest()
    if isinstance(header.get("__metadata__", {}).get("record"), dict):
        header["__metadata__"]["record"] = canonical_json(record)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def test_a_file_of_format_1_is_still_read() -> None:
    assert hashlib.sha256(FORMAT_1_FILE.read_bytes()).hexdigest() == FORMAT_1_DIGEST, "never change this file"
    direction = Library(FORMAT_1, search_path=()).load("cat2dog@1")
    source = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
    np.testing.assert_array_equal(direction.tensor, source[::-1] * 2 - source)
    np.testing.assert_array_equal(direction.source_embedding, source)
    assert direction.record["captions"]["target"] == ["a dog on the grass", "a dog 犬"]
    assert direction.record["quality"] == {"agreement": 0.875}


def test_the_same_direction_is_written_as_the_same_bytes_as_ever(tmp_path: Path) -> None:
    direction = Library(FORMAT_1, search_path=()).load("cat2dog@1")
    again = Library(tmp_path, search_path=())
    again.save(direction)
    assert again.find("cat2dog").path.read_bytes() == FORMAT_1_FILE.read_bytes()


def test_safetensors_alone_reads_it_and_would_write_it_so() -> None:
    content = FORMAT_1_FILE.read_bytes()
    with safetensors.safe_open(FORMAT_1_FILE, "np") as file:
        assert set(file.keys()) == {"direction", "source", "target"}
        assert list(file.metadata()) == ["record"]
        record = file.metadata()["record"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert safetensors.numpy.save(tensors, {"record": record}) == content
    assert canonical_json(json.loads(record)) == record


def test_the_digests_are_what_the_documentation_says() -> None:
    content = FORMAT_1_FILE.read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    with safetensors.safe_open(FORMAT_1_FILE, "np") as file:
        text = file.metadata()["record"]
    record = json.loads(text)
    assert hashlib.sha256(data).hexdigest() == record["sha256"]
    blanked = text.replace(record["record_sha256"], "0" * 64)
    assert hashlib.sha256(blanked.encode()).hexdigest() == record["record_sha256"]


def test_every_prefix_is_damaged() -> None:
    content = FORMAT_1_FILE.read_bytes()
    for length in range(len(content)):
        with pytest.raises(DamagedFile, match=r"^here "):
            decode(io.BytesIO(content[:length]), "here")
    with pytest.raises(DamagedFile, match="its header asks for"):
        decode(io.BytesIO(content + b"\0"), "here")


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_every_flipped_bit_is_damage(data: st.DataObject) -> None:
    content = bytearray(FORMAT_1_FILE.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedFile):
        decode(io.BytesIO(bytes(content)), "here")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_damaged(content: bytes) -> None:
    with pytest.raises(DamagedFile):
        decode(io.BytesIO(content), "here")


def change_tensor(header: dict, **fields: object) -> None:
    header["direction"].update(fields)


CHANGES: list[tuple[Callable[[dict], object], str]] = [
    (lambda h: change_tensor(h, dtype="F16"), "holds direction as F16; expected F32"),
    (lambda h: change_tensor(h, shape=[4, 3]), "tensors of different shapes"),
    (lambda h: change_tensor(h, shape=[12]), r"expected \[tokens, dim\]"),
    (lambda h: change_tensor(h, shape=[3, 5]), "wrong data offsets for direction"),
    (lambda h: change_tensor(h, shape=[-3, -4]), r"expected \[tokens, dim\]"),
    (lambda h: change_tensor(h, data_offsets=[48, 96]), "wrong data offsets"),
    (lambda h: change_tensor(h, data_offsets="x"), "unreadable header"),
    (lambda h: h.pop("direction"), "expected direction, and maybe source and target"),
    (lambda h: h.update(other=h["direction"]), "expected direction, and maybe source and target"),
    (lambda h: h["__metadata__"].update(more="x"), "is not a direction"),
    (lambda h: h.pop("__metadata__"), "is not a direction"),
    (
        lambda h: h["__metadata__"]["record"].update(format=2),
        "of format 2; this program reads up to 1: update it",
    ),
    (lambda h: h["__metadata__"]["record"].pop("format"), "no format number"),
    (lambda h: h["__metadata__"]["record"].update(captions=[1]), "whose captions is list; expected dict"),
    (
        lambda h: h["__metadata__"]["record"].update(captions={"source": [1]}),
        "captions or tags are not texts",
    ),
    (lambda h: h["__metadata__"]["record"].update(tags="x"), "whose tags is str; expected list"),
    (lambda h: h["__metadata__"]["record"].update(version="1"), "whose version is str; expected int"),
    (lambda h: h["__metadata__"]["record"].update(parents=["a"]), "parents are not weighted directions"),
    (lambda h: h["__metadata__"]["record"].update(sha256="0" * 64), "their sha256 does not match the record"),
    (lambda h: h["__metadata__"]["record"].pop("name"), "unreadable header"),
    (lambda h: h["__metadata__"]["record"].update(source=7), "whose source is int; expected str"),
]


@pytest.mark.parametrize(("change", "fault"), CHANGES)
def test_a_wrong_header_is_named(change: Callable[[dict], object], fault: str) -> None:
    with pytest.raises(DamagedFile, match=fault):
        decode(io.BytesIO(rewritten(FORMAT_1_FILE.read_bytes(), change)), "here")


def test_a_strangers_record_that_hashes_right_does_not_end_a_listing(library: Library, make: Make) -> None:
    library.save(make("a2b"))
    strange = [
        {"quality": {"score": 10**400}},
        {"parents": [{"weight": 10**400, "name": 3}]},
        {"author": None, "created": None, "source": None, "models": {"name": None}},
        {"quality": {"score": "high", "agreement": True}, "parents": [{}], "created": "yesterday"},
        {"captions": {"source": None, "else": 3}, "tags": None},
    ]
    for record in strange:
        place = library.save(make("c2d"))
        path = library.find(place.ref).path
        path.write_bytes(
            rewritten(path.read_bytes(), lambda h, r=record: h["__metadata__"]["record"].update(r))
        )
    page = select(library, Query(all_versions=True))
    assert len(page.entries) + len(page.faults) == len(strange) + 1
    assert len(library.catalog()) == len(page.entries)


def test_an_edited_record_is_damage() -> None:
    content = rewritten(
        FORMAT_1_FILE.read_bytes(), lambda h: h["__metadata__"]["record"].update(source="cow"), False
    )
    with pytest.raises(DamagedFile, match="record_sha256 does not match"):
        decode(io.BytesIO(content), "here")


def test_a_huge_header_is_refused_before_it_is_read() -> None:
    for length in (LONGEST_HEADER + 1, 2**63, 2**64 - 1):
        with pytest.raises(DamagedFile, match=f"claims a header of {length} bytes"):
            decode(io.BytesIO(length.to_bytes(8, "little") + b"{}"), "here")


def test_deep_json_is_damage() -> None:
    text = b"[" * 100_000
    with pytest.raises(DamagedFile):
        decode(io.BytesIO(len(text).to_bytes(8, "little") + text), "here")


def test_not_a_number_is_damage() -> None:
    tensor = np.full((2, 2), np.nan, np.float32)
    content, _ = encode({"direction": tensor}, {"format": 1, "name": "a", "version": 1, "encoder": "e"})
    with pytest.raises(DamagedFile, match="holds values in direction that are not finite"):
        decode(io.BytesIO(content), "here")


def test_a_record_that_is_no_json_is_refused(library: Library, make: Make) -> None:
    for value in (float("nan"), {1, 2}, "\ud800"):
        with pytest.raises(BadTensor, match="the record of cat2dog cannot be written as JSON"):
            library.save(make(record={"generation": {"x": value}}))
    assert "cat2dog" not in library


def test_non_contiguous_arrays_keep_their_values(library: Library, make: Make) -> None:
    tensor = np.arange(20, dtype=np.float32).reshape(4, 5).T[::2]
    saved = library.save(Direction(name="a", tensor=tensor, encoder="e"))
    np.testing.assert_array_equal(library.load("a").tensor, tensor)
    np.testing.assert_array_equal(saved.tensor, tensor)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rebuilt_from": "x"},
        {"captions": {"source": None, "target": "abc"}},
        {"version": -5},
        {"format": True},
    ],
)
def test_a_record_of_other_types_is_refused(make: Make, wrong: dict[str, object]) -> None:
    """Its digests are right: it comes from a stranger, not from a broken disk."""
    direction = make()
    tensors = {"direction": direction.tensor}
    content, _ = encode(tensors, for_saving(direction, digest(tensors)) | {"version": 1} | wrong)
    with pytest.raises(DamagedFile, match="record"):
        decode(io.BytesIO(content), "x.safetensors")
