"""`Edit.save`: what is made in Python carries a record that `edit-image --from` repeats."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from editor import Editor
from editor.errors import EditorError, PictureError
from editor.inversion import Inversion
from editor.record import check_free, read_record, save_picture, save_record
from editor.replay import differences, settled
from editor.request import Recorded
from library import Direction

from .command_line import cat_and_directions, draw_cat, encoder, failed, pixels, run, worked


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_folders: Path) -> dict[str, Direction]:
    """A folder with `cat.png`, and a library with two directions."""
    library = cat_and_directions(tmp_path, monkeypatch)
    return {name: library[name] for name in ("cat2dog", "day2night")}


def editor() -> Editor:
    return Editor("embedded")


def again(path: str) -> str:
    """The picture of a record, made once more."""
    return worked("--from", path, "--no-cache", "--force").stdout.strip().splitlines()[-1].split("  ")[1]


def test_the_command_line_makes_what_python_saved(here: dict[str, Direction]) -> None:
    cat = editor().invert("cat.png", steps=2, seed=7)
    settings: dict[str, Any] = {"guidance_scale": 4, "source_correction": False, "negative_prompt": "a fox"}
    cat.edit(0.8 * here["cat2dog"] - here["day2night"] / 3, 0.9, **settings).save("out.png")
    repeated = again("out.png")
    assert Path(repeated).read_bytes() == Path("out.png").read_bytes()
    assert Path(repeated).with_suffix(".json").read_bytes() == Path("out.json").read_bytes()
    record = read_record("out.png")
    assert record["expression"] == "0.8*cat2dog@1 - 0.333333*day2night@1" and record["seed"] == 7
    assert record["input"]["given"] == "cat.png" and record["prompt"] is None and record["batch"] == 1


def test_it_is_what_the_command_line_writes(here: dict[str, Direction]) -> None:
    worked("cat.png", "-d", "cat2dog", "--steps", 2, "-o", "told.png", "--no-cache")
    editor().invert("cat.png", steps=2).edit(here["cat2dog"]).save("python.png")
    told, python = read_record("told.png"), read_record("python.png")
    assert told.keys() == python.keys()
    own = {"seconds", "created", "expression", "inversion"}
    assert {k: v for k, v in told.items() if k not in own} == {
        k: v for k, v in python.items() if k not in own
    }
    assert pixels("told.png").tobytes() == pixels("python.png").tobytes()


def test_what_was_imagined_is_repeated_from_its_prompt(here: dict[str, Direction]) -> None:
    edit = editor().generate("a cat on the grass", here["cat2dog"], steps=2, seed=3)
    edit.save("imagined.png")
    assert Path(again("imagined.png")).read_bytes() == Path("imagined.png").read_bytes()
    assert read_record("imagined.png")["prompt"] == "a cat on the grass"


def test_a_mask_and_a_sweep_are_repeated(here: dict[str, Direction]) -> None:
    Image.new("L", (8, 8), 255).save("mask.png")
    cat = editor().invert("cat.png", steps=2)
    cat.edit(here["cat2dog"], mask="mask.png").save("masked.png")
    assert Path(again("masked.png")).read_bytes() == Path("masked.png").read_bytes()
    cat.sweep(here["cat2dog"], strength=[1.0, 0.5], guidance=[0.0, 0.1]).save("sheet.png")
    swept = read_record("sheet.png")["sweep"]
    assert (
        swept["knobs"] == [["strength", [1.0, 0.5]], ["guidance", [0.0, 0.1]]] and len(swept["values"]) == 4
    )
    result = worked("--from", "sheet.png", "--no-cache")
    assert "was made in a batch of 2; alone, it comes out the same but for rounding" in result.stderr
    made, repeated = pixels("sheet.png").astype(int), pixels("sheet-again.png").astype(int)
    assert np.abs(made - repeated).max() <= 3


@pytest.mark.parametrize("stem", ["猫" * 83, "a" * 250, "😀" * 62])
def test_any_name_that_the_system_takes_can_be_written(stem: str, tmp_path: Path) -> None:
    path = tmp_path / f"{stem}.png"
    save_picture(Image.new("RGB", (8, 8)), path, {"expression": "cat2dog"})
    assert read_record(path) == {"expression": "cat2dog"}
    assert sorted(tmp_path.iterdir()) == sorted([path, path.with_suffix(".json")])


def test_no_picture_is_ever_beside_the_record_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, picture = tmp_path / "edit.jpg", Image.new("RGB", (8, 8))
    save_picture(picture, path, {"strength": 1})

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("editor.record.save_record", killed)
    with pytest.raises(KeyboardInterrupt):
        save_picture(picture, path, {"strength": 2}, force=True)
    with pytest.raises(PictureError, match=r"edit\.jpg carries no record"):
        read_record(path)
    path.with_suffix(".json").write_text("{}")
    monkeypatch.setattr(Image.Image, "save", lambda *_, **__: os.close(-1))  # the disk refuses
    with pytest.raises(EditorError, match="cannot write"):
        save_picture(picture, path, {"strength": 3}, force=True)
    assert read_record(path) == {}


def test_a_name_that_is_too_long_is_refused_before_models_are_loaded(
    here: dict[str, Direction], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editor.session.load_models", None)
    for name in ("a" * 251 + ".png", "a" * 300 + ".png", "b" * 300 + "/a.png", "c" * 300):
        failed(run("cat.png", "-d", "cat2dog", "-o", name), "cannot write", "file name too long")


def test_a_picture_without_a_file_is_asked_for(here: dict[str, Direction]) -> None:
    with Image.open("cat.png") as opened:
        direct = editor().invert(opened, steps=2).edit(here["cat2dog"])
        turned = editor().invert(opened.rotate(180), steps=2).edit(here["cat2dog"])
    assert direct.record["input"]["given"] == "cat.png"
    assert turned.record["input"] == {"path": None, "given": None, "sha256": None}
    turned.save("turned.png")
    failed(run("--from", "turned.png"), "the picture that turned.png was made with was no file", "save it")
    worked("cat.png", "--from", "turned.png", "-o", "given.png")
    assert read_record("given.png")["settings"] == turned.record["settings"]
    with Image.open("cat.png") as opened:
        opened.load()
        opened.putpixel((0, 0), (0, 255, 0))
        changed = editor().invert(opened, steps=2)
    assert changed.record["origin"]["path"] is None, "its file has other pixels"


def test_a_kept_inversion_knows_its_picture(here: dict[str, Direction], tmp_path: Path) -> None:
    own = Editor("embedded", cache=tmp_path / "cache")
    for name in ("cat.png", "same.png"):
        draw_cat(tmp_path / name)
        inversion = own.invert(name, steps=2)
        assert inversion.record["origin"]["given"] == name
    assert inversion.record["cached"]
    inversion.save("cat.inversion")
    edit = Inversion.load("cat.inversion", own).edit(here["cat2dog"])
    edit.save("loaded.png")
    assert Path(again("loaded.png")).read_bytes() == Path("loaded.png").read_bytes()


def test_a_direction_that_was_never_saved_is_named(here: dict[str, Direction]) -> None:
    identity, _ = encoder()
    loose = Direction(name="mine", tensor=here["cat2dog"].tensor, encoder=identity)
    editor().invert("cat.png", steps=2).edit(0.5 * loose).save("loose.png")
    failed(run("--from", "loose.png"), "no direction mine")


def test_files_are_replaced_but_not_what_was_edited(here: dict[str, Direction]) -> None:
    edit = editor().invert("cat.png", steps=2).edit(here["cat2dog"])
    edit.save("out.png")
    edit.save("out.png")
    before = Path("cat.png").read_bytes()
    with pytest.raises(EditorError, match=r"cat.png is what was edited; save elsewhere"):
        edit.save("cat.png")
    with pytest.raises(EditorError, match=r"\.xyz is not a picture format"):
        edit.save("out.xyz")
    assert Path("cat.png").read_bytes() == before
    edit.save("out.jpg")
    assert read_record("out.jpg")["expression"] == "cat2dog@1"


def test_the_type_of_the_models_is_repeated(here: dict[str, Direction]) -> None:
    half = Editor("embedded", dtype=torch.bfloat16)
    half.invert("cat.png", steps=2).edit(here["cat2dog"]).save("half.png")
    assert read_record("half.png")["dtype"] == "bfloat16"
    assert Path(again("half.png")).read_bytes() == Path("half.png").read_bytes()
    record = read_record("half.png")
    assert settled({**record, "dtype": "float32"}, Recorded("half.png", record))["dtype"] == "float32"
    worked("--from", "half.png", "--dtype", "float32", "-o", "whole.png")
    assert read_record("whole.png")["dtype"] == "float32"
    (note,) = differences(Recorded("half.png", record), "cpu", "float32")
    assert "was made with dtype bfloat16; here are dtype float32" in note
    old = {key: value for key, value in record.items() if key != "dtype"}  # when it was always float32
    assert differences(Recorded("old.png", old), "cpu", "float32") == []


def test_a_sum_that_was_rounded_on_its_way_is_the_same_sum(here: dict[str, Direction]) -> None:
    cat = editor().invert("cat.png", steps=2)
    cat.edit(0.7 * (0.3 * here["cat2dog"])).save("part.png")
    assert "rounded otherwise" in worked("--from", "part.png").stderr
    cat.edit(0.7 * (0.3 * here["cat2dog"] + here["day2night"] / 3)).save("sum.png")
    result = worked("--from", "sum.png")
    assert "made with the same sum, rounded otherwise: the picture may differ slightly" in result.stderr
    assert np.abs(pixels("sum.png").astype(int) - pixels("sum-again.png").astype(int)).max() <= 3


def test_numbers_of_numpy_and_torch_are_numbers(here: dict[str, Direction]) -> None:
    kl = {"regulariser": editor().regulariser(kl=np.float32(1.5))}
    cat = editor().invert("cat.png", steps=np.int64(2), seed=np.int64(3), size=np.int64(64), **kl)
    settings: dict[str, Any] = {"cross_attention_guidance": np.float32(0.0), "reuse_forward": np.bool_(True)}
    cat.edit(here["cat2dog"], np.float32(0.5), **settings).save("numpy.png")
    cat.edit(here["cat2dog"], torch.tensor(0.5), cross_attention_guidance=0.0, reuse_forward=True).save(
        "torch.png"
    )
    assert pixels("numpy.png").tobytes() == pixels("torch.png").tobytes()
    record = read_record("numpy.png")
    assert record["strength"] == 0.5 and record["seed"] == 3 and record["settings"]["reuse_forward"] is True
    size = {"size": np.int64(64)}
    editor().generate("a cat", here["cat2dog"], steps=np.int64(2), seed=np.int64(5), **size).save("made.png")
    assert read_record("made.png")["seed"] == 5


def test_what_was_imagined_is_a_recipe_for_a_picture(here: dict[str, Direction]) -> None:
    editor().generate("a cat on the grass", here["cat2dog"], steps=2).save("made.png")
    worked("--from", "made.png", "cat.png", "-o", "real.png")
    worked("cat.png", "-d", "cat2dog", "--steps", 2, "-o", "told.png")
    real, told = read_record("real.png"), read_record("told.png")
    assert real["settings"] == told["settings"] and real["settings"]["source_correction"] is True
    assert pixels("real.png").tobytes() == pixels("told.png").tobytes()


def test_a_format_that_cannot_be_read_has_its_record_beside_it(here: dict[str, Direction]) -> None:
    worked("cat.png", "-d", "cat2dog", "--steps", 2, "-o", "page.pdf")
    assert read_record("page.pdf")["direction"]["name"] == "cat2dog"
    worked("--from", "page.pdf", "-o", "again.png")
    Path("page.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n")
    assert read_record("page.eps")["direction"]["name"] == "cat2dog"
    with pytest.raises(PictureError, match=r"page.jpg: no such file; its record is page.json"):
        read_record("page.jpg")  # another picture's record is not this one's


@pytest.mark.parametrize("ending", ["psd", "xbm", "h5", "fits", "gbr"])
def test_a_format_that_holds_no_colours_is_refused_at_once(
    here: dict[str, Direction], ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editor.session.load_models", None)  # nothing is loaded for it
    failed(run("cat.png", "-d", "cat2dog", "-o", f"x.{ending}"), f".{ending} cannot be written; use .png")


def test_a_name_that_is_too_long_is_refused_and_one_that_just_fits_is_written(tmp_path: Path) -> None:
    with pytest.raises(EditorError, match=r"cannot write .*: file name too long"):
        check_free(tmp_path / ("n" * 252 + ".png"), force=False)
    longest = tmp_path / ("n" * 250 + ".json")
    check_free(longest, force=False)
    save_record(longest, {})
    assert [path.name for path in tmp_path.iterdir()] == [longest.name]
