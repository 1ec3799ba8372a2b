"""In and out: the published `.pt` pairs, single files, bundles, and hostile ones."""

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from library import Direction, Library
from library.direction import Anchored
from library.errors import BadFile, BadName
from library.exchange import export_bundle, export_file, import_bundle, import_file, import_pair
from library.foreign import write_pair

Make = Callable[..., Direction]
ENCODER = "clip-tiny-1a2b3c4d"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """`cat.pt` and `dog.pt` as the published scripts write them, one of them in half precision."""
    generator = torch.Generator().manual_seed(0)
    paths = (tmp_path / "cat.pt", tmp_path / "dog.pt")
    torch.save(torch.randn(1, 77, 768, generator=generator), paths[0])
    torch.save(torch.randn(1, 77, 768, generator=generator).half(), paths[1])
    return paths


def test_a_pair_comes_in_and_goes_out(library: Library, pair: tuple[Path, Path], tmp_path: Path) -> None:
    saved = import_pair(library, *pair, "cat2dog", "sd-1.4")
    cat, dog = (torch.load(path, weights_only=True).float().numpy()[0] for path in pair)
    np.testing.assert_array_equal(saved.tensor, dog - cat)
    assert (saved.source, saved.target, saved.encoder) == ("cat", "dog", "sd-1.4")
    record = library.load("cat2dog").record
    assert record["declared"] is True and record["imported"] == ["cat.pt", "dog.pt"]
    assert record["models"] == {"name": "sd-1.4"}
    written = write_pair(library.load("cat2dog"), tmp_path / "out")
    assert [path.name for path in written] == ["cat.pt", "dog.pt"]
    for path, expected in zip(written, (cat, dog), strict=True):
        tensor = torch.load(path, weights_only=True, map_location="cpu")
        assert tensor.shape == (1, 77, 768) and tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor[0].numpy(), expected)


def test_many_embeddings_are_averaged(library: Library, tmp_path: Path) -> None:
    many = torch.randn(5, 4, 8)
    torch.save(many, tmp_path / "a.pt")
    torch.save(torch.zeros(1, 4, 8), tmp_path / "b.pt")
    saved = import_pair(library, tmp_path / "a.pt", tmp_path / "b.pt", "a2b", ENCODER, ("an apple", "a bear"))
    np.testing.assert_allclose(saved.tensor, -many.mean(0).numpy(), rtol=1e-5, atol=1e-6)
    assert (saved.source, saved.target) == ("an apple", "a bear")


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_bare_tensor(library: Library, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    tensor = torch.randn(1, 4, 8)
    if ending == ".pt":
        torch.save(tensor, path)
    else:
        save_file({"anything": tensor}, path)
    with pytest.raises(BadFile, match="add --name NAME and --encoder ID"):
        import_file(library, path)
    saved = import_file(library, path, "a2b", ENCODER, ("a", "b"))
    np.testing.assert_array_equal(saved.tensor, tensor[0].numpy())
    assert saved.record["declared"] is True
    out = export_file(library, "a2b", tmp_path / "out.safetensors")
    again = import_file(library, out, encoder="clip-12345678")
    assert again.encoder == "clip-12345678" and again.record["declared"] is True
    np.testing.assert_array_equal(again.tensor, saved.tensor)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("executed",))


def test_files_that_are_refused(library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written(name: str, content: object) -> Path:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        return path

    cases = [
        (written("evil.pt", pickle.dumps(Evil())), "cannot be read as tensors"),
        (written("evil2.pt", Evil()), "cannot be read as tensors"),
        (written("x.txt", b"x"), "is of a type that is not imported"),
        (written("empty.pt", b""), "cannot be read as tensors"),
        (written("list.pt", [1, 2]), "holds a list; expected a tensor"),
        (
            written("two.pt", {"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}),
            "holds 2 tensors; expected one",
        ),
        (written("ints.pt", torch.zeros(2, 2, dtype=torch.int64)), "holds torch.int64"),
        (written("flat.pt", torch.zeros(4)), r"has shape \[4\]; expected \[tokens, dim\]"),
        (written("nan.pt", torch.full((2, 2), float("nan"))), "not finite"),
        (written("bad.safetensors", b"\xff" * 20), "claims a header of"),
        (tmp_path, "is a folder"),
    ]
    for path, fault in cases:
        with pytest.raises(BadFile, match=fault) as refused:
            import_file(library, path, "a2b", "sd-1.4")
        assert str(path) in str(refused.value)
    bomb = tmp_path / "bomb.pt"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb/data.pkl", "w") as entry,
    ):
        for _ in range(300):
            entry.write(bytes(2**20))
    with pytest.raises(BadFile, match="unpacks to 314572800 bytes"):
        import_file(library, bomb, "a2b", "sd-1.4")
    assert list(library) == [] and "executed" not in capsys.readouterr().out


def test_a_pair_that_is_none(library: Library, pair: tuple[Path, Path], tmp_path: Path) -> None:
    torch.save(torch.zeros(1, 4, 8), tmp_path / "small.pt")
    with pytest.raises(BadFile, match="not a pair"):
        import_pair(library, pair[0], tmp_path / "small.pt", "a2b", "sd-1.4")
    small = tmp_path / "small.pt"
    with pytest.raises(BadFile, match=r"sd-1.4's embeddings are \[77, 768\]"):
        import_pair(library, small, small, "a2b", "sd-1.4")
    with pytest.raises(BadFile, match=r"sd-2.1's embeddings are \[77, 1024\]"):
        import_file(library, small, "a2b", "sd-2.1")
    with pytest.raises(BadName, match="an encoder id is"):
        import_pair(library, *pair, "a2b", "SD 1.4")


def test_an_exported_version_is_the_file_and_comes_back_once(
    library: Library, make: Make, tmp_path: Path
) -> None:
    saved = library.save(make(record={"tags": ["x"], "author": "ann"}))
    path = export_file(library, "cat2dog", tmp_path / "out" / "cat2dog.safetensors")
    assert path.read_bytes() == library.find("cat2dog").path.read_bytes()
    assert import_file(library, path).ref == "cat2dog@1", "it is here already"
    other = Library(tmp_path / "other", search_path=())
    other.save(make(seed=5))
    back = import_file(other, path)
    assert back.ref == "cat2dog@2" and back.record["author"] == "ann"
    np.testing.assert_array_equal(back.source_embedding, saved.source_embedding)
    assert import_file(other, path, name="mine").ref == "mine@1"
    with pytest.raises(BadFile, match="leave --encoder out"):
        import_file(other, path, encoder="sd-1.4")
    with pytest.raises(BadFile, match=r"damaged record|damaged tensors"):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        import_file(other, path)


def test_a_sum_is_exported_with_its_parents(library: Library, make: Make, tmp_path: Path) -> None:
    library.save(make())
    library.save(make("day2winter", seed=1))
    path = export_file(library, "0.5*cat2dog + day2winter", tmp_path / "sum.safetensors")
    other = Library(tmp_path / "other", search_path=())
    back = import_file(other, path, name="mix")
    assert [parent["weight"] for parent in back.record["parents"]] == [0.5, 1.0]
    np.testing.assert_array_equal(back.tensor, library.resolve("0.5*cat2dog + day2winter").tensor)
    with pytest.raises(BadFile, match=r"export it as \.safetensors"):
        write_pair(back, tmp_path)


def test_what_was_never_saved_is_exported_under_a_name_that_says_what_it_is(
    library: Library, make: Make, tmp_path: Path
) -> None:
    for seed, name in enumerate(("cat2dog", "day2winter")):
        library.save(make(name, seed=seed))
    library.save(make("dark", seed=2, source="!", target="night"))
    for expression, name in (
        ("dog2cat", "dog2cat"),
        ("-cat2dog", "dog2cat"),
        ("-dark", "minus-dark-1"),
        ("0.5*cat2dog", "0.5-cat2dog-1"),
        ("cat2dog + day2winter", "cat2dog-1-day2winter-1"),
        ("cat2dog - day2winter", "cat2dog-1-minus-day2winter-1"),
    ):
        back = import_file(library, export_file(library, expression, tmp_path / "x.safetensors"))
        assert back.ref == f"{name}@1", expression
        assert back.tensor.tobytes() == library.resolve(expression).tensor.tobytes()


def test_a_sum_of_many_is_exported_under_a_name_that_fits(
    library: Library, make: Make, tmp_path: Path
) -> None:
    for seed in range(7):
        library.save(make(f"a-rather-long-name{seed}", seed=seed))
    names = set()
    for last in (" + ", " - "):
        terms = " + ".join(f"a-rather-long-name{seed}" for seed in range(6))
        path = export_file(library, f"{terms}{last}a-rather-long-name6", tmp_path / "x.safetensors")
        names.add(import_file(library, path).name)
    assert len(names) == 2 and all(len(name) <= 100 for name in names)


def test_a_bundle_carries_versions_with_their_records(library: Library, make: Make, tmp_path: Path) -> None:
    for seed, name in enumerate(("cat2dog", "cat2dog", "猫2犬")):
        library.save(make(name, seed=seed, record={"captions": {"source": ["é 🐱"], "target": []}}))
    bundle = tmp_path / "some.zip"
    assert export_bundle(library, ["cat2dog", "cat2dog@1", "猫2犬", "cat2dog@2"], bundle) == 3
    first = bundle.read_bytes()
    export_bundle(library, ["猫2犬", "cat2dog@1", "cat2dog"], bundle)
    assert bundle.read_bytes() == first, "the same versions make the same bytes"
    other = Library(tmp_path / "other", search_path=())
    assert [(d.ref, new) for d, new in import_bundle(other, bundle)] == [
        ("cat2dog@1", True),
        ("cat2dog@2", True),
        ("猫2犬@1", True),
    ]
    assert other.find("猫2犬").path.read_bytes() == library.find("猫2犬").path.read_bytes()
    assert not any(new for _, new in import_bundle(other, bundle)) and other.verify() == []


def zipped(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def test_hostile_bundles_are_refused_whole(library: Library, make: Make, tmp_path: Path) -> None:
    library.save(make())
    content = library.find("cat2dog").path.read_bytes()
    good = f"cat2dog/{ENCODER}/v0001.safetensors"
    link = zipfile.ZipInfo(f"cat2dog/{ENCODER}/v0002.safetensors")
    link.external_attr = 0o120777 << 16
    cases: list[tuple[str | zipfile.ZipInfo, bytes, str]] = [
        ("../evil.safetensors", content, "expected NAME/ENCODER/v0001.safetensors"),
        (f"../../{ENCODER}/v0001.safetensors", content, "expected NAME/ENCODER"),
        (f"../{ENCODER}/v0001.safetensors", content, "name '..'"),
        (f"/cat2dog/{ENCODER}/v0001.safetensors", content, "expected NAME/ENCODER"),
        (f"cat2dog\\{ENCODER}\\v0001.safetensors", content, "expected NAME/ENCODER"),
        (f"con/{ENCODER}/v0001.safetensors", content, "device name of Windows"),
        (f"Cat2Dog/{ENCODER}/v0001.safetensors", content, "lower-case"),
        ("cat2dog/../v0001.safetensors", content, "not an encoder id"),
        ("readme.txt", b"x", "expected NAME/ENCODER"),
        (f"cat2dog/{ENCODER}/aliases.json", b"{}", "expected NAME/ENCODER"),
        (link, b"/etc/passwd", "not a plain file"),
        (f"cat2dog/{ENCODER}/v0002.safetensors", content, "was moved here"),
        (f"dog2cat/{ENCODER}/v0001.safetensors", content, "was moved here"),
        (f"a2b/{ENCODER}/v0001.safetensors", content[:-1], "its header asks for"),
        (f"a2b/{ENCODER}/v0001.safetensors", b"", "is empty"),
        (f"a2b/{ENCODER}/v0001.safetensors", bytes(70 * 2**20), "unpacks to 73400320 bytes"),
    ]
    other = Library(tmp_path / "other", search_path=())
    for name, inside, fault in cases:
        bundle = zipped(tmp_path / "hostile.zip", [(good, content), (name, inside)])
        with pytest.raises(BadFile) as refused:
            import_bundle(other, bundle)
        assert fault in str(refused.value) and "nothing was imported" in str(refused.value)
    with pytest.warns(UserWarning, match="Duplicate"):
        bundle = zipped(tmp_path / "twice.zip", [(good, content), (good, content)])
    with pytest.raises(BadFile, match="it is there twice"):
        import_bundle(other, bundle)
    assert not other.path.exists() and not (tmp_path / "evil.safetensors").exists()


def test_bundles_that_are_none(library: Library, tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04 garbage", zip_bytes([])):
        (tmp_path / "x.zip").write_bytes(content)
        with pytest.raises(BadFile):
            import_bundle(library, tmp_path / "x.zip")


def zip_bytes(entries: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_bundle_that_lies_about_its_size(library: Library, make: Make, tmp_path: Path) -> None:
    library.save(make())
    content = library.find("cat2dog").path.read_bytes()
    whole = zip_bytes([(f"cat2dog/{ENCODER}/v0001.safetensors", content)])
    size = len(content).to_bytes(4, "little")
    for lie in (len(content) - 8, len(content) + 8, 16):
        (tmp_path / "lie.zip").write_bytes(whole.replace(size, lie.to_bytes(4, "little")))
        with pytest.raises(BadFile):
            import_bundle(Library(tmp_path / "other", search_path=()), tmp_path / "lie.zip")


def test_tensors_without_plain_data_are_refused(library: Library, tmp_path: Path) -> None:
    """A small file may claim more memory than there is."""
    for tensor, said in (
        (torch.ones(1).expand(100_000, 100_000), "more than"),
        (torch.ones(4, 8).to_sparse(), "without plain data"),
        (torch.ones(4, 8, device="meta"), "without plain data"),
    ):
        torch.save(tensor, tmp_path / "x.pt")
        with pytest.raises(BadFile, match=said):
            import_file(library, tmp_path / "x.pt", "x", ENCODER)
    (tmp_path / "x.pt").write_bytes(pickle.dumps(Path("x")))
    with pytest.raises(BadFile) as refused:
        import_file(library, tmp_path / "x.pt", "x", ENCODER)
    assert "weights_only" not in str(refused.value)


def test_a_pair_of_one_name_is_refused_before_anything_is_written(make: Make, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"would both be cat\.pt"):
        write_pair(make("x", source="cat", target="Cat!"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("expression", ["0.5*cat2dog", "-cat2dog", "dog2cat", "cat2dog + 2*fox2cat"])
def test_what_is_exported_of_an_expression_comes_back(
    library: Library, make: Make, tmp_path: Path, expression: str
) -> None:
    for seed, name in enumerate(("cat2dog", "fox2cat")):
        plain = make(name, seed=seed)
        anchored = Anchored(plain.source, plain.target, plain.tensor, 2 * plain.tensor)
        library.save(replace(plain, anchored=(anchored,)))
    file = export_file(library, expression, tmp_path / "out.safetensors")
    back = import_file(library, file, name="back")
    meant = library.resolve(expression)
    assert back.tensor.tobytes() == meant.tensor.tobytes() and len(back.anchored) == len(meant.anchored)
    for one, other in zip(back.anchored, meant.anchored, strict=True):
        assert (one.source, one.target, one.weight) == (other.source, other.target, other.weight)
        assert one.target_mean.tobytes() == other.target_mean.tobytes()
    assert (back.source_embedding is None) == (meant.source_embedding is None)


def test_concepts_that_a_file_says_itself_are_not_overruled_in_silence(
    library: Library, make: Make, tmp_path: Path
) -> None:
    library.save(make())
    file = export_file(library, "cat2dog", tmp_path / "out.safetensors")
    with pytest.raises(BadFile, match="leads from 'cat' to 'dog': leave --source and --target out"):
        import_file(library, file, concepts=("kitten", "puppy"))
    assert import_file(library, file, concepts=("cat", "dog")).source == "cat"


def test_concepts_that_a_file_lacks_are_given(library: Library, make: Make, tmp_path: Path) -> None:
    for seed, name in enumerate(("cat2dog", "day2night")):
        library.save(make(name, seed=seed))
    file = export_file(library, "cat2dog + day2night", tmp_path / "sum.safetensors")
    back = import_file(library, file, name="sum", concepts=("cat", "dog at night"))
    assert (library.load(back.ref).source, back.target) == ("cat", "dog at night")


def test_two_directions_are_not_a_pair(library: Library, make: Make, tmp_path: Path) -> None:
    for seed, name in enumerate(("cat2dog", "fox2cat")):
        library.save(replace(make(name, seed=seed), source_embedding=None, target_embedding=None))
    files = [export_file(library, name, tmp_path / f"{name}.safetensors") for name in ("cat2dog", "fox2cat")]
    with pytest.raises(
        BadFile, match=r"cat2dog\.safetensors is a direction, not a mean embedding: import one"
    ):
        import_pair(library, files[0], files[1], "odd", ENCODER)
    assert "odd" not in library


def test_what_is_declared_anew_says_so_throughout(
    library: Library, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    import_pair(library, *pair, "cat2dog", "sd-1.4")
    file = export_file(library, "cat2dog", tmp_path / "cat2dog.safetensors")
    back = import_file(library, file, encoder="sd-1.5")
    record = library.load("cat2dog", "sd-1.5").record
    assert (back.encoder, record["encoder"], record["models"]) == ("sd-1.5", "sd-1.5", {"name": "sd-1.5"})
    import_file(library, file, encoder="sd-1.5")
    assert len(library.versions("cat2dog", "sd-1.5")) == 1, "it was here already"
